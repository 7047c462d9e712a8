"""What kind of statement a text is, and what `?` in it stand for. Nothing here parses SQL."""

from __future__ import annotations

import re
from dataclasses import dataclass

from local_aws.athena.errors import QueryError
from local_aws.athena.words import Words

# First words: StatementType and SubstatementType of GetQueryExecution.
# https://docs.aws.amazon.com/athena/latest/APIReference/API_QueryExecution.html
_KINDS = (
    (("CREATE", "DATABASE"), "DDL", "CREATE_DATABASE"),
    (("CREATE", "SCHEMA"), "DDL", "CREATE_DATABASE"),
    (("CREATE", "EXTERNAL", "TABLE"), "DDL", "CREATE_TABLE"),
    (("CREATE", "TABLE"), "DDL", "CREATE_TABLE_AS_SELECT"),
    (("CREATE", "VIEW"), "DDL", "CREATE_VIEW"),
    (("CREATE", "OR", "REPLACE", "VIEW"), "DDL", "CREATE_VIEW"),
    (("DROP", "DATABASE"), "DDL", "DROP_DATABASE"),
    (("DROP", "SCHEMA"), "DDL", "DROP_DATABASE"),
    (("DROP", "TABLE"), "DDL", "DROP_TABLE"),
    (("DROP", "VIEW"), "DDL", "DROP_VIEW"),
    (("ALTER", "TABLE"), "DDL", "ALTER_TABLE"),
    (("MSCK", "REPAIR", "TABLE"), "DDL", "MSCK_REPAIR"),
    (("PREPARE",), "DDL", "PREPARE"),
    (("DEALLOCATE", "PREPARE"), "DDL", "DEALLOCATE"),
    (("SHOW", "DATABASES"), "UTILITY", "SHOW_DATABASES"),
    (("SHOW", "SCHEMAS"), "UTILITY", "SHOW_DATABASES"),
    (("SHOW", "TABLES"), "UTILITY", "SHOW_TABLES"),
    (("SHOW", "VIEWS"), "UTILITY", "SHOW_VIEWS"),
    (("SHOW", "COLUMNS"), "UTILITY", "SHOW_COLUMNS"),
    (("SHOW", "PARTITIONS"), "UTILITY", "SHOW_PARTITIONS"),
    (("SHOW", "TBLPROPERTIES"), "UTILITY", "SHOW_TBLPROPERTIES"),
    (("SHOW", "CREATE", "TABLE"), "UTILITY", "SHOW_CREATE_TABLE"),
    (("SHOW", "CREATE", "VIEW"), "UTILITY", "SHOW_CREATE_VIEW"),
    (("DESCRIBE",), "UTILITY", "DESCRIBE_TABLE"),
    (("DESC",), "UTILITY", "DESCRIBE_TABLE"),
    (("EXPLAIN",), "UTILITY", "EXPLAIN"),
    (("SELECT",), "DML", "SELECT"),
    (("WITH",), "DML", "SELECT"),
    (("VALUES",), "DML", "SELECT"),
    (("TABLE",), "DML", "SELECT"),
    (("(",), "DML", "SELECT"),
    (("INSERT", "INTO"), "DML", "INSERT"),
    (("UNLOAD",), "DML", "UNLOAD"),
    (("EXECUTE",), "DML", "EXECUTE"),
)
_REFUSED = ("MERGE", "DELETE", "UPDATE", "VACUUM", "OPTIMIZE")


@dataclass(frozen=True)
class Kind:
    """StatementType and SubstatementType."""

    type: str
    sub: str


def kind_of(sql: str) -> Kind | None:
    """The kind of a statement; None for what Athena does not know either."""
    words = Words(sql)
    for first, type_, sub in _KINDS:
        if words.accept(*first):
            if sub == "CREATE_TABLE_AS_SELECT" and not re.search(
                r"(?is)\bAS\s*\(?\s*(SELECT|WITH|VALUES|TABLE)\b", sql
            ):
                return Kind("DDL", "CREATE_TABLE")
            return Kind(type_, sub)
    if words.peek() in _REFUSED:
        return Kind("DML", words.peek())
    return None


def with_parameters(sql: str, parameters: list[str]) -> str:
    """The statement with its `?` replaced by literals; what is no single literal cannot get in.

    https://docs.aws.amazon.com/athena/latest/ug/querying-with-prepared-statements.html
    """
    marks = Words(sql).marks("?")
    if len(marks) != len(parameters):
        reason = f"Incorrect number of parameters: expected {len(marks)} but found {len(parameters)}"
        raise QueryError("INVALID_PARAMETER_USAGE", f"line 1:1: {reason}")
    out, at = "", 0
    for mark, given in zip(marks, parameters, strict=True):
        out += f"{sql[at : mark.start]} {_literal(given)} "
        at = mark.end
    return out + sql[at:]


def _literal(text: str) -> str:
    """A parameter, written anew from what it was read as."""
    from sqlglot import exp

    from local_aws.athena.parsing import expression

    node = expression(text)
    allowed = (
        exp.Literal,
        exp.Boolean,
        exp.Null,
        exp.Neg,
        exp.Cast,
        exp.DataType,
        exp.DataTypeParam,
        exp.Array,
        exp.Paren,
    )
    if not all(isinstance(each, allowed) for each in node.walk()):
        reason = f"local Athena takes literals as parameters ('text', 1, DATE '2026-11-21'), not {text}"
        raise QueryError("INVALID_PARAMETER_USAGE", reason)
    return node.sql("trino", comments=False)


def arguments(words: Words) -> list[str]:
    """The expressions behind USING, parted by commas."""
    found, depth, current = [], 0, ""
    rest = Words(words.rest())
    at = 0
    for each in rest._words:
        gap = rest.sql[at : each.start]
        at = each.end
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(each.text, 0)
        if each.text == "," and depth == 0:
            found.append(current.strip())
            current = ""
        else:
            current += gap + each.text
    return [*found, current.strip()] if current.strip() else found
