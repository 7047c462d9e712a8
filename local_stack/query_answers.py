"""The generated parts of docs/queries.md: columns, queries and parameters from the source, answers from a running stack.

`python -m local_stack.query_answers` fills them all; the answers come from where LABELS_* and AWS_* of the environment point. A
part lies between two comments: ``<!-- columns: runs -->``, ``<!-- query: slow_hours -->`` or ``<!-- answer: slow_hours
since=2026-03-01 -->``, and ``<!-- end -->``.
"""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Final

from include.cli import main
from include.queries import columns, saved
from include.queries.tables import hive_type
from include.schema import IMAGE_LABELS, LABEL, RUNS
from local_stack.environment import ROOT

PAGE: Final = ROOT / "docs" / "queries.md"
MOST_LINES: Final = 8
_PART: Final = re.compile(r"(<!-- (columns|query|answer): (.*?) -->\n).*?(<!-- end -->)", re.DOTALL)
_TABLES: Final = {
    "image_labels": (IMAGE_LABELS, columns.IMAGE_LABELS),
    "runs": (RUNS, columns.RUNS),
    "labels": (LABEL, columns.LABEL),
}


def refreshed(page: str, ask: Callable[[list[str]], str] | None = None) -> str:
    """The page with its generated parts as they should be.

    :param ask: answers `query` with these arguments; without it, answers stay as they are.
    """

    def part(found: re.Match[str]) -> str:
        start, kind, about, end = found.groups()
        if kind == "answer":
            return f"{start}{_answer(about, ask)}{end}" if ask else found[0]
        return f"{start}{_columns(about) if kind == 'columns' else _query(about)}{end}"

    return _PART.sub(part, page)


def _columns(table: str) -> str:
    schema, meanings = _TABLES[table]
    types = {field.name: hive_type(field.type) for field in schema}
    rows = [f"| `{name}` | {_short(types.get(name, 'string'))} | {meaning} |\n" for name, meaning in meanings.items()]
    return "\n| column | type | meaning |\n|---|---|---|\n" + "".join(rows) + "\n"


def _short(type_: str) -> str:
    return (
        "array of [labels](#one-label)" if type_.startswith("array<struct") else type_.replace("<", " of ").rstrip(">")
    )


def _query(name: str) -> str:
    query = saved.find(name)
    rows = [
        f"| `{each.name}` | {each.type} | {'needed' if each.default is None else each.default or 'empty'} | {each.meaning} |\n"
        for each in query.parameters
    ]
    return f"\n{query.question}\n\n| parameter | type | default | |\n|---|---|---|---|\n{''.join(rows)}\n"


def _answer(words: str, ask: Callable[[list[str]], str]) -> str:
    name, *values = shlex.split(words)
    arguments = [name, *(word for value in values for word in ("--param", value))]
    lines = [line.rstrip() for line in ask(arguments).rstrip().split("\n")]
    if len(lines) > MOST_LINES + 2:  # the last two: an empty line, and what it cost
        lines[MOST_LINES:-2] = ["..."]
    return "\n".join(["```console", f"$ python -m include.cli query {shlex.join(arguments)}", *lines, "```", ""])


def _typed(arguments: list[str]) -> str:
    out = io.StringIO()
    with redirect_stdout(out):
        if main(["query", *arguments]) != 0:
            raise SystemExit(f"query {shlex.join(arguments)} failed: {out.getvalue()}")
    return out.getvalue()


if __name__ == "__main__":
    PAGE.write_text(refreshed(PAGE.read_text(), _typed))
