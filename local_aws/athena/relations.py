"""FROM: tables, views, subqueries, joins and UNNEST. https://trino.io/docs/current/sql/select.html"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from local_aws.athena import operators, pushdown, types
from local_aws.athena.errors import QueryError, not_supported
from local_aws.athena.parsing import parse, place
from local_aws.athena.scopes import Field, Scope, element, nth_part
from local_aws.athena.types import BIGINT
from local_aws.athena.values import Ref, Value, composed

if TYPE_CHECKING:
    from local_aws.athena.analysis import Analysis, Environment


@dataclass
class Relation:
    """What stands in FROM: its visible columns, and its SQL once it is known which of them are used.

    `alias`: what DuckDB calls it, where it is one thing and no join. `unnested`: of an UNNEST, the list.
    """

    fields: list[Field]
    render: Callable[[], str]
    alias: str = ""
    unnested: str = ""


def relation(on: Analysis, node: exp.Expression, scope: Scope | None, env: Environment) -> Relation:
    """One item of FROM with the joins that hang on it."""
    handler = _KINDS.get(type(node))
    if handler is None:
        raise not_supported(f"know {type(node).__name__} in FROM")
    found = handler(on, node, scope, env)
    for each in node.args.get("joins") or []:
        found = joined(on, found, each, scope, env)
    return found


def _alias(node: exp.Expression) -> tuple[str, list[str]]:
    alias = node.args.get("alias")
    if alias is None:
        return "", []
    return (alias.this.name.lower() if alias.this else ""), [each.name for each in alias.args.get("columns") or []]


def _renamed(found: Relation, node: exp.Expression) -> Relation:
    """`AS t(a, b)`."""
    name, columns = _alias(node)
    visible = [each for each in found.fields if not each.is_hidden]
    if columns and len(columns) != len(visible):
        reason = f"Column alias list has {len(columns)} entries but '{name}' has {len(visible)} columns available"
        raise QueryError("MISMATCHED_COLUMN_ALIASES", place(node) + reason)
    fields = [
        replace(each, name=columns[n] if columns else each.name, qualifier=(name,) if name else each.qualifier)
        for n, each in enumerate(visible)
    ]
    hidden = [replace(each, qualifier=(name,) if name else each.qualifier) for each in found.fields if each.is_hidden]
    return replace(found, fields=fields + (hidden if not columns else []))


def _table(on: Analysis, node: exp.Table, scope: Scope | None, env: Environment) -> Relation:
    if node.args.get("sample"):
        raise not_supported("know TABLESAMPLE")
    unknown = {name for name, value in node.args.items() if value} - {"this", "db", "catalog", "alias", "joins"}
    if unknown or not isinstance(node.this, exp.Identifier):
        raise not_supported(f"know this in FROM: {node.sql('trino')[:200]}")
    name = node.this.name.lower()
    if not node.args.get("db") and name in env.queries:
        inner, inner_env = env.queries[name]
        return _renamed(_derived(on, inner, None, inner_env, (name,)), node)
    database = node.db.lower() or env.database
    qualifier = ("awsdatacatalog", database, name)
    table = on.table(node.catalog.lower(), database, name, node)
    if table.view_sql:
        found = _view(on, table, qualifier)
    else:
        scan = on.scan(table)
        found = Relation(
            [_scanned(scan, each, kind, qualifier) for each, kind in scan.visible], scan.render, scan.alias
        )
        found.fields += [replace(_scanned(scan, "$path", types.VARCHAR, qualifier), is_hidden=True)]
    return _renamed(found, node)


def _scanned(scan: Any, name: str, kind: types.Type, qualifier: tuple[str, ...]) -> Field:
    ref = Ref(scan, (name,))
    value = Value(f"{scan.alias}.{types.quoted(name)}", kind, refs=(ref,), ref=ref)
    return Field(name, qualifier, value, origin=value)


def _view(on: Analysis, table: Any, qualifier: tuple[str, ...]) -> Relation:
    if len(on.views) > 20 or qualifier in on.views:
        raise QueryError("VIEW_IS_RECURSIVE", f"View '{'.'.join(qualifier)}' is recursive")
    on.views.append(qualifier)
    found = _derived(on, parse(table.view_sql), None, on.environment(table.view_database or qualifier[1]), qualifier)
    on.views.pop()
    columns = [name for name, _ in table.columns]
    if len(columns) != len(found.fields):
        raise QueryError("VIEW_IS_STALE", f"View '{'.'.join(qualifier)}' is stale or in invalid state")
    return replace(found, fields=[replace(each, name=name) for each, name in zip(found.fields, columns, strict=True)])


def _derived(
    on: Analysis, node: exp.Expression, scope: Scope | None, env: Environment, qualifier: tuple[str, ...]
) -> Relation:
    query = on.query(node, scope, env)
    alias = on.alias()
    return Relation(query.fields(alias, qualifier), lambda: f"({query.render()}) AS {alias}", alias)


def _subquery(on: Analysis, node: exp.Expression, scope: Scope | None, env: Environment) -> Relation:
    inner = node.this
    if isinstance(inner, exp.Table | exp.Unnest):
        return relation(on, inner, scope, env)
    return _renamed(_derived(on, inner, scope, env, ()), node)


def _values(on: Analysis, node: exp.Expression, scope: Scope | None, env: Environment) -> Relation:
    return _renamed(_derived(on, node, scope, env, ()), node)


def _unnest(on: Analysis, node: exp.Expression, scope: Scope | None, env: Environment) -> Relation:
    """UNNEST: an array of rows gives a column for each field, a map two. What is shorter is filled with nulls."""
    values = on.translator(env).values(node.expressions, scope or Scope())
    for each in values:
        if each.type.name not in ("array", "map"):
            raise QueryError("TYPE_MISMATCH", f"{place(node)}Cannot unnest type: {each.type}")
    offset = node.args.get("offset")
    alias, lists = on.alias(), [_entries(each) for each in values]
    if len(lists) == 1 and not offset:
        source, elements = lists[0].sql, [element(lists[0], f"{alias}_e")]
    else:
        source, elements = _zipped(on, lists, alias)
    columns = [column for each, given in zip(elements, values, strict=False) for column in _columns(each, given)]
    if offset:
        columns.append(Value(f"struct_extract({alias}_e, 'n')", BIGINT))
    for each, given in zip(lists, values, strict=True):
        if given.ref is None or len(lists) > 1 or offset:
            each.use()
        elif not any(column.ref for column in columns):
            given.use()
        else:
            # The list itself is needed, but of its elements no more than is asked for.
            given.ref.source.use((*given.ref.path, "[]", ""))
    name, names = _alias(node)
    if offset is not None and isinstance(offset, exp.Identifier) and names and len(names) < len(columns):
        names.append(offset.name)
    if names and len(names) != len(columns):
        reason = f"Column alias list has {len(names)} entries but '{name}' has {len(columns)} columns available"
        raise QueryError("MISMATCHED_COLUMN_ALIASES", place(node) + reason)
    names = names or [*_own_names(values), ""]
    fields = [Field(names[n], (name,), each) for n, each in enumerate(columns)]
    return Relation(fields, lambda: f"UNNEST({source}) AS {alias}({alias}_e)", alias, source)


def _entries(value: Value) -> Value:
    """A map as the array of its entries."""
    if value.type.name == "array":
        return value
    return composed(f"map_entries({value.sql})", types.array(types.row(("key", "value"), value.type.of)), (value,))


def _own_names(values: list[Value]) -> Iterator[str]:
    """What columns are called that nobody names: a row's fields keep their names. StatementAnalyzer.visitUnnest."""
    for each in values:
        yield from ("", "") if each.type.name == "map" else (each.type.of[0].names or ("",))


