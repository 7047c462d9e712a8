"""Objects of the local S3, for the threads that run queries."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from typing import Any

from local_aws import moto_services
from local_aws.athena.errors import QueryError
from local_aws.moto_services import MotoServices

_MISSING = (
    "Error opening Hive split {uri} (offset=0, length={length}): com.amazonaws.services.s3.model.AmazonS3Exception: "
    "The specified key does not exist. (Service: Amazon S3; Status Code: 404; Error Code: NoSuchKey)"
)


class Storage:
    """Lists, reads and writes objects. An object's bytes are read where they lie: only look-ups wait for moto."""

    def __init__(self, moto: MotoServices) -> None:
        self._moto = moto

    def files(self, locations: list[str]) -> dict[str, list[File]]:
        """What lies under each s3://bucket/prefix/, without hidden files (`_x`, `.x`) and folder markers.

        One look for all of them. https://docs.aws.amazon.com/athena/latest/ug/other-notable-limitations.html
        """
        places: dict[str, dict[str, str]] = {}
        for location in locations:
            bucket, prefix = split(location)
            places.setdefault(bucket, {})[f"{prefix.strip('/')}/" if prefix.strip("/") else ""] = location
        found: dict[str, list[File]] = {location: [] for location in locations}
        for bucket, prefixes in places.items():
            for key, item in self._listed(bucket, os.path.commonprefix(list(prefixes))):
                place = next((each for each in _folders(key) if each in prefixes), None)
                if place is not None and _is_visible(key[len(place) :]):
                    found[prefixes[place]].append(File(f"s3://{bucket}/{key}", item))
        return found

    def _listed(self, bucket: str, prefix: str) -> list[tuple[str, Any]]:
        found = self._moto.call(lambda: moto_services.list_objects(bucket, prefix))
        if found is None:
            reason = (
                "The specified bucket does not exist (Service: Amazon S3; Status Code: 404; Error Code: NoSuchBucket)"
            )
            raise QueryError("HIVE_METASTORE_ERROR", f"{reason}: {bucket}")
        return found

    def file(self, uri: str) -> File:
        """One object; HIVE_CANNOT_OPEN_SPLIT where there is none."""
        bucket, key = split(uri)
        found = self._moto.call(lambda: moto_services.find_object(bucket, key))
        if found is None:
            raise QueryError("HIVE_CANNOT_OPEN_SPLIT", _MISSING.format(uri=uri, length=0))
        return File(uri, found)

    def exists(self, bucket: str) -> bool:
        """Whether there is such a bucket."""
        return self._moto.call(lambda: moto_services.bucket_exists(bucket))

    def write(self, uri: str, data: bytes) -> None:
        """Write an object."""
        bucket, key = split(uri)
        self._moto.call(lambda: moto_services.write_object(bucket, key, data))

    def delete(self, uri: str) -> None:
        """Delete an object."""
        bucket, key = split(uri)
        self._moto.call(lambda: moto_services.delete_object(bucket, key))


class File(io.RawIOBase):
    """An object to read from, as a file. What is overwritten meanwhile is read as it was."""

    def __init__(self, uri: str, item: Any) -> None:
        super().__init__()
        self.uri = uri
        self.length = int(item.size)
        self._item = item
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move there."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.length}[whence]
        self._at = start + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Bytes from here; HIVE_CANNOT_OPEN_SPLIT when the object was deleted while it was read."""
        with self._item.lock:
            try:
                self._item._value_buffer.seek(self._at)
                data = bytes(self._item._value_buffer.read(size if size >= 0 else -1))
            except ValueError:
                raise QueryError("HIVE_CANNOT_OPEN_SPLIT", _MISSING.format(uri=self.uri, length=self.length)) from None
        self._at += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        """As `read`, into a buffer."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def text(self) -> str:
        """All of it as text."""
        self.seek(0)
        return self.read().decode("utf-8", "replace")


def split(uri: str) -> tuple[str, str]:
    """(bucket, key) of s3://bucket/key."""
    found = re.fullmatch(r"s3[an]?://([^/]+)/?(.*)", uri, re.DOTALL)
    if found is None:
        raise QueryError("HIVE_METASTORE_ERROR", f"'{uri}' is no s3:// location")
    return found.group(1), found.group(2)


def _folders(key: str) -> Iterator[str]:
    """The folders that a key lies in, the innermost first, the bucket itself last."""
    while "/" in key:
        key = key[: key.rindex("/")]
        yield f"{key}/"
    yield ""


def _is_visible(path: str) -> bool:
    parts = path.split("/")
    return bool(parts[-1]) and not any(part.startswith(("_", ".")) for part in parts)
