"""Functions of regular expressions that name groups. https://trino.io/docs/current/functions/regexp.html

Java's there, RE2 here: what RE2 does not know (looking around, backreferences) is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from local_aws.athena import types
from local_aws.athena.errors import QueryError, not_supported
from local_aws.athena.scopes import Scope
from local_aws.athena.types import VARCHAR
from local_aws.athena.values import Value, cast, composed, constant

if TYPE_CHECKING:
    from local_aws.athena.expressions import Translator

Handler = Callable[["Translator", Any, list[exp.Expression], Scope], Value]


def _all(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
    """What the pattern, or a group of it, is in each match; NULL where the group has no part in the match."""
    name = node.name.lower()
    if len(nodes) not in (2, 3):
        raise not_supported(f"know {name} with {len(nodes)} arguments")
    text, pattern, *group = to.values(nodes, scope)
    if group:
        _check_group(pattern, group[0], name)
    text, pattern = cast(text, VARCHAR), cast(pattern, VARCHAR)
    sql = f"regexp_extract_all({text.sql}, {pattern.sql}, {group[0].constant if group else 0})"
    return composed(sql, types.array(VARCHAR), (text, pattern))


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


def _first(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
    """The first of them, NULL without a match. DuckDB's own regexp_extract gives the empty text for both."""
    found = _all(to, node, nodes, scope)
    return composed(f"list_extract({found.sql}, 1)", VARCHAR, (found,))


def _replace(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
    """regexp_replace(text, pattern[, replacement]): `$1` there is `\\1` here."""
    if len(nodes) not in (2, 3) or isinstance(nodes[-1], exp.Lambda):
        raise not_supported(f"know regexp_replace with {len(nodes)} arguments, or with a lambda")
    values = [cast(each, VARCHAR) for each in to.values(nodes, scope)]
    replacement = constant("''", VARCHAR, "") if len(values) == 2 else values[2]
    if not replacement.is_constant or re.search(r"\\|\$(?!\d)|\$\d\d", str(replacement.constant)):
        raise not_supported("know regexp_replace but with a literal of text and single-digit groups, as '$1'")
    written = re.sub(r"\$(\d)", r"\\\1", str(replacement.constant))
    sql = f"regexp_replace({values[0].sql}, {values[1].sql}, {types.text(written)}, 'g')"
    return composed(sql, VARCHAR, values[:2])


HANDLERS: dict[str, Handler] = {
    "regexp_extract": _first,
    "regexp_extract_all": _all,
    "regexp_replace": _replace,
}
