"""Aggregate functions. https://trino.io/docs/current/functions/aggregate.html"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from local_aws.athena import operators, types
from local_aws.athena.errors import QueryError, not_supported
from local_aws.athena.operators import FILTER
from local_aws.athena.parsing import place
from local_aws.athena.scopes import Scope
from local_aws.athena.types import BIGINT, BOOLEAN, DOUBLE, VARCHAR, Type
from local_aws.athena.values import Value, cast, composed

if TYPE_CHECKING:
    from local_aws.athena.expressions import Translator


def aggregate(to: Translator, node: Any, name: str, nodes: list[exp.Expression], scope: Scope) -> Value:
    """A call of an aggregate; `FILTER` marks where FILTER or OVER may follow in its SQL."""
    from local_aws.athena.calls import ordering

    if name == "count" and (not nodes or isinstance(nodes[0], exp.Star)):
        return replace(composed(f"count(*){FILTER}", BIGINT, ()), aggregates=True)
    distinct, order = "", ""
    extra: list[Value] = []
    ordered = next((each for each in nodes if isinstance(each, exp.Order)), None)
    if ordered is not None:
        written, extra = ordering(to, ordered.expressions, scope)
        order = f" ORDER BY {written}"
    nodes = [each.this if isinstance(each, exp.Order) else each for each in nodes]
    if nodes and isinstance(nodes[0], exp.Distinct):
        distinct, nodes = "DISTINCT ", [*nodes[0].expressions, *nodes[1:]]
        if any(isinstance(each, exp.Order) for each in nodes):
            written, extra = ordering(to, nodes[0].expressions, scope)
            order, nodes = f" ORDER BY {written}", [each.this for each in nodes]
    values = to.values(nodes, scope)
    if any(each.aggregates for each in values):
        # Only OVER allows it: sum(count(*)) OVER (...).
        values = [replace(each, sql=each.sql.replace(FILTER, "")) for each in values]
    if (order and name not in _ORDERED) or (distinct and name in _NEVER_DISTINCT):
        raise not_supported(f"know {name} with {'ORDER BY' if order else 'DISTINCT'}")
    sql, kind = AGGREGATES[name](_Call(name, values, distinct, order, place(node)))
    return replace(composed(sql, kind, (*values, *extra)), aggregates=True)


class _Call:
    """An aggregate's arguments."""

    def __init__(self, name: str, values: list[Value], distinct: str, order: str, at: str) -> None:
        self.name, self.values, self.distinct, self.order, self.at = name, values, distinct, order, at

    def expect(self, count: int) -> None:
        """FUNCTION_NOT_FOUND for another number of arguments."""
        if len(self.values) != count:
            raise not_supported(f"know {self.name} with {len(self.values)} arguments")

    def refuse(self) -> None:
        """FUNCTION_NOT_FOUND."""
        given = ", ".join(str(each.type) for each in self.values)
        raise QueryError("FUNCTION_NOT_FOUND", f"{self.at}Unexpected parameters ({given}) for function {self.name}")

    def written(self, function: str, *cells: str) -> str:
        """DuckDB's call."""
        given = cells or tuple(each.sql for each in self.values)
        return f"{function}({self.distinct}{', '.join(given)}{self.order}){FILTER}"


_Rule = Callable[[_Call], tuple[str, Type]]


def _count(call: _Call) -> tuple[str, Type]:
    call.expect(1)
    return call.written("count"), BIGINT


def _number(call: _Call) -> Type:
    """What is summed up: intervals are there, and not here."""
    kind = call.values[0].type
    if kind in (types.DAYS, types.MONTHS):
        raise not_supported(f"know {call.name} of intervals: take to_milliseconds of them")
    if not kind.is_number:
        call.refuse()
    return kind


def _same(function: str) -> _Rule:
    def same(call: _Call) -> tuple[str, Type]:
        call.expect(1)
        return call.written(function), call.values[0].type

    return same


