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


def refusal_of(value: str) -> str:
    if "\0" in value:
        return "NUL"
    return "half a character" if value != value.encode(errors="replace").decode() else "too long"


@given(VALUES)
def test_a_value_is_one_literal_that_is_read_back_as_it_was(value: str) -> None:
    query = saved.find("images_with_label")
    try:
        bound = query.bind({"label": value}, today=TODAY)
    except QueryError as err:
        said = str(err)
    else:
        assert bound.sql == query.positional
        given_to_athena = bound.as_prepared.removeprefix("EXECUTE images_with_label USING ")
        literals = sqlglot.parse_one(f"SELECT {given_to_athena}", dialect="trino").expressions
        assert len(literals) == len(bound.literals)
        assert (type(literals[2]), literals[2].name) == (exp.Literal, value)
        return
    assert refusal_of(value) in said


@given(SQL)
def test_sql_is_taken_apart_without_loss_or_refused(sql: str) -> None:
    try:
        taken_apart = [token.text for token in tokens(sql)]
    except QueryError:
        assert any(sign in sql for sign in ("'", '"', "`", "/*"))
    else:
        assert "".join(taken_apart) == sql


@given(SQL, SQL)
def test_nothing_comes_behind_a_statement_that_reads(first: str, second: str) -> None:
    try:
        passed = read_only(f"SELECT 1 {first};{second}")
    except QueryError:
        return
    assert passed.startswith("SELECT 1")
    assert not [token for token in tokens(passed) if token.text == ";"]
