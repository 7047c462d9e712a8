"""docs/queries.md says what is there: its generated parts are as they would be made now, and nothing is left out."""

from __future__ import annotations

import re
from pathlib import Path

from include.queries import saved
from include.queries.setup import VIEWS
from local_stack.query_answers import MOST_LINES, PAGE, refreshed


def test_columns_and_parameters_are_those_of_the_source() -> None:
    assert refreshed(PAGE.read_text()) == PAGE.read_text()


def test_every_query_and_view_has_its_place() -> None:
    page = PAGE.read_text()
    for kind in ("query", "answer"):
        assert sorted(re.findall(rf"<!-- {kind}: (\w+)", page)) == list(saved.names())
    assert re.findall(r"^\| `(\w+)` \| .* \| .* days.*\|$", page, re.MULTILINE) == list(VIEWS)
    assert sorted(VIEWS) == sorted(path.stem for path in Path(saved.SQL / "views").glob("*.sql"))


def test_answers_are_put_in_with_the_command_that_gives_them() -> None:
    asked: list[list[str]] = []

    def ask(arguments: list[str]) -> str:
        asked.append(arguments)
        return "\n".join(["images", *(f"row {number}" for number in range(20)), "", "20 rows; 1 s"])

    page = refreshed("<!-- answer: slow_hours since=2026-03-01 -->\nold\n<!-- end -->\nrest", ask)
    assert asked == [["slow_hours", "--param", "since=2026-03-01"]]
    lines = page.split("\n")
    assert lines[2] == "$ python -m include.cli query slow_hours --param since=2026-03-01"
    assert lines[-6:] == ["...", "", "20 rows; 1 s", "```", "<!-- end -->", "rest"]
    assert sum(line.startswith("row") for line in lines) == MOST_LINES - 1
