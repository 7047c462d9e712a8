"""Functions of dates and times. https://trino.io/docs/current/functions/datetime.html

A timestamp with time zone is an instant to DuckDB; its zone is part of the type here, so it must be a literal.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlglot import exp

from local_aws.athena import casts, types
from local_aws.athena.errors import QueryError, not_supported
from local_aws.athena.parsing import place
from local_aws.athena.scopes import Scope
from local_aws.athena.types import BIGINT, DATE, TIMESTAMP, VARCHAR, ZONED
from local_aws.athena.values import Value, cast, composed, constant, failing

if TYPE_CHECKING:
    from local_aws.athena.expressions import Translator

Handler = Callable[["Translator", Any, list[exp.Expression], Scope], Value]

_UNITS = ("millisecond", "second", "minute", "hour", "day", "week", "month", "quarter", "year")
_TIMES = ("date", "timestamp", "timestamp with time zone")

# https://trino.io/docs/current/functions/datetime.html#mysql-date-functions; %D %U %u %V %w %X are not supported there.
_MYSQL = {
    "a": "%a", "b": "%b", "c": "%-m", "d": "%d", "e": "%-d", "f": "%f", "H": "%H", "h": "%I", "I": "%I", "i": "%M",
    "j": "%j", "k": "%-H", "l": "%-I", "M": "%B", "m": "%m", "p": "%p", "r": "%I:%M:%S %p", "S": "%S", "s": "%S",
    "T": "%H:%M:%S", "W": "%A", "Y": "%Y", "y": "%y", "%": "%%",
}  # fmt: skip
# https://www.joda.org/joda-time/apidocs/org/joda/time/format/DateTimeFormat.html
_JODA = {
    "yyyy": "%Y", "YYYY": "%Y", "y": "%-Y", "yy": "%y", "MMMM": "%B", "MMM": "%b", "MM": "%m", "M": "%-m", "dd": "%d",
    "d": "%-d", "HH": "%H", "H": "%-H", "hh": "%I", "h": "%-I", "mm": "%M", "m": "%-M", "ss": "%S", "s": "%-S",
    "SSS": "%g", "EEEE": "%A", "EEE": "%a", "E": "%a", "a": "%p", "DDD": "%j",
}  # fmt: skip


def _arguments(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope, *counts: int) -> list[Value]:
    if len(nodes) not in counts:
        raise not_supported(f"know {node.name.lower() or 'this function'} with {len(nodes)} arguments")
    return to.values(nodes, scope)


def _time(value: Value, node: Any) -> Value:
    if value.type.name not in _TIMES:
        if value.type == types.UNKNOWN:
            return cast(value, TIMESTAMP)
        name = node.name.lower() or "this function"
        raise QueryError("FUNCTION_NOT_FOUND", f"{place(node)}Unexpected parameters ({value.type}) for function {name}")
    return value


def local(value: Value) -> str:
    """A time as a clock at its zone shows it."""
    if value.type.name == "timestamp with time zone":
        return f"timezone({types.text(value.type.zone)}, {value.sql})"
    return f"CAST({value.sql} AS TIMESTAMP)"


def _back(sql: str, like: Value) -> str:
    """A clock's time as the type that it was."""
    if like.type.name == "timestamp with time zone":
        return f"timezone({types.text(like.type.zone)}, {sql})"
    return f"CAST({sql} AS {types.duckdb(like.type)})"


def _text(value: Value, what: str) -> str:
    if not value.is_constant or not isinstance(value.constant, str):
        raise not_supported(f"know {what} that is no literal")
    return value.constant


def _unit(value: Value, of: Value, node: Any) -> str:
    unit = _text(value, "a unit").lower()
    if unit not in _UNITS or (of.type == DATE and unit in _UNITS[:4]):
        kind = "DATE" if of.type == DATE else "TIMESTAMP"
        raise QueryError("INVALID_FUNCTION_ARGUMENT", f"'{unit}' is not a valid {kind} field")
    return unit