def _columns(each: Value, given: Value) -> list[Value]:
    if each.type.name == "row":
        return [nth_part(each, n) for n in range(len(each.type.of))]
    return [each]


def _zipped(on: Analysis, lists: list[Value], alias: str) -> tuple[str, list[Value]]:
    """Several lists as one of structs with a number; those that are shorter are filled with nulls."""
    at = on.expressions.fresh()
    cells = [f"'e{n}': list_extract({each.sql}, {at})" for n, each in enumerate(lists)]
    length = f"greatest({', '.join(f'len({each.sql})' for each in lists)})"
    if len(lists) == 1:
        length = f"len({lists[0].sql})"
    source = f"list_transform(range(1, coalesce({length}, 0) + 1), lambda {at}: {{{', '.join(cells)}, 'n': {at}}})"
    elements = [Value(f"struct_extract({alias}_e, 'e{n}')", each.type.of[0]) for n, each in enumerate(lists)]
    return source, elements


_KINDS: dict[type[exp.Expression], Callable[..., Relation]] = {
    exp.Table: _table,
    exp.Subquery: _subquery,
    exp.Paren: _subquery,
    exp.Values: _values,
    exp.Unnest: _unnest,
}


def joined(on: Analysis, left: Relation, node: exp.Join, scope: Scope | None, env: Environment) -> Relation:
    """`left` joined with one more relation."""
    kind, side = (node.args.get("kind") or "").upper(), (node.args.get("side") or "").upper()
    if node.args.get("method") or kind not in ("", "INNER", "CROSS", "OUTER"):
        raise not_supported(f"know {node.args.get('method') or ''} {kind} JOIN".replace("  ", " "))
    is_lateral = isinstance(node.this, exp.Unnest)
    around = Scope(left.fields, scope) if is_lateral else scope
    right = relation(on, node.this, around, env)
    test = node.args.get("on")
    if is_lateral and (node.args.get("using") or not (test is None or (isinstance(test, exp.Boolean) and test.this))):
        reason = f"{side or 'INNER'} JOIN involving UNNEST is only supported with condition ON TRUE"
        raise QueryError("NOT_SUPPORTED", place(node) + reason)
    if is_lateral and side in ("RIGHT", "FULL"):
        raise not_supported(f"know {side} JOIN UNNEST")
    fields = _after(left.fields, side in ("RIGHT", "FULL")) + _after(right.fields, side in ("LEFT", "FULL"))
    on_sql, using = "", node.args.get("using") or []
    if using:
        on_sql, fields = _using(left, right, [each.name.lower() for each in using], side, fields, node)
    elif node.args.get("on") is not None:
        translator, both = on.translator(env), Scope(left.fields + right.fields, scope)
        condition = translator.condition(node.args["on"], both, "JOIN ON clause").use()
        on_sql = condition.sql
        kept = {"": left.fields + right.fields, "LEFT": right.fields, "RIGHT": left.fields}.get(side, [])
        pushdown.push(translator, node.args["on"], kept, left.fields + right.fields)
    word = f"{side} JOIN" if side else ("JOIN" if on_sql else "CROSS JOIN")
    if kind == "CROSS" and on_sql:
        raise QueryError("SYNTAX_ERROR", f"{place(node)}CROSS JOIN takes no condition")
    if side and not on_sql:
        raise QueryError("SYNTAX_ERROR", f"{place(node)}{side} JOIN needs a condition")
    ending = f" ON {on_sql}" if on_sql else ""
    if is_lateral and left.alias:
        return Relation(fields, _streamed(left, right, side), left.alias)
    return Relation(fields, lambda: f"{left.render()} {word} {right.render()}{ending}")