def _ordered_only(function: str) -> _Rule:
    def rule(call: _Call) -> tuple[str, Type]:
        call.expect(1)
        if call.values[0].type.name in ("map", "json"):
            call.refuse()
        kind, sql = call.values[0].type, call.values[0].sql
        if kind.is_float and function == "max":
            # NaN is less than any number to max, and greater to min: MaxAggregationFunction.
            return (
                f"coalesce({call.written('max', f'CASE WHEN NOT isnan({sql}) THEN {sql} END')}, {call.written('max')})",
                kind,
            )
        return call.written(function), kind

    return rule


def _sum(call: _Call) -> tuple[str, Type]:
    call.expect(1)
    kind = _number(call)
    if kind.name == "decimal":
        kind = types.decimal(38, kind.numbers[1])
    elif kind.is_integer:
        kind = BIGINT
    return f"CAST({call.written('sum')} AS {types.duckdb(kind)})", kind


def _avg(call: _Call) -> tuple[str, Type]:
    call.expect(1)
    kind = _number(call)
    if kind.name == "decimal":
        whole = Value(
            f"CAST({call.written('sum')} AS {types.duckdb(types.decimal(38, kind.numbers[1]))})",
            types.decimal(38, kind.numbers[1]),
        )
        count = Value(f"CAST({call.written('count')} AS DECIMAL(19, 0))", types.decimal(19, 0))
        exact = operators.divided(whole, count, kind).sql
        return f"(CASE WHEN {count.sql} = 0 THEN NULL ELSE {exact} END)", kind
    if kind.name == "real":
        return f"CAST({call.written('avg')} AS FLOAT)", kind
    return call.written("avg", f"CAST({call.values[0].sql} AS DOUBLE)"), DOUBLE


def _double(function: str, arguments: int = 1) -> _Rule:
    def rule(call: _Call) -> tuple[str, Type]:
        call.expect(arguments)
        if not all(each.type.is_number for each in call.values):
            call.refuse()
        return call.written(function, *(f"CAST({each.sql} AS DOUBLE)" for each in call.values)), DOUBLE

    return rule


def _boolean(function: str) -> _Rule:
    def rule(call: _Call) -> tuple[str, Type]:
        call.expect(1)
        if call.values[0].type != BOOLEAN:
            call.refuse()
        return call.written(function), BOOLEAN

    return rule


def _count_if(call: _Call) -> tuple[str, Type]:
    call.expect(1)
    if call.values[0].type != BOOLEAN:
        call.refuse()
    return f"CAST({call.written('count_if')} AS BIGINT)", BIGINT


def _array_agg(call: _Call) -> tuple[str, Type]:
    call.expect(1)
    return call.written("array_agg"), types.array(call.values[0].type)


def _by(function: str) -> _Rule:
    def rule(call: _Call) -> tuple[str, Type]:
        # The row with the greatest y counts even if its x is null; rows whose y is null do not.
        if function == "arg_max_null" and len(call.values) > 1 and call.values[1].type.is_float:
            key = call.values[1]
            call.values[1] = replace(key, sql=f"(CASE WHEN isnan({key.sql}) THEN '-Infinity' ELSE {key.sql} END)")
        if len(call.values) == 3:
            value, key, count = call.values
            if not count.is_constant or not 0 < (count.constant or 0) <= 10_000:
                raise QueryError(
                    "INVALID_FUNCTION_ARGUMENT", f"third argument of {call.name} must be a positive integer"
                )
            listed = call.written(function.removesuffix("_null"), f"{{'v': {value.sql}}}", key.sql, str(count.constant))
            return f"list_transform({listed}, lambda c_each: c_each.v)", types.array(value.type)
        call.expect(2)
        return call.written(function), call.values[0].type

    return rule


def _approx_distinct(call: _Call) -> tuple[str, Type]:
    """Exact, which is within any standard error that one may ask for."""
    if len(call.values) not in (1, 2):
        call.refuse()
    return f"count(DISTINCT {call.values[0].sql}){FILTER}", BIGINT


