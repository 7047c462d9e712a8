"""Functions that are more than a template: lambdas, conditions, rows, JSON paths."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from local_aws.athena import casts, datetimes, decimals, operators, regexps, types
from local_aws.athena.errors import QueryError, not_supported
from local_aws.athena.parsing import place
from local_aws.athena.scopes import Scope, element
from local_aws.athena.types import BIGINT, BOOLEAN, UNKNOWN, VARCHAR, Type
from local_aws.athena.values import Value, cast, composed, constant, failing

if TYPE_CHECKING:
    from local_aws.athena.expressions import Translator

Handler = Callable[["Translator", Any, list[exp.Expression], Scope], Value]


def _expect(node: Any, nodes: list[exp.Expression], *counts: int) -> None:
    if len(nodes) not in counts:
        raise not_supported(f"know {node.name.lower()} with {len(nodes)} arguments")


def _lambda(
    to: Translator, node: exp.Expression, bound: list[Callable[[str], Value]], scope: Scope
) -> tuple[list[str], Value]:
    """A lambda's body with its arguments bound; their names in DuckDB's SQL."""
    if not isinstance(node, exp.Lambda) or len(node.expressions) != len(bound):
        raise QueryError("TYPE_MISMATCH", f"{place(node)}Expected a lambda that takes {len(bound)} argument(s)")
    names = [to.fresh() for _ in bound]
    values = {given.name.lower(): make(name) for given, make, name in zip(node.expressions, bound, names, strict=True)}
    return names, _body(to, node, scope.inner(values))


def _body(to: Translator, node: exp.Expression, scope: Scope) -> Value:
    body = to.value(node.this, scope)
    if body.aggregates or body.windows:
        raise QueryError("EXPRESSION_NOT_SCALAR", f"{place(node)}Lambda expression cannot contain aggregations")
    return body


def _test(body: Value, node: exp.Expression) -> Value:
    """A lambda's body that has to be a boolean."""
    if body.type not in (BOOLEAN, UNKNOWN):
        raise QueryError("TYPE_MISMATCH", f"{place(node)}Expected a lambda that returns boolean, not {body.type}")
    return cast(body, BOOLEAN)


def _array(value: Value, node: Any) -> Value:
    if value.type.name != "array":
        raise QueryError(
            "FUNCTION_NOT_FOUND", f"{place(node)}Unexpected parameters ({value.type}) for {node.name.lower()}"
        )
    return value


def _of(value: Value) -> Callable[[str], Value]:
    return lambda name: element(value, name)


def _partly(sql: str, kind: Type, array: Value, body: Value, whole: bool) -> Value:
    """What a lambda over an array gives: it reads the array's parts that its body reads, or all of it."""
    done = composed(sql, kind, (array, body))
    return done if whole or array.ref is None else replace(done, refs=body.refs or array.refs)


