"""What the final bucket says of images, read for the audit: batches, checkpoints and published rows.

Shares nothing with the stages that write them but the schema's names.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from tempfile import SpooledTemporaryFile
from typing import IO, Any, Final, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from botocore.exceptions import ClientError

from include.audit_places import digest, listed
from include.errors import error_code
from include.schema import IMAGE_LABELS

PENDING: Final = "batches/pending/"
DONE: Final = "batches/done/"
OUTCOMES: Final = "batches/outcomes/"
STAGED: Final = "staged/"
UNREADABLE: Final = "batches/unreadable/"
RESULTS: Final = "results/image_labels/"
FILE_LISTS: Final = "results/image_labels/_symlink_format_manifest/"
_OF_A_DAY: Final = re.compile(r"analysis=[^/]+/dt=[^/]+/[^/]+")
MERGED: Final = "/merged-"

MISSING_CODES: Final = frozenset({"404", "NoSuchKey", "NotFound", "NoSuchVersion", "NoSuchBucket"})
# Objects in memory at a time while one is looked through: a batch may have 10,000 images.
READ_AHEAD: Final = 4
ROWS_AT_A_TIME: Final = 10_000
IN_MEMORY_BYTES: Final = 16 * 1024**2
_COLUMNS: Final = [
    name
    for name in IMAGE_LABELS.names
    if name
    in {
        "source_bucket",
        "source_key",
        "version_id",
        "etag",
        "size_bytes",
        "event_time",
        "processed_at",
        "batch_id",
        "model_arn",
        "status",
    }
]
# What reading an object raises that is not what its name says.
BROKEN: Final = (ValueError, TypeError, KeyError, AttributeError, EOFError, zlib.error, gzip.BadGzipFile)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Record:
    """What a batch or a row says of one image; ``etag`` has no quotes.

    Where only a batch speaks, ``status`` is empty and ``processed_at`` None.
    """

    bucket: str
    key: str
    etag: str
    version_id: str
    size_bytes: int
    event_time: datetime
    batch_id: str
    force: bool = False
    processed_at: datetime | None = None
    status: str = ""
    analysis: str = ""
    model_arn: str = ""

    def __post_init__(self) -> None:
        texts = (self.bucket, self.key, self.etag, self.version_id, self.batch_id, self.status, self.model_arn)
        if not (all(isinstance(text, str) for text in texts) and isinstance(self.event_time, datetime)):
            raise ValueError(f"an image without a bucket, a key, a time or a status: {self.bucket!r}, {self.key!r}")

    @property
    def uri(self) -> str:
        version = f" (version {self.version_id})" if self.version_id else ""
        return f"s3://{self.bucket}/{self.key}{version}"

    @property
    def name(self) -> int:
        return digest(self.bucket, self.key)

    @property
    def identity(self) -> int:
        """Content under a name; where no event told its ETag, the version, or whatever has the name."""
        return digest(self.bucket, self.key, self.etag or self.version_id)

    @property
    def published(self) -> int:
        """What there may be one row of: a paid result, or one batch's attempt that came to nothing."""
        attempt = "" if self.status == "LABELLED" else self.batch_id
        return digest(self.analysis, self.model_arn, self.bucket, self.key, self.etag or self.version_id, attempt)


@dataclass(frozen=True, slots=True)
class Read:
    """One object's records, or why it could not be read (``problem``). None in ``records``: it is gone."""

    key: str
    batch_id: str
    records: list[Record] | None
    problem: str = ""


