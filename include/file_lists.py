"""Which Parquet files the readers of a day see: a list of them, one object a day, which is swapped as a whole.

Athena reads the lists as symlink files (docs/adr/0013), everybody else with `visible_files`. So many small files can make way
for a large one between two looks: each sees all rows once. A day without a list, from before there were any, shows every
file that lies there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from include import layout, objects
from include.errors import ResultsError, TransientError
from include.parallel import in_parallel
from include.ranged_file import RangedFile

# In each round somebody's write goes through: more rounds than there are tasks that publish at a time.
WRITE_ATTEMPTS: Final = 100
# In the footer of a merged file: the names, without their folder, of the files whose rows it took over.
MERGED_FROM: Final = b"merged_from"
# What people leave beside it (copies, a list's backup) is neither shown nor read.
_OF_A_DAY: Final = re.compile(r"/analysis=[^/]+/dt=\d{4}-\d\d-\d\d/([^/]+\.parquet|files\.txt)\Z")


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A Parquet file of ``image_labels`` in the final bucket."""

    key: str
    size_bytes: int
    etag: str  # with its quotes
    analysis: str
    day: str

    @property
    def is_merged(self) -> bool:
        return layout.is_merged(self.key)


def add_file(s3: Any, bucket: str, *, analysis: str, day: str, key: str) -> None:
    """Let readers see a file. Nothing happens where they see its rows already: in it, or in one that took them over.

    :raises ResultsError: a merged file of the day is damaged, or the list was lost after there were any.
    """

    def with_file(listed: list[str]) -> list[str]:
        if key in listed:
            return listed
        for merged in filter(layout.is_merged, listed):
            # The line of one that somebody deleted stays: queries had better fail than miss its rows.
            found = _file(s3, bucket, merged, analysis, day)
            if found and key in merged_from(s3, bucket, found):
                return listed
        return [*listed, key]

    _change(s3, bucket, analysis, day, with_file)


def swap_files(s3: Any, bucket: str, *, analysis: str, day: str, merged: str, files: Collection[str]) -> bool:
    """Show a merged file in the place of those whose rows it has; False where one of these is no longer shown."""
    shown: list[str] = []

    def swapped(listed: list[str]) -> list[str]:
        shown[:] = [*(each for each in listed if each not in files), merged]
        return shown if set(files) <= set(listed) else listed

    return merged in _change(s3, bucket, analysis, day, swapped)


def ensure_file_lists(s3: Any, bucket: str, *, analysis: str, threads: int) -> int:
    """List the days whose results are from before there were lists; how many there were."""
    there, lists = _survey(s3, bucket, analysis, None)
    without = sorted({file.day for file in there.values()} - lists.keys())
    in_parallel(lambda day: ensure_file_list(s3, bucket, analysis=analysis, day=day), without, threads=threads)
    return len(without)


def ensure_file_list(s3: Any, bucket: str, *, analysis: str, day: str) -> None:
    """List what lies in a day's folder, if it has no list: before anything is merged there."""
    _change(s3, bucket, analysis, day, lambda listed: listed)


def visible_files(
    s3: Any, bucket: str, *, analysis: str, threads: int, days: Collection[str] | None = None
) -> list[ResultFile]:
    """The files in which readers see each row exactly once, by key. A request for each day and for a thousand files.

    :param days: only these (``YYYY-MM-DD``).
    :raises ResultsError: a list names a file that is gone, or was lost after files had been merged.
    """
    shown, there = visible_keys(s3, bucket, analysis=analysis, threads=threads, days=days)

    def of_day(day: str) -> list[ResultFile]:
        return [there.get(key) or _came_late(s3, bucket, key, analysis, day) for key in shown[day]]

    return [file for files in in_parallel(of_day, shown, threads=threads) for file in files]


def visible_keys(
    s3: Any, bucket: str, *, analysis: str, threads: int, days: Collection[str] | None = None
) -> tuple[dict[str, list[str]], dict[str, ResultFile]]:
    """Keys of the files that readers see, by day, whether they are there or not; and all files that are there, by key.

    :raises ResultsError: a list was lost after files had been merged.
    """
    there, lists = _survey(s3, bucket, analysis, days)
    by_day: dict[str, list[str]] = {day: [] for day in lists}
    for file in there.values():
        by_day.setdefault(file.day, []).append(file.key)

    def of_day(day: str) -> list[str]:
        listed = _read(s3, bucket, lists[day])[0] if day in lists else None
        return sorted(_before_lists(bucket, analysis, day, by_day[day]) if listed is None else listed)

    every = sorted(by_day)
    return dict(zip(every, in_parallel(of_day, every, threads=threads), strict=True)), there


