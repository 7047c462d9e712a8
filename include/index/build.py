"""The tables of the index, brought up to newly read rows: the newest row of an image replaces the older one.

New labels are appended to the sorted ones, in an order of their own; once they are a fifth of all, the file is written anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from include.errors import TerminalError
from include.file_lists import ResultFile
from include.index import database
from include.index.rows import Batch, label_ids

if TYPE_CHECKING:
    import duckdb

# More than that unsorted or deleted, and a search reads more than it has to.
UNSORTED_SHARE: Final = 0.2

# As the view latest_labels has it: the greatest (event_time, processed_at, batch_id). What is still the same is told apart by
# its content, so that the order of reading has no say.
NEWEST_FIRST: Final = """
    event_time DESC NULLS LAST, processed_at DESC NULLS LAST, batch_id DESC NULLS LAST, hash(images) DESC
"""


class IndexWrongError(TerminalError):
    """Raised when an index that was just made does not add up: it is not published."""


@dataclass(frozen=True, slots=True)
class Added:
    """``rows`` were read; they brought or renewed ``images`` images."""

    rows: int
    images: int


def add_rows(con: duckdb.DuckDBPyConnection, batches: Iterable[Batch], files: Sequence[ResultFile]) -> Added:
    """Take up every row of these files. Rows that are known already change nothing."""
    if not files:
        return Added(0, 0)
    first = one(con, "SELECT coalesce(max(rowid), -1) + 1 FROM images")
    rows = dict.fromkeys(files, 0)
    names: dict[str, set[str]] = {}
    # One commit each: until then DuckDB holds on to the Arrow memory.
    for batch in batches:
        con.register("incoming", batch.table)
        con.execute("INSERT INTO images FROM incoming")
        con.unregister("incoming")
        rows[batch.file] += batch.table.num_rows
        names.setdefault(batch.file.analysis, set()).update(batch.names)
    before = one(con, "SELECT count(*) FROM labels")
    changed = _keep_the_newest(con, first)
    deleted = before - one(con, "SELECT count(*) FROM labels")
    _name(con, names)
    con.execute(
        """
        INSERT INTO labels
        SELECT n.label, came_at, id, l.confidence, l.passes, l.best
        FROM (SELECT analysis, came_at, id, unnest(labels) AS l FROM images WHERE rowid >= ?) AS i
        JOIN names AS n ON n.analysis = i.analysis AND n.name = l.name
        ORDER BY n.label, came_at DESC, id DESC
        """,
        [first],
    )
    if before:
        added = one(con, "SELECT count(*) FROM labels") - before + deleted
        con.execute("UPDATE facts SET unsorted = unsorted + ?", [added + deleted])
    roll_up(con)
    index_images(con)
    con.executemany("INSERT INTO files VALUES (?, ?, ?, ?, ?)", [(*_row(file), count) for file, count in rows.items()])
    return Added(sum(rows.values()), changed)


def _keep_the_newest(con: duckdb.DuckDBPyConnection, first: int) -> int:
    """Of images with several rows, leave the newest; rows from ``first`` on are new. How many images are new or renewed."""
    con.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE outdated AS
        WITH twice AS (
            SELECT id FROM images WHERE id IN (SELECT id FROM images WHERE rowid >= $first) GROUP BY id HAVING count(*) > 1
        ), placed AS (
            SELECT id, rowid AS position, row_number() OVER (PARTITION BY id ORDER BY {NEWEST_FIRST}, rowid) AS place
            FROM images WHERE id IN (FROM twice)
        )
        SELECT id, position FROM placed WHERE place > 1
        """,
        {"first": first},
    )
    con.execute("DELETE FROM labels WHERE image IN (SELECT id FROM outdated WHERE position < ?)", [first])
    con.execute("DELETE FROM images WHERE rowid IN (SELECT position FROM outdated)")
    return one(con, "SELECT count(*) FROM images WHERE rowid >= ?", [first])


def _name(con: duckdb.DuckDBPyConnection, names: Mapping[str, Collection[str]]) -> None:
    for analysis, found in names.items():
        known = pa.table(
            {"name": pa.array(found, pa.string()), "label": pa.array(label_ids(analysis, [*found]), pa.uint64())}
        )
        con.register("incoming", known)
        con.execute(
            "INSERT INTO names SELECT ?, label, name, 0, 0 FROM incoming ANTI JOIN names USING (label)", [analysis]
        )
        con.unregister("incoming")


