"""S3 as a folder: a bucket is a folder in it, a key a path. What readers of results call, and nothing over the wire."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from local_aws.process import REGION


class FolderS3:
    """Some of an S3 client's methods. Files are read as they are asked for, so that memory is the caller's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def head_bucket(self, **_asked: Any) -> dict[str, Any]:
        return {"BucketRegion": REGION}

    def head_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        return {"ContentLength": self._path(Bucket, Key).stat().st_size, "ETag": '"0"'}

    def get_object(self, *, Bucket: str, Key: str, Range: str = "", **_conditions: Any) -> dict[str, Any]:
        path = self._path(Bucket, Key)
        if not Range:
            return {"Body": path.open("rb"), "ETag": '"0"'}
        first, last = (int(part) for part in Range.removeprefix("bytes=").split("-"))
        with path.open("rb") as file:
            file.seek(first)
            return {"Body": io.BytesIO(file.read(last - first + 1)), "ETag": '"0"'}

    def put_object(self, *, Bucket: str, Key: str, Body: Any, **_conditions: Any) -> dict[str, Any]:
        path = self._folder / Bucket / Key
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            shutil.copyfileobj(io.BytesIO(Body) if isinstance(Body, bytes) else Body, file)
        return {"ETag": '"0"'}

    def delete_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        self._path(Bucket, Key).unlink()
        return {}

    def get_paginator(self, _operation: str) -> FolderS3:
        return self

    def paginate(self, *, Bucket: str, Prefix: str) -> Iterator[dict[str, Any]]:
        bucket = self._folder / Bucket
        for path in sorted(path for path in bucket.joinpath(Prefix).rglob("*") if path.is_file()):
            size, modified = path.stat().st_size, datetime.fromtimestamp(path.stat().st_mtime, UTC)
            yield {
                "Contents": [
                    {"Key": str(path.relative_to(bucket)), "Size": size, "ETag": '"0"', "LastModified": modified}
                ]
            }

    def _path(self, bucket: str, key: str) -> Path:
        path = self._folder / bucket / key
        if not path.is_file():
            answer: Any = {
                "Error": {"Code": "NoSuchKey", "Message": str(path)},
                "ResponseMetadata": {"HTTPStatusCode": 404},
            }
            raise ClientError(answer, "GetObject")
        return path
