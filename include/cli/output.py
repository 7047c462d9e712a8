"""What every command says: tables and sentences for people, one JSON document for scripts.

Keys, error messages and names come from strangers: nothing of them is taken for markup, and no control character of theirs
reaches the terminal.
"""

from __future__ import annotations

import io
import json
import logging
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

# What is no terminal (a file, a pipe) is never cut or wrapped.
UNLIMITED_WIDTH: Final = 100_000
# Control and format characters (which turn the reading direction), halves of characters, line and paragraph separators.
HIDDEN_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command found or did: for scripts, for people, and its exit status."""

    document: Mapping[str, Any]
    shown: Sequence[Text | Table]
    status: int = 0


def clean(value: object) -> str:
    """A value on one line, with what a terminal would act on spelt out."""
    return "".join(
        character
        if unicodedata.category(character) not in HIDDEN_CATEGORIES
        else character.encode("unicode_escape").decode()
        for character in str(value)
    )


def line(text: object, style: str = "") -> Text:
    """A sentence, or a command to type; never cut into pieces."""
    return Text(clean(text), style=style)


def table(
    *columns: str, rows: Iterable[Sequence[object]], right: Sequence[str] = (), whole: Sequence[str] = ()
) -> Table:
    """A table; ``right`` names the columns of numbers, ``whole`` others that a narrow terminal must not fold.

    A cell may be a Text with a style of its own.
    """
    made = Table(box=None, pad_edge=False, header_style="bold underline")
    for column in columns:
        made.add_column(
            column,
            justify="right" if column in right else "left",
            overflow="fold",
            no_wrap=column in (*right, *whole),
        )
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else line("-" if cell is None else cell) for cell in row))
    return made


def facts(values: Mapping[str, object]) -> Table:
    """Names and values, a line each."""
    made = Table(box=None, pad_edge=False, show_header=False)
    made.add_column(no_wrap=True, style="bold")
    made.add_column(overflow="fold")
    for name, value in values.items():
        made.add_row(line(name.replace("_", " ")), line("-" if value is None else value))
    return made


def say(answer: Answer, *, as_json: bool) -> None:
    """Print an answer to standard output."""
    if as_json:
        sys.stdout.write(json.dumps(answer.document, default=_plain, indent=1) + "\n")
        return
    screen = console(sys.stdout)
    for each in answer.shown:
        screen.print(each, soft_wrap=isinstance(each, Text))


def complain(message: str, *, as_json: bool) -> None:
    """What went wrong, on standard error; a script finds it in its document as well."""
    if as_json:
        sys.stdout.write(json.dumps({"error": message}, indent=1) + "\n")
    sys.stderr.write("\n".join(clean(each) for each in message.split("\n")) + "\n")


def console(stream: TextIO) -> Console:
    """Colours on a terminal, plain text elsewhere."""
    made = Console(file=stream, markup=False, emoji=False, highlight=False)
    if not made.is_terminal:
        made.width = UNLIMITED_WIDTH
    return made


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """A bar on standard error while something long goes on, on a terminal only; the caller says how much is done more."""
    screen = console(sys.stderr)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bars:
        task = bars.add_task(what, total=total)
        yield lambda more: bars.advance(task, more)


@contextmanager
def warnings_shown() -> Iterator[None]:
    """What the library warns of goes to standard error, cleaned."""
    handler = _CleanedLog(sys.stderr)
    handler.setLevel(logging.WARNING)
    logger = logging.getLogger("include")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class Cleaned(io.TextIOBase):
    """A stream on which others write: line by line, what a terminal would act on is spelt out."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write("\n".join(clean(each) for each in text.split("\n")))


class _CleanedLog(logging.StreamHandler[TextIO]):
    def format(self, record: logging.LogRecord) -> str:
        return clean(record.getMessage())


def ago(since: datetime, now: datetime) -> str:
    """How long ago, as people say it."""
    return f"{lasting(now - since)} ago"


def lasting(time: timedelta) -> str:
    """A length of time as people say it, to the two largest units."""
    total = max(0, int(time.total_seconds()))
    days, hours, minutes = total // 86_400, total // 3_600 % 24, total // 60 % 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{total} s"


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
