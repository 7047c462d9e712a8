"""Filters asked of the tables: which partitions they leave, and what they say of a column's least and greatest value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from local_aws.athena.errors import QueryError
from local_aws.athena.scopes import Field, Scope
from local_aws.athena.values import Value

if TYPE_CHECKING:
    from local_aws.athena.expressions import Translator

_FLIPPED: dict[Any, str] = {exp.EQ: "=", exp.LT: ">", exp.LTE: ">=", exp.GT: "<", exp.GTE: "<="}
_SIGNS: dict[Any, str] = {exp.EQ: "=", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">="}
_OPAQUE = (exp.Select, exp.Subquery, exp.Values, exp.Exists, exp.Lambda, exp.Window, exp.Placeholder)


@dataclass(frozen=True)
class Bound:
    """`column sign value`, for `in` any of the values."""

    column: str
    sign: str
    values: tuple[Any, ...]


def push(to: Translator, condition: exp.Expression, allowed: list[Field], visible: list[Field]) -> None:
    """Ask what can be asked of the tables. `allowed`: the fields whose rows the condition drops when it is false."""
    for each in _conjuncts(condition):
        if each.find(*_OPAQUE) is not None:
            continue
        found = _of_one_table(each, allowed, visible)
        if found is None:
            continue
        scan, fields = found
        value = to.value(each, Scope(fields))
        if not value.is_volatile:
            scan.filter(value, list(bounds(to, each, Scope(fields))))


def _conjuncts(node: exp.Expression) -> Iterator[exp.Expression]:
    if isinstance(node, exp.And):
        yield from _conjuncts(node.this)
        yield from _conjuncts(node.expression)
    elif isinstance(node, exp.Paren):
        yield from _conjuncts(node.this)
    else:
        yield node


def _of_one_table(node: exp.Expression, allowed: list[Field], visible: list[Field]) -> tuple[Any, list[Field]] | None:
    """The table that the condition is about alone, and its columns by the names that the condition uses."""
    fields: list[Field] = []
    for column in node.find_all(exp.Column):
        try:
            field, _, _ = Scope(visible).column(column, [part.name.lower() for part in column.parts])
        except QueryError:
            return None
        if (
            field is None
            or field.origin is None
            or field.origin.ref is None
            or not any(field is one for one in allowed)
        ):
            return None
        fields.append(replace(field, value=field.origin))
    sources = {id(each.value.ref.source): each.value.ref.source for each in fields if each.value.ref}
    unique = {id(each.origin): each for each in fields}
    return (next(iter(sources.values())), list(unique.values())) if len(sources) == 1 else None


def bounds(to: Translator, node: exp.Expression, scope: Scope) -> Iterator[Bound]:
    """What a condition says plainly of one column."""
    if type(node) in _SIGNS:
        left, right = to.value(node.this, scope), to.value(node.expression, scope)
        yield from _bound(left, _SIGNS[type(node)], [right])
        yield from _bound(right, _FLIPPED[type(node)], [left])
    elif isinstance(node, exp.Between):
        value = to.value(node.this, scope)
        yield from _bound(value, ">=", [to.value(node.args["low"], scope)])
        yield from _bound(value, "<=", [to.value(node.args["high"], scope)])
    elif isinstance(node, exp.In) and node.args.get("query") is None:
        yield from _bound(to.value(node.this, scope), "in", to.values(node.expressions, scope))


def _bound(value: Value, sign: str, others: list[Value]) -> Iterator[Bound]:
    plain = value.ref is not None and len(value.ref.path) == 1
    if plain and others and all(each.is_constant and each.constant is not None for each in others):
        assert value.ref is not None
        yield Bound(value.ref.path[0], sign, tuple(each.constant for each in others))