def index_images(con: duckdb.DuckDBPyConnection) -> None:
    """A page's images lie here and there. Made once all rows are in: kept up meanwhile, it would be written again and again."""
    con.execute("CREATE INDEX IF NOT EXISTS images_by_id ON images (id)").fetchall()


def roll_up(con: duckdb.DuckDBPyConnection) -> None:
    """Count again what facets show: a second for ten million labels, and no way to drift away from them."""
    con.execute(
        """
        DELETE FROM label_days;
        INSERT INTO label_days
            SELECT label, came_at::DATE, count(*) FILTER (best), count(*) FILTER (best AND passes)
            FROM labels GROUP BY ALL ORDER BY ALL;
        DELETE FROM image_days;
        INSERT INTO image_days
            SELECT analysis, came_at::DATE, status, model_version, source_bucket, count(*),
                   count(*) FILTER (status = 'LABELLED' AND label_count = 0)
            FROM images GROUP BY ALL ORDER BY ALL;
        CREATE OR REPLACE TEMP TABLE counted AS
            SELECT analysis, label, name, sum(l.images)::BIGINT, sum(l.passing)::BIGINT
            FROM names JOIN label_days AS l USING (label) GROUP BY ALL ORDER BY name, analysis;
        DELETE FROM names;
        INSERT INTO names FROM counted;
        """
    )


def take_over(con: duckdb.DuckDBPyConnection, merged: ResultFile, keys: Collection[str]) -> None:
    """Note that a merged file holds the rows of files that are in the index: nothing of it has to be read."""
    known = ", ".join("?" * len(keys))
    rows = one(con, f"SELECT coalesce(sum(rows), 0) FROM files WHERE key IN ({known})", [*keys])
    con.execute("INSERT INTO files VALUES (?, ?, ?, ?, ?)", [*_row(merged), rows]).fetchall()


def forget_files(con: duckdb.DuckDBPyConnection, keys: Collection[str]) -> None:
    con.execute(f"DELETE FROM files WHERE key IN ({', '.join('?' * len(keys))})", [*keys]).fetchall()


def covered(con: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Sizes of the files of results that are in the index, by key."""
    return dict(con.execute("SELECT key, size_bytes FROM files").fetchall())


def _row(file: ResultFile) -> tuple[str, int, str, str]:
    return file.key, file.size_bytes, file.analysis, file.day


def one(con: duckdb.DuckDBPyConnection, query: str, values: Sequence[Any] | None = None) -> int:
    """The one number that a query answers with."""
    ((found,),) = con.execute(query, values).fetchall()
    return int(found)


def needs_sorting(con: duckdb.DuckDBPyConnection) -> bool:
    return one(con, "SELECT unsorted FROM facts") > UNSORTED_SHARE * one(con, "SELECT count(*) FROM labels")


def write_sorted(index: Path, path: Path, *, spill: Path) -> None:
    """The same index as a new file: its labels in one order, and without the holes that deleted rows left."""
    with closing(database.create(path, spill=spill)) as con:
        quoted = str(index).replace("'", "''")
        con.execute(f"ATTACH '{quoted}' AS old (READ_ONLY)")
        for table, order in (
            ("images", ""),
            ("labels", "ORDER BY label, came_at DESC, image DESC"),
            ("names", ""),
            ("files", ""),
        ):
            con.execute(f"INSERT INTO {table} FROM old.{table} {order}").fetchall()
        roll_up(con)
        index_images(con)


def check(con: duckdb.DuckDBPyConnection) -> None:
    """What must hold of every index, told in seconds: each image once, and all its labels, and no others, among ``labels``.

    :raises IndexWrongError: it does not, and must not be published.
    """
    wrong = {
        "images twice": one(con, "SELECT count(*) - count(DISTINCT id) FROM images"),
        "labels too few or too many": one(
            con, "SELECT (SELECT coalesce(sum(len(labels)), 0) FROM images) - (SELECT count(*) FROM labels)"
        ),
        "labels of no image": one(con, "SELECT count(*) FROM labels ANTI JOIN images ON image = id"),
        "labels without a name": one(con, "SELECT count(*) FROM label_days ANTI JOIN names USING (label)"),
    }
    found = ", ".join(f"{what} {count:,}" for what, count in wrong.items() if count)
    if found:
        raise IndexWrongError(
            f"The label index does not add up: {found}. It was not published, readers keep the one before. Build it anew: "
            "python -m include.cli index build."
        )
