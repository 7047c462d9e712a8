"""S3 in memory, as far as the stages use it: conditions, versions, ranges, paging, and a process that dies at a call.

`test_memory_s3.py` holds it to what the local stand-in for S3 answers.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

MODIFIED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
_STATUS = {"NoSuchKey": 404, "NoSuchBucket": 404, "404": 404, "NoSuchVersion": 404, "PreconditionFailed": 412}


class Killed(Exception):
    """The process is dead: this call and every later one."""


@dataclass(frozen=True)
class Stored:
    body: bytes
    etag: str
    version_id: str
    headers: dict[str, Any] = field(default_factory=dict)


def failure(code: str, operation: str, status: int = 400, message: str = "told so") -> ClientError:
    """An error as boto3 raises it."""
    answer: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": _STATUS.get(code, status)},
    }
    return ClientError(answer, operation)


class MemoryS3:
    """The S3 client's methods that the stages call. `calls` lists them as (operation, bucket, key)."""

    def __init__(self, *buckets: str, versioned: tuple[str, ...] = ()) -> None:
        self.calls: list[tuple[str, str, str]] = []
        self.region = "us-east-1"
        self.refuse: dict[tuple[str, str], ClientError] = {}
        self.dies_at: int | None = None
        self.dies_after_the_effect = False
        self._objects: dict[str, dict[str, list[Stored]]] = {name: {} for name in (*buckets, *versioned)}
        self._versioned = frozenset(versioned)
        self._versions = itertools.count(1)
        self._lock = threading.RLock()

    def put_object(self, *, Bucket: str, Key: str, Body: Any, **options: Any) -> dict[str, Any]:
        with self._call("put_object", Bucket, Key) as objects:
            now = objects.get(Key)
            if options.pop("IfNoneMatch", None) == "*" and now:
                raise failure("PreconditionFailed", "PutObject")
            wanted = options.pop("IfMatch", None)
            if wanted and not now:
                raise failure("NoSuchKey", "PutObject")
            if wanted and now and wanted != now[-1].etag:
                raise failure("PreconditionFailed", "PutObject")
            data = Body.encode() if isinstance(Body, str) else Body if isinstance(Body, bytes) else Body.read()
            stored = self._store(Bucket, Key, data, options)
            return {"ETag": stored.etag} | self._version(Bucket, stored)

    def get_object(
        self, *, Bucket: str, Key: str, VersionId: str = "", Range: str = "", IfMatch: str = ""
    ) -> dict[str, Any]:
        with self._call("get_object", Bucket, Key):
            stored = self._find(Bucket, Key, VersionId, "GetObject")
            if IfMatch and IfMatch != stored.etag:
                raise failure("PreconditionFailed", "GetObject")
            body, answer = stored.body, self._headers(Bucket, stored)
            if Range:
                first, last = (int(part) for part in Range.removeprefix("bytes=").split("-"))
                if first >= len(body):
                    raise failure("InvalidRange", "GetObject", 416)
                body = body[first : last + 1]
                answer["ContentRange"] = f"bytes {first}-{first + len(body) - 1}/{len(stored.body)}"
            return answer | {"Body": io.BytesIO(body), "ContentLength": len(body)}

    def head_object(self, *, Bucket: str, Key: str, VersionId: str = "") -> dict[str, Any]:
        with self._call("head_object", Bucket, Key):
            try:
                return self._headers(Bucket, self._find(Bucket, Key, VersionId, "HeadObject"))
            except ClientError as err:
                raise failure("404", "HeadObject", message="Not Found") from err

    def copy_object(
        self, *, Bucket: str, Key: str, CopySource: dict[str, str], CopySourceIfMatch: str = "", IfNoneMatch: str = ""
    ) -> dict[str, Any]:
        with self._call("copy_object", Bucket, Key) as objects:
            if IfNoneMatch == "*" and Key in objects:
                raise failure("PreconditionFailed", "CopyObject")
            source = self._find(CopySource["Bucket"], CopySource["Key"], CopySource.get("VersionId", ""), "CopyObject")
            if CopySourceIfMatch and CopySourceIfMatch != source.etag:
                raise failure("PreconditionFailed", "CopyObject")
            stored = self._store(Bucket, Key, source.body, dict(source.headers))
            return self._version(Bucket, stored) | {"CopyObjectResult": {"ETag": stored.etag}}

    def delete_object(self, *, Bucket: str, Key: str, VersionId: str = "", IfMatch: str = "") -> dict[str, Any]:
        with self._call("delete_object", Bucket, Key) as objects:
            versions = objects.get(Key, [])
            if IfMatch and versions and IfMatch != versions[-1].etag:
                raise failure("PreconditionFailed", "DeleteObject")
            kept = [stored for stored in versions if VersionId and stored.version_id != VersionId]
            objects.pop(Key, None)
            if kept:
                objects[Key] = kept
            return {}

    def head_bucket(self, *, Bucket: str) -> dict[str, Any]:
        if Bucket not in self._objects:
            raise failure("404", "HeadBucket", message="Not Found")
        with self._call("head_bucket", Bucket, ""):
            return {"BucketRegion": self.region}

    def list_objects_v2(
        self, *, Bucket: str, Prefix: str = "", StartAfter: str = "", MaxKeys: int = 1_000
    ) -> dict[str, Any]:
        after = [item for page in self.paginate(Bucket=Bucket, Prefix=Prefix) for item in page.get("Contents", [])]
        found = [item for item in after if item["Key"].encode() > StartAfter.encode()]
        return {"Contents": found[:MaxKeys], "IsTruncated": len(found) > MaxKeys} if found else {"IsTruncated": False}

    def get_paginator(self, operation: str) -> MemoryS3:
        assert operation == "list_objects_v2"
        return self

    def paginate(self, *, Bucket: str, Prefix: str = "", Delimiter: str = "") -> Iterator[dict[str, Any]]:
        with self._call("list_objects_v2", Bucket, Prefix) as objects:
            found = [
                {"Key": key, "ETag": of[-1].etag, "Size": len(of[-1].body), "LastModified": MODIFIED}
                for key, of in sorted(objects.items(), key=lambda item: item[0].encode())
                if key.startswith(Prefix)
            ]
        if Delimiter:
            rests = [item["Key"].removeprefix(Prefix).partition(Delimiter) for item in found]
            folders = dict.fromkeys(Prefix + name + Delimiter for name, delimiter, _ in rests if delimiter)
            single = [item for item, (_, delimiter, _) in zip(found, rests, strict=True) if not delimiter]
            yield {"Contents": single, "CommonPrefixes": [{"Prefix": name} for name in folders]}
            return
        yield from ({"Contents": found[start : start + 1_000]} for start in range(0, len(found), 1_000))
        if not found:
            yield {}

    def contents(self, bucket: str, prefix: str = "") -> dict[str, bytes]:
        """Every object below the prefix, byte by byte."""
        return {key: of[-1].body for key, of in sorted(self._objects[bucket].items()) if key.startswith(prefix)}

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        return list(self.contents(bucket, prefix))

    def _store(self, bucket: str, key: str, body: bytes, headers: dict[str, Any]) -> Stored:
        etag = f'"{hashlib.md5(body).hexdigest()}"'
        stored = Stored(body, etag, f"v{next(self._versions)}" if bucket in self._versioned else "", headers)
        kept = self._objects[bucket].get(key, []) if bucket in self._versioned else []
        self._objects[bucket][key] = [*kept, stored]
        return stored

    def _find(self, bucket: str, key: str, version_id: str, operation: str) -> Stored:
        if bucket not in self._objects:
            raise failure("NoSuchBucket", operation)
        versions = self._objects[bucket].get(key, [])
        if not version_id:
            if versions:
                return versions[-1]
            raise failure("NoSuchKey", operation)
        for stored in versions:
            if stored.version_id == version_id:
                return stored
        raise failure("NoSuchVersion", operation)

    def _headers(self, bucket: str, stored: Stored) -> dict[str, Any]:
        plain = {"ETag": stored.etag, "ContentLength": len(stored.body), "LastModified": MODIFIED, "Metadata": {}}
        return plain | stored.headers | self._version(bucket, stored)

    def _version(self, bucket: str, stored: Stored) -> dict[str, str]:
        return {"VersionId": stored.version_id} if bucket in self._versioned else {}

    def _call(self, operation: str, bucket: str, key: str) -> _Call:
        return _Call(self, operation, bucket, key)


@dataclass
class _Call:
    """One call: counted, refused where a test says so, and the last one of a process that dies at it."""

    s3: MemoryS3
    operation: str
    bucket: str
    key: str

    def __enter__(self) -> dict[str, list[Stored]]:
        s3 = self.s3
        s3._lock.acquire()
        try:
            s3.calls.append((self.operation, self.bucket, self.key))
            if self._is_dead and not (s3.dies_after_the_effect and len(s3.calls) == s3.dies_at):
                raise Killed(self.operation)
            if error := s3.refuse.get((self.operation, self.key)):
                raise error
            if self.bucket not in s3._objects:
                raise failure("NoSuchBucket", self.operation)
        except BaseException:
            s3._lock.release()
            raise
        return s3._objects[self.bucket]

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.s3._lock.release()
        if self._is_dead and error is None:
            raise Killed(self.operation)

    @property
    def _is_dead(self) -> bool:
        return self.s3.dies_at is not None and len(self.s3.calls) >= self.s3.dies_at
