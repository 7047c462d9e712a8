"""Expressions: every node of the tree becomes a `Value`, or is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlglot import exp

from local_aws.athena import casts, intervals, operators, predicates, types
from local_aws.athena.calls import call, window
from local_aws.athena.errors import QueryError, not_supported
from local_aws.athena.parsing import place
from local_aws.athena.scopes import Scope, part
from local_aws.athena.types import BOOLEAN, INTEGER, UNKNOWN, VARCHAR, Type
from local_aws.athena.values import Value, cast, composed, constant

Subquery = Callable[[exp.Expression, Scope], Any]


@dataclass
class Translator:
    """Translates the expressions of one query.

    `now`: when the query began. `subquery` translates a query within an expression. `parameters`: what `?` stand for.
    """

    now: datetime
    subquery: Subquery
    parameters: list[exp.Expression] = field(default_factory=list)
    lambdas: int = 0

    def value(self, node: exp.Expression, scope: Scope) -> Value:
        """Translate one expression; TYPE_MISMATCH, COLUMN_NOT_FOUND, FUNCTION_NOT_FOUND, NOT_SUPPORTED."""
        translate = _NODES.get(type(node))
        if translate is None:
            raise not_supported(f"understand {type(node).__name__}: {node.sql('trino')[:200]}")
        return translate(self, node, scope)

    def values(self, nodes: list[exp.Expression], scope: Scope) -> list[Value]:
        """Translate several."""
        return [self.value(each, scope) for each in nodes]

    def condition(self, node: exp.Expression, scope: Scope, where: str = "WHERE clause") -> Value:
        """Translate what has to be a boolean."""
        found = self.value(node, scope)
        if found.type not in (BOOLEAN, UNKNOWN):
            raise QueryError(
                "TYPE_MISMATCH", f"{place(node)}{where} must evaluate to a boolean: actual type {found.type}"
            )
        return cast(found, BOOLEAN)

    def fresh(self) -> str:
        """A name for a lambda's argument that nothing else has."""
        self.lambdas += 1
        return f"l{self.lambdas}"


def _column(to: Translator, node: exp.Column, scope: Scope) -> Value:
    if isinstance(node.this, exp.Star):
        raise QueryError("SYNTAX_ERROR", f"{place(node)}'*' not allowed here")
    return _named(node, [each.name.lower() for each in node.parts], scope)


