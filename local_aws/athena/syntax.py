"""What sqlglot lets pass and Trino's grammar does not: sqlglot reads every dialect, and says nothing of what it leaves out.

https://github.com/trinodb/trino/blob/master/core/trino-grammar/src/main/antlr4/io/trino/grammar/sql/SqlBase.g4
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sqlglot import exp
from sqlglot.tokenizer_core import TokenType

from local_aws.athena.errors import QueryError, not_supported

# sqlglot's keywords that are Trino's too; any other word (STRING, ISNULL, PIVOT, DIV) is a name as any.
_KEYWORDS = frozenset(
    """
    != -> < <= <> = == => > >= || ALL AND ANY ARRAY AS ASC BETWEEN BIGINT BOOLEAN CASE CHAR CROSS CUBE CURRENT_CATALOG
    CURRENT_DATE CURRENT_SCHEMA CURRENT_TIME CURRENT_TIMESTAMP CURRENT_USER DATE DECIMAL DESC DISTINCT DOUBLE ELSE END
    ESCAPE EXCEPT EXISTS FALSE FETCH FILTER FIRST FOR FROM FULL HAVING IN INNER INT INTEGER INTERSECT INTERVAL INTO
    IPADDRESS IS JOIN JSON LATERAL LEFT LIKE LIMIT LOCALTIME LOCALTIMESTAMP MAP MATCH_RECOGNIZE NATURAL NEXT NOT NULL
    OFFSET ON OR ORDINALITY OUTER OVER PARTITION RANGE REAL RECURSIVE REPLACE RIGHT ROLLUP ROW ROWS SELECT SMALLINT SOME
    TABLE TABLESAMPLE THEN TIME TIMESTAMP TINYINT TRUE UNION UNNEST USING UUID VALUES VARBINARY VARCHAR WHEN WHERE
    WINDOW WITH
    """.split()  # noqa: SIM905
)
_PHRASES = frozenset({"DOUBLE PRECISION", "GROUP BY", "GROUPING SETS", "ORDER BY", "PARTITION BY"})

# https://trino.io/docs/current/language/reserved.html
_RESERVED = frozenset(
    """
    alter and as between by case cast constraint create cross cube current_catalog current_date current_path
    current_role current_schema current_time current_timestamp current_user deallocate delete describe distinct drop
    else end escape except execute exists extract false for from full group grouping having in inner insert intersect
    into is join left like localtime localtimestamp natural normalize not null on or order outer prepare recursive
    right rollup select table then true uescape union unnest using values when where with
    """.split()  # noqa: SIM905
)

# What is read of a node: anything else that sqlglot found in the text would be left out without a word.
_READ: dict[type[exp.Expression], str] = {
    exp.Like: "this expression negate",
    exp.Is: "this expression",
    exp.NullSafeEQ: "this expression",
    exp.NullSafeNEQ: "this expression",
    exp.In: "this expressions query field",
    exp.Cast: "this to",
    exp.TryCast: "this to safe requires_string",
    exp.CurrentDate: "",
    exp.Localtimestamp: "",
    exp.CurrentTimestamp: "",
    exp.Trim: "this expression position",
    exp.Substring: "this start length",
    exp.StrPosition: "this substr",
    exp.HexString: "this",
    exp.Exists: "this",
    exp.Subquery: "this alias with_ joins order limit offset",
    exp.Values: "expressions alias order limit offset",
    exp.Unnest: "expressions alias offset",
    exp.Join: "this on side kind using method",
    exp.Limit: "this expression",
    exp.Offset: "this expression",
    exp.Fetch: "direction count limit_options",
    exp.Ordered: "this desc nulls_first",
    exp.With: "expressions recursive",
    exp.CTE: "this alias",
}
_UNITS = ("YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND")
_TRIPLES = (
    ("EXTRACT", "(", "'"),
    *((word, "(", ")") for word in ("CURRENT_DATE", "CURRENT_TIMESTAMP", "LOCALTIMESTAMP")),
)
_PREDICATES = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.Is, exp.In, exp.Between, exp.Like, exp.Escape)


def keywords(known: Mapping[str, TokenType]) -> dict[str, TokenType]:
    """Those of sqlglot's keywords that Trino has."""
    return {word: token for word, token in known.items() if word in _KEYWORDS or word in _PHRASES}


