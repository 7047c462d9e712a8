"""What is known of an archive's images already: the published results, sixteen bytes and a few flags an image.

Only the columns that are asked for are read, by ranges of the Parquet files.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from botocore.exceptions import ClientError

from include import objects
from include.archive.ahead import in_order
from include.archive.found import Skipped
from include.archive.hashes import Hashes, hash_identities
from include.errors import SelectionError
from include.file_lists import ResultFile, visible_files
from include.ranged_file import RangedFile
from include.schema import ANALYSIS

log = logging.getLogger(__name__)

Select: TypeAlias = Literal["new", "failed", "older_model", "all"]
Flags: TypeAlias = npt.NDArray[np.uint8]

OF_MODEL: Final = 1  # a row of this model
LABELLED: Final = 2  # and one of these labelled it
LABELLED_BY_OTHER: Final = 4

COLUMNS: Final = ["source_bucket", "source_key", "etag", "model_arn", "status"]
# Rows that are collected before they are aggregated: some 20 bytes each.
ROWS_AT_A_TIME: Final = 4_000_000
# Rows of one file that are read at a time: some hundred bytes each.
BATCH_ROWS: Final = 65_536

# Select: why an image is left out.
NOT_SELECTED: Final[dict[Select, str]] = {
    "new": "known already: this content has a result of this model",
    "failed": "did not fail: no result of this model, or labelled in the end",
    "older_model": "not labelled by another model alone",
}


@dataclass(frozen=True, slots=True)
class Known:
    """Identities (128 bits as two columns, sorted, each once) and their flags."""

    first: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))
    second: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))
    flags: Flags = field(default_factory=lambda: np.empty(0, np.uint8))

    def __len__(self) -> int:
        return len(self.first)

    def flags_of(self, first: Hashes, second: Hashes) -> Flags:
        """Flags of these identities, 0 for unknown ones."""
        found = np.zeros(len(first), np.uint8)
        if not len(self):
            return found
        place = np.searchsorted(self.first, first)
        open_rows = np.arange(len(first))
        # Two identities may share the first 64 bits: then the next row is looked at, too.
        while len(open_rows):
            at = np.minimum(place[open_rows], len(self) - 1)
            open_rows = open_rows[(place[open_rows] < len(self)) & (self.first[at] == first[open_rows])]
            at = place[open_rows]
            hit = self.second[at] == second[open_rows]
            found[open_rows[hit]] = self.flags[at[hit]]
            open_rows = open_rows[~hit]
            place[open_rows] += 1
        return found


def read_published(
    s3: Any,
    bucket: str,
    *,
    model_arn: str,
    select: Select,
    threads: int,
    said: Callable[[int], None] = lambda rows: None,
) -> Known:
    """What the published results say, as far as ``select`` needs it: all asks for nothing.

    :param said: told how many rows have been read.
    :raises SelectionError: naming a file that is not Parquet, or not of ``image_labels``.
    :raises ResultsError: a day's list names a file that is gone.
    """
    if select == "all":
        return Known()
    parts: list[Known] = []
    rows = waiting = 0
    files = visible_files(s3, bucket, analysis=ANALYSIS, threads=threads)
    read = in_order(lambda file: _read(s3, bucket, file, model_arn, select), files, threads=threads)
    for count, some in read:
        rows += count
        waiting += len(some)
        parts.append(some)
        said(rows)
        if waiting > ROWS_AT_A_TIME:
            parts, waiting = [_aggregate(parts)], 0
    return _aggregate(parts)


def _read(s3: Any, bucket: str, file: ResultFile, model_arn: str, select: Select) -> tuple[int, Known]:
    """Rows of the file, and what of it matters. A merged file has the rows of a whole day: a part of it at a time."""
    try:
        parquet = pq.ParquetFile(RangedFile(s3, bucket, file.key, file.size_bytes, file.etag), pre_buffer=True)
        missing = sorted({*COLUMNS} - {*parquet.schema_arrow.names})
        if missing:
            raise ValueError(f"it has no column {', '.join(missing)}")
        batches = parquet.iter_batches(batch_size=BATCH_ROWS, columns=COLUMNS, use_threads=False)
        parts = [_known(pa.Table.from_batches([batch]), model_arn, select) for batch in batches]
    except ClientError as err:
        if objects.is_missing(err) or objects.is_condition_failed(err):
            raise SelectionError(
                f"s3://{bucket}/{file.key} has gone, or was replaced, while it was read. Plan again."
            ) from err
        raise
    except (pa.ArrowException, OSError, ValueError) as err:
        raise SelectionError(
            f"s3://{bucket}/{file.key} is no Parquet file of results ({type(err).__name__}: {err}), so nobody knows which images "
            "have been labelled. Restore it, or delete it and put its batch back as docs/runbook.md says; then plan again."
        ) from err
    return parquet.metadata.num_rows, _aggregate(parts)


def _known(table: pa.Table, model_arn: str, select: Select) -> Known:
    mine = pc.fill_null(pc.equal(table["model_arn"], model_arn), False)
    labelled = pc.fill_null(pc.equal(table["status"], "LABELLED"), False)
    # What select asks of, and rows that say which content they are of.
    matters = labelled if select == "older_model" else mine
    for name in COLUMNS[:3]:
        matters = pc.and_(matters, pc.is_valid(table[name]))
    table, mine, labelled = table.filter(matters), mine.filter(matters), labelled.filter(matters)
    first, second = hash_identities(*(table[name] for name in COLUMNS[:3]))
    of_model, is_labelled = _bits(mine), _bits(labelled)
    flags = of_model * np.uint8(OF_MODEL) + (of_model & is_labelled) * np.uint8(LABELLED)
    return Known(first, second, flags + ((of_model ^ 1) & is_labelled) * np.uint8(LABELLED_BY_OTHER))


def _bits(column: Any) -> Flags:
    return np.asarray(column.to_numpy(), dtype=np.uint8)


def _aggregate(parts: list[Known]) -> Known:
    """Each identity once, with all its flags. Empties the list, column by column: ten million rows are large."""
    if not parts:
        return Known()
    first = np.concatenate([part.first for part in parts])
    second = np.concatenate([part.second for part in parts])
    flags = np.concatenate([part.flags for part in parts])
    parts.clear()
    order = np.lexsort((second, first))
    first = first[order]
    second = second[order]
    flags = flags[order]
    del order
    is_new = np.ones(len(first), np.bool_)
    is_new[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    if is_new.all():
        return Known(first, second, flags)
    starts = np.flatnonzero(is_new)
    return Known(first[starts], second[starts], np.bitwise_or.reduceat(flags, starts))


def selected(table: pa.Table, known: Known, select: Select, skipped: Skipped) -> pa.Table:
    """Rows of ``FOUND`` that the selection asks for; the others are counted."""
    if select == "all":
        return table
    flags = known.flags_of(*hash_identities(table["bucket"], table["key"], table["etag"]))
    if select == "new":
        stays = flags & OF_MODEL == 0
    elif select == "failed":
        stays = flags & (OF_MODEL | LABELLED) == OF_MODEL
    else:
        stays = flags & (LABELLED | LABELLED_BY_OTHER) == LABELLED_BY_OTHER
    kept = table.filter(pa.array(stays))
    if kept.num_rows < table.num_rows:
        skipped[NOT_SELECTED[select]] += table.num_rows - kept.num_rows
    return kept
