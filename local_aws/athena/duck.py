"""DuckDB as it is used here: one connection a query, in UTC, that reads nothing but what it is handed."""

from __future__ import annotations

from typing import Any

from local_aws.athena.rendering import cast_double, cast_real

_MEMORY = "512MB"


def connect() -> Any:
    """A new database in memory, with the functions that DuckDB lacks."""
    import duckdb

    settings = {
        "threads": 2,
        "memory_limit": _MEMORY,
        "enable_external_access": "false",
        "autoload_known_extensions": "false",
        "autoinstall_known_extensions": "false",
        "preserve_insertion_order": "false",
    }
    connection = duckdb.connect(config=settings)
    connection.execute("SET TimeZone = 'UTC'")
    connection.create_function("trino_double_text", _vectorised(cast_double), ["DOUBLE"], "VARCHAR", type="arrow")
    connection.create_function("trino_real_text", _vectorised(cast_real), ["FLOAT"], "VARCHAR", type="arrow")
    return connection


def _vectorised(function: Any) -> Any:
    import pyarrow as pa

    def over(values: Any) -> Any:
        return pa.array([None if each is None else function(each) for each in values.to_pylist()], pa.string())

    return over
