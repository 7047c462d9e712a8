"""A translated query: its columns, and its SQL, which leaves out the columns that nobody uses."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from sqlglot import exp

from local_aws.athena import types
from local_aws.athena.errors import QueryError
from local_aws.athena.operators import FILTER
from local_aws.athena.parsing import place
from local_aws.athena.scopes import Field
from local_aws.athena.types import Type
from local_aws.athena.values import Ref, Value

_PLACEHOLDER = re.compile("\x04(\\d+)\x04")


@dataclass
class Output:
    """A column of a query's result. `name` is empty where the query gives none."""

    name: str
    value: Value
    origin: Value | None = None
    is_used: bool = False
    is_hidden: bool = False

    def use(self, rest: tuple[str, ...] = ()) -> None:
        """Remember that it, or a part of it, is needed."""
        self.is_used = True
        if self.value.ref is not None:
            Ref(self.value.ref.source, (*self.value.ref.path, *rest)).use()
        else:
            self.value.use()


class Query:
    """A query within another, or the whole. `write` puts the select list, as SQL, into the rest of the query."""

    def __init__(self, outputs: list[Output], write: Callable[[str], str], number: int) -> None:
        self.outputs = outputs
        self._write = write
        self.number = number
        self.is_whole = False

    def use(self, path: tuple[str, ...]) -> None:
        """As a source of columns `c0`, `c1`, ..."""
        self.outputs[int(path[0][1:])].use(path[1:])

    def use_all(self) -> Query:
        """Need every column, as a result does, and DISTINCT, UNION and so on."""
        for each in self.outputs:
            each.use()
        return self

    def render(self) -> str:
        """SQL with the used columns, called c0, c1, ... by their places."""
        items = [f"{each.value.sql} AS c{n}" for n, each in enumerate(self.outputs) if each.is_used]
        return self._write(", ".join(items) or "1 AS c").replace(FILTER, "")

    def single(self, node: exp.Expression) -> Value:
        """As an expression: one column, one row at most."""
        if len(self.outputs) != 1:
            reason = f"Multiple columns returned by subquery are not yet supported. Found {len(self.outputs)}"
            raise QueryError("NOT_SUPPORTED", place(node) + reason)
        self.use_all()
        return Value(f"(\x04{self.number}\x04)", self.outputs[0].value.type)

    def existing(self) -> Value:
        """EXISTS."""
        return Value(f"EXISTS (\x04{self.number}\x04)", types.BOOLEAN)

    def fields(self, alias: str, qualifier: tuple[str, ...], names: list[str] | None = None) -> list[Field]:
        """The columns as FROM (...) AS alias makes them visible."""
        found = []
        for n, each in enumerate(self.outputs):
            ref = Ref(self, (f"c{n}",))
            value = Value(f"{alias}.c{n}", each.value.type, refs=(ref,), ref=ref)
            found.append(Field(names[n] if names else each.name, qualifier, value, each.origin))
        return found


def written_out(sql: str, queries: list[Query]) -> str:
    """SQL with the queries that stand in its expressions."""
    while _PLACEHOLDER.search(sql):
        sql = _PLACEHOLDER.sub(lambda found: queries[int(found.group(1))].render(), sql)
    return sql.replace(FILTER, "")


def named_columns(query: Query) -> list[tuple[str, Type]]:
    """The columns of a query that makes a table or view, where each has to have a name of its own."""
    seen: set[str] = set()
    for n, each in enumerate(query.outputs, 1):
        if not each.name:
            raise QueryError("MISSING_COLUMN_NAME", f"line 1:1: Column name not specified at position {n}")
        if each.name.lower() in seen:
            raise QueryError("DUPLICATE_COLUMN_NAME", f"line 1:1: Column name '{each.name}' specified more than once")
        if each.value.type.name == "unknown":
            raise QueryError("COLUMN_TYPE_UNKNOWN", f"line 1:1: Column type is unknown at position {n}")
        seen.add(each.name.lower())
    return [(each.name, each.value.type) for each in query.outputs]
