"""SQL read just well enough to know what is quoted, what is a comment, and which statement it is.

Quotes and comments are Athena's, which are Trino's (https://github.com/trinodb/trino, SqlBase.g4): ``'it''s'``, ``"column"``, a
column of DDL between backticks, ``-- to the end of the line``, and from ``/*`` to the first ``*/``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from include.queries import QueryError

_TOKEN: Final = re.compile(
    r"""
      (?P<comment> --[^\r\n]* | /\*.*?\*/ )
    | (?P<quoted> '(?:[^']|'')*' | "(?:[^"]|"")*" | `(?:[^`]|``)*` )
    | (?P<unended> ['"`] | /\* )
    | (?P<parameter> :[A-Za-z_]\w* )
    | (?P<word> \w+ )
    | (?P<space> \s+ )
    | (?P<sign> . )
    """,
    re.VERBOSE | re.DOTALL,
)
QUESTIONS: Final = frozenset({"SELECT", "WITH", "VALUES"})
LOOKS: Final = frozenset({"SHOW", "DESCRIBE"})


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: str


def tokens(sql: str) -> Iterator[Token]:
    """Every token, spaces and comments too: joined they are the text again.

    :raises QueryError: where a quote or a comment does not end.
    """
    for found in _TOKEN.finditer(sql):
        kind = str(found.lastgroup)
        if kind == "unended":
            raise QueryError(f"The {found[0]} at {sql[found.start() : found.start() + 30]!r} does not end.")
        yield Token(kind, found[0])


def without_comments(sql: str) -> str:
    """Athena looks at a statement's beginning to see what it is, and counts the ``?`` in it. A comment parts words."""
    return _joined(tokens(sql))


def read_only(sql: str) -> str:
    """The statement, without comments and a ``;`` at its end, if it is one and only reads.

    By its first words, since Athena's grammar has no statement that begins so and writes; permissions are what keeps people out.

    :raises QueryError: for anything else.
    """
    every = list(tokens(sql))
    said = [token for token in every if token.kind not in ("comment", "space")]
    while said and said[-1].text == ";":
        said.pop()
    if not said:
        raise QueryError("There is no statement to run.")
    if any(token.text == ";" for token in said):
        raise QueryError("One statement at a time: there is more after a ';'.")
    first = _first_word(said)
    if first not in QUESTIONS | LOOKS and not (first == "EXPLAIN" and _first_word(_explained(said)) in QUESTIONS):
        what = " ".join(token.text for token in said[:2])
        raise QueryError(
            f"{what!r} may change something: only SELECT, WITH, VALUES, SHOW, DESCRIBE and EXPLAIN run here."
        )
    return _joined(token for token in every if token.text != ";")


def _joined(said: Iterable[Token]) -> str:
    return "".join(" " if token.kind == "comment" else token.text for token in said).strip()


def _first_word(said: Sequence[Token]) -> str:
    return next((token.text.upper() for token in said if token.text != "("), "")


def _explained(said: Sequence[Token]) -> Sequence[Token]:
    """What is explained; EXPLAIN ANALYZE runs it."""
    words = [token.text.upper() for token in said]
    at = 1
    while at < len(words) and words[at] in ("ANALYZE", "VERBOSE"):
        at += 1
    if words[at : at + 1] == ["("] and words[at + 1 : at + 2] in (["FORMAT"], ["TYPE"]):
        at = words.index(")", at) + 1 if ")" in words[at:] else len(words)
    return said[at:]