def merged_from(s3: Any, bucket: str, file: ResultFile) -> frozenset[str]:
    """Keys of the files whose rows a merged file took over; none for the file of a batch.

    :raises ResultsError: it is no Parquet file, or somebody else has written it anew.
    """
    if not file.is_merged:
        return frozenset()
    try:
        schema = pq.ParquetFile(RangedFile(s3, bucket, file.key, file.size_bytes, file.etag)).schema_arrow
        names = (schema.metadata or {}).get(MERGED_FROM)
        if names is None:
            raise ValueError("its footer does not say which files were merged")
        folder = layout.image_labels_of(analysis=file.analysis, day=file.day)
        return frozenset(folder + name for name in names.decode().splitlines())
    except (pa.ArrowException, OSError, ValueError) as err:
        raise ResultsError(
            f"s3://{bucket}/{file.key} is no Parquet file of results ({err}): restore it; or delete it and put its batches "
            "back, as docs/runbook.md says."
        ) from err


def _survey(
    s3: Any, bucket: str, analysis: str, days: Collection[str] | None
) -> tuple[dict[str, ResultFile], dict[str, str]]:
    """Parquet files by key, and the keys of lists by day.

    In this order: where a day has no list in the end, nothing had been merged when its files were looked at.
    """
    folders = [f"analysis={analysis}/"] if days is None else [f"analysis={analysis}/dt={day}/" for day in days]
    there = {
        item["Key"]: ResultFile(item["Key"], item["Size"], item["ETag"], analysis, layout.day_of(item["Key"]))
        for folder in folders
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=layout.IMAGE_LABELS + folder)
        for item in page.get("Contents", [])
        if _OF_A_DAY.search(item["Key"])
    }
    lists = (key for folder in folders for key in objects.list_keys(s3, bucket, layout.FILE_LISTS + folder))
    return there, {layout.day_of(key): key for key in lists if _OF_A_DAY.search(key)}


def _before_lists(bucket: str, analysis: str, day: str, keys: list[str]) -> list[str]:
    """What lies in the folder of a day that has no list: all of it is shown, as long as nothing was merged."""
    if merged := [key for key in keys if layout.is_merged(key)]:
        raise ResultsError(
            f"s3://{bucket}/{layout.file_list(analysis=analysis, day=day)} is gone, and without it the rows of {merged[0]} would "
            "be there twice. Restore the list; or delete the day's merged files and put their batches back, as docs/runbook.md "
            "says."
        )
    return keys


def _file(s3: Any, bucket: str, key: str, analysis: str, day: str) -> ResultFile | None:
    found = objects.head(s3, bucket, key)
    return ResultFile(key, found["ContentLength"], found["ETag"], analysis, day) if found else None


def _came_late(s3: Any, bucket: str, key: str, analysis: str, day: str) -> ResultFile:
    """A file that came after the listing."""
    if found := _file(s3, bucket, key, analysis, day):
        return found
    raise ResultsError(
        f"s3://{bucket}/{key} is listed below {layout.FILE_LISTS} and is gone: no query of {day} works. "
        "Restore it, or put its batches back as docs/runbook.md says."
    )


def _read(s3: Any, bucket: str, list_key: str) -> tuple[list[str] | None, str | None]:
    """The keys that a list names, each once, and its ETag; None where there is no list."""
    found = objects.read(s3, bucket, list_key)
    if found is None:
        return None, None
    lines = (line.strip().removeprefix(f"s3://{bucket}/") for line in found[0].decode(errors="replace").splitlines())
    return list(dict.fromkeys(filter(None, lines))), found[1]


def _change(s3: Any, bucket: str, analysis: str, day: str, change: Callable[[list[str]], list[str]]) -> list[str]:
    """Read the list, change it, write it on the condition that nobody wrote in between; again where somebody did."""
    list_key = layout.file_list(analysis=analysis, day=day)
    for _ in range(WRITE_ATTEMPTS):
        before, etag = _read(s3, bucket, list_key)
        there = before
        if there is None:
            folder = layout.image_labels_of(analysis=analysis, day=day)
            found = [key for key in objects.list_keys(s3, bucket, folder) if _OF_A_DAY.search(key)]
            if any(map(layout.is_merged, found)) and objects.head(s3, bucket, list_key):
                continue  # somebody has listed and merged them in between
            there = _before_lists(bucket, analysis, day, found)
        after = sorted(change(there))
        if after == (before or []):
            return after
        body = "".join(f"s3://{bucket}/{key}\n" for key in after).encode()
        if objects.write_if(s3, bucket, list_key, body, etag=etag):
            return after
    raise TransientError(f"s3://{bucket}/{list_key} is being written by others without end; try again.")