def _identifier(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    return _named(node, [node.name.lower()], scope)


def _named(node: exp.Expression, parts: list[str], scope: Scope) -> Value:
    _, value, rest = scope.column(node, parts)
    for name in rest:
        value = part(value, name, node)
    return value


def _dot(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    if isinstance(node.expression, exp.Star):
        raise not_supported("know .* of a row: name its fields")
    return part(to.value(node.this, scope), node.expression.name.lower(), node)


def _literal(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    text = str(node.this)
    if node.is_string:
        return constant(types.text(text), VARCHAR, text)
    if re.fullmatch(r"\d+", text):
        number = int(text)
        kind = INTEGER if number < 2**31 else types.BIGINT
        if number >= 2**63:
            raise QueryError("SYNTAX_ERROR", f"{place(node)}Invalid numeric literal: {text}")
        return constant(f"CAST({text} AS {kind.name})", kind, number)
    if "e" in text.lower():
        return constant(f"CAST('{text}' AS DOUBLE)", types.DOUBLE, float(text))
    whole, _, fraction = text.partition(".")
    kind = types.decimal(max(1, len(whole.lstrip("0")) + len(fraction)), len(fraction))
    return constant(f"CAST('{text}' AS {types.duckdb(kind)})", kind, float(text))


def _boolean(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    return constant("TRUE" if node.this else "FALSE", BOOLEAN, bool(node.this))


def _null(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    return constant("NULL", UNKNOWN, None)


def _paren(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    return to.value(node.this, scope)


def _placeholder(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    raise QueryError(
        "INVALID_PARAMETER_USAGE", f"{place(node)}Incorrect number of parameters: expected more than given"
    )


def _and_or(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    word = "AND" if isinstance(node, exp.And) else "OR"
    left, right = (to.condition(each, scope, "Logical expression term") for each in (node.this, node.expression))
    return composed(f"({left.sql} {word} {right.sql})", BOOLEAN, (left, right))


def _not(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    inner = to.condition(node.this, scope, "Value of logical NOT expression")
    return composed(f"(NOT {inner.sql})", BOOLEAN, (inner,))


def _binary(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    if isinstance(node.expression, exp.Any | exp.All):
        return _quantified(to, node, scope)
    left, right = to.value(node.this, scope), to.value(node.expression, scope)
    return operators.binary(type(node), left, right, place(node))


def _quantified(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    left = to.value(node.this, scope)
    query = to.subquery(node.expression.this, scope).single(node)
    word = "ANY" if isinstance(node.expression, exp.Any) else "ALL"
    if left.type != query.type or left.type.is_float or operators.COMPARISONS.get(type(node)) is None:
        raise not_supported(f"compare {left.type} with {word} of {query.type}: cast one to the other")
    return composed(f"({left.sql} {operators.COMPARISONS[type(node)]} {word} {query.sql})", BOOLEAN, (left, query))


def _negative(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    inner = to.value(node.this, scope)
    if not inner.type.is_number:
        if inner.type in (types.DAYS, types.MONTHS):
            return composed(f"(-{inner.sql})", inner.type, (inner,))
        raise QueryError("TYPE_MISMATCH", f"{place(node)}Cannot negate {inner.type}")
    negated = composed(f"CAST(-{inner.sql} AS {types.duckdb(inner.type)})", inner.type, (inner,))
    return replace(negated, constant=-inner.constant, is_constant=True) if inner.constant is not None else negated


def _case(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    conditions = []
    for branch in node.args["ifs"]:
        if node.this is None:
            conditions.append(to.condition(branch.this, scope, "CASE WHEN clause"))
        else:
            sides = to.value(node.this, scope), to.value(branch.this, scope)
            conditions.append(operators.binary(exp.EQ, *sides, place(branch)))
    otherwise = node.args.get("default") or exp.Null()
    results = to.values([*(each.args["true"] for each in node.args["ifs"]), otherwise], scope)
    results = operators.alike(results, place(node))
    pairs = zip(conditions, results[:-1], strict=True)
    branches = " ".join(f"WHEN {condition.sql} THEN {result.sql}" for condition, result in pairs)
    return composed(f"(CASE {branches} ELSE {results[-1].sql} END)", results[0].type, [*conditions, *results])


def _if(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    condition = to.condition(node.this, scope, "IF condition")
    results = to.values([node.args["true"], node.args.get("false") or exp.Null()], scope)
    yes, no = operators.alike(results, place(node))
    return composed(f"(CASE WHEN {condition.sql} THEN {yes.sql} ELSE {no.sql} END)", yes.type, (condition, yes, no))


def _cast(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    target = cast_type(node.args["to"])
    inner = to.value(node.this, scope)
    if isinstance(node, exp.TryCast):
        done = casts.explicit(inner, target, place(node))
        return replace(done, sql=f"TRY({done.sql})")
    return casts.explicit(inner, target, place(node))


def cast_type(node: exp.Expression) -> Type:
    """The type that a CAST names."""
    spelled = re.sub(r"(?i)\b(timestamp)\s*\(3\)", r"\1", node.sql("trino"))
    if re.search(r"(?i)\btime(stamp)?\s*\(\d", spelled):
        raise not_supported(f"keep times but to the millisecond, as timestamp(3): {spelled}")
    if re.match(r"(?i)char\b", spelled):
        raise not_supported("know the type char: use varchar")
    digits = re.fullmatch(r"(?i)decimal\((\d+)(?:, *(\d+))?\)", spelled)
    if digits and not max(1, int(digits.group(2) or 0)) <= int(digits.group(1)) <= 38:
        raise QueryError("TYPE_MISMATCH", f"Invalid type {spelled}: DECIMAL has 1 to 38 digits")
    limited = re.fullmatch(r"(?i)varchar\((\d+)\)", spelled)
    return Type("varchar", numbers=(int(limited.group(1)),)) if limited else types.parsed(spelled)


def _array(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    values = operators.alike(to.values(node.expressions, scope), place(node))
    kind = types.array(values[0].type if values else UNKNOWN)
    return composed(f"CAST([{', '.join(each.sql for each in values)}] AS {types.duckdb(kind)})", kind, values)


def _bracket(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    base, index = to.value(node.this, scope), to.value(node.expressions[0], scope)
    if base.type.name == "row" and index.is_constant and base.type.of:
        from local_aws.athena.scopes import nth_part

        if not 1 <= index.constant <= len(base.type.of):
            raise QueryError("TYPE_MISMATCH", f"{place(node)}Row subscript must be from 1 to {len(base.type.of)}")
        return nth_part(base, index.constant - 1)
    return operators.subscript(base, index, place(node))


def _concatenation(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    return operators.concatenation(to.values([node.this, node.expression], scope), place(node))


def _tuple(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    if not node.expressions:
        raise QueryError("SYNTAX_ERROR", f"{place(node)}mismatched input ')'")
    return operators.row_of(to.values(node.expressions, scope))


def _interval(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    return intervals.literal(str(node.this.this), str(node.args["unit"]), place(node))


def _extract(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    return call(to, node, node.this.name.lower(), [node.expression], scope)


def _at_time_zone(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    return call(to, node, "at_timezone", [node.this, node.args["zone"]], scope)


def _current(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    names: dict[Any, str] = {
        exp.CurrentDate: "current_date",
        exp.CurrentTimestamp: "now",
        exp.Localtimestamp: "localtimestamp",
    }
    return call(to, node, names[type(node)], [], scope)


def _trim(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    name = {"LEADING": "ltrim", "TRAILING": "rtrim"}.get(str(node.args.get("position") or ""), "trim")
    arguments = [node.this, *([node.expression] if node.expression else [])]
    return call(to, node, name, arguments, scope)


def _substring(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    arguments = [node.this, node.args["start"], *([node.args["length"]] if node.args.get("length") else [])]
    return call(to, node, "substr", arguments, scope)


def _position(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    return call(to, node, "strpos", [node.this, node.args["substr"]], scope)


def _call(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    return call(to, node, node.name.lower(), node.expressions, scope)


def _listagg(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    if not isinstance(node.this, exp.Order):
        raise QueryError("SYNTAX_ERROR", f"{place(node)}LISTAGG needs WITHIN GROUP (ORDER BY ...)")
    separator = node.args.get("separator") or exp.Literal.string("")
    return call(to, node, "listagg", [node.this, separator], scope)


def _filter(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    inner = to.value(node.this, scope)
    if not inner.aggregates:
        raise QueryError("FUNCTION_NOT_AGGREGATE", f"{place(node)}Filter is only valid for aggregation functions")
    condition = to.condition(node.expression.this, scope)
    return operators.filtered(inner, condition)


def _exists(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    return to.subquery(node.this, scope).existing()  # type: ignore[no-any-return]


def _scalar(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    return to.subquery(node.this, scope).single(node)  # type: ignore[no-any-return]


def _hex(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    digits = str(node.this)
    return constant(f"unhex({types.text(digits)})", types.VARBINARY, bytes.fromhex(digits))


def _json_literal(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    return call(to, node, "json_parse", [node.this], scope)


_BINARY: tuple[Any, ...] = (
    *(exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod),
    *operators.COMPARISONS,
)
_NODES: dict[type[exp.Expression], Callable[[Translator, Any, Scope], Value]] = {
    **dict.fromkeys(_BINARY, _binary),
    exp.Column: _column,
    exp.Identifier: _identifier,
    exp.Dot: _dot,
    exp.Literal: _literal,
    exp.Boolean: _boolean,
    exp.Null: _null,
    exp.Paren: _paren,
    exp.Placeholder: _placeholder,
    exp.And: _and_or,
    exp.Or: _and_or,
    exp.Not: _not,
    exp.Neg: _negative,
    exp.Is: predicates.is_null,
    exp.NullSafeEQ: predicates.distinct_from,
    exp.NullSafeNEQ: predicates.distinct_from,
    exp.Between: predicates.between,
    exp.In: predicates.in_,
    exp.Like: predicates.like,
    exp.Escape: predicates.like,
    exp.Case: _case,
    exp.If: _if,
    exp.Cast: _cast,
    exp.TryCast: _cast,
    exp.Array: _array,
    exp.Bracket: _bracket,
    exp.DPipe: _concatenation,
    exp.Tuple: _tuple,
    exp.Interval: _interval,
    exp.Extract: _extract,
    exp.AtTimeZone: _at_time_zone,
    exp.CurrentDate: _current,
    exp.CurrentTimestamp: _current,
    exp.Localtimestamp: _current,
    exp.Trim: _trim,
    exp.Substring: _substring,
    exp.StrPosition: _position,
    exp.Anonymous: _call,
    exp.GroupConcat: _listagg,
    exp.Filter: _filter,
    exp.Window: window,
    exp.Exists: _exists,
    exp.Subquery: _scalar,
    exp.HexString: _hex,
    exp.ParseJSON: _json_literal,
}
