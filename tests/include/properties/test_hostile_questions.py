"""Whatever people type as SQL or as a value: it stays what it is, or is refused with a reason."""

from __future__ import annotations

from datetime import date

import sqlglot
from hypothesis import given
from hypothesis import strategies as st
from sqlglot import exp

from include.queries import QueryError, saved
from include.queries.tokens import read_only, tokens

TODAY = date(2026, 3, 1)
SIGNS = st.sampled_from(
    ["'", '"', "`", "--", "/*", "*/", ";", "?", ":label", "\n", "\r", "\\", "(", ")", " ", "SELECT", "DROP", "x"]
)
SQL = st.lists(SIGNS, max_size=12).map("".join)
VALUES = st.one_of(SQL, st.text(max_size=100))


@given(VALUES)
def test_a_value_is_one_literal_that_is_read_back_as_it_was(value: str) -> None:
    query = saved.find("images_with_label")
    try:
        bound = query.bind({"label": value}, today=TODAY)
    except QueryError as err:
        assert "half a character" in str(err) or "NUL" in str(err) or "too long" in str(err)
        return
    assert bound.sql == query.positional
    said = bound.as_prepared.removeprefix("EXECUTE images_with_label USING ")
    literals = sqlglot.parse_one(f"SELECT {said}", dialect="trino").expressions
    assert [each.name for each in literals if isinstance(each, exp.Literal)][2] == value
    assert len(literals) == len(bound.literals)


@given(SQL)
def test_sql_is_taken_apart_without_loss_or_refused(sql: str) -> None:
    try:
        assert "".join(token.text for token in tokens(sql)) == sql
    except QueryError as err:
        assert "does not end" in str(err)


@given(SQL, SQL)
def test_nothing_comes_behind_a_statement_that_reads(first: str, second: str) -> None:
    try:
        passed = read_only(f"SELECT 1 {first};{second}")
    except QueryError:
        return
    assert passed.startswith("SELECT 1")
    assert not [token for token in tokens(passed) if token.text == ";"]
