"""IS NULL, IS DISTINCT FROM, BETWEEN, IN and LIKE. https://trino.io/docs/current/functions/comparison.html"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from local_aws.athena import operators, types
from local_aws.athena.errors import QueryError, not_supported
from local_aws.athena.parsing import place
from local_aws.athena.scopes import Scope
from local_aws.athena.types import BOOLEAN, UNKNOWN, VARCHAR
from local_aws.athena.values import Value, cast, composed, failing

if TYPE_CHECKING:
    from local_aws.athena.expressions import Translator


def is_null(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    """x IS NULL."""
    if not isinstance(node.expression, exp.Null):
        raise QueryError("SYNTAX_ERROR", f"{place(node)}IS takes NULL or DISTINCT FROM")
    inner = to.value(node.this, scope)
    return composed(f"({inner.sql} IS NULL)", BOOLEAN, (inner,))


def distinct_from(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    """x IS [NOT] DISTINCT FROM y."""
    left, right = operators.alike([to.value(each, scope) for each in (node.this, node.expression)], place(node))
    word = "IS NOT" if isinstance(node, exp.NullSafeEQ) else "IS"
    return composed(f"({left.sql} {word} DISTINCT FROM {right.sql})", BOOLEAN, (left, right))


def between(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    """x BETWEEN low AND high."""
    if node.args.get("symmetric"):
        raise not_supported("know BETWEEN SYMMETRIC")
    value, low, high = to.values([node.this, node.args["low"], node.args["high"]], scope)
    least = operators.binary(exp.GTE, value, low, place(node))
    most = operators.binary(exp.LTE, value, high, place(node))
    return composed(f"({least.sql} AND {most.sql})", BOOLEAN, (least, most))


def in_(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    """x IN (a, b, ...) or a query."""
    left = to.value(node.this, scope)
    asked = node.args.get("query")
    if len(node.expressions) == 1 and isinstance(node.expressions[0], exp.Values):
        asked = node.expressions[0]
    if asked is not None:
        query = to.subquery(asked, scope).single(node)
        kind = types.common(left.type, query.type)
        if kind is None:
            reason = f"Value expression and result of subquery must be of the same type: {left.type} vs {query.type}"
            raise QueryError("TYPE_MISMATCH", place(node) + reason)
        if kind != query.type:
            raise not_supported(f"compare {left.type} with a subquery of {query.type} in IN: cast inside the subquery")
        if kind.of:
            raise not_supported(f"look for a value of {kind} in a subquery")
        left = cast(left, kind)
        return composed(f"({left.sql} IN {query.sql})", BOOLEAN, (left, query))
    values = operators.alike([left, *to.values(node.expressions, scope)], place(node))
    if values[0].type.is_float or values[0].type.of:
        tests = [operators.binary(exp.EQ, values[0], each, place(node)) for each in values[1:]]
        return composed("(" + " OR ".join(each.sql for each in tests) + ")", BOOLEAN, values)
    return composed(f"({values[0].sql} IN ({', '.join(each.sql for each in values[1:])}))", BOOLEAN, values)


def like(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    """x [NOT] LIKE pattern [ESCAPE character]."""
    escape = None
    if isinstance(node, exp.Escape):
        escape, node = to.value(node.expression, scope), node.this
    values = to.values([node.this, node.expression], scope) + ([escape] if escape else [])
    for each in values:
        if each.type not in (VARCHAR, UNKNOWN):
            reason = f"Left side of LIKE expression must evaluate to a varchar (actual: {each.type})"
            raise QueryError("TYPE_MISMATCH", place(node) + reason)
    ending = f" ESCAPE {escape.sql}" if escape else ""
    word = "NOT LIKE" if node.args.get("negate") else "LIKE"
    sql = f"({values[0].sql} {word} {values[1].sql}{ending})"
    if escape:
        sql = f"(CASE WHEN {_misplaced(values[1].sql, escape.sql)} THEN {failing(*_ESCAPES, BOOLEAN)} ELSE {sql} END)"
    return composed(sql, BOOLEAN, values)


_ESCAPES = (
    "INVALID_FUNCTION_ARGUMENT",
    "'Escape character must be one, and followed by ''%'', ''_'' or the escape character itself'",
)


def _misplaced(pattern: str, escape: str) -> str:
    """Whether an escape character stands before anything but %, _ or itself, or there is not just one."""
    rest = pattern
    for each in (f"{escape} || {escape}", f"{escape} || '%'", f"{escape} || '_'"):
        rest = f"replace({rest}, {each}, '')"
    return f"(length({escape}) <> 1 OR contains({rest}, {escape}))"