def read_object(s3: Any, bucket: str, key: str) -> bytes | None:
    """None where it is gone by now."""
    try:
        return bytes(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    except ClientError as err:
        if error_code(err) in MISSING_CODES:
            return None
        raise


def in_order(work: Callable[[str], T], keys: Iterable[str]) -> Iterator[T]:
    """``work`` on each key, a few at a time, results in order."""
    rest = iter(keys)
    with ThreadPoolExecutor(max_workers=READ_AHEAD) as pool:
        while some := list(islice(rest, READ_AHEAD)):
            yield from pool.map(work, some)


def batch_id_of(key: str) -> str:
    """Of a pending or done batch, or of a Parquet file of results."""
    return key.rpartition("/")[2].partition(".")[0].rpartition("-")[2]


def read_batches(s3: Any, bucket: str, keys: Iterable[str]) -> Iterator[Read]:
    """Pending or done batches: gzipped JSON Lines of images."""

    def read(key: str) -> Read:
        batch_id = batch_id_of(key)
        body = read_object(s3, bucket, key)
        if body is None:
            return Read(key, batch_id, None)
        try:
            return Read(key, batch_id, [_of_batch(line, batch_id) for line in _lines(body)])
        except BROKEN as err:
            return Read(key, batch_id, [], f"is no batch of images ({type(err).__name__}: {err})")

    return in_order(read, keys)


def _of_batch(line: dict[str, Any], batch_id: str) -> Record:
    return Record(
        bucket=line["bucket"],
        key=line["key"],
        etag=line.get("etag", ""),
        version_id=line.get("version_id", ""),
        size_bytes=line.get("size_bytes", 0),
        event_time=_utc(datetime.fromisoformat(line["event_time"])),
        batch_id=batch_id,
        force=line.get("force", False),
    )


def visible_results(s3: Any, bucket: str) -> list[str]:
    """Keys of the Parquet files that queries see: those that a day's list names, and all of a day without one.

    A key stands there as often as queries read it: Athena takes every object beside a list for a further list.
    """
    there = [item.key.removeprefix(RESULTS) for item in listed(s3, bucket, RESULTS)]
    lists = [item.key for item in listed(s3, bucket, FILE_LISTS) if not item.key.endswith("/")]
    days = {key.removeprefix(FILE_LISTS).rpartition("/")[0] for key in lists}
    seen = [RESULTS + key for key in there if _OF_A_DAY.fullmatch(key) and key.rpartition("/")[0] not in days]
    for list_key in lists:
        lines = (read_object(s3, bucket, list_key) or b"").decode(errors="replace").splitlines()
        seen += [line.strip().removeprefix(f"s3://{bucket}/") for line in lines if line.strip()]
    return sorted(seen)


def read_results(s3: Any, bucket: str, keys: Iterable[str]) -> Iterator[Read]:
    """Parquet files of results, without their labels; a large one in several slices."""

    def fetch(key: str) -> tuple[str, IO[bytes] | None]:
        return key, _fetched(s3, bucket, key)

    for key, file in in_order(fetch, keys):
        if file is None:
            problem = "is in the day's list of files, and gone: every query of the day fails"
            yield Read(key, batch_id_of(key), [], problem)
            continue
        with file:
            yield from _slices(key, file)


def _fetched(s3: Any, bucket: str, key: str) -> IO[bytes] | None:
    """A merged file may be larger than memory is."""
    try:
        body = s3.get_object(Bucket=bucket, Key=key)["Body"]
    except ClientError as err:
        if error_code(err) in MISSING_CODES:
            return None
        raise
    file = SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115 - closed by whoever reads it
    shutil.copyfileobj(body, file)
    file.seek(0)
    return file


def _slices(key: str, file: IO[bytes]) -> Iterator[Read]:
    analysis = key.split("/")[2].removeprefix("analysis=")
    try:
        parquet = pq.ParquetFile(file)
        for rows in parquet.iter_batches(batch_size=ROWS_AT_A_TIME, columns=_COLUMNS, use_threads=False):
            yield Read(key, batch_id_of(key), list(_of_table(rows, analysis=analysis)))
        if not parquet.metadata.num_rows:
            yield Read(key, batch_id_of(key), [])
    except (pa.ArrowException, OSError, *BROKEN) as err:
        problem = f"is no Parquet file of image_labels ({type(err).__name__}: {err})"
        yield Read(key, batch_id_of(key), [], problem)


def _of_table(table: Any, *, analysis: str) -> Iterator[Record]:
    columns = {name: table[name].to_pylist() for name in _COLUMNS}
    for row in range(table.num_rows):
        yield Record(
            bucket=columns["source_bucket"][row],
            key=columns["source_key"][row],
            etag=columns["etag"][row] or "",
            version_id=columns["version_id"][row] or "",
            size_bytes=columns["size_bytes"][row] or 0,
            event_time=_utc(columns["event_time"][row]),
            batch_id=columns["batch_id"][row],
            processed_at=_utc(processed_at) if (processed_at := columns["processed_at"][row]) else None,
            status=columns["status"][row],
            analysis=analysis,
            model_arn=columns["model_arn"][row] or "",
        )


def missing_in_checkpoints(s3: Any, bucket: str, batch_id: str) -> set[tuple[str, str]]:
    """Images (bucket, key) of an unfinished batch that were found to be gone.

    :raises: one of ``BROKEN`` where a checkpoint is not JSON Lines of outcomes.
    """
    gone = set()
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{OUTCOMES}{batch_id}/"):
        for item in page.get("Contents", []):
            for line in _lines(read_object(s3, bucket, item["Key"]) or b""):
                outcome = (line.get("outcome") if "already_labelled" in line else line) or {}
                if outcome.get("status") == "MISSING":
                    gone.add((outcome["image"]["bucket"], outcome["image"]["key"]))
    return gone


def _lines(body: bytes) -> list[dict[str, Any]]:
    text = gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body
    return [json.loads(line) for line in text.split(b"\n") if line.strip()]


def _utc(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)
