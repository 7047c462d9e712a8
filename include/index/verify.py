"""Counts the index against the results: images, labels and a checksum of each day, from every row of every file.

What is newest of an image is decided here once more, and in another way than where the index is made.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Final

from include.index import database
from include.index.rows import Batch

if TYPE_CHECKING:
    import duckdb

# Sums of hashes, so that no order matters.
_DAYS: Final = """
    SELECT came_at::DATE, count(*), sum(labels)::BIGINT, sum(digest::HUGEINT)::VARCHAR FROM ({rows}) GROUP BY ALL
"""


@dataclass(frozen=True, slots=True)
class Difference:
    """A day (of ``came_at``) on which index and results differ: (images, labels, checksum) of each, None for no images."""

    day: date
    results: tuple[int, int, str] | None
    index: tuple[int, int, str] | None

    def __str__(self) -> str:
        in_results, in_index = (
            f"{each[0]:,} images with {each[1]:,} labels" if each else "nothing" for each in (self.results, self.index)
        )
        also = ", with other content" if in_results == in_index else ""
        return f"{self.day}: {in_results} in the results, {in_index} in the index{also}"


def differences(index: duckdb.DuckDBPyConnection, batches: Iterable[Batch], *, spill: Path) -> list[Difference]:
    """Days on which the index is not what the results say.

    :param batches: every row of the results.
    """
    in_index = _by_day(index, "SELECT came_at, len(labels) AS labels, hash(images) AS digest FROM images")
    with closing(database.scratch(spill)) as con:
        database.run(
            con,
            "CREATE TABLE seen (id UBIGINT, came_at TIMESTAMP, version STRUCT(a TIMESTAMP, b TIMESTAMP, c VARCHAR, d UBIGINT), "
            "labels BIGINT)",
        )
        for batch in batches:
            con.register("incoming", batch.table)
            database.run(
                con,
                "INSERT INTO seen SELECT id, came_at, {'a': coalesce(event_time, '-infinity'), 'b': coalesce(processed_at, "
                "'-infinity'), 'c': coalesce(batch_id, ''), 'd': hash(incoming)}, len(labels) FROM incoming",
            )
            con.unregister("incoming")
        in_results = _by_day(
            con,
            "SELECT n.came_at, n.labels, n.version.d AS digest FROM "
            "(SELECT max({'version': version, 'came_at': came_at, 'labels': labels}) AS n FROM seen GROUP BY id)",
        )
    days = sorted(in_index.keys() | in_results.keys())
    return [
        Difference(day, in_results.get(day), in_index.get(day))
        for day in days
        if in_results.get(day) != in_index.get(day)
    ]


def _by_day(con: duckdb.DuckDBPyConnection, rows: str) -> dict[date, tuple[int, int, str]]:
    found = database.run(con, _DAYS.format(rows=rows))
    return {day: (images, labels, checksum) for day, images, labels, checksum in found}
