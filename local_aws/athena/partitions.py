"""Which partitions a table has: those that are registered, or those that it says there are (partition projection).

https://docs.aws.amazon.com/athena/latest/ug/partition-projection-supported-types.html
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from local_aws.athena.catalog import Table
from local_aws.athena.errors import QueryError
from local_aws.athena.pushdown import Bound


@dataclass(frozen=True)
class Partition:
    """One partition: its columns' values as text, and where its files lie."""

    values: tuple[str, ...]
    location: str


Keep = Callable[[list[str], list[tuple[str, ...]]], list[tuple[str, ...]]]

# More than this is a mistake in the projection rather than a table.
_MOST = 1_000_000
_JAVA_DATES = {"yyyy": "%Y", "MM": "%m", "dd": "%d", "HH": "%H", "mm": "%M", "ss": "%S"}
_UNITS = {"SECONDS": 1, "MINUTES": 60, "HOURS": 3600, "DAYS": 86_400, "WEEKS": 604_800}


def partitions(
    table: Table, registered: list[tuple[list[str], str]], bounds: list[Bound], keep: Keep, now: datetime
) -> list[Partition]:
    """The partitions that the filters leave. `keep` gets names of columns and candidates, and returns those that pass."""
    if not table.keys:
        return [Partition((), table.location)]
    names = [name for name, _ in table.keys]
    if table.parameters.get("projection.enabled", "").lower() != "true":
        kept = set(keep(names, [tuple(values) for values, _ in registered]))
        return [Partition(tuple(values), location) for values, location in registered if tuple(values) in kept]
    lists = [_candidates(table, name, bounds, keep, now) for name in names]
    count = 1
    for each in lists:
        count *= len(each)
    if count > _MOST:
        raise QueryError(
            "CONSTRAINT_VIOLATION", f"For the table {table.name} partition projection gives {count} partitions"
        )
    found = keep(names, list(itertools.product(*lists)))
    return [Partition(values, _location(table, names, values)) for values in found]


def _candidates(table: Table, name: str, bounds: list[Bound], keep: Keep, now: datetime) -> list[str]:
    return [value for (value,) in keep([name], [(value,) for value in _projected(table, name, bounds, now)])]


def _location(table: Table, names: list[str], values: tuple[str, ...]) -> str:
    template = table.parameters.get("storage.location.template")
    if template is None:
        path = "/".join(f"{name}={value}" for name, value in zip(names, values, strict=True))
        return f"{table.location.rstrip('/')}/{path}/"
    given = dict(zip(names, values, strict=True))
    return re.sub(r"\$\{(\w+)\}", lambda found: given.get(found.group(1).lower(), found.group(0)), template)


def _projected(table: Table, name: str, bounds: list[Bound], now: datetime) -> list[str]:
    given = {key.removeprefix(f"projection.{name}."): value for key, value in table.parameters.items()}
    kind = given.get("type", "").lower()
    if kind == "enum":
        return [each.strip() for each in given.get("values", "").split(",")]
    if kind == "integer":
        return list(_integers(table, name, given))
    if kind == "date":
        return list(_dates(table, name, given, now))
    if kind == "injected":
        values = [
            str(one) for each in bounds if each.column == name and each.sign in ("=", "in") for one in each.values
        ]
        if not values:
            reason = (
                f"For the injected projected partition column {name}, the WHERE clause must contain only static "
                "equality conditions, and at least one such condition must be present."
            )
            raise QueryError("CONSTRAINT_VIOLATION", reason)
        return sorted(set(values))
    raise _invalid(table, name, f"type '{kind}'")


def _invalid(table: Table, name: str, what: str) -> QueryError:
    reason = f"Table {table.database}.{table.name} has an invalid partition projection of column {name}: {what}"
    return QueryError("INVALID_TABLE_PROPERTY", reason)


def _integers(table: Table, name: str, given: dict[str, str]) -> Iterator[str]:
    try:
        first, last = (int(each) for each in given.get("range", "").split(","))
        step, digits = int(given.get("interval", "1")), int(given.get("digits", "0"))
    except ValueError:
        raise _invalid(table, name, f"range '{given.get('range')}'") from None
    for n in itertools.islice(range(first, last + 1, step), _MOST + 1):
        yield str(n).zfill(digits)


def _dates(table: Table, name: str, given: dict[str, str], now: datetime) -> Iterator[str]:
    form = given.get("format", "")
    pattern = re.sub(r"'([^']*)'|yyyy|MM|dd|HH|mm|ss|[A-Za-z]+", lambda found: _java(found, table, name), form)
    try:
        first, last = (_date(each.strip(), pattern, now) for each in given.get("range", "").split(","))
    except ValueError:
        raise _invalid(table, name, f"range '{given.get('range')}' in the format '{form}'") from None
    step = int(given.get("interval", "1"))
    unit = given.get("interval.unit", "DAYS" if "%H" not in pattern else "").upper()
    if "%d" not in pattern and "interval.unit" not in given:
        unit = "MONTHS" if "%m" in pattern else "YEARS"
    at, seen = first, None
    # The present is rounded to the format: the range's end is within the last value.
    for _ in range(_MOST + 1):
        if at > last:
            return
        written = at.strftime(pattern)
        if written != seen:
            yield written
        seen = written
        at = _next(table, name, at, step, unit)


def _java(found: Any, table: Table, name: str) -> str:
    if found.group(1) is not None:
        return str(found.group(1))
    if found.group(0) not in _JAVA_DATES:
        raise _invalid(table, name, f"format letters '{found.group(0)}', which local Athena does not know")
    return _JAVA_DATES[found.group(0)]


def _next(table: Table, name: str, at: datetime, step: int, unit: str) -> datetime:
    if unit in ("MONTHS", "YEARS"):
        months = at.year * 12 + at.month - 1 + step * (12 if unit == "YEARS" else 1)
        return at.replace(year=months // 12, month=months % 12 + 1, day=1)
    if unit not in _UNITS:
        raise _invalid(table, name, f"interval.unit '{unit}'")
    return at + timedelta(seconds=step * _UNITS[unit])


def _date(text: str, pattern: str, now: datetime) -> datetime:
    """A date in the format, or NOW with an offset: NOW-3YEARS, NOW+1DAYS."""
    relative = re.fullmatch(r"(?i)NOW\s*(?:([+-])\s*(\d+)\s*([A-Z]+?)S?)?", text)
    if relative is None:
        return datetime.strptime(text, pattern)  # noqa: DTZ007 a partition's name has no zone
    naive = now.replace(tzinfo=None)
    sign, amount, unit = relative.groups()
    if not sign:
        return naive
    count = int(amount) * (1 if sign == "+" else -1)
    unit = unit.upper() + "S"
    if unit in ("MONTHS", "YEARS"):
        months = naive.year * 12 + naive.month - 1 + count * (12 if unit == "YEARS" else 1)
        return naive.replace(year=months // 12, month=months % 12 + 1, day=min(naive.day, 28))
    return naive + timedelta(seconds=count * _UNITS[unit])
