"""The saved queries: a file each in ``include/sql/queries/``, which says its question and its parameters in its first comments.

    -- Which images show a label?
    -- :label string the label that is looked for
    -- :since date = today-29 first day of labelling (UTC)
    SELECT ... WHERE name = :label AND dt >= :since

Athena knows ``?`` only, and only in WHERE clauses.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, Final

from include.queries import QueryError
from include.queries.parameters import TYPES, Parameter
from include.queries.tokens import tokens, without_comments

SQL: Final = Path(__file__).parent.parent / "sql"
_DECLARED: Final = re.compile(
    rf"-- :(?P<name>[a-z_]+) (?P<type>{'|'.join(TYPES)})(?: = (?P<default>\S+))? (?P<meaning>.+)"
)


@dataclass(frozen=True, slots=True)
class Bound:
    """A query with its values, as Athena takes both: ``?`` in the text, and a literal for each, in order."""

    name: str
    sql: str
    literals: tuple[str, ...] = ()

    @property
    def as_prepared(self) -> str:
        """The same by the name under which the query is prepared in the workgroup."""
        return f"EXECUTE {self.name}" + (f" USING {', '.join(self.literals)}" if self.literals else "")


@dataclass(frozen=True, slots=True)
class SavedQuery:
    """A question, its parameters, and the SQL that answers it."""

    name: str
    question: str
    parameters: tuple[Parameter, ...]
    sql: str

    def bind(self, values: Mapping[str, Any], *, today: date) -> Bound:
        """The query with these values.

        :param values: by parameter; of its type, or text that says it.
        :param today: what ``today`` means in a date (UTC).
        :raises QueryError: listing each value that is wrong, missing, or of no parameter.
        """
        problems = [
            f"{self.name} has no parameter {name!r}{_meant(name, self.names)}."
            for name in values
            if name not in self.names
        ]
        literals = {}
        for parameter in self.parameters:
            value = values.get(parameter.name, parameter.default)
            if value is None:
                problems.append(f"{self.name} needs {parameter.name}: {parameter.meaning}.")
                continue
            try:
                literals[parameter.name] = parameter.literal(value, today=today)
            except QueryError as err:
                problems.append(str(err))
        if problems:
            raise QueryError("\n".join(problems))
        return Bound(self.name, self.positional, tuple(literals[name] for name in self._used))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def positional(self) -> str:
        """The SQL with ``?`` for each use of a parameter."""
        said = tokens(without_comments(self.sql))
        return "".join("?" if token.kind == "parameter" else token.text for token in said)

    @property
    def _used(self) -> tuple[str, ...]:
        return tuple(token.text[1:] for token in tokens(self.sql) if token.kind == "parameter")


def names() -> tuple[str, ...]:
    """The names of all saved queries."""
    return tuple(sorted(path.stem for path in (SQL / "queries").glob("*.sql")))


def find(name: str) -> SavedQuery:
    """:raises QueryError: where there is no such query, with the one that may be meant."""
    if name not in names():
        raise QueryError(f"There is no query {name!r}{_meant(name, names())}; `query --list` shows all.")
    return _read(name)


@cache
def _read(name: str) -> SavedQuery:
    return parse(name, (SQL / "queries" / f"{name}.sql").read_text(encoding="utf-8"))


def bind_all(names: Sequence[str], values: Mapping[str, Any], *, today: date) -> list[Bound]:
    """Several queries with the same values, each with those that it knows.

    :raises QueryError: listing every problem of each; a value that none of them knows is one.
    """
    queries = [find(name) for name in dict.fromkeys(names)]
    known = {name for query in queries for name in query.names}
    problems = [
        f"None of the queries has a parameter {name!r}{_meant(name, known)}." for name in values if name not in known
    ]
    bound = []
    for query in queries:
        try:
            bound.append(query.bind({name: values[name] for name in query.names if name in values}, today=today))
        except QueryError as err:
            problems.append(str(err))
    if problems:
        raise QueryError("\n".join(problems))
    return bound


def parse(name: str, text: str) -> SavedQuery:
    """A query's file.

    :raises QueryError: where its first lines do not say question and parameters, or one is used that they do not name.
    """
    lines = text.splitlines()
    question = lines[0].removeprefix("-- ") if lines and lines[0].startswith("-- ") else ""
    if not question:
        raise QueryError(f"{name}: its first line is to be a comment with its question.")
    declared = []
    for line in lines[1:]:
        if not line.startswith("-- :"):
            break
        found = _DECLARED.fullmatch(line)
        if not found:
            raise QueryError(f"{name}: {line!r} declares no parameter (-- :name type = default meaning).")
        default = "" if found["default"] == "''" else found["default"]
        declared.append(Parameter(found["name"], found["type"], default, found["meaning"]))
    query = SavedQuery(name, question, tuple(declared), "\n".join(lines[1 + len(declared) :]).strip())
    different = set(query.names) ^ set(query._used)
    if different:
        raise QueryError(f"{name}: not both declared and used: {', '.join(sorted(different))}.")
    return query


def _meant(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; {close[0]!r} is meant perhaps" if close else ""
