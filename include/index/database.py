"""The DuckDB file: its tables, how it is opened, and which files of results it covers.

``images``: one row per image and analysis, its newest, with all its labels. ``labels``: the same labels again, narrow, sorted by
label and newest first, so that a page of one label is read in one place. ``label_days`` and ``image_days``: roll-ups for facets.
``names``: what a label's number means. ``files``: the files of results that are in it. ``facts``: version, and how much of
``labels`` lies unsorted at its end.

Labels and images are known by 64 bits of their names: numbers prune better than strings, of which DuckDB keeps the first eight
bytes as bounds. Two of a million labels are taken for one another with a probability of 10^-8, two of ten million images 10^-6.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from include.errors import TerminalError
from include.index.rows import INCOMING

if TYPE_CHECKING:
    import duckdb

# Changes with the tables, and with DuckDB's file format (https://duckdb.org/docs/stable/internals/storage).
SCHEMA_VERSION: Final = 2
THREADS: Final = 2
READER_MEMORY_MB: Final = 1_024
BUILDER_MEMORY_MB: Final = 512

TABLES: Final = """
CREATE TABLE labels (label UBIGINT, came_at TIMESTAMP, image UBIGINT, confidence DOUBLE, passes BOOLEAN, best BOOLEAN);
CREATE TABLE names (analysis VARCHAR, label UBIGINT, name VARCHAR, images BIGINT, passing BIGINT);
CREATE TABLE label_days (label UBIGINT, day DATE, images BIGINT, passing BIGINT);
CREATE TABLE image_days (
    analysis VARCHAR, day DATE, status VARCHAR, model_version VARCHAR, source_bucket VARCHAR, images BIGINT, without BIGINT
);
CREATE TABLE files (key VARCHAR, etag VARCHAR, analysis VARCHAR, day VARCHAR, rows BIGINT);
CREATE TABLE facts (schema_version INTEGER, unsorted BIGINT);
"""


class IndexUnusableError(TerminalError):
    """Raised when an index is damaged, or of another version than this program: it is to be built anew."""


def create(path: Path, *, spill: Path) -> duckdb.DuckDBPyConnection:
    """A new index without rows, to be written to.

    :param spill: a folder for what does not fit into memory.
    """
    con = _connect(path, _builder(spill))
    con.register("incoming", INCOMING.empty_table())
    run(con, "CREATE TABLE images AS FROM incoming")
    con.unregister("incoming")
    run(con, TABLES)
    run(con, "INSERT INTO facts VALUES (?, 0)", [SCHEMA_VERSION])
    return con


def open_to_write(path: Path, *, spill: Path) -> duckdb.DuckDBPyConnection:
    """:raises IndexUnusableError: it is none, or of another version."""
    return _checked(path, _builder(spill), read_only=False)


def open_to_read(path: Path, *, threads: int = THREADS, memory_mb: int = READER_MEMORY_MB) -> duckdb.DuckDBPyConnection:
    """:raises IndexUnusableError: it is none, or of another version."""
    return _checked(path, {"threads": threads, "memory_limit": f"{memory_mb}MB"}, read_only=True)


def scratch(spill: Path) -> duckdb.DuckDBPyConnection:
    """An empty database in memory, and on disk where that is not enough."""
    return _connect(":memory:", _builder(spill))


def run(con: duckdb.DuckDBPyConnection, query: str, values: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
    """Ask, or do, to the end: DuckDB takes nothing else on a connection until all rows of an answer have been read."""
    found: list[tuple[Any, ...]] = con.execute(query, values).fetchall()
    return found


def one(con: duckdb.DuckDBPyConnection, query: str, values: Sequence[Any] | None = None) -> int:
    """The one number that a query answers with."""
    ((found,),) = run(con, query, values)
    return int(found)


def insert(con: duckdb.DuckDBPyConnection, table: str, rows: pa.Table) -> None:
    """Arrow rows with a table's columns, in their order."""
    con.register("incoming", rows)
    run(con, f"INSERT INTO {table} FROM incoming")
    con.unregister("incoming")


def _builder(spill: Path) -> dict[str, Any]:
    return {
        "threads": THREADS,
        "memory_limit": f"{BUILDER_MEMORY_MB}MB",
        "temp_directory": str(spill),
        "checkpoint_threshold": "256MB",
    }


def _checked(path: Path, config: dict[str, Any], *, read_only: bool) -> duckdb.DuckDBPyConnection:
    import duckdb

    try:
        con = _connect(path, config, read_only=read_only)
        found = run(con, "SELECT schema_version FROM facts")
    except duckdb.Error as err:
        raise IndexUnusableError(
            f"{path} is no label index that DuckDB {duckdb.__version__} can open ({err}). Delete it and fetch it again; if that "
            "does not help: python -m include.cli index build."
        ) from err
    if found != [(SCHEMA_VERSION,)]:
        con.close()
        version = found[0][0] if found else None
        raise IndexUnusableError(
            f"{path} is a label index of version {version}, and this program reads version {SCHEMA_VERSION}. "
            "Run the same release everywhere, then: python -m include.cli index build."
        )
    return con


def _connect(path: Path | str, config: dict[str, Any], *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    # Here, for Dag files are imported often, and need none of it.
    import duckdb

    settings = {"autoinstall_known_extensions": False, "autoload_known_extensions": False} | config
    return duckdb.connect(str(path), read_only=read_only, config=settings)
