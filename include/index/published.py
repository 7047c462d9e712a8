"""Where the index lies in S3: immutable files below ``index/``, and ``index/latest.json``, which says which of them counts.

A new index is uploaded under a name of its own; one conditional write of the pointer then makes it the index. Readers fetch by
the pointer. What it no longer names is deleted hours later.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from botocore.exceptions import ClientError

from include import layout, objects
from include.errors import TerminalError, TransientError
from include.index.database import SCHEMA_VERSION, IndexUnusableError

log = logging.getLogger(__name__)

# A reader that has just read the pointer, or a refresh that has not written it yet, is done by then.
GRACE: Final = timedelta(hours=3)
# One PutObject takes no more (https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html).
MOST_BYTES: Final = 5 * 1024**3
_CHUNK: Final = 1024**2
_PARTIAL: Final = "fetching-"


@dataclass(frozen=True, slots=True)
class Pointer:
    """Which file is the index. ``covers``: a digest of the files of results that are in it; ``previous``: the index before."""

    key: str
    sha256: str
    size_bytes: int
    schema_version: int
    images: int
    labels: int
    files: int
    covers: str
    built_at: datetime
    previous: str | None = None


def read_pointer(s3: Any, bucket: str) -> tuple[Pointer | None, str | None]:
    """The pointer and its ETag; None where there is no index yet. A pointer that nobody can read counts as none."""
    found = objects.read(s3, bucket, layout.INDEX_POINTER)
    if found is None:
        return None, None
    try:
        values = json.loads(found[0])
        return Pointer(**values | {"built_at": datetime.fromisoformat(values["built_at"])}), found[1]
    except (ValueError, TypeError, KeyError) as err:
        log.warning("s3://%s/%s says nothing that this release knows (%s).", bucket, layout.INDEX_POINTER, err)
        return None, found[1]


def fetch_index(s3: Any, bucket: str, folder: Path) -> Path:
    """The newest index as a file in the folder, where only this function writes; fetched unless it is there already.

    A file has its name only once it is whole, and is never changed then. The one before stays, for those who still read it.

    :raises IndexUnusableError: it is of another version, or not what was published.
    :raises TerminalError: there is no index.
    :raises TransientError: it has been replaced while it was fetched.
    """
    pointer, _ = read_pointer(s3, bucket)
    if pointer is None:
        raise TerminalError(
            f"There is no label index in s3://{bucket}/{layout.INDEX}. The Dag index_labels builds it, and so does: "
            "python -m include.cli index build."
        )
    if pointer.schema_version != SCHEMA_VERSION:
        raise IndexUnusableError(
            f"s3://{bucket}/{pointer.key} is a label index of version {pointer.schema_version}, and this program reads version "
            f"{SCHEMA_VERSION}. Run the same release everywhere, then: python -m include.cli index build."
        )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / Path(pointer.key).name
    if not path.exists():
        download(s3, bucket, pointer, path)
        _forget_older(folder, path)
    return path


def download(s3: Any, bucket: str, pointer: Pointer, path: Path) -> None:
    """Fetch an index; the path exists only once its content has been compared with what was published.

    :raises IndexUnusableError: it is not what was published.
    :raises TransientError: it has gone, since a newer one replaced it.
    """
    try:
        body = s3.get_object(Bucket=bucket, Key=pointer.key)["Body"]
    except ClientError as err:
        if objects.is_missing(err):
            raise TransientError(
                f"s3://{bucket}/{pointer.key} is gone: a newer index has replaced it, or somebody deleted it."
            ) from err
        raise
    digest, size = hashlib.sha256(), 0
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=_PARTIAL)
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            while chunk := body.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
                file.write(chunk)
        if (size, digest.hexdigest()) != (pointer.size_bytes, pointer.sha256):
            raise IndexUnusableError(
                f"s3://{bucket}/{pointer.key} is not what was published: {size:,} bytes instead of {pointer.size_bytes:,}, or "
                "other ones. Build the index anew: python -m include.cli index build."
            )
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def upload(s3: Any, bucket: str, path: Path) -> tuple[str, str]:
    """Put the file where its content says; its key and SHA-256. Nobody reads it until the pointer names it."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if path.stat().st_size > MOST_BYTES:
            raise TerminalError(
                f"The label index has {path.stat().st_size:,} bytes, and one upload takes {MOST_BYTES:,}: readers keep the "
                "one before. An archive of this size needs a search service of its own."
            )
        file.seek(0)
        key = layout.index_file(sha256[:32])
        s3.put_object(Bucket=bucket, Key=key, Body=file)
    return key, sha256


def point_to(s3: Any, bucket: str, pointer: Pointer, *, etag: str | None) -> bool:
    """Make it the index; False where somebody else published one in between."""
    body = json.dumps(asdict(pointer), default=datetime.isoformat, indent=1).encode()
    return objects.write_if(s3, bucket, layout.INDEX_POINTER, body, etag=etag)


def forget_replaced(s3: Any, bucket: str, *, now: datetime) -> int:
    """Delete index files that the pointer named before the one before, or never: how many there were."""
    pointer, _ = read_pointer(s3, bucket)
    if pointer is None:
        return 0
    old = [
        item["Key"]
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=layout.INDEX)
        for item in page.get("Contents", [])
        if item["Key"].endswith(".duckdb") and item["LastModified"] < now - GRACE
    ]
    gone = [key for key in old if key not in (pointer.key, pointer.previous)]
    for key in gone:
        s3.delete_object(Bucket=bucket, Key=key)
    return len(gone)


def _forget_older(folder: Path, newest: Path) -> None:
    """Leave the index before, and what others may be fetching at the moment."""
    older = sorted((path for path in folder.glob("*.duckdb") if path != newest), key=_modified)
    killed = [
        path for path in folder.glob(f"{_PARTIAL}*") if _modified(path) < _modified(newest) - GRACE.total_seconds()
    ]
    for path in (*older[:-1], *killed):
        path.unlink(missing_ok=True)


def _modified(path: Path) -> float:
    return path.stat().st_mtime
