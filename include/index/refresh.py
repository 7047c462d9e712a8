"""Brings the published index up to the results: reads only files that are not in it yet, and publishes the whole in one write.

The index that readers have is never touched. A refresh that is killed leaves at most a file that no pointer names, and a later
one deletes that. Of two at a time one publishes; the other begins again with what that one made, and has little left to do.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from include import objects
from include.errors import TransientError
from include.file_lists import ResultFile, merged_from, visible_files
from include.index import build, database
from include.index.build import IndexWrongError
from include.index.database import SCHEMA_VERSION, IndexUnusableError
from include.index.published import Pointer, download, forget_replaced, point_to, read_pointer, upload
from include.index.rows import read_rows
from include.index.verify import differences
from include.schema import ANALYSIS
from include.scratch import scratch_folder

log = logging.getLogger(__name__)

ANALYSES: Final = (ANALYSIS,)
ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True)
class Refreshed:
    """``pointer`` names the index now; ``rows`` of results were read for it, from ``files``; 0 where nothing was new."""

    pointer: Pointer
    files: int
    rows: int
    is_built_anew: bool

    def in_words(self) -> str:
        index = (
            f"{self.pointer.images:,} images, {self.pointer.labels:,} labels, {self.pointer.size_bytes / 1e6:,.1f} MB"
        )
        if self.is_built_anew:
            return f"The label index was built anew: {index}."
        if not self.files:
            return f"The label index has all results already: {index}."
        return f"The label index took up {self.rows:,} rows from {self.files:,} files: {index}."


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to do with an index that covers some files: files to read, and those whose rows it has under other names."""

    read: list[ResultFile]
    taken_over: dict[ResultFile, frozenset[str]]
    no_longer: frozenset[str]
    # Rows that the index has and no file: only a new one gets rid of them.
    lost: frozenset[str]


def refresh_index(
    s3: Any,
    bucket: str,
    *,
    now: datetime,
    threads: int,
    rebuild: bool = False,
    verify: bool = False,
    analyses: Sequence[str] = ANALYSES,
    folder: Path | None = None,
) -> Refreshed:
    """Publish an index of all results; nothing happens where there is one already.

    :param rebuild: read everything again, whatever there is.
    :param verify: count everything against the results before it is published: as much work as building.
    :param folder: for temporary files, of up to three times the size of the index (default: the system's).
    :raises IndexWrongError: what was made does not add up; readers keep the index before.
    :raises ResultsError: a file of results is damaged.
    :raises TransientError: others published all the time.
    """
    for _ in range(ATTEMPTS):
        pointer, etag = read_pointer(s3, bucket)
        visible = [
            file for analysis in analyses for file in visible_files(s3, bucket, analysis=analysis, threads=threads)
        ]
        is_current = pointer is not None and pointer.schema_version == SCHEMA_VERSION
        has_all = pointer is not None and pointer.covers == _digest(visible)
        if pointer and is_current and has_all and not rebuild and objects.head(s3, bucket, pointer.key):
            forget_replaced(s3, bucket, now=now)
            return Refreshed(pointer, 0, 0, is_built_anew=False)
        with scratch_folder(folder) as work:
            base = pointer if is_current and not rebuild else None
            made = _make(s3, bucket, base, visible, work, threads=threads, verify=verify)
            key, sha256 = upload(s3, bucket, made.path)
            new = Pointer(
                key=key,
                sha256=sha256,
                size_bytes=made.path.stat().st_size,
                schema_version=SCHEMA_VERSION,
                images=made.images,
                labels=made.labels,
                files=len(visible),
                covers=_digest(visible),
                built_at=now,
                previous=pointer.key if pointer else None,
            )
        if point_to(s3, bucket, new, etag=etag):
            forget_replaced(s3, bucket, now=now)
            return Refreshed(new, made.files, made.rows, made.is_built_anew)
        log.info("Somebody else has published a label index in between: once more, with that one.")
    raise TransientError("Others publish label indexes all the time. Is the Dag index_labels running more than once?")


