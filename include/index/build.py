"""The tables of the index, brought up to newly read rows: the newest row of an image replaces the older one.

New labels are appended to the sorted ones, in an order of their own; once they are a fifth of all, the file is written anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from include.errors import TerminalError
from include.file_lists import ResultFile
from include.index import database
from include.index.database import insert, one, run
from include.index.rows import Batch, label_ids

if TYPE_CHECKING:
    import duckdb

# More than that unsorted or deleted, and a search reads more than it has to.
UNSORTED_SHARE: Final = 0.2

# As the view latest_labels has it: the greatest (event_time, processed_at, batch_id). What is still the same is told apart by
# its content, so that the order of reading has no say.
VERSION: Final = """row(
    coalesce({row}.event_time, '-infinity'), coalesce({row}.processed_at, '-infinity'), coalesce({row}.batch_id, ''), hash({row})
)"""


class IndexWrongError(TerminalError):
    """Raised when an index that was just made does not add up: it is not published."""


def add_rows(con: duckdb.DuckDBPyConnection, batches: Iterable[Batch], files: Sequence[ResultFile]) -> int:
    """Take up every row of these files; how many there were. Rows that are known already change nothing."""
    if not files:
        return 0
    before = one(con, "SELECT count(*) FROM labels")
    # Rows of a new index go where they belong, and need not be written twice. To others they come once it is known which are new.
    has_images = bool(one(con, "SELECT count(*) FROM images"))
    table = "fresh" if has_images else "images"
    run(con, "CREATE OR REPLACE TEMP TABLE fresh AS FROM images LIMIT 0")
    rows = dict.fromkeys(files, 0)
    names: dict[str, set[str]] = {}
    # One commit each: until then DuckDB holds on to the Arrow memory.
    for batch in batches:
        insert(con, table, batch.table)
        rows[batch.file] += batch.table.num_rows
        names.setdefault(batch.file.analysis, set()).update(batch.names)
    _name(con, names)
    _keep_the_newest(con, table)
    if has_images:
        _replace_older(con)
    deleted = before - one(con, "SELECT count(*) FROM labels")
    run(
        con,
        f"""
        INSERT INTO labels
        SELECT n.label, came_at, id, l.confidence, l.passes, l.best
        FROM (SELECT analysis, came_at, id, unnest(labels) AS l FROM {table}) AS i
        JOIN names AS n ON n.analysis = i.analysis AND n.name = l.name
        ORDER BY n.label, came_at DESC, id DESC
        """,
    )
    if has_images:
        run(con, "INSERT INTO images FROM fresh")
        added = one(con, "SELECT count(*) FROM labels") - before + deleted
        run(con, "UPDATE facts SET unsorted = unsorted + ?", [added + deleted])
    run(con, "DROP TABLE fresh")
    roll_up(con)
    index_images(con)
    _note(con, rows)
    return sum(rows.values())


def _keep_the_newest(con: duckdb.DuckDBPyConnection, table: str) -> None:
    """Of newly read rows of one image, leave the newest."""
    version = VERSION.format(row=table)
    run(
        con,
        f"""
        DELETE FROM {table} WHERE rowid IN (
            SELECT position FROM (
                SELECT rowid AS position, row_number() OVER (PARTITION BY id ORDER BY {version} DESC, rowid) AS place
                FROM {table} WHERE id IN (SELECT id FROM {table} GROUP BY id HAVING count(*) > 1)
            ) WHERE place > 1
        )
        """,
    )


def _replace_older(con: duckdb.DuckDBPyConnection) -> None:
    """Of newly read rows, leave those that are newer than what there is, and delete what they replace."""
    version_now, version_then = VERSION.format(row="fresh"), VERSION.format(row="images")
    run(
        con,
        f"""
        DELETE FROM fresh WHERE id IN (
            SELECT id FROM fresh JOIN images USING (id) WHERE {version_now} <= {version_then}
        );
        DELETE FROM labels WHERE image IN (SELECT id FROM fresh);
        DELETE FROM images WHERE id IN (SELECT id FROM fresh);
        """,
    )


def _name(con: duckdb.DuckDBPyConnection, names: Mapping[str, Collection[str]]) -> None:
    for analysis, found in names.items():
        known = pa.table(
            {"name": pa.array(found, pa.string()), "label": pa.array(label_ids(analysis, [*found]), pa.uint64())}
        )
        con.register("incoming", known)
        run(
            con, "INSERT INTO names SELECT ?, label, name, 0, 0 FROM incoming ANTI JOIN names USING (label)", [analysis]
        )
        con.unregister("incoming")


def index_images(con: duckdb.DuckDBPyConnection) -> None:
    """A page's images lie here and there. Made once all rows are in: kept up meanwhile, it would be written again and again."""
    run(con, "CREATE INDEX IF NOT EXISTS images_by_id ON images (id)")


def roll_up(con: duckdb.DuckDBPyConnection) -> None:
    """Count again what facets show: a second for ten million labels, and no way to drift away from them."""
    run(
        con,
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
        """,
    )


def take_over(con: duckdb.DuckDBPyConnection, merged: ResultFile, keys: Collection[str]) -> None:
    """Note that a merged file holds the rows of files that are in the index: nothing of it has to be read."""
    known = ", ".join("?" * len(keys))
    rows = one(con, f"SELECT coalesce(sum(rows), 0) FROM files WHERE key IN ({known})", [*keys])
    _note(con, {merged: rows})


def forget_files(con: duckdb.DuckDBPyConnection, keys: Collection[str]) -> None:
    run(con, f"DELETE FROM files WHERE key IN ({', '.join('?' * len(keys))})", [*keys])


def covered(con: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """ETags of the files of results that are in the index, by key."""
    return dict(run(con, "SELECT key, etag FROM files"))


def _note(con: duckdb.DuckDBPyConnection, rows: Mapping[ResultFile, int]) -> None:
    noted = pa.table(
        {
            "key": [file.key for file in rows],
            "etag": [file.etag for file in rows],
            "analysis": [file.analysis for file in rows],
            "day": [file.day for file in rows],
            "rows": [*rows.values()],
        }
    )
    insert(con, "files", noted)


def needs_sorting(con: duckdb.DuckDBPyConnection) -> bool:
    return one(con, "SELECT unsorted FROM facts") > UNSORTED_SHARE * one(con, "SELECT count(*) FROM labels")


def write_sorted(index: Path, path: Path, *, spill: Path) -> None:
    """The same index as a new file: its labels in one order, and without the holes that deleted rows left."""
    with closing(database.create(path, spill=spill)) as con:
        quoted = str(index).replace("'", "''")
        run(con, f"ATTACH '{quoted}' AS old (READ_ONLY)")
        for table, order in (
            ("images", ""),
            ("labels", "ORDER BY label, came_at DESC, image DESC"),
            ("names", ""),
            ("files", ""),
        ):
            run(con, f"INSERT INTO {table} FROM old.{table} {order}")
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
