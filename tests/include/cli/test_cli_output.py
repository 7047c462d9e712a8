from __future__ import annotations

import io
import json
import logging
import sys
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from include.cli.output import Answer, clean, complain, facts, lasting, line, progress, say, table, warnings_shown

HOSTILE = [
    "\x1b[2J\x1b]0;owned\x07.jpg",
    "\x9b31mred.jpg",
    "[bold red]not bold[/] :smile:.jpg",
    "two\nlines\r.jpg",
    "\u202egpj.exe",
    "line\u2028separator",
    "half \ud800 of one",
    "tab\t.jpg",
]


@pytest.mark.parametrize("key", HOSTILE, ids=ascii)
def test_what_strangers_wrote_reaches_the_screen_as_letters_only(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown: list[Text | Table] = [table("key", rows=[(key,)]), facts({"key": key}), line(key)]
    say(Answer({"key": key}, shown), as_json=False)
    complain(f"of {key}", as_json=False)
    told = capsys.readouterr()
    assert not [each for each in told.out + told.err if each not in "\n" and not each.isprintable()]
    assert told.out.count("\n") == 4
    assert told.out.count(clean(key)) == 3


@pytest.mark.parametrize("key", HOSTILE, ids=ascii)
def test_a_script_gets_them_as_they_are(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    say(Answer({"key": key, "at": datetime(2026, 3, 1, tzinfo=UTC)}, []), as_json=True)
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out) == {"key": key, "at": "2026-03-01T00:00:00+00:00"}


def test_warnings_of_the_library_are_cleaned_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings_shown():
        logging.getLogger("include.redrive").warning("s3://%s is gone", HOSTILE[0])
        logging.getLogger("include.redrive").info("not this")
    logging.getLogger("include").warning("nor this, later")
    assert capsys.readouterr().err.splitlines()[0] == f"s3://{clean(HOSTILE[0])} is gone"


def test_a_pipe_gets_whole_lines_without_colours(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 3_000
    say(Answer({}, [table("name", "value", rows=[("a", long)]), line(long)]), as_json=False)
    out = capsys.readouterr().out
    assert out.count(long) == 2
    assert "\x1b" not in out


def test_progress_is_for_terminals(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with progress("batches", 2) as advance:
        advance(1)
    told = capsys.readouterr()
    assert told.out + told.err == ""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with progress("batches", 2) as advance:
        advance(1)
    assert "batches" in screen.getvalue()


def test_a_narrow_terminal_folds_what_is_long_and_cuts_nothing() -> None:
    made = table("key", "images", rows=[("k" * 100, "1,234")], right=("images",))
    screen = Console(file=io.StringIO(), width=40, force_terminal=True, color_system=None)
    screen.print(made)
    assert isinstance(screen.file, io.StringIO)
    assert screen.file.getvalue().count("k") == 101  # with that of the title
    assert "1,234" in screen.file.getvalue()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-5, "0 s"), (59, "59 s"), (61, "1 min"), (3_700, "1 h 1 min"), (90_000, "1 d 1 h")],
)
def test_times_are_said_as_people_do(seconds: int, said: str) -> None:
    assert lasting(timedelta(seconds=seconds)) == said