def _approx_percentile(call: _Call) -> tuple[str, Type]:
    """Of few values, as a digest in which each stands for itself: the one at floor(share * count), counted from 0.

    TDigest.valueAt in Trino. It is the value that lies as far from the other end, rounded the other way.
    """
    call.expect(2)
    value, share = call.values
    if not value.type.is_number or not share.is_constant or not share.type.is_number:
        raise not_supported("know approx_percentile but of a number and one literal share")
    rest = Decimal(1) - Decimal(str(share.constant))
    if not 0 <= rest <= 1:
        raise QueryError("INVALID_FUNCTION_ARGUMENT", "Percentile must be between 0 and 1")
    kind = value.type if value.type.name != "decimal" else DOUBLE
    kind = kind if kind.name in ("bigint", "double", "real") else (BIGINT if kind.is_integer else kind)
    return f"(-{call.written('quantile_disc', f'-{cast(value, kind).sql}', f'{rest:f}')})", kind


def _map_agg(call: _Call) -> tuple[str, Type]:
    call.expect(2)
    key, value = call.values
    kind = types.map_of(key.type, value.type)
    # The first of several values of a key stays.
    keyed = Value(call.written("array_agg", f"{{'key': {key.sql}, 'value': {value.sql}}}"), kind).sql
    first = (
        f"list_filter({keyed}, lambda c_each, c_at: c_each.key IS NOT NULL AND "
        f"list_position(list_transform({keyed}, lambda c_other: c_other.key), c_each.key) = c_at)"
    )
    return f"map_from_entries({first})", kind


def _histogram(call: _Call) -> tuple[str, Type]:
    call.expect(1)
    kind = types.map_of(call.values[0].type, BIGINT)
    return f"CAST({call.written('histogram')} AS {types.duckdb(kind)})", kind


def _listagg(call: _Call) -> tuple[str, Type]:
    if not call.values or call.values[0].type not in (VARCHAR, types.UNKNOWN):
        call.refuse()
    return call.written("string_agg"), VARCHAR


def _bits(function: str) -> _Rule:
    def rule(call: _Call) -> tuple[str, Type]:
        call.expect(1)
        if not call.values[0].type.is_integer:
            call.refuse()
        return call.written(function, f"CAST({call.values[0].sql} AS BIGINT)"), BIGINT

    return rule


AGGREGATES: dict[str, _Rule] = {
    "count": _count,
    "count_if": _count_if,
    "sum": _sum,
    "avg": _avg,
    "min": _ordered_only("min"),
    "max": _ordered_only("max"),
    "array_agg": _array_agg,
    "arbitrary": _same("any_value"),
    "any_value": _same("any_value"),
    "max_by": _by("arg_max_null"),
    "min_by": _by("arg_min_null"),
    "bool_and": _boolean("bool_and"),
    "every": _boolean("bool_and"),
    "bool_or": _boolean("bool_or"),
    "approx_distinct": _approx_distinct,
    "approx_percentile": _approx_percentile,
    "map_agg": _map_agg,
    "histogram": _histogram,
    "listagg": _listagg,
    "bitwise_and_agg": _bits("bit_and"),
    "bitwise_or_agg": _bits("bit_or"),
    "stddev": _double("stddev_samp"),
    "stddev_samp": _double("stddev_samp"),
    "stddev_pop": _double("stddev_pop"),
    "variance": _double("var_samp"),
    "var_samp": _double("var_samp"),
    "var_pop": _double("var_pop"),
    "geometric_mean": _double("geometric_mean"),
    "corr": _double("corr", 2),
    "covar_pop": _double("covar_pop", 2),
    "covar_samp": _double("covar_samp", 2),
}
_ORDERED = ("array_agg", "listagg")
_NEVER_DISTINCT = ("max_by", "min_by", "map_agg", "approx_percentile", "histogram", "listagg")