def _streamed(left: Relation, right: Relation, side: str) -> Callable[[], str]:
    """One relation and its UNNEST as DuckDB's unnest in SELECT, which streams; as a join it would be ten times slower."""
    source = right.unnested
    if side == "LEFT":
        source = f"CASE WHEN len({source}) > 0 THEN {source} ELSE [NULL] END"
    alias, column = left.alias, f"{right.alias}_e"
    return lambda: f"(SELECT {alias}.*, unnest({source}) AS {column} FROM {left.render()}) AS {alias}"


def _after(fields: list[Field], may_be_null: bool) -> list[Field]:
    """Fields after a join: where rows may be made up, a filter on them must not be asked of the table."""
    return [replace(each, origin=None) for each in fields] if may_be_null else fields


def _using(
    left: Relation, right: Relation, names: list[str], side: str, fields: list[Field], node: exp.Join
) -> tuple[str, list[Field]]:
    tests, shared = [], []
    for name in names:
        one, other = (Scope(each.fields).column(node, [name])[1] for each in (left, right))
        test = operators.binary(exp.EQ, one, other, place(node)).use()
        tests.append(test.sql)
        pair = operators.alike([one, other], place(node))
        value = composed(f"coalesce({pair[0].sql}, {pair[1].sql})", pair[0].type, pair)
        shared.append(Field(name, (), value))
    rest = [each for each in fields if each.name.lower() not in names]
    return " AND ".join(tests), shared + rest
