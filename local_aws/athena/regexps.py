"""Functions of regular expressions. https://trino.io/docs/current/functions/regexp.html

Java's there, RE2 here: what RE2 does not know (looking around, backreferences) is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from local_aws.athena import types
from local_aws.athena.errors import QueryError, not_supported
from local_aws.athena.parsing import place
from local_aws.athena.scopes import Scope
from local_aws.athena.types import BIGINT, BOOLEAN, VARCHAR, Type
from local_aws.athena.values import Value, cast, composed, constant, failing

if TYPE_CHECKING:
    from local_aws.athena.expressions import Translator

Handler = Callable[["Translator", Any, list[exp.Expression], Scope], Value]


# Patterns whose meaning differs: \\w is any letter there and an ASCII letter here, and after a match there may be an
# empty one at its end, as `.*` has (AbstractTestRegexpFunctions.testRegexpReplace).
_WORDS = types.text(r"\\[wWbB]|\[:")
_NOT_WORDS = "'local Athena knows \\w, \\b and [:classes:] of ASCII texts only'"
_NOT_EMPTY = "'local Athena does not repeat a pattern that may match the empty text: ' || "


def _texts(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope, *counts: int) -> list[Value]:
    """The arguments; the first two are texts, a text and a pattern."""
    name = node.name.lower()
    if len(nodes) not in counts or any(isinstance(each, exp.Lambda) for each in nodes):
        raise not_supported(f"know {name} with {len(nodes)} arguments, or with a lambda")
    values = to.values(nodes, scope)
    if any(each.type not in (VARCHAR, types.UNKNOWN) for each in values[:2]):
        given = ", ".join(str(each.type) for each in values)
        raise QueryError("FUNCTION_NOT_FOUND", f"{place(node)}Unexpected parameters ({given}) for function {name}")
    return [cast(each, VARCHAR) for each in values[:2]] + values[2:]


def _guarded(sql: str, kind: Type, text: Value, pattern: Value, repeats: bool = True) -> Value:
    """An error where Java and RE2 may differ about the text."""
    unicode = f"strlen({text.sql}) > length({text.sql}) AND regexp_matches({pattern.sql}, {_WORDS})"
    tests = f"WHEN {unicode} THEN {failing('NOT_SUPPORTED', _NOT_WORDS, kind)} "
    if repeats:
        empty = failing("NOT_SUPPORTED", _NOT_EMPTY + pattern.sql, kind)
        tests += f"WHEN {pattern.sql} <> '' AND regexp_matches('', {pattern.sql}) THEN {empty} "
    return composed(f"(CASE {tests}ELSE {sql} END)", kind, (text, pattern))


def _plain(template: str, kind: Type, repeats: bool) -> Handler:
    def plain(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
        text, pattern = _texts(to, node, nodes, scope, 2)
        return _guarded(template.format(text.sql, pattern.sql), kind, text, pattern, repeats)

    return plain


def _matches(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> tuple[str, Value, Value]:
    """The list of what the pattern, or a group of it, is in each match: null where the group has no part in it."""
    text, pattern, *group = _texts(to, node, nodes, scope, 2, 3)
    if group:
        _check_group(pattern, group[0], node.name.lower())
    number = group[0].constant if group else 0
    return f"regexp_extract_all({text.sql}, {pattern.sql}, {number})", text, pattern


def _check_group(pattern: Value, group: Value, name: str) -> None:
    """INVALID_FUNCTION_ARGUMENT where the pattern has no group of the number."""
    if not pattern.is_constant or not group.is_constant or not group.type.is_integer:
        raise not_supported(f"know {name} with a pattern or group that is no literal")
    try:
        count = re.compile(str(pattern.constant)).groups
    except re.error:
        raise not_supported(f"count the groups of {pattern.constant}") from None
    if not 0 <= group.constant <= count:
        reason = f"Pattern has {count} groups. Cannot access group {group.constant}"
        raise QueryError("INVALID_FUNCTION_ARGUMENT", reason)


def _all(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
    """regexp_extract_all(text, pattern[, group])."""
    found, text, pattern = _matches(to, node, nodes, scope)
    return _guarded(found, types.array(VARCHAR), text, pattern)


def _first(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
    """The first of them, NULL without a match. DuckDB's own regexp_extract gives the empty text for both."""
    found, text, pattern = _matches(to, node, nodes, scope)
    return _guarded(f"list_extract({found}, 1)", VARCHAR, text, pattern, repeats=False)


def _replace(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
    """regexp_replace(text, pattern[, replacement]): `$1` there is `\\1` here."""
    text, pattern, *given = _texts(to, node, nodes, scope, 2, 3)
    replacement = given[0] if given else constant("''", VARCHAR, "")
    if not isinstance(replacement.constant, str) or re.search(r"\\|\$(?!\d)|\$\d\d", replacement.constant):
        raise not_supported("know regexp_replace but with a literal of text and single-digit groups, as '$1'")
    written = types.text(re.sub(r"\$(\d)", r"\\\1", replacement.constant))
    return _guarded(f"regexp_replace({text.sql}, {pattern.sql}, {written}, 'g')", VARCHAR, text, pattern)


HANDLERS: dict[str, Handler] = {
    "regexp_like": _plain("regexp_matches({0}, {1})", BOOLEAN, repeats=False),
    "regexp_count": _plain("len(regexp_extract_all({0}, {1}))", BIGINT, repeats=True),
    "regexp_split": _plain("string_split_regex({0}, {1})", types.array(VARCHAR), repeats=True),
    "regexp_extract": _first,
    "regexp_extract_all": _all,
    "regexp_replace": _replace,
}
