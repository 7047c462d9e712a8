"""Queries: from a tree to DuckDB's SQL, with the scans that it needs. https://trino.io/docs/current/sql/select.html"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlglot import exp

from local_aws.athena import operators, pushdown, types
from local_aws.athena.calls import direction
from local_aws.athena.errors import QueryError, not_supported
from local_aws.athena.expressions import Translator
from local_aws.athena.parsing import place
from local_aws.athena.queries import Output, Query, written_out
from local_aws.athena.relations import Relation, joined, relation
from local_aws.athena.scopes import Field, Scope
from local_aws.athena.values import Value, cast

_KNOWN = frozenset(
    "expressions from_ joins where group having order limit offset distinct with_ kind".split()  # noqa: SIM905
)
_KNOWN_OF_SETS = frozenset("this expression distinct order limit offset with_ by_name".split())  # noqa: SIM905


@dataclass(frozen=True)
class Environment:
    """What names mean that are no columns: the database, and the queries of WITH, each with its own environment."""

    database: str
    queries: dict[str, tuple[exp.Expression, Environment]]


class Analysis:
    """One statement's analysis. `find` looks a table up, `scan` is called for each place where one is read."""

    def __init__(
        self, find: Callable[[str, str, str, str], Any], make_scan: Callable[[Any, str], Any], now: datetime
    ) -> None:
        self._find = find
        self._make_scan = make_scan
        self.now = now
        self.scans: list[Any] = []
        self.views: list[tuple[str, ...]] = []
        self.queries: list[Query] = []
        self.expressions = Translator(now, self._no_subquery)
        self._aliases = 0

    def run(self, node: exp.Expression, database: str) -> tuple[Query, Callable[[], str]]:
        """A whole query with all its columns; its SQL is written when asked for."""
        query = self.query(node, None, self.environment(database)).use_all()
        return query, lambda: written_out(query.render(), self.queries)

    def environment(self, database: str) -> Environment:
        """Nothing but a database."""
        return Environment(database, {})

    def alias(self) -> str:
        """A name for an item of FROM."""
        self._aliases += 1
        return f"r{self._aliases}"

    def table(self, catalog: str, database: str, name: str, node: exp.Expression) -> Any:
        """A table or view of the catalog."""
        return self._find(catalog, database, name, place(node))

    def scan(self, table: Any) -> Any:
        """A place where a table is read."""
        made = self._make_scan(table, self.alias())
        self.scans.append(made)
        return made

    def translator(self, env: Environment) -> Translator:
        """Translates expressions whose subqueries see `env`."""
        made = Translator(self.now, lambda node, scope: self.query(node, scope, env), lambdas=self.expressions.lambdas)
        self.expressions.lambdas += 1000
        return made

    def _no_subquery(self, node: exp.Expression, scope: Scope) -> Any:
        raise not_supported("know a subquery here")

    # --- queries ------------------------------------------------------------------------------------------------------

    def query(self, node: exp.Expression, scope: Scope | None, env: Environment) -> Query:
        """Any query: SELECT, VALUES, set operations, with or without parentheses."""
        node, env = self._with(node, env)
        if isinstance(node, exp.Select):
            return self._select(node, scope, env)
        if isinstance(node, exp.Union | exp.Intersect | exp.Except):
            return self._set_operation(node, scope, env)
        if isinstance(node, exp.Values):
            return self._finished(node, self._values(node, scope, env), env)
        if isinstance(node, exp.Subquery | exp.Paren):
            inner = self.query(node.this, scope, env)
            if not any(node.args.get(each) for each in ("order", "limit", "offset")):
                return inner
            return self._finished(node, inner, env)
        raise not_supported(f"run {type(node).__name__} as a query")

    def _with(self, node: exp.Expression, env: Environment) -> tuple[exp.Expression, Environment]:
        clause = node.args.get("with_")
        if clause is None:
            return node, env
        if clause.args.get("recursive"):
            raise not_supported("know WITH RECURSIVE")
        for each in clause.expressions:
            inner = each.this
            columns = [column.name for column in each.args["alias"].args.get("columns") or []]
            if columns:
                alias = exp.TableAlias(this=exp.to_identifier("t"), columns=[exp.to_identifier(c) for c in columns])
                inner = exp.select("*").from_(exp.Subquery(this=inner.copy(), alias=alias))
            name = each.alias.lower()
            if sum(one.alias.lower() == name for one in clause.expressions) > 1:
                reason = f"WITH query name '{name}' specified more than once"
                raise QueryError("DUPLICATE_NAMED_QUERY", place(each) + reason)
            env = Environment(env.database, {**env.queries, name: (inner, env)})
        return node, env

    def _register(self, outputs: list[Output], write: Callable[[str], str]) -> Query:
        made = Query(outputs, write, len(self.queries))
        self.queries.append(made)
        return made

    def _values(self, node: exp.Expression, scope: Scope | None, env: Environment) -> Query:
        translator = self.translator(env)
        rows = [
            translator.values(each.expressions if isinstance(each, exp.Tuple) else [each], scope or Scope())
            for each in node.expressions
        ]
        if len({len(each) for each in rows}) != 1:
            raise QueryError("TYPE_MISMATCH", f"{place(node)}Values rows have mismatched sizes")
        columns = [operators.alike(list(each), place(node)) for each in zip(*rows, strict=True)]
        written = ", ".join("(" + ", ".join(cell.sql for cell in each) + ")" for each in zip(*columns, strict=True))
        names = ", ".join(f"v{n}" for n in range(len(columns)))
        for each in columns:
            for cell in each:
                cell.use()
        outputs = [Output("", Value(f"v.v{n}", column[0].type)) for n, column in enumerate(columns)]
        return self._register(outputs, lambda items: f"SELECT {items} FROM (VALUES {written}) AS v({names})")

    def _set_operation(self, node: Any, scope: Scope | None, env: Environment) -> Query:
        unknown = {name for name, value in node.args.items() if value} - _KNOWN_OF_SETS
        if unknown or node.args.get("by_name"):
            raise not_supported(f"know set operations with {', '.join(sorted(unknown)) or 'CORRESPONDING'}")
        sides = [self.query(each, scope, env).use_all() for each in (node.this, node.expression)]
        if len(sides[0].outputs) != len(sides[1].outputs):
            counts = [len(each.outputs) for each in sides]
            reason = f"{node.key.upper()} query has different number of fields: {counts[0]}, {counts[1]}"
            raise QueryError("TYPE_MISMATCH", place(node) + reason)
        kinds = []
        for n, (one, other) in enumerate(zip(sides[0].outputs, sides[1].outputs, strict=True)):
            kind = types.common(one.value.type, other.value.type)
            if kind is None:
                reason = f"column {n + 1} in {node.key.upper()} query has incompatible types: "
                raise QueryError("TYPE_MISMATCH", f"{place(node)}{reason}{one.value.type}, {other.value.type}")
            kinds.append(kind)
        word = f"{node.key.upper()}{'' if node.args.get('distinct') else ' ALL'}"

        def part(query: Query, alias: str) -> str:
            cells = [
                f"{cast(Value(f'{alias}.c{n}', each.value.type), kind).sql} AS c{n}"
                for n, (each, kind) in enumerate(zip(query.outputs, kinds, strict=True))
            ]
            return f"SELECT {', '.join(cells)} FROM ({query.render()}) AS {alias}"

        left, right, both = self.alias(), self.alias(), self.alias()
        outputs = [
            Output(each.name, Value(f"{both}.c{n}", kind))
            for n, (each, kind) in enumerate(zip(sides[0].outputs, kinds, strict=True))
        ]
        union = self._register(
            outputs,
            lambda items: f"SELECT {items} FROM ({part(sides[0], left)} {word} {part(sides[1], right)}) AS {both}",
        )
        return self._finished(node, union, env)

    def _finished(self, node: exp.Expression, inner: Query, env: Environment) -> Query:
        """ORDER BY, LIMIT and OFFSET around a query whose columns they name."""
        if not any(node.args.get(each) for each in ("order", "limit", "offset")):
            return inner
        alias = self.alias()
        inner.use_all()
        fields = inner.fields(alias, ())
        order = self._order(node, [Output(each.name, each.value) for each in fields], Scope(fields), env)
        ending = order + self._limits(node, env)
        outputs = [Output(each.name, field.value) for each, field in zip(inner.outputs, fields, strict=True)]
        return self._register(outputs, lambda items: f"SELECT {items} FROM ({inner.render()}) AS {alias}{ending}")

    def _limits(self, node: exp.Expression, env: Environment) -> str:
        written = ""
        for name, clause in (("LIMIT", node.args.get("limit")), ("OFFSET", node.args.get("offset"))):
            if clause is None:
                continue
            count = clause.args.get("expression") or clause.args.get("count") or exp.Literal.number(1)
            if isinstance(count, exp.Column | exp.Var) and count.name.lower() == "all":
                continue
            if isinstance(clause, exp.Fetch) and "WITH TIES" in clause.sql("trino").upper():
                raise not_supported("know FETCH FIRST WITH TIES")
            if not isinstance(count, exp.Literal) or count.is_string:
                raise QueryError("SYNTAX_ERROR", f"{place(node)}{name} takes a number")
            written += f" {name} {int(count.this)}"
        return written

    def _order(
        self, node: exp.Expression, outputs: list[Output], scope: Scope, env: Environment, distinct: bool = False
    ) -> str:
        clause = node.args.get("order")
        if clause is None:
            return ""
        translator, keys = self.translator(env), []
        for each in clause.expressions:
            value = self._order_key(each.this, outputs, scope, translator)
            if distinct and all(value.sql != one.value.sql for one in outputs):
                reason = "For SELECT DISTINCT, ORDER BY expressions must appear in select list"
                raise QueryError("EXPRESSION_NOT_IN_DISTINCT", place(each) + reason)
            value.use()
            keys.append(f"{value.sql} {direction(each)}")
        return f" ORDER BY {', '.join(keys)}"

    def _order_key(self, node: exp.Expression, outputs: list[Output], scope: Scope, to: Translator) -> Value:
        ordinal = self._ordinal(node, len(outputs), "ORDER BY")
        if ordinal is not None:
            return outputs[ordinal].value
        aliased = Scope([Field(each.name, (), each.value) for each in outputs if each.name], scope)
        if isinstance(node, exp.Column) and not node.table:
            named = {each.value.sql: each.value for each in outputs if each.name.lower() == node.name.lower()}
            if len(named) == 1:
                return next(iter(named.values()))
        value = to.value(node, aliased)
        if value.type.name in ("map", "json"):
            raise QueryError("TYPE_MISMATCH", f"{place(node)}Type {value.type} is not orderable")
        return value

    def _ordinal(self, node: exp.Expression, count: int, clause: str) -> int | None:
        if not isinstance(node, exp.Literal) or node.is_string or not str(node.this).isdigit():
            return None
        if not 1 <= int(node.this) <= count:
            reason = f"{clause} position {node.this} is not in select list"
            raise QueryError("INVALID_COLUMN_REFERENCE", place(node) + reason)
        return int(node.this) - 1

    # --- SELECT -------------------------------------------------------------------------------------------------------

    def _select(self, node: exp.Select, around: Scope | None, env: Environment) -> Query:
        unknown = {name for name, value in node.args.items() if value} - _KNOWN
        if unknown or (node.args.get("distinct") and node.args["distinct"].args.get("on")):
            raise not_supported(f"know {', '.join(sorted(unknown)) or 'DISTINCT ON'} in SELECT")
        translator = self.translator(env)
        source = self._from(node, around, env)
        scope = Scope(source.fields if source else [], around)
        where = ""
        if node.args.get("where"):
            where = f" WHERE {self._where(node.args['where'].this, scope, translator).sql}"
        outputs = self._outputs(node, scope, translator)
        group, keys = self._group(node, outputs, scope, translator)
        having = ""
        if node.args.get("having"):
            having = f" HAVING {translator.condition(node.args['having'].this, scope, 'HAVING clause').use().sql}"
        distinct = bool(node.args.get("distinct"))
        order = self._order(node, outputs, scope, env, distinct)
        limits = self._limits(node, env)
        self._keep_origins(outputs, keys, bool(group or having), bool(limits))
        if distinct:
            for each in outputs:
                each.use()
        head, tail = f"SELECT {'DISTINCT ' if distinct else ''}", f"{where}{group}{having}{order}{limits}"

        def write(items: str) -> str:
            return f"{head}{items}{f' FROM {source.render()}' if source else ''}{tail}"

        return self._register(outputs, write)

    def _where(self, node: exp.Expression, scope: Scope, translator: Translator) -> Value:
        condition = translator.condition(node, scope).use()
        if condition.aggregates or condition.windows:
            what = "aggregations" if condition.aggregates else "window functions"
            reason = f"{place(node)}WHERE clause cannot contain aggregations, window functions or grouping operations: {what}"
            raise QueryError("EXPRESSION_NOT_SCALAR", reason)
        pushdown.push(translator, node, scope.fields, scope.fields)
        return condition

    def _keep_origins(self, outputs: list[Output], keys: list[Value], grouped: bool, limited: bool) -> None:
        """A filter around this query may be asked of a table only where the query changes neither column nor rows."""
        windows = any(each.value.windows for each in outputs)
        aggregated = grouped or any(each.value.aggregates for each in outputs)
        written = {each.sql for each in keys}
        for each in outputs:
            if limited or windows or (aggregated and each.value.sql not in written):
                each.origin = None

    def _from(self, node: exp.Select, around: Scope | None, env: Environment) -> Relation | None:
        clause = node.args.get("from_")
        if clause is None:
            return None
        found = relation(self, clause.this, around, env)
        for each in node.args.get("joins") or []:
            found = joined(self, found, each, around, env)
        return found

    def _outputs(self, node: exp.Select, scope: Scope, translator: Translator) -> list[Output]:
        outputs: list[Output] = []
        for each in node.expressions:
            if isinstance(each, exp.Star) or (isinstance(each, exp.Column) and isinstance(each.this, exp.Star)):
                outputs += self._star(each, scope)
                continue
            inner, name = (each.this, each.alias) if isinstance(each, exp.Alias) else (each, _name_of(each))
            value = translator.value(inner, scope)
            outputs.append(Output(name, value, _origin(inner, scope)))
        return outputs

    def _star(self, node: exp.Expression, scope: Scope) -> list[Output]:
        if any(value for name, value in _star_of(node).args.items()):
            raise not_supported(f"know {node.sql('trino')}")
        qualifier = tuple(part.name.lower() for part in node.parts[:-1]) if isinstance(node, exp.Column) else ()
        fields = [each for each in scope.fields if not each.is_hidden and each.answers(qualifier)]
        if not fields:
            if qualifier:
                if any(each.name.lower() == qualifier[-1] for each in scope.fields):
                    raise not_supported("know .* of a row: name its fields")
                raise QueryError("TABLE_NOT_FOUND", f"{place(node)}Unable to resolve reference {'.'.join(qualifier)}")
            raise QueryError("SYNTAX_ERROR", f"{place(node)}SELECT * not allowed in queries without FROM clause")
        return [Output(each.name, each.value, each.origin) for each in fields]

    def _group_key(self, node: exp.Expression, outputs: list[Output], scope: Scope, translator: Translator) -> Value:
        ordinal = self._ordinal(node, len(outputs), "GROUP BY")
        value = translator.value(node, scope) if ordinal is None else outputs[ordinal].value
        if value.aggregates or value.windows:
            raise QueryError("EXPRESSION_NOT_SCALAR", f"{place(node)}GROUP BY clause cannot contain aggregations")
        if value.type.name == "json":
            raise QueryError("TYPE_MISMATCH", f"{place(node)}json is not comparable, and cannot be used in GROUP BY")
        return value.use()

    def _group(
        self, node: exp.Select, outputs: list[Output], scope: Scope, translator: Translator
    ) -> tuple[str, list[Value]]:
        clause = node.args.get("group")
        if clause is None:
            return "", []
        keys: list[Value] = []

        def key(each: exp.Expression) -> str:
            keys.append(self._group_key(each, outputs, scope, translator))
            return keys[-1].sql

        def inside(each: exp.Expression) -> str:
            if isinstance(each, exp.Tuple):
                return "(" + ", ".join(key(one) for one in each.expressions) + ")"
            return "(" + key(each.this if isinstance(each, exp.Paren) else each) + ")"

        def item(each: exp.Expression) -> str:
            if isinstance(each, exp.Tuple):
                return ", ".join(key(one) for one in each.expressions) or "()"
            word = {exp.GroupingSets: "GROUPING SETS", exp.Cube: "CUBE", exp.Rollup: "ROLLUP"}.get(type(each))
            return f"{word} ({', '.join(inside(one) for one in each.expressions)})" if word else key(each)

        if clause.args.get("all") or clause.args.get("totals"):
            raise not_supported("know GROUP BY ALL")
        items = [item(each) for each in clause.expressions]
        for name in ("grouping_sets", "cube", "rollup"):
            items += [item(each) for each in clause.args.get(name) or []]
        if any(isinstance(each, exp.GroupingSets | exp.Cube | exp.Rollup) for each in clause.expressions):
            keys = []
        return f" GROUP BY {', '.join(items)}", keys


def _star_of(node: exp.Expression) -> exp.Expression:
    return node.this if isinstance(node, exp.Column) else node


def _name_of(node: exp.Expression) -> str:
    """What Trino calls a column that has no alias: the last part of a name, nothing for any other expression."""
    if isinstance(node, exp.Column):
        return node.name
    if isinstance(node, exp.Dot) and isinstance(node.expression, exp.Identifier):
        return node.expression.name
    return ""


def _origin(node: exp.Expression, scope: Scope) -> Value | None:
    if not isinstance(node, exp.Column):
        return None
    field, _, rest = Scope(scope.fields, scope.parent).column(node, [each.name.lower() for each in node.parts])
    is_local = field is not None and any(field is each for each in scope.fields)
    return field.origin if field is not None and is_local and not rest else None
