"""A finished day's many small files of results into one large file, while others read.

Order: the merged file is written, then the day's list is swapped in one write (`include.file_lists`), and hours later the small
files go. Whatever is killed in between, each row is shown exactly once, and the next run ends what was begun.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from include import layout, objects
from include.errors import ResultsError
from include.file_lists import (
    MERGED_FROM,
    ResultFile,
    ensure_file_list,
    merged_from,
    swap_files,
    visible_files,
    visible_keys,
)
from include.merge import merge_files, read_rows, rows_of_batches
from include.parallel import in_parallel
from include.scratch import scratch_folder

log = logging.getLogger(__name__)

# Queries of a day with a thousand files are slow, and Delta's documentation of such lists advises against more
# (https://docs.delta.io/presto-integration): so a day on which an archive is labelled is compacted before it is over.
MANY_FILES: Final = 500
# Longer than any query that may have begun with the small files: Athena ends one after half an hour
# (https://docs.aws.amazon.com/athena/latest/ug/service-limits.html).
GRACE: Final = timedelta(hours=6)


@dataclass(frozen=True, slots=True)
class Compaction:
    """What became of a day. ``unreadable``: keys of files that stay as they are, each with the reason."""

    day: str
    files_before: int
    files_after: int
    rows: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    unreadable: tuple[str, ...] = ()


def days_to_compact(s3: Any, bucket: str, *, analysis: str, now: datetime, threads: int) -> list[str]:
    """Days that are over and have at least two files of batches; a day that goes on, once it has very many."""
    shown, _ = visible_keys(s3, bucket, analysis=analysis, threads=threads)
    today = f"{now:%Y-%m-%d}"
    batches = {day: sum(not layout.is_merged(key) for key in keys) for day, keys in shown.items()}
    return sorted(day for day, count in batches.items() if count > (1 if day < today else MANY_FILES))


def compact_day(s3: Any, bucket: str, *, analysis: str, day: str, threads: int) -> Compaction:
    """Merge the files of a day's batches; what came late to a merged day becomes a further merged file.

    Takes the disk that the day's rows take uncompressed, and a gigabyte of memory, however many they are.
    """
    ensure_file_list(s3, bucket, analysis=analysis, day=day)
    files = visible_files(s3, bucket, analysis=analysis, threads=threads, days=[day])
    batches = [file for file in files if not file.is_merged]
    with scratch_folder() as folder:
        readable, unreadable = _download(s3, bucket, batches, folder, threads=threads)
        if len(readable) < 2:
            return Compaction(day, len(files), len(files), unreadable=unreadable)
        target = folder / "merged.parquet"
        rows = _merge([path for _, path in readable], target, [file.key for file, _ in readable], folder)
        names = "\n".join(file.key for file, _ in readable)
        merged = layout.merged_image_labels(
            analysis=analysis, day=day, digest=hashlib.sha256(names.encode()).hexdigest()[:16]
        )
        with target.open("rb") as body:
            s3.put_object(Bucket=bucket, Key=merged, Body=body)
        size = target.stat().st_size
    replaced = [file.key for file, _ in readable]
    if not swap_files(s3, bucket, analysis=analysis, day=day, merged=merged, files=replaced):
        log.warning("%s: somebody else changed the list of files meanwhile; the next run sees to it.", day)
        return Compaction(day, len(files), len(files), unreadable=unreadable)
    return Compaction(
        day,
        files_before=len(files),
        files_after=len(files) - len(replaced) + 1,
        rows=rows,
        bytes_before=sum(file.size_bytes for file, _ in readable),
        bytes_after=size,
        unreadable=unreadable,
    )


def _download(
    s3: Any, bucket: str, files: Sequence[ResultFile], folder: Path, *, threads: int
) -> tuple[list[tuple[ResultFile, Path]], tuple[str, ...]]:
    """Files with where they are now; and what is no file of results, or gone."""

    def fetch(numbered: tuple[int, ResultFile]) -> tuple[ResultFile, Path, str]:
        number, file = numbered
        path = folder / f"{number}.parquet"
        found = objects.read(s3, bucket, file.key)
        if found is None:
            return file, path, "it is gone"
        path.write_bytes(found[0])
        try:
            read_rows(path)
        except (pa.ArrowException, OSError, ValueError) as err:
            return file, path, f"{type(err).__name__}: {err}"
        return file, path, ""

    found = in_parallel(fetch, enumerate(files), threads=min(threads, 4))
    readable = [(file, path) for file, path, problem in found if not problem]
    return readable, tuple(f"s3://{bucket}/{file.key} ({problem})" for file, _, problem in found if problem)


def _merge(paths: Sequence[Path], target: Path, keys: Sequence[str], folder: Path) -> int:
    """Write the merged file and count what is in it, batch by batch, as a reader would."""
    names = "\n".join(key.rpartition("/")[2] for key in keys)
    expected: Counter[str] = Counter()
    for path in paths:
        expected.update(rows_of_batches(pq.ParquetFile(path).read(columns=["batch_id"])))
    merge_files(paths, target, folder=folder, metadata={MERGED_FROM: names.encode()})
    found = rows_of_batches(pq.ParquetFile(target).read(columns=["batch_id"]))
    if found != expected:
        raise ResultsError(
            f"A merged file has other rows than what it was made of: {found - expected}, {expected - found}."
        )
    return found.total()


def remove_replaced(s3: Any, bucket: str, *, analysis: str, now: datetime, threads: int) -> int:
    """Delete the files whose rows a merged file has shown for hours, and merged files that were never shown; how many."""
    modified = _modified(s3, bucket, f"{layout.IMAGE_LABELS}analysis={analysis}/")
    shown, there = visible_keys(s3, bucket, analysis=analysis, threads=threads)
    # Looked at once they have been read: what is swapped in between has not been shown for hours.
    lists = _modified(s3, bucket, f"{layout.FILE_LISTS}analysis={analysis}/")
    settled = {layout.day_of(key) for key, time in lists.items() if time < now - GRACE}
    seen = {key for keys in shown.values() for key in keys}
    hidden = {key for key in modified.keys() & there.keys() if layout.day_of(key) in settled and key not in seen}
    days = {layout.day_of(key) for key in hidden}
    merged = [key for key, file in there.items() if file.is_merged and file.day in days]
    took_over = in_parallel(lambda key: merged_from(s3, bucket, there[key]), merged, threads=threads)
    made_of = dict(zip(merged, took_over, strict=True))
    # Of a merge that was killed; but as long as all its files are shown, somebody may be about to show it.
    never_shown = {key for key in merged if key in hidden and modified[key] < now - GRACE and not made_of[key] <= seen}
    replaced = frozenset[str]().union(*(made_of[key] for key in merged if key in seen))
    gone = sorted(hidden & (never_shown | replaced))
    in_parallel(lambda key: s3.delete_object(Bucket=bucket, Key=key), gone, threads=threads)
    return len(gone)


def _modified(s3: Any, bucket: str, prefix: str) -> dict[str, datetime]:
    return {
        item["Key"]: item["LastModified"]
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        for item in page.get("Contents", [])
    }
