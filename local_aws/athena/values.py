"""What an expression becomes: DuckDB's SQL, Trino's type, and what it needs of the tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from local_aws.athena import types
from local_aws.athena.types import Type


class Source(Protocol):
    """What columns come from: a scan, or the columns of a query in FROM."""

    def use(self, path: tuple[str, ...]) -> None:
        """Remember that a column, or a part of it, is needed."""


@dataclass(frozen=True)
class Ref:
    """A column, or a part of it: the first step of `path` is the column's name in its source."""

    source: Source
    path: tuple[str, ...]

    def part(self, step: str) -> Ref:
        """A part of this part: a field's name, or `[]` for the elements."""
        return Ref(self.source, (*self.path, step))

    def use(self) -> None:
        """Remember that it is needed."""
        self.source.use(self.path)


@dataclass(frozen=True)
class Value:
    """A translated expression.

    `refs`: what it reads. `ref`: what it is, where it is a column or a part of one and nothing else. `constant`: the
    Python value of a literal. `aggregates`, `windows`: whether such a function is in it.
    """

    sql: str
    type: Type
    refs: tuple[Ref, ...] = ()
    ref: Ref | None = None
    constant: Any = None
    is_constant: bool = False
    aggregates: bool = False
    windows: bool = False
    is_volatile: bool = False
    sources: tuple[Any, ...] = ()

    def use(self) -> Value:
        """Remember that everything it reads is needed."""
        for ref in self.refs:
            ref.use()
        return self


def composed(sql: str, type_: Type, parts: Iterable[Value]) -> Value:
    """An expression made of others."""
    parts = tuple(parts)
    return Value(
        sql,
        type_,
        refs=tuple(ref for part in parts for ref in part.refs),
        aggregates=any(part.aggregates for part in parts),
        windows=any(part.windows for part in parts),
        is_volatile=any(part.is_volatile for part in parts),
    )


def constant(sql: str, type_: Type, value: Any) -> Value:
    """A literal."""
    return Value(sql, type_, constant=value, is_constant=True)


def cast(value: Value, to: Type) -> Value:
    """A coercion that loses nothing; CAST in SQL is `casts.explicit`."""
    if value.type == to:
        return value
    if value.type.of and value.type.name != "map":
        # DuckDB matches the fields of rows by name, Trino by place.
        from local_aws.athena.casts import explicit

        return explicit(value, to, "")
    if to.name == "timestamp with time zone" and value.type.name in ("date", "timestamp"):
        sql = f"timezone({types.text(to.zone)}, CAST({value.sql} AS TIMESTAMP))"
    else:
        sql = f"CAST({value.sql} AS {types.duckdb(to)})"
    return Value(**{**value.__dict__, "sql": sql, "type": to, "ref": None})


def failing(code: str, message_sql: str, as_type: Type) -> str:
    """SQL that fails with Athena's error when it is evaluated; `message_sql` is an expression.

    Not DuckDB's error(): that is volatile, which TRY refuses. A cast that cannot succeed carries the message instead.
    """
    message = f"{types.text(f'{FAILURE}{code}: ')} || {message_sql} || {types.text(FAILURE)}"
    return f"CAST(CAST(CAST({message} AS BIGINT) AS VARCHAR) AS {types.duckdb(as_type)})"


# Around a failure's message, so that it can be told from DuckDB's own words.
FAILURE = "\x02"
