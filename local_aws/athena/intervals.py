"""Dates and intervals: literals, and what may be added to what. https://trino.io/docs/current/functions/datetime.html"""

from __future__ import annotations

import re

from local_aws.athena import types
from local_aws.athena.errors import QueryError, not_supported
from local_aws.athena.types import DATE, DAYS, INTEGERS, MONTHS, TIMESTAMP
from local_aws.athena.values import Value, cast, composed, constant

_UNITS = {
    "SECOND": ("SECOND", 1, DAYS),
    "MINUTE": ("MINUTE", 1, DAYS),
    "HOUR": ("HOUR", 1, DAYS),
    "DAY": ("DAY", 1, DAYS),
    "MONTH": ("MONTH", 1, MONTHS),
    "YEAR": ("YEAR", 1, MONTHS),
}
_TIMES = (DATE.name, TIMESTAMP.name, "timestamp with time zone")


def literal(text: str, unit: str, at: str) -> Value:
    """interval '2' day."""
    if unit.upper() not in _UNITS or not re.fullmatch(r"[+-]?\d+(\.\d{1,3})?", text):
        raise not_supported(f"know the interval '{text}' {unit}")
    name, times, kind = _UNITS[unit.upper()]
    if "." in text and name != "SECOND":
        raise QueryError("INVALID_LITERAL", f"{at}'{text}' is not a valid INTERVAL literal")
    amount = float(text) if "." in text else int(text) * times
    # Hours, not days: an interval of days is 24 hours each, which DuckDB's days are not where clocks change.
    return constant(f"INTERVAL '{amount} {name}'", kind, None)


def shifted(sign: str, left: Value, right: Value) -> Value | None:
    """A time and an interval, or two times, added or subtracted; None where Trino has no such operator."""
    if sign not in "+-" and {left.type, right.type} & {DAYS, MONTHS}:
        return _scaled(sign, left, right)
    if sign == "+" and left.type in (DAYS, MONTHS) and right.type.name in _TIMES:
        left, right = right, left
    if sign in "+-" and left.type.name in _TIMES and right.type in (DAYS, MONTHS):
        return _moved(sign, left, right)
    if sign in "+-" and left.type == right.type and left.type in (DAYS, MONTHS):
        return composed(f"({left.sql} {sign} {right.sql})", left.type, (left, right))
    if sign == "-" and left.type.name in _TIMES and right.type.name in _TIMES:
        shared = types.common(left.type, right.type)
        if shared is not None:
            one, other = cast(left, shared), cast(right, shared)
            if shared == DATE:
                return composed(f"to_days(CAST({one.sql} - {other.sql} AS INTEGER))", DAYS, (one, other))
            return composed(f"({one.sql} - {other.sql})", DAYS, (one, other))
    return None


def _scaled(sign: str, left: Value, right: Value) -> Value | None:
    interval, number = (left, right) if left.type in (DAYS, MONTHS) else (right, left)
    if number.type in (types.REAL, types.DOUBLE) or (sign == "/" and interval is left and number.type.is_integer):
        raise not_supported(f"know {left.type} {sign} {right.type}")
    if sign != "*" or number.type.name not in INTEGERS:
        return None
    return composed(f"({interval.sql} * {number.sql})", interval.type, (left, right))


def _moved(sign: str, time: Value, interval: Value) -> Value:
    if time.type == DATE:
        moved = f"({time.sql} {sign} {interval.sql})"
        whole = f"CAST({moved} AS DATE)"
        if not re.fullmatch(r"INTERVAL '-?\d+ (DAY|MONTH|YEAR)'", interval.sql):
            raise not_supported("add an interval to a date but a literal of days, weeks, months or years")
        return composed(whole, DATE, (time, interval))
    return composed(f"({time.sql} {sign} {interval.sql})", time.type, (time, interval))