def check_tokens(sql: str, tokens: list[Any]) -> None:
    """SYNTAX_ERROR where words follow each other that do not in Trino."""
    texts = (TokenType.STRING, TokenType.IDENTIFIER)
    words = ["'" if token.token_type in texts else token.text.upper() for token in tokens] + [""] * 3
    for n, token in enumerate(tokens):
        at = _wrong(sql, tokens, words, n)
        if at is not None:
            token = tokens[min(at, len(tokens) - 1)]
            column = token.col - len(token.text) + 1
            raise QueryError("SYNTAX_ERROR", f"line {token.line}:{max(column, 1)}: mismatched input '{token.text}'")


def _wrong(sql: str, tokens: list[Any], words: list[str], n: int) -> int | None:
    """Where it is wrong, of what begins at a token; None where it is fine."""
    found = _wrong_word(sql, tokens[n])
    if found is not None:
        return n + found
    word, following = words[n], words[n + 1]
    if word == "," and following in (",", "FROM", "WHERE", "GROUP BY", "ORDER BY", ")", ""):
        return n
    if word == "LIMIT" and words[n + 2] in (",", "OFFSET"):
        return n + 2
    if word == "AS" and n + 1 < len(tokens) and tokens[n + 1].token_type == TokenType.STRING:
        return n + 1
    if word == "INTERVAL" and (following in ("'", "+", "-") or re.match(r"\d", following)):
        text = n + 2 if following in "+-" else n + 1
        return text if words[text] != "'" else text + 1 if words[text + 1] not in _UNITS else None
    if (word, following, words[n + 2]) in _TRIPLES:
        return n + 1
    return _wrong_after(tokens[n - 1], words[n - 1], words[n : n + 3], n) if n else None


def _wrong_word(sql: str, token: Any) -> int | None:
    """Of one word alone, 1 for what follows it without a space: an operator, name or number that Trino has not."""
    if token.token_type == TokenType.NUMBER and re.match(r"\w", sql[token.end + 1 : token.end + 2]):
        return 1
    name = token.token_type == TokenType.VAR and not re.fullmatch(r"[A-Za-z_]\w*", token.text, re.ASCII)
    digits = token.token_type == TokenType.HEX_STRING and sql[token.start] not in "xX"
    return 0 if name or digits or token.text == "==" else None


def _wrong_after(before: Any, word_before: str, words: list[str], n: int) -> int | None:
    """What cannot follow the word before it: `x NOT NULL`, `[1]` without ARRAY, FILTER (x > 1)."""
    if word_before == ")" and words[:2] == ["FILTER", "("] and words[2] != "WHERE":
        return n + 2
    value = word_before in ("]", ")") or _ends_value(before)
    if (words[:2] == ["NOT", "NULL"] and value) or (words[0] == "[" and not value and word_before != "ARRAY"):
        return n
    return None


def _ends_value(token: Any) -> bool:
    """Whether a subscript may follow."""
    is_word = str(token.text).isidentifier() and token.text.lower() not in _RESERVED
    return token.token_type == TokenType.IDENTIFIER or (is_word and token.token_type != TokenType.STRING)


def check_tree(tree: Any) -> None:
    """SYNTAX_ERROR or NOT_SUPPORTED where the tree has what Trino has not, or what nobody would read."""
    from local_aws.athena.parsing import place

    for node in tree.walk():
        read = _READ.get(type(node))
        if read is not None:
            for name, value in node.args.items():
                if value and name not in read.split():
                    raise not_supported(f"know {name.upper()} here: {node.sql('trino')[:200]}")
        if isinstance(node, exp.Identifier) and not node.args.get("quoted") and node.name.lower() in _RESERVED:
            raise QueryError("SYNTAX_ERROR", f"{place(node)}mismatched input '{node.name}'")
        if (
            isinstance(node, _PREDICATES)
            and not isinstance(node, exp.Escape)
            and any(isinstance(each, _PREDICATES) for each in node.iter_expressions())
        ):
            raise QueryError("SYNTAX_ERROR", f"{place(node)}a comparison cannot follow another: use parentheses")
        if isinstance(node, exp.In) and not node.expressions and node.args.get("query") is None:
            raise QueryError("SYNTAX_ERROR", f"{place(node)}IN takes values or a query in parentheses")
