"""Athena's SQL as sqlglot's tree, read so that nothing is rewritten on the way.

sqlglot maps functions of every dialect to its own ones, and some of Trino's to others that mean something else. Here
every function stays a name with arguments; what it means is said in `functions`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlglot import exp
from sqlglot.dialects.trino import Trino
from sqlglot.errors import ParseError, TokenError
from sqlglot.parsers.trino import TrinoParser
from sqlglot.tokenizer_core import TokenType

from local_aws.athena.errors import QueryError

# Syntax that is no plain call. Everything else in sqlglot's table would rename a function.
_SPECIAL = ("CAST", "EXTRACT", "LISTAGG", "POSITION", "SUBSTRING", "TRIM", "TRY_CAST")


class _Parser(TrinoParser):
    FUNCTIONS: ClassVar[Any] = {}
    # `a::bigint` is other dialects' CAST.
    COLUMN_OPERATORS: ClassVar[Any] = {
        token: operator for token, operator in TrinoParser.COLUMN_OPERATORS.items() if token != TokenType.DCOLON
    }
    FUNCTION_PARSERS: ClassVar[Any] = {name: TrinoParser.FUNCTION_PARSERS[name] for name in _SPECIAL}


class AthenaSql(Trino):
    """Trino's dialect without sqlglot's knowledge of functions."""

    INDEX_OFFSET = 0
    Parser = _Parser


def parse(sql: str) -> exp.Expression:
    """One statement; QueryError SYNTAX_ERROR with line and column."""
    try:
        statements: list[Any] = [each for each in AthenaSql().parse(sql) if each is not None]
        _strict(AthenaSql().tokenize(sql))
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
    return only


def _strict(tokens: list[Any]) -> None:
    """Refuse what sqlglot lets pass and Trino does not: `==`, a comma before FROM or `)`, LIMIT 1, 2."""
    texts = (TokenType.STRING, TokenType.IDENTIFIER)
    words = ["'" if token.token_type in texts else token.text.upper() for token in tokens] + [""]
    for n in range(len(tokens)):
        lone = words[n] == "," and words[n + 1] in ("FROM", "WHERE", "GROUP", "ORDER", ")", "")
        pair = words[n] == "LIMIT" and words[n + 2 : n + 3] == [","]
        if words[n] == "==" or lone or pair:
            at = tokens[n + 2 if pair else n]
            column = at.col - len(at.text) + 1
            raise QueryError("SYNTAX_ERROR", f"line {at.line}:{column}: mismatched input '{at.text}'")


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
