"""How a command is declared: its module's docstring is its help, and what can be checked is checked before anything is done."""

from __future__ import annotations

import argparse
import getpass
import math
import socket
from collections.abc import Callable
from datetime import date
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from include.cli.output import Answer

if TYPE_CHECKING:
    Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

MOST_MINUTES: Final = 24 * 60


class Paragraphs(argparse.HelpFormatter):
    """Help as wide as the terminal, by paragraphs; one that is indented somewhere (examples) stays as it is written."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        parts = text.strip("\n").split("\n\n")
        return "\n\n".join(part if "\n  " in part else fill(part, width, indent) for part in parts)


def add_command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], Answer], about: str, *, examples: str = ""
) -> argparse.ArgumentParser:
    """Add one command.

    :param run: does it; ``refuse(message)`` among its arguments ends it as a wrong usage (exit status 2).
    :param about: its help; the first line stands in the list of commands.
    """
    about = about.strip()
    added = commands.add_parser(
        name,
        help=about.split("\n")[0],
        description=about,
        epilog=examples,
        formatter_class=Paragraphs,
        allow_abbrev=False,
    )
    added.set_defaults(run=run, refuse=added.error)
    add_json(added, default=argparse.SUPPRESS)
    return added


def add_json(parser: argparse.ArgumentParser, *, default: Any) -> None:
    """``--json`` may stand before the command or after it."""
    parser.add_argument("--json", action="store_true", default=default, help="one JSON document, for scripts")


def add_by(parser: argparse.ArgumentParser) -> None:
    """Who holds the model: whoever finds it on wants to ask somebody."""
    me = f"{getpass.getuser()}@{socket.gethostname()}"
    parser.add_argument("--by", default=me, help="who, for those who find the model on (default: %(default)s)")


def minutes(text: str) -> float:
    """Minutes that a hold may last. One day at most: a slip of the finger is not to cost a month."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= MOST_MINUTES:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of minutes from 1 to {MOST_MINUTES:,}")
    return value


def count(text: str) -> int:
    """A whole number of at least 1."""
    value = int(text) if text.isascii() and text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return value


def day(text: str) -> str:
    """A date (UTC) as YYYY-MM-DD."""
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date such as 2026-03-01") from None


def month(text: str) -> str:
    """A month (UTC) as YYYY-MM."""
    try:
        return f"{date.fromisoformat(f'{text}-01'):%Y-%m}"
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no month such as 2026-03") from None
