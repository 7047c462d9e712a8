"""Typed parameters of a query, as the SQL literals that Athena takes for them.

Athena's ``ExecutionParameters`` and ``EXECUTE ... USING`` take literals: text in single quotes, numbers bare
(https://docs.aws.amazon.com/athena/latest/ug/querying-with-prepared-statements.html). One literal has 1,024 characters at most
(https://docs.aws.amazon.com/athena/latest/APIReference/API_StartQueryExecution.html).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

from include.queries import QueryError

MOST_CHARACTERS: Final = 1024
_TODAY: Final = re.compile(r"today(?:-(\d{1,5}))?")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a saved query; ``default`` is as text, None where a value must be given."""

    name: str
    type: str
    default: str | None
    meaning: str

    def literal(self, value: Any, *, today: date) -> str:
        """A value as SQL.

        :param value: of the type, or text that says it.
        :raises QueryError: where it is no such value.
        """
        try:
            literal = TYPES[self.type](value, today)
        except ValueError as err:
            raise QueryError(f"{self.name}={value!r} is no {self.type}: {err}.") from None
        if len(literal) > MOST_CHARACTERS:
            raise QueryError(
                f"{self.name} is too long: Athena takes parameters of up to {MOST_CHARACTERS:,} characters."
            )
        return literal


def _string(value: Any, _: date) -> str:
    if not isinstance(value, str):
        raise ValueError("text is wanted")
    if "\0" in value:
        raise ValueError("it holds a NUL character")
    if not value.isascii() and value != value.encode(errors="replace").decode():
        raise ValueError("it holds half a character")
    return "'" + value.replace("'", "''") + "'"


def _integer(value: Any, _: date) -> str:
    if isinstance(value, bool) or not re.fullmatch(r"[+-]?[0-9]+", str(value)) or not -(2**63) <= int(value) < 2**63:
        raise ValueError("a whole number is wanted, such as 20")
    return str(int(value))


def _double(value: Any, _: date) -> str:
    number = math.nan
    if not isinstance(value, bool) and re.fullmatch(
        r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", str(value), re.I
    ):
        number = float(value)
    if not math.isfinite(number):
        raise ValueError("a number is wanted, such as 80.5")
    # Without an exponent it would be a DECIMAL, with its own rules of rounding.
    mantissa, exponent = (*repr(number).split("e"), "0")[:2]
    return f"{mantissa}E{int(exponent)}"


def _date(value: Any, today: date) -> str:
    """As text: the partition column ``dt`` is text, and only a bare comparison with it leaves out other days."""
    relative = _TODAY.fullmatch(value) if isinstance(value, str) else None
    try:
        if relative:
            day = today - timedelta(days=int(relative[1] or 0))
        else:
            day = date.fromisoformat(value) if isinstance(value, str) else date(value.year, value.month, value.day)
    except (ValueError, OverflowError, AttributeError):
        raise ValueError("a day is wanted, such as 2026-03-01, today or today-7") from None
    return f"'{day.isoformat()}'"


def _boolean(value: Any, _: date) -> str:
    if str(value).lower() not in ("true", "false"):
        raise ValueError("true or false is wanted")
    return str(value).lower()


TYPES: Final[dict[str, Callable[[Any, date], str]]] = {
    "string": _string,
    "integer": _integer,
    "double": _double,
    "date": _date,
    "boolean": _boolean,
}
