"""Athena's SQL as sqlglot's tree, read so that nothing is rewritten on the way.

sqlglot maps functions of every dialect to its own ones, and some of Trino's to others that mean something else. Here
every function stays a name with arguments; what it means is said in `functions`.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from sqlglot import exp
from sqlglot.dialects.trino import Trino
from sqlglot.errors import ParseError, TokenError
from sqlglot.parsers.trino import TrinoParser
from sqlglot.tokenizer_core import TokenType

from local_aws.athena.errors import QueryError, not_supported
from local_aws.athena.syntax import check_tokens, check_tree, keywords

# Syntax that is no plain call. Everything else in sqlglot's table would rename a function.
_SPECIAL = ("CAST", "EXTRACT", "LISTAGG", "POSITION", "SUBSTRING", "TRIM", "TRY_CAST")


class _Parser(TrinoParser):
    FUNCTIONS: ClassVar[Any] = {}
    # `a::bigint` is other dialects' CAST.
    COLUMN_OPERATORS: ClassVar[Any] = {
        token: operator for token, operator in TrinoParser.COLUMN_OPERATORS.items() if token != TokenType.DCOLON
    }
    # `list[1]` is an element of a column called list.
    ARRAY_CONSTRUCTORS: ClassVar[Any] = {"ARRAY": exp.Array}
    FUNCTION_PARSERS: ClassVar[Any] = {name: TrinoParser.FUNCTION_PARSERS[name] for name in _SPECIAL}
    # DECIMAL '1.50' has the digits that it shows; CAST('1.50' AS DECIMAL) has none behind the point.
    TYPE_LITERAL_PARSERS: ClassVar[Any] = {
        **TrinoParser.TYPE_LITERAL_PARSERS,
        exp.DType.DECIMAL: lambda self, this, _: _decimal(this),
        **dict.fromkeys((exp.DType.TIMESTAMP, exp.DType.TIMESTAMPTZ), lambda self, this, kind: _timestamp(this, kind)),
    }

    def _parse_join(self, *args: Any, **options: Any) -> Any:
        """A join, which needs its condition; only a comma and CROSS JOIN have none."""
        comma = self._curr is not None and self._curr.token_type == TokenType.COMMA
        join: Any = super()._parse_join(*args, **options)
        alone = isinstance(join, exp.Join) and not any(join.args.get(each) for each in ("on", "using", "method"))
        if alone and not comma and join.args.get("kind") != "CROSS":
            self.raise_error("JOIN without ON or USING")
        return join


def _decimal(text: Any) -> exp.Expression:
    found = re.fullmatch(r"[+-]?(\d*)\.?(\d*)", str(text.this)) if isinstance(text, exp.Literal) else None
    if found is None or not found.group(1) + found.group(2):
        raise QueryError("INVALID_LITERAL", f"'{text.this}' is not a valid decimal literal")
    whole, fraction = found.group(1).lstrip("0"), found.group(2)
    digits = [exp.Literal.number(max(1, len(whole) + len(fraction))), exp.Literal.number(len(fraction))]
    return exp.Cast(this=text, to=exp.DataType(this=exp.DType.DECIMAL, expressions=digits))


def _timestamp(text: Any, kind: Any) -> exp.Expression:
    if re.search(r"\.\d{4}", str(text.this)):
        raise not_supported(f"keep times finer than to the millisecond: {text.this}")
    return exp.Cast(this=text, to=kind)


class AthenaSql(Trino):
    """Trino's dialect without sqlglot's knowledge of functions."""

    INDEX_OFFSET = 0
    Parser = _Parser

    class Tokenizer(Trino.Tokenizer):
        """Trino's words alone."""

        KEYWORDS: ClassVar[Any] = keywords(Trino.Tokenizer.KEYWORDS)


def parse(sql: str) -> exp.Expression:
    """One statement; QueryError SYNTAX_ERROR with line and column."""
    try:
        statements: list[Any] = [each for each in AthenaSql().parse(sql) if each is not None]
        check_tokens(sql, AthenaSql().tokenize(sql))
    except ParseError as error:
        first = error.errors[0] if error.errors else {}
        line, column = first.get("line") or 1, first.get("col") or 1
        near = first.get("highlight") or ""
        column = max(1, column - len(near) + 1)
        raise QueryError("SYNTAX_ERROR", f"line {line}:{column}: mismatched input '{near or '<EOF>'}'") from None
    except TokenError as error:
        raise QueryError("SYNTAX_ERROR", f"line 1:1: {error}") from None
    if len(statements) != 1:
        raise QueryError("SYNTAX_ERROR", "line 1:1: Only one sql statement is allowed. Got: " + sql[:200])
    only: exp.Expression = statements[0]
    check_tree(only)
    return only


def expression(sql: str) -> exp.Expression:
    """One expression, as a parameter or a default is given."""
    tree = parse(f"SELECT {sql}")
    if not isinstance(tree, exp.Select) or len(tree.expressions) != 1 or set(_given(tree)) != {"expressions"}:
        raise QueryError("SYNTAX_ERROR", f"line 1:1: '{sql}' is not one expression")
    only: exp.Expression = tree.expressions[0]
    return only


def _given(node: exp.Expression) -> list[str]:
    return [name for name, value in node.args.items() if value]


def place(node: exp.Expression) -> str:
    """`line 1:8: ` where a node, or the first part of it, stands in the text; empty where that is not known."""
    found = [each.meta for each in node.walk() if "line" in each.meta]
    if not found:
        return ""
    first = min(found, key=lambda meta: meta["start"])
    column = first["col"] - (first["end"] - first["start"])
    return f"line {first['line']}:{max(column, 1)}: "
