"""A statement as words, for what is Hive's and not SQL: DDL, SHOW, MSCK, UNLOAD."""

from __future__ import annotations

import re
from dataclasses import dataclass

from local_aws.athena.errors import QueryError

_REST = r"|(?P<quoted>`(?:[^`]|``)*`)|(?P<word>[A-Za-z0-9_$.-]+)|(?P<other>.)"
_SPACE = r"\s+|--[^\n]*|/\*.*?\*/|"
# Hive's strings know backslashes, SQL's do not.
_HIVE = re.compile(_SPACE + r"""(?P<string>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*")""" + _REST, re.DOTALL)
_SQL = re.compile(_SPACE + r"""(?P<string>'(?:[^']|'')*'|"(?:[^"]|"")*")""" + _REST, re.DOTALL)


@dataclass(frozen=True)
class Word:
    """One word, its kind (string, quoted, word, other) and where it stands in the text."""

    text: str
    kind: str
    start: int
    end: int


class Words:
    """A statement that is read word by word; QueryError SYNTAX_ERROR for what does not fit."""

    def __init__(self, sql: str, *, hive: bool = False) -> None:
        self.sql = sql
        self._hive = hive
        found = ((each, each.lastgroup) for each in (_HIVE if hive else _SQL).finditer(sql) if each.lastgroup)
        self._words = [Word(each.group(), str(kind), each.start(), each.end()) for each, kind in found]
        if self._words and self._words[-1].text == ";":
            self._words.pop()
        self._at = 0

    def marks(self, text: str) -> list[Word]:
        """Where a sign stands outside of strings and comments."""
        return [each for each in self._words if each.kind == "other" and each.text == text]

    @property
    def is_done(self) -> bool:
        """Whether nothing is left."""
        return self._at >= len(self._words)

    def peek(self, offset: int = 0) -> str:
        """The next word in upper case; empty at the end."""
        at = self._at + offset
        return self._words[at].text.upper() if at < len(self._words) else ""

    def accept(self, *words: str) -> bool:
        """Step over these words if they are next."""
        if all(self.peek(n) == word for n, word in enumerate(words)):
            self._at += len(words)
            return True
        return False

    def expect(self, *words: str) -> None:
        """Step over these words."""
        if not self.accept(*words):
            raise self.wrong(f"expecting {' '.join(words)}")

    def wrong(self, why: str = "") -> QueryError:
        """SYNTAX_ERROR at the next word, in Hive's words."""
        at = self._words[self._at].start if not self.is_done else len(self.sql)
        line, column = self.sql.count("\n", 0, at) + 1, at - (self.sql.rfind("\n", 0, at) + 1)
        near = self._words[self._at].text if not self.is_done else "<EOF>"
        return QueryError(
            "SYNTAX_ERROR",
            f"line {line}:{column} mismatched input '{near}' {why}".rstrip(),
            prefix="FAILED: ParseException ",
        )

    def done(self) -> None:
        """Nothing may be left."""
        if not self.is_done:
            raise self.wrong("expecting the end")

    def rest(self) -> str:
        """The text from the next word on."""
        if self.is_done:
            return ""
        found = self.sql[self._words[self._at].start :].rstrip().rstrip(";").rstrip()
        self._at = len(self._words)
        return found

    def name(self) -> str:
        """A name, quoted or not, in lower case."""
        if self.is_done or self._words[self._at].kind == "other" or self._words[self._at].text.startswith("'"):
            raise self.wrong("expecting a name")
        self._at += 1
        return _bare(self._words[self._at - 1].text).lower()

    def table(self, database: str) -> tuple[str, str]:
        """(database, table) of [catalog.][database.]table."""
        parts = [self.name()]
        while self.accept("."):
            parts.append(self.name())
        parts = [each for part in parts for each in part.split(".") if each]
        if len(parts) > 3 or (len(parts) == 3 and parts[0] != "awsdatacatalog"):
            raise self.wrong("expecting database.table")
        return (parts[-2] if len(parts) > 1 else database), parts[-1]

    def string(self) -> str:
        """A string's value."""
        if self.is_done or self._words[self._at].kind != "string":
            raise self.wrong("expecting a string")
        self._at += 1
        return _unquoted(self._words[self._at - 1].text, self._hive)

    def scalar(self) -> str:
        """A string, number or word as text."""
        if not self.is_done and self._words[self._at].kind == "string":
            return self.string()
        return self.name()

    def properties(self) -> dict[str, str]:
        """('name'='value', ...)"""
        found: dict[str, str] = {}
        self.expect("(")
        while not self.accept(")"):
            name = self.scalar()
            self.expect("=")
            found[name] = self.scalar()
            self.accept(",")
        return found

    def enclosed(self) -> str:
        """The text within the parentheses that are next."""
        self.expect("(")
        start, depth = self._words[self._at - 1].end, 1
        while depth:
            if self.is_done:
                raise self.wrong("expecting )")
            depth += {"(": 1, ")": -1}.get(self.peek(), 0)
            self._at += 1
        return self.sql[start : self._words[self._at - 1].start]

    def type(self) -> str:
        """A column's type as it is written, to the comma, parenthesis or COMMENT behind it."""
        start, depth, end = self._words[self._at].start if not self.is_done else 0, 0, 0
        while not self.is_done:
            word = self.peek()
            if depth == 0 and word in (",", ")", "COMMENT"):
                break
            depth += {"<": 1, "(": 1, ">": -1, ")": -1}.get(word, 0)
            end = self._words[self._at].end
            self._at += 1
        if not end:
            raise self.wrong("expecting a type")
        return re.sub(r"\s+", "", self.sql[start:end])


def _bare(text: str) -> str:
    if text[:1] == "`":
        return text[1:-1].replace("``", "`")
    return text[1:-1].replace('""', '"') if text[:1] == '"' else text


def _unquoted(text: str, hive: bool) -> str:
    inner = text[1:-1].replace(text[0] * 2, text[0])
    if not hive:
        return inner
    return re.sub(r"\\([\\'\"])", r"\1", inner)