def date_trunc(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
    """date_trunc(unit, time): of the time's own type."""
    unit, given = _arguments(to, node, nodes, scope, 2)
    given = _time(given, node)
    sql = f"date_trunc('{_unit(unit, given, node)}', {local(given)})"
    return composed(_back(sql, given), given.type, (given,))


def date_diff(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
    """date_diff(unit, from, to): whole units, as DuckDB's date_sub counts."""
    unit, start, end = _arguments(to, node, nodes, scope, 3)
    start, end = _time(start, node), _time(end, node)
    shared = types.common(start.type, end.type)
    assert shared is not None
    start, end = cast(start, shared), cast(end, shared)
    sql = f"date_sub('{_unit(unit, start, node)}', {local(start)}, {local(end)})"
    return composed(sql, BIGINT, (start, end))


def date_add(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
    """date_add(unit, how many, time)."""
    unit, amount, given = _arguments(to, node, nodes, scope, 3)
    given = _time(given, node)
    amount = cast(amount, BIGINT) if amount.type == types.UNKNOWN else amount
    if not amount.type.is_integer:
        raise QueryError(
            "FUNCTION_NOT_FOUND", f"{place(node)}Unexpected parameters ({amount.type}) for function date_add"
        )
    name = _unit(unit, given, node)
    name, times = ("month", 3) if name == "quarter" else (name, 1)
    sql = f"({local(given)} + to_{name}s(CAST({amount.sql} * {times} AS BIGINT)))"
    if name in ("day", "week", "month", "year"):
        sql = sql.replace("AS BIGINT)))", "AS INTEGER)))")
    return composed(_back(sql, given), given.type, (amount, given))


def _mysql_format(text: str) -> str:
    out, at = "", 0
    while at < len(text):
        if text[at] != "%":
            out, at = out + text[at], at + 1
            continue
        letter = text[at + 1 : at + 2]
        if letter not in _MYSQL:
            raise not_supported(f"know %{letter} in a date format")
        out, at = out + _MYSQL[letter], at + 2
    return out


def _joda_format(text: str) -> str:
    if text.count("'") % 2:
        raise QueryError("INVALID_FUNCTION_ARGUMENT", f"Illegal pattern: {text}")
    out = ""
    for quoted, letters, other in re.findall(
        r"'((?:[^']|'')*)'|(([A-Za-z])\3*)|([^A-Za-z'])", text.replace("\\", "")
    ) and [
        (found.group(1), found.group(2), found.group(4))
        for found in re.finditer(r"'((?:[^']|'')*)'|(([A-Za-z])\3*)|([^A-Za-z'])", text)
    ]:
        if letters:
            if letters not in _JODA:
                raise not_supported(f"know {letters} in a date format")
            out += _JODA[letters]
        else:
            out += ((quoted or "").replace("''", "'") if quoted is not None else other).replace("%", "%%")
    return out


def _formatted(convert: Callable[[str], str]) -> Handler:
    def formatted(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
        given, form = _arguments(to, node, nodes, scope, 2)
        given = _time(given, node)
        pattern = convert(_text(form, "a date format"))
        return composed(f"strftime({local(given)}, {types.text(pattern)})", VARCHAR, (given,))

    return formatted


def _read(convert: Callable[[str], str], with_zone: bool) -> Handler:
    def read(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
        given, form = _arguments(to, node, nodes, scope, 2)
        if given.type not in (VARCHAR, types.UNKNOWN):
            raise QueryError("FUNCTION_NOT_FOUND", f"{place(node)}Unexpected parameters ({given.type}, varchar)")
        pattern = re.sub(r"%-?([a-zA-Z])", r"%\1", convert(_text(form, "a date format")))
        if "%y" in pattern:
            raise not_supported("read years of two digits")
        # What a format does not have is of 1970-01-01, not of 1900; a space is one, and there to be read.
        year, form_of_year = ("", "") if "%Y" in pattern else ("1970 ", "%Y ")
        spaces = f"regexp_matches({given.sql}, '^\\s|\\s$|\\s\\s')"
        read_as = types.text(form_of_year + pattern)
        parsed = f"(CASE WHEN NOT {spaces} THEN try_strptime({types.text(year)} || {given.sql}, {read_as}) END)"
        kind = ZONED if with_zone else TIMESTAMP
        wrong = failing("INVALID_FUNCTION_ARGUMENT", f"'Invalid format: \"' || {given.sql} || '\"'", kind)
        done = f"timezone('UTC', {parsed})" if with_zone else parsed
        sql = f"(CASE WHEN {given.sql} IS NOT NULL AND {parsed} IS NULL THEN {wrong} ELSE {done} END)"
        return composed(sql, kind, (given,))

    return read


def zone_of(value: Value) -> str:
    """A literal time zone's name; INVALID_FUNCTION_ARGUMENT for one that does not exist."""
    name = _text(value, "a time zone")
    if re.fullmatch(r"[+-]\d{1,2}(:?\d{2})?", name):
        raise not_supported(f"know time zones by their offset: {name}")
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise QueryError("INVALID_FUNCTION_ARGUMENT", f"'{name}' is not a valid time zone") from None
    return name


def at_timezone(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
    """The same instant on another zone's clock; a timestamp without zone is taken as UTC, the session's zone."""
    given, zone = _arguments(to, node, nodes, scope, 2)
    if given.type.name != "timestamp with time zone":
        if isinstance(node, exp.AtTimeZone) and given.type == TIMESTAMP:
            given = cast(given, ZONED)
        else:
            raise QueryError("FUNCTION_NOT_FOUND", f"{place(node)}Unexpected parameters ({given.type}, varchar)")
    return replace(given, type=types.zoned(zone_of(zone)), ref=None)


def with_timezone(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
    """with_timezone(timestamp, zone): what that zone's clock shows."""
    given, zone = _arguments(to, node, nodes, scope, 2)
    return cast(cast(_time(given, node), TIMESTAMP), types.zoned(zone_of(zone)))


def from_iso8601_timestamp(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
    """In UTC; a value with another offset is refused, since each value would have its own zone."""
    (given,) = _arguments(to, node, nodes, scope, 1)
    given = cast(given, VARCHAR)
    iso = r"\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d{1,3})?)?)?(Z|[+-]00:?00)?"
    offset = r".*T.*[+-]\d{2}:?\d{2}"
    other = failing("NOT_SUPPORTED", "'local Athena does not keep time zone offsets: ' || " + given.sql, ZONED)
    rare = failing("NOT_SUPPORTED", "'local Athena does not read this form of ISO 8601: ' || " + given.sql, ZONED)
    wrong = failing("INVALID_FUNCTION_ARGUMENT", f"'Invalid format: \"' || {given.sql} || '\"'", ZONED)
    plain = f"regexp_replace({given.sql}, '(Z|[+-]00:?00)$', '')"
    fine = f"timezone('UTC', CAST(replace({plain}, 'T', ' ') AS TIMESTAMP))"
    sql = (
        f"(CASE WHEN regexp_full_match({given.sql}, {types.text(iso)}) THEN {fine} "
        f"WHEN regexp_full_match({given.sql}, {types.text(offset)}) THEN {other} "
        f"WHEN regexp_full_match({given.sql}, '[0-9TWZ:.,+-]+') THEN {rare} "
        f"WHEN {given.sql} IS NULL THEN NULL ELSE {wrong} END)"
    )
    return composed(sql, ZONED, (given,))


def date(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
    """date(x), which is CAST(x AS date)."""
    (given,) = _arguments(to, node, nodes, scope, 1)
    if given.type not in (VARCHAR, types.UNKNOWN):
        given = _time(given, node)
    return casts.explicit(given, DATE, place(node))


def from_iso8601_date(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
    """A calendar date; weeks and days of the year are refused."""
    (given,) = _arguments(to, node, nodes, scope, 1)
    given = cast(given, VARCHAR)
    rare = failing("NOT_SUPPORTED", "'local Athena does not read this form of ISO 8601: ' || " + given.sql, DATE)
    wrong = failing("INVALID_FUNCTION_ARGUMENT", f"'Invalid format: \"' || {given.sql} || '\"'", DATE)
    sql = (
        f"(CASE WHEN regexp_full_match({given.sql}, '\\d{{4}}-\\d{{2}}-\\d{{2}}') THEN CAST({given.sql} AS DATE) "
        f"WHEN regexp_full_match({given.sql}, '[0-9W-]+') THEN {rare} WHEN {given.sql} IS NULL THEN NULL ELSE {wrong} END)"
    )
    return composed(sql, DATE, (given,))


def to_iso8601(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
    """Dates and timestamps; with a time zone only UTC, whose offset is Z."""
    (given,) = _arguments(to, node, nodes, scope, 1)
    given = _time(given, node)
    if given.type == DATE:
        return composed(f"CAST({given.sql} AS VARCHAR)", VARCHAR, (given,))
    if given.type.name == "timestamp with time zone" and given.type.zone != "UTC":
        raise not_supported("write ISO 8601 in other zones than UTC")
    ending = "Z" if given.type == ZONED else ""
    return composed(f"strftime({local(given)}, '%Y-%m-%dT%H:%M:%S.%g{ending}')", VARCHAR, (given,))


def from_unixtime(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
    """from_unixtime(seconds[, zone])."""
    given, *zone = _arguments(to, node, nodes, scope, 1, 2)
    if not given.type.is_number and given.type != types.UNKNOWN:
        raise QueryError("FUNCTION_NOT_FOUND", f"{place(node)}Unexpected parameters ({given.type})")
    seconds = cast(given, types.DOUBLE)
    kind = types.zoned(zone_of(zone[0])) if zone else ZONED
    return composed(f"make_timestamptz(CAST(round({seconds.sql} * 1000) AS BIGINT) * 1000)", kind, (given,))


def _present(kind: str) -> Handler:
    def present(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
        _arguments(to, node, nodes, scope, 0)
        return at(to.now, kind)

    return present


def at(now: datetime, kind: str) -> Value:
    """The time at which the query began, to the millisecond."""
    text = now.strftime("%Y-%m-%d %H:%M:%S.") + f"{now.microsecond // 1000:03d}"
    if kind == "date":
        return constant(f"CAST('{text[:10]}' AS DATE)", DATE, text[:10])
    if kind == "timestamp":
        return constant(f"CAST('{text}' AS TIMESTAMP)", TIMESTAMP, text)
    return constant(f"timezone('UTC', CAST('{text}' AS TIMESTAMP))", ZONED, text)


HANDLERS: dict[str, Handler] = {
    "date_trunc": date_trunc,
    "date_diff": date_diff,
    "date_add": date_add,
    "date_format": _formatted(_mysql_format),
    "format_datetime": _formatted(_joda_format),
    "date_parse": _read(_mysql_format, with_zone=False),
    "parse_datetime": _read(_joda_format, with_zone=True),
    "at_timezone": at_timezone,
    "with_timezone": with_timezone,
    "from_iso8601_timestamp": from_iso8601_timestamp,
    "date": date,
    "from_iso8601_date": from_iso8601_date,
    "to_iso8601": to_iso8601,
    "from_unixtime": from_unixtime,
    "now": _present("zoned"),
    "current_timestamp": _present("zoned"),
    "current_date": _present("date"),
    "localtimestamp": _present("timestamp"),
}