def transform(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
    """transform(array, x -> y)."""
    _expect(node, nodes, 2)
    array = _array(to.value(nodes[0], scope), node)
    (name,), body = _lambda(to, nodes[1], [_of(array)], scope)
    sql = f"list_transform({array.sql}, lambda {name}: {body.sql})"
    return _partly(sql, types.array(body.type), array, body, whole=False)


def filter_(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
    """filter(array, x -> boolean)."""
    _expect(node, nodes, 2)
    array = _array(to.value(nodes[0], scope), node)
    (name,), body = _lambda(to, nodes[1], [_of(array)], scope)
    body = _test(body, nodes[1])
    return composed(f"list_filter({array.sql}, lambda {name}: {body.sql})", array.type, (array, body))


def _matches(quantifier: str) -> Handler:
    """any_match and its like: NULL where no answer is certain. https://trino.io/docs/current/functions/array.html"""

    def matches(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
        _expect(node, nodes, 2)
        array = _array(to.value(nodes[0], scope), node)
        (name,), body = _lambda(to, nodes[1], [_of(array)], scope)
        body = _test(body, nodes[1])
        answers = f"list_transform({array.sql}, lambda {name}: {body.sql})"
        decisive = "FALSE" if quantifier == "all" else "TRUE"
        found, otherwise = {"any": ("TRUE", "FALSE"), "all": ("FALSE", "TRUE"), "none": ("FALSE", "TRUE")}[quantifier]
        unsure = f"len(list_filter({answers}, lambda c_each: c_each IS NULL)) > 0"
        sql = (
            f"(CASE WHEN {array.sql} IS NULL THEN NULL WHEN list_contains({answers}, {decisive}) THEN {found} "
            f"WHEN {unsure} THEN NULL ELSE {otherwise} END)"
        )
        return _partly(sql, BOOLEAN, array, body, whole=False)

    return matches


def reduce_(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
    """reduce(array, start, (state, x) -> state, state -> result)."""
    _expect(node, nodes, 4)
    array, start = _array(to.value(nodes[0], scope), node), to.value(nodes[1], scope)
    names, body = _lambda(to, nodes[2], [lambda name: Value(name, start.type), _of(array)], scope)
    if body.type != start.type:
        raise QueryError(
            "TYPE_MISMATCH", f"{place(nodes[2])}The state is {start.type}, then {body.type}: cast the start"
        )
    state = f"list_reduce({array.sql}, lambda {', '.join(names)}: {body.sql}, {start.sql})"
    if types.common(array.type.of[0], start.type) != start.type or array.type.of[0] != start.type:
        # DuckDB's state has the elements' type: elements and state share a struct instead.
        pair = types.row(("s", "e"), (start.type, array.type.of[0]))
        kind = types.duckdb(pair)
        s, e = f"struct_extract({names[0]}, 's')", f"struct_extract({names[1]}, 'e')"
        _, body = _lambda_as(to, nodes[2], [(s, start.type), (e, array.type.of[0])], scope)
        elements = f"list_transform({array.sql}, lambda c_each: CAST({{'s': NULL, 'e': c_each}} AS {kind}))"
        first = f"CAST({{'s': {start.sql}, 'e': NULL}} AS {kind})"
        step = f"CAST({{'s': {body.sql}, 'e': NULL}} AS {kind})"
        state = f"struct_extract(list_reduce({elements}, lambda {', '.join(names)}: {step}, {first}), 's')"
    final = to.value(nodes[3].this, scope.inner({nodes[3].expressions[0].name.lower(): Value(state, start.type)}))
    return composed(final.sql, final.type, (array, start, body))


def _lambda_as(
    to: Translator, node: exp.Expression, bound: list[tuple[str, Type]], scope: Scope
) -> tuple[list[str], Value]:
    values = {given.name.lower(): Value(sql, kind) for given, (sql, kind) in zip(node.expressions, bound, strict=True)}
    return [], _body(to, node, scope.inner(values))


def zip_with(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
    """zip_with(a, b, (x, y) -> z); the shorter one is filled with nulls."""
    _expect(node, nodes, 3)
    left, right = (_array(to.value(each, scope), node) for each in nodes[:2])
    at = to.fresh()
    bound = [(f"list_extract({each.sql}, {at})", each.type.of[0]) for each in (left, right)]
    _, body = _lambda_as(to, nodes[2], bound, scope)
    sql = f"list_transform(range(1, greatest(len({left.sql}), len({right.sql})) + 1), lambda {at}: {body.sql})"
    guard = f"(CASE WHEN {left.sql} IS NULL OR {right.sql} IS NULL THEN NULL ELSE {sql} END)"
    return composed(guard, types.array(body.type), (left, right, body))


def _of_map(make: str) -> Handler:
    """map_filter, transform_keys and transform_values: a lambda over (key, value)."""

    def over(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
        _expect(node, nodes, 2)
        given = to.value(nodes[0], scope)
        if given.type.name != "map":
            raise QueryError("TYPE_MISMATCH", f"{place(node)}{node.name} takes a map, not {given.type}")
        key, value = given.type.of
        entry = to.fresh()
        _, body = _lambda_as(to, nodes[1], [(f"{entry}.key", key), (f"{entry}.value", value)], scope)
        if make == "filter":
            kind, entries = given.type, f"list_filter(map_entries({given.sql}), lambda {entry}: {body.sql})"
        else:
            kind = types.map_of(body.type, value) if make == "keys" else types.map_of(key, body.type)
            cells = (body.sql, f"{entry}.value") if make == "keys" else (f"{entry}.key", body.sql)
            struct = f"{{'key': {cells[0]}, 'value': {cells[1]}}}"
            entries = f"list_transform(map_entries({given.sql}), lambda {entry}: {struct})"
        sql = f"(CASE WHEN {given.sql} IS NULL THEN NULL ELSE map_from_entries({entries}) END)"
        return composed(sql, kind, (given, body))

    return over


def map_entries(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
    """map_entries(map): rows without names."""
    _expect(node, nodes, 1)
    given = to.value(nodes[0], scope)
    if given.type.name != "map":
        raise QueryError("TYPE_MISMATCH", f"{place(node)}map_entries takes a map, not {given.type}")
    kind = types.array(types.row(("", ""), given.type.of))
    each = "lambda c_each: {'field0': c_each.key, 'field1': c_each.value}"
    return composed(f"list_transform(map_entries({given.sql}), {each})", kind, (given,))


def coalesce(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
    """coalesce(a, b, ...)."""
    values = operators.alike(to.values(nodes, scope), place(node))
    return composed(f"coalesce({', '.join(each.sql for each in values)})", values[0].type, values)


def nullif(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
    """nullif(a, b)."""
    _expect(node, nodes, 2)
    left, right = to.values(nodes, scope)
    same = operators.binary(exp.EQ, left, right, place(node))
    return composed(f"(CASE WHEN {same.sql} THEN NULL ELSE {left.sql} END)", left.type, (left, same))


def try_(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
    """try(expression): NULL for what fails."""
    _expect(node, nodes, 1)
    inner = to.value(nodes[0], scope)
    if inner.aggregates:
        raise not_supported("try aggregates: put try inside")
    return composed(f"TRY({inner.sql})", inner.type, (inner,))


def _extreme(function: str) -> Handler:
    """greatest and least: NULL where any is."""

    def extreme(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
        values = operators.alike(to.values(nodes, scope), place(node))
        nulls = " OR ".join(f"{each.sql} IS NULL" for each in values)
        cells = [each.sql for each in values]
        if function == "greatest" and values[0].type.is_float:
            # NaN is less than any number to it, where DuckDB takes it for the greatest, and passes over nulls.
            numbers = ", ".join(f"CASE WHEN NOT isnan({each}) THEN {each} END" for each in cells)
            sql = f"(CASE WHEN {nulls} THEN NULL ELSE coalesce(greatest({numbers}), {cells[0]}) END)"
            return composed(sql, values[0].type, values)
        sql = f"(CASE WHEN {nulls} THEN NULL ELSE {function}({', '.join(cells)}) END)"
        return composed(sql, values[0].type, values)

    return extreme


def concat(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
    """concat(a, b, ...)."""
    if len(nodes) < 2:
        raise QueryError("INVALID_FUNCTION_ARGUMENT", "There must be two or more concatenation arguments")
    return operators.concatenation(to.values(nodes, scope), place(node))


def concat_ws(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
    """concat_ws(separator, a, b, ...) or (separator, array): nulls are left out."""
    separator, *values = to.values(nodes, scope)
    if len(values) == 1 and values[0].type == types.array(VARCHAR):
        return composed(_joined(values[0].sql, separator.sql), VARCHAR, (separator, *values))
    if any(each.type not in (VARCHAR, UNKNOWN) for each in values):
        raise QueryError("FUNCTION_NOT_FOUND", f"{place(node)}Unexpected parameters for function concat_ws")
    return composed(f"concat_ws({', '.join(each.sql for each in (separator, *values))})", VARCHAR, (separator, *values))


def _joined(texts: str, delimiter: str) -> str:
    """Nulls are left out; if that leaves none, the text is empty, where DuckDB's is null."""
    joined = f"coalesce(array_to_string({texts}, {delimiter}), '')"
    return f"(CASE WHEN {texts} IS NOT NULL AND {delimiter} IS NOT NULL THEN {joined} END)"


def array_join(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
    """array_join(array, delimiter[, what stands for nulls]): without it nulls are left out."""
    _expect(node, nodes, 2, 3)
    array, delimiter, *null = to.values(nodes, scope)
    each = Value("c_each", _array(array, node).type.of[0])
    cell = casts.text(each, place(node))
    cell = f"coalesce({cell}, {cast(null[0], VARCHAR).sql})" if null else cell
    sql = _joined(f"list_transform({array.sql}, lambda c_each: {cell})", cast(delimiter, VARCHAR).sql)
    if null:
        sql = f"(CASE WHEN {null[0].sql} IS NOT NULL THEN {sql} END)"
    return composed(sql, VARCHAR, (array, delimiter, *null))


def row(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
    """ROW(a, b, ...)."""
    return operators.row_of(to.values(nodes, scope))


def typeof(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
    """typeof(x), known before anything runs."""
    _expect(node, nodes, 1)
    value = to.value(nodes[0], scope)
    name = str(value.type)
    if value.is_constant and nodes[0].is_string:
        name = f"varchar({len(str(value.constant))})"
    elif value.ref is None and re.search(r"\bvarchar|\btimestamp\(3\)(?! with)", name):
        raise not_supported(
            "know how long the varchar, how fine the timestamp of an expression is: ask typeof of a column"
        )
    return constant(types.text(name), VARCHAR, name)


def map_concat(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
    """map_concat(m, n, ...): the last one wins."""
    values = operators.alike(to.values(nodes, scope), place(node))
    nulls = " OR ".join(f"{each.sql} IS NULL" for each in values)
    sql = f"(CASE WHEN {nulls} THEN NULL ELSE map_concat({', '.join(each.sql for each in values)}) END)"
    return composed(sql, values[0].type, values)


def json_path(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
    """json_extract and json_extract_scalar with a literal path of names and numbers."""
    _expect(node, nodes, 2)
    given, path = to.values(nodes, scope)
    given = cast(given, VARCHAR) if given.type == UNKNOWN else given
    if given.type not in (VARCHAR, types.JSON):
        raise QueryError("FUNCTION_NOT_FOUND", f"{place(node)}Unexpected parameters ({given.type}) for {node.name}")
    steps = r"\$(\.[A-Za-z_][\w-]*|\[\d+\]|\[\"[^\"\]]+\"\])*"
    if not path.is_constant or not re.fullmatch(steps, str(path.constant)):
        raise not_supported(f"know the JSON path {path.constant!r}")
    plain = re.sub(r"\[\"([^\"]+)\"\]", r'."\1"', str(path.constant))
    valid = f"(CASE WHEN json_valid({given.sql}) THEN CAST({given.sql} AS JSON) END)"
    found = f"json_extract({valid}, {types.text(plain)})"
    if node.name.lower() == "json_extract":
        return composed(found, types.JSON, (given,))
    scalar = f"{found} ->> '$'"
    # Trino gives a number as it is written, 1.50 or 1e3; here it is read, and written anew.
    written = f"'(^|[^0-9.eE+-])' || regexp_escape({scalar}) || '($|[^0-9.eE+-])'"
    lost = failing(
        "NOT_SUPPORTED", f"'local Athena cannot tell how a number is written that it reads as ' || ({scalar})", VARCHAR
    )
    return composed(
        f"(CASE WHEN json_type({found}) IN ('OBJECT', 'ARRAY', 'NULL') THEN NULL WHEN json_type({found}) = 'DOUBLE' "
        f"AND NOT regexp_matches(CAST({given.sql} AS VARCHAR), {written}) THEN {lost} ELSE {scalar} END)",
        VARCHAR,
        (given,),
    )


def random(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
    """random()."""
    _expect(node, nodes, 0)
    return replace(constant("random()", types.DOUBLE, None), is_constant=False, is_volatile=True)


def fail(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
    """fail(message)."""
    _expect(node, nodes, 1)
    message = cast(to.value(nodes[0], scope), VARCHAR)
    return composed(failing("GENERIC_USER_ERROR", message.sql, UNKNOWN), UNKNOWN, (message,))


def grouping(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
    """grouping(a, b, ...): a bit for each column that is not grouped by."""
    values = to.values(nodes, scope)
    call = f"grouping({', '.join(each.sql for each in values)})"
    return replace(composed(f"CAST({call} AS BIGINT)", BIGINT, values), aggregates=True)


SPECIAL: dict[str, Handler] = {
    **datetimes.HANDLERS,
    **regexps.HANDLERS,
    **dict.fromkeys(decimals.ROUNDING, decimals.rounded),
    "transform": transform,
    "filter": filter_,
    "any_match": _matches("any"),
    "all_match": _matches("all"),
    "none_match": _matches("none"),
    "reduce": reduce_,
    "zip_with": zip_with,
    "map_filter": _of_map("filter"),
    "transform_keys": _of_map("keys"),
    "transform_values": _of_map("values"),
    "map_entries": map_entries,
    "map_concat": map_concat,
    "coalesce": coalesce,
    "nullif": nullif,
    "try": try_,
    "greatest": _extreme("greatest"),
    "least": _extreme("least"),
    "concat": concat,
    "concat_ws": concat_ws,
    "row": row,
    "array_join": array_join,
    "typeof": typeof,
    "json_extract": json_path,
    "json_extract_scalar": json_path,
    "random": random,
    "rand": random,
    "fail": fail,
    "grouping": grouping,
}
