"""Which columns a name may mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlglot import exp

from local_aws.athena import types
from local_aws.athena.errors import QueryError, not_supported
from local_aws.athena.parsing import place
from local_aws.athena.values import Ref, Value

# https://trino.io/docs/current/connector/hive.html#metadata-columns
_HIDDEN = ("$bucket", "$file_size", "$file_modified_time", "$partition")


@dataclass(frozen=True)
class Field:
    """A column that can be named. `qualifier`: what may stand before it, e.g. ("awsdatacatalog", "labels", "runs").

    `origin`: the table's column that it is, unchanged and for every row, so that a filter on it may be asked of the table.
    """

    name: str
    qualifier: tuple[str, ...]
    value: Value
    origin: Value | None = None
    is_hidden: bool = False

    def answers(self, qualifier: tuple[str, ...]) -> bool:
        """Whether `qualifier.name` may mean this column."""
        return not qualifier or self.qualifier[-len(qualifier) :] == qualifier


@dataclass
class Scope:
    """The columns of a FROM, what a lambda binds, and the scope around it."""

    fields: list[Field] = field(default_factory=list)
    parent: Scope | None = None
    bound: Mapping[str, Value] = field(default_factory=dict)

    def column(self, node: exp.Expression, parts: list[str]) -> tuple[Field | None, Value, list[str]]:
        """What a dotted name means: the field (None for a lambda's argument), its value, and the parts left of the name.

        COLUMN_NOT_FOUND where there is none, AMBIGUOUS_NAME where there are several.
        """
        scope: Scope | None = self
        while scope is not None:
            if parts[0] in scope.bound:
                return None, scope.bound[parts[0]], parts[1:]
            for length in range(min(len(parts), 4), 0, -1):
                found = scope._named(parts[length - 1], tuple(parts[: length - 1]))
                if len(found) > 1:
                    raise QueryError("AMBIGUOUS_NAME", f"{place(node)}Column '{'.'.join(parts)}' is ambiguous")
                if found:
                    return found[0], found[0].value, parts[length:]
            scope = scope.parent
        if parts[-1] in _HIDDEN:
            raise not_supported(f"have the hidden column {parts[-1]}, only $path")
        raise QueryError("COLUMN_NOT_FOUND", f"{place(node)}Column '{'.'.join(parts)}' cannot be resolved")

    def _named(self, name: str, qualifier: tuple[str, ...]) -> list[Field]:
        return [each for each in self.fields if each.name.lower() == name and each.answers(qualifier)]

    def inner(self, bound: Mapping[str, Value]) -> Scope:
        """A lambda's scope."""
        return Scope(parent=self, bound=bound)


def part(value: Value, name: str, node: exp.Expression) -> Value:
    """A field of a row."""
    if value.type.name != "row":
        raise QueryError("TYPE_MISMATCH", f"{place(node)}Expression is not of type ROW: {value.type}")
    found = [n for n, each in enumerate(value.type.names) if each.lower() == name]
    if len(found) != 1:
        reason = "Ambiguous row field reference" if found else "Column cannot be resolved"
        raise QueryError("COLUMN_NOT_FOUND", f"{place(node)}{reason}: '{name}'")
    return nth_part(value, found[0])


def nth_part(value: Value, n: int) -> Value:
    """The nth field of a row, from 0."""
    key = types.field_key(value.type, n)
    ref = value.ref.part(key) if value.ref else None
    sql = f"struct_extract({value.sql}, {types.text(key)})"
    return Value(**{**value.__dict__, "sql": sql, "type": value.type.of[n], "ref": ref, "refs": _refs(value, ref)})


def element(value: Value, sql: str) -> Value:
    """An element of an array, written as `sql`, that a lambda or UNNEST binds: it needs no more than is asked of it."""
    ref = value.ref.part("[]") if value.ref else None
    return Value(sql, value.type.of[0], refs=(ref,) if ref else (), ref=ref)


def _refs(value: Value, ref: Ref | None) -> tuple[Ref, ...]:
    return (ref,) if ref else value.refs
