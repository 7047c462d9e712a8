"""An S3 object as a file that can be read here and there, as Parquet's readers want it."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, Final

# The end of a Parquet file is its table of contents. A file of a batch is seldom larger than this: then one GET is all.
TAIL_BYTES: Final = 1024**2


class RangedFile(io.RawIOBase):
    """An S3 object that can be read here and there. Its end is read once and kept.

    Parts of two versions would make a file that never was: once it is written anew, a read raises ``PreconditionFailed``.
    """

    def __init__(self, s3: Any, bucket: str, key: str, size: int, etag: str) -> None:
        super().__init__()
        self._get: Callable[[int, int], bytes] = lambda start, end: bytes(
            s3.get_object(Bucket=bucket, Key=key, IfMatch=etag, Range=f"bytes={start}-{end - 1}")["Body"].read()
        )
        self._size, self._place = size, 0
        self._tail_start = max(0, size - TAIL_BYTES)
        self._tail: bytes | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + (0, self._place, self._size)[whence]
        return self._place

    def read(self, size: int | None = -1) -> bytes:
        start = min(self._place, self._size)
        end = self._size if size is None or size < 0 else min(start + size, self._size)
        self._place = end
        if start == end:
            return b""
        if start < self._tail_start:
            return self._get(start, end)
        if self._tail is None:
            self._tail = self._get(self._tail_start, self._size)
        return self._tail[start - self._tail_start : end - self._tail_start]