@dataclass(frozen=True, slots=True)
class _Made:
    path: Path
    images: int
    labels: int
    files: int
    rows: int
    is_built_anew: bool


def _make(
    s3: Any, bucket: str, base: Pointer | None, visible: Sequence[ResultFile], work: Path, *, threads: int, verify: bool
) -> _Made:
    """An index of these files, from the published one where that is possible."""
    import duckdb

    spill, path = work / "spill", work / "index.duckdb"
    try:
        plan = _of_base(s3, bucket, base, visible, path, spill) if base else None
        if plan is None:
            path.unlink(missing_ok=True)
            database.create(path, spill=spill).close()
        with closing(database.open_to_write(path, spill=spill)) as con:
            to_read = plan.read if plan else visible
            if plan:
                for merged, keys in plan.taken_over.items():
                    build.take_over(con, merged, keys)
                build.forget_files(con, plan.no_longer)
            rows = build.add_rows(con, read_rows(s3, bucket, to_read, threads=threads), to_read)
            is_to_be_sorted = build.needs_sorting(con)
        if is_to_be_sorted:
            unsorted, path = path, work / "sorted.duckdb"
            build.write_sorted(unsorted, path, spill=spill)
        with closing(database.open_to_read(path)) as con:
            build.check(con)
            if verify:
                _verify(s3, bucket, con, visible, spill, threads)
            images, labels = (database.one(con, f"SELECT count(*) FROM {table}") for table in ("images", "labels"))
    except duckdb.Error as err:
        raise TransientError(
            f"DuckDB failed while the label index was made ({err}). Readers keep the one before. Is there "
            f"room below {work.parent}?"
        ) from err
    return _Made(path, images, labels, len(to_read), rows, is_built_anew=plan is None)


def _of_base(
    s3: Any, bucket: str, base: Pointer, visible: Sequence[ResultFile], path: Path, spill: Path
) -> _Plan | None:
    """Fetch the published index; None where it is of no use."""
    try:
        download(s3, bucket, base, path)
    except (IndexUnusableError, TransientError) as err:
        log.warning("%s It is built anew now.", err)
        return None
    try:
        with closing(database.open_to_write(path, spill=spill)) as con:
            plan = _plan(s3, bucket, build.covered(con), visible)
    except IndexUnusableError as err:
        log.warning("%s It is built anew now.", err)
        return None
    if plan.lost:
        log.warning(
            "The label index has rows of %s files that are no longer among the results, such as %s: it is built anew.",
            len(plan.lost),
            min(plan.lost),
        )
        return None
    return plan


def _plan(s3: Any, bucket: str, covered: Mapping[str, str], visible: Collection[ResultFile]) -> _Plan:
    new = [file for file in visible if covered.get(file.key) != file.etag]
    took_over = {file: merged_from(s3, bucket, file) for file in new if file.is_merged}
    known = {file: keys for file, keys in took_over.items() if keys and keys <= covered.keys()}
    keys_now = {file.key for file in visible}
    rewritten = {file.key for file in new if file.key in covered}
    no_longer = covered.keys() - keys_now | rewritten
    # A file that was written anew may have lost an image; so its rows are those of a file that is gone.
    lost = no_longer - {key for keys in took_over.values() for key in keys}
    return _Plan([file for file in new if file not in known], known, frozenset(no_longer), frozenset(lost))


def _verify(s3: Any, bucket: str, con: Any, visible: Sequence[ResultFile], spill: Path, threads: int) -> None:
    found = differences(con, read_rows(s3, bucket, visible, threads=threads), spill=spill)
    if found:
        raise IndexWrongError(
            f"The label index differs from the results on {len(found):,} days ({'; '.join(map(str, found[:3]))}). It was not "
            "published, readers keep the one before. Build it anew: python -m include.cli index build."
        )


def _digest(files: Collection[ResultFile]) -> str:
    lines = sorted(f"{file.key}\0{file.etag}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
