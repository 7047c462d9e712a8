"""Calls of functions: what is on the list is translated, anything else is refused.

A name that Trino does not have is FUNCTION_NOT_FOUND; one that Trino has and is not on the list is NOT_SUPPORTED.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from local_aws.athena import aggregates, operators
from local_aws.athena.errors import QueryError, not_supported
from local_aws.athena.function_names import TRINO_FUNCTIONS
from local_aws.athena.operators import FILTER
from local_aws.athena.parsing import place
from local_aws.athena.scalars import SCALARS
from local_aws.athena.scopes import Scope
from local_aws.athena.signatures import chosen
from local_aws.athena.special import SPECIAL
from local_aws.athena.types import BIGINT, DOUBLE
from local_aws.athena.values import Value, composed

if TYPE_CHECKING:
    from local_aws.athena.expressions import Translator


def call(to: Translator, node: Any, name: str, arguments: list[exp.Expression], scope: Scope) -> Value:
    """A call of a function."""
    if name in aggregates.AGGREGATES:
        return aggregates.aggregate(to, node, name, arguments, scope)
    if name in SPECIAL:
        return SPECIAL[name](to, node, arguments, scope)
    if name in SCALARS:
        if any(isinstance(each, exp.Lambda) for each in arguments):
            raise not_supported(f"know {name} with a lambda")
        return chosen(name, SCALARS[name], to.values(arguments, scope), place(node))
    if name in RANKS or name in OFFSETS:
        raise QueryError("MISSING_OVER", f"{place(node)}Window function {name} requires an OVER clause")
    if name in TRINO_FUNCTIONS:
        raise not_supported(f"have the function {name}")
    raise QueryError("FUNCTION_NOT_FOUND", f"{place(node)}Function '{name}' not registered")


# https://trino.io/docs/current/functions/window.html
RANKS = {
    "row_number": BIGINT,
    "rank": BIGINT,
    "dense_rank": BIGINT,
    "percent_rank": DOUBLE,
    "cume_dist": DOUBLE,
    "ntile": BIGINT,
}
OFFSETS = {"lag", "lead", "first_value", "last_value", "nth_value"}


def window(to: Translator, node: exp.Window, scope: Scope) -> Value:
    """A function with OVER."""
    if node.args.get("alias") or node.args.get("first") is False:
        raise not_supported("know named windows: write the window out behind OVER")
    inner, nulls = node.this, ""
    if isinstance(inner, exp.IgnoreNulls | exp.RespectNulls):
        nulls = " IGNORE NULLS" if isinstance(inner, exp.IgnoreNulls) else ""
        inner = inner.this
    name = inner.name.lower() if isinstance(inner, exp.Anonymous) else ""
    if name in RANKS or name in OFFSETS:
        function = _ranked(to, name, inner.expressions, scope, nulls)
    elif nulls:
        raise not_supported(f"know {name} with IGNORE NULLS")
    else:
        function = to.value(inner, scope)
        if not function.aggregates:
            raise QueryError("FUNCTION_NOT_WINDOW", f"{place(node)}Not a window function: {name}")
    if inner.find(exp.Distinct) is not None:
        raise QueryError("NOT_SUPPORTED", f"{place(node)}DISTINCT in window function parameters not yet supported")
    over, parts = _over(to, node, scope)
    done = composed(function.sql.replace(FILTER, f" OVER ({over})"), function.type, (function, *parts))
    nested = any(each.aggregates for each in (*_arguments(to, inner, scope), *parts))
    return replace(done, windows=True, aggregates=nested)


def _arguments(to: Translator, inner: exp.Expression, scope: Scope) -> list[Value]:
    call_node = inner.this if isinstance(inner, exp.Filter) else inner
    nodes = [each for each in call_node.expressions if not isinstance(each, exp.Star | exp.Distinct | exp.Order)]
    return to.values(nodes, scope)


def _ranked(to: Translator, name: str, nodes: list[exp.Expression], scope: Scope, nulls: str) -> Value:
    values = [replace(each, sql=each.sql.replace(FILTER, "")) for each in to.values(nodes, scope)]
    if name in ("lag", "lead") and len(values) == 3:
        values[0], values[2] = operators.alike([values[0], values[2]], "")
    cells = [each.sql for each in values]
    least = 1 if name == "nth_value" else 0
    if name in ("lag", "lead", "nth_value") and len(values) > 1:
        if not values[1].is_constant:
            raise not_supported(f"know {name} with an offset that is no number")
        if values[1].constant is None or values[1].constant < least:
            raise QueryError("INVALID_FUNCTION_ARGUMENT", f"Offset must be at least {least}")
    if name in RANKS:
        kind = RANKS[name]
        return composed(f"CAST({name}({', '.join(cells)}){FILTER} AS {kind.name})", kind, values)
    return composed(f"{name}({', '.join(cells)}{nulls}){FILTER}", values[0].type, values)


def _over(to: Translator, node: exp.Window, scope: Scope) -> tuple[str, list[Value]]:
    parts = to.values(node.args.get("partition_by") or [], scope)
    written = [f"PARTITION BY {', '.join(each.sql for each in parts)}"] if parts else []
    order = node.args.get("order")
    if order:
        keys, values = ordering(to, order.expressions, scope)
        written.append(f"ORDER BY {keys}")
        parts = [*parts, *values]
    spec = node.args.get("spec")
    if spec:
        written.append(_frame(spec))
    return " ".join(written).replace(FILTER, ""), parts


def ordering(to: Translator, nodes: list[exp.Expression], scope: Scope) -> tuple[str, list[Value]]:
    """ORDER BY's keys: nulls are last, up or down, unless told otherwise."""
    values = [to.value(each.this, scope) for each in nodes]
    keys = [f"{value.sql} {direction(each)}" for each, value in zip(nodes, values, strict=True)]
    return ", ".join(keys), values


def direction(node: exp.Expression) -> str:
    """https://trino.io/docs/current/sql/select.html#order-by-clause: "the default null ordering is NULLS LAST"."""
    nulls = "FIRST" if node.args.get("nulls_first") else "LAST"
    return f"{'DESC' if node.args.get('desc') else 'ASC'} NULLS {nulls}"


def _frame(spec: exp.WindowSpec) -> str:
    def bound(which: str) -> str:
        at, side = spec.args.get(which), spec.args.get(f"{which}_side") or ""
        if isinstance(at, exp.Expression):
            if not isinstance(at, exp.Literal):
                raise not_supported("know frames whose bounds are no numbers")
            at = at.this
        return f"{at} {side}".strip()

    kind = spec.args["kind"]
    if spec.args.get("exclude") or kind == "GROUPS":
        raise not_supported("know frames of GROUPS or with EXCLUDE")
    end = bound("end") if spec.args.get("end") else "CURRENT ROW"
    return f"{kind} BETWEEN {bound('start')} AND {end}"
