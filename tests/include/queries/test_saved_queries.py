from __future__ import annotations

from datetime import date, datetime
from typing import Any

import pytest
import sqlglot
from sqlglot import exp

from include.queries import QueryError, saved
from include.queries.parameters import MOST_CHARACTERS, Parameter
from include.schema import IMAGE_LABELS, LABEL

TODAY = date(2026, 3, 31)
UNNESTED = ["name", *LABEL.names[1:4], "box_left", "box_top", "box_width", "box_height", "parents", "attributes"]


def literal(type_: str, value: Any) -> str:
    return Parameter("value", type_, None, "a value").literal(value, today=TODAY)


@pytest.mark.parametrize(
    ("type_", "value", "sql"),
    [
        ("string", "mug", "'mug'"),
        ("string", "", "''"),
        ("string", "it's", "'it''s'"),
        ("string", "'; DROP TABLE runs; --", "'''; DROP TABLE runs; --'"),
        ("string", "a\\'b\n?:x", "'a\\''b\n?:x'"),
        ("string", "Übergröße 🦊 写真", "'Übergröße 🦊 写真'"),
        ("integer", 20, "20"),
        ("integer", "-007", "-7"),
        ("integer", 2**63 - 1, "9223372036854775807"),
        ("double", "80.5", "80.5E0"),
        ("double", 80, "80.0E0"),
        ("double", "1e300", "1E300"),
        ("double", "-.5", "-0.5E0"),
        ("date", "2026-03-01", "'2026-03-01'"),
        ("date", date(2026, 3, 1), "'2026-03-01'"),
        ("date", datetime(2026, 3, 1, 12), "'2026-03-01'"),  # noqa: DTZ001 - the day is all that is taken
        ("date", "today", "'2026-03-31'"),
        ("date", "today-31", "'2026-02-28'"),
        ("boolean", True, "true"),
        ("boolean", "False", "false"),
    ],
)
def test_a_value_becomes_a_literal_of_its_type(type_: str, value: Any, sql: str) -> None:
    assert literal(type_, value) == sql


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("string", 7),
        ("string", None),
        ("string", "a\0b"),
        ("string", "half \ud800"),
        ("integer", "1.5"),
        ("integer", "1_000"),
        ("integer", "٣"),
        ("integer", True),
        ("integer", 2**63),
        ("integer", "1 OR 1=1"),
        ("double", "nan"),
        ("double", float("inf")),
        ("double", "1e999"),
        ("double", "1,5"),
        ("double", ""),
        ("date", "2026-02-30"),
        ("date", "yesterday"),
        ("date", "today-99999999"),
        ("date", 20260301),
        ("date", "2026-03-01' OR ''='"),
        ("boolean", "yes"),
        ("boolean", 1),
    ],
)
def test_what_is_no_such_value_is_refused_with_its_name(type_: str, value: Any) -> None:
    with pytest.raises(QueryError, match=f"value=.* is no {type_}"):
        literal(type_, value)


def test_a_literal_is_no_longer_than_athena_takes() -> None:
    assert len(literal("string", "x" * (MOST_CHARACTERS - 2))) == MOST_CHARACTERS
    with pytest.raises(QueryError, match="too long"):
        literal("string", "x" * (MOST_CHARACTERS - 1))


QUERY = """-- How many?
-- :label string the label
-- :since date = today-7 first day
-- :odd string = '' may be empty
-- Another comment with :label and a ?
SELECT ':label', "a:label" /* :label */ FROM t
WHERE dt >= :since AND (name = :label OR :odd = '' OR other = :label)
"""


class TestAQuerysFile:
    def test_says_question_and_parameters_first(self) -> None:
        query = saved.parse("how_many", QUERY)
        assert query.question == "How many?"
        assert query.parameters == (
            Parameter("label", "string", None, "the label"),
            Parameter("since", "date", "today-7", "first day"),
            Parameter("odd", "string", "", "may be empty"),
        )

    def test_has_a_literal_for_each_use_in_order_but_in_no_quotes_or_comments(self) -> None:
        bound = saved.parse("how_many", QUERY).bind({"label": "it's"}, today=TODAY)
        assert bound.literals == ("'2026-03-24'", "'it''s'", "''", "'it''s'")
        assert bound.sql.count("?") == 4
        assert "':label', \"a:label\"" in bound.sql
        assert "Another" not in bound.sql
        assert bound.as_prepared == "EXECUTE how_many USING '2026-03-24', 'it''s', '', 'it''s'"

    def test_lists_every_value_that_is_wrong_missing_or_unknown(self) -> None:
        with pytest.raises(QueryError) as raised:
            saved.parse("how_many", QUERY).bind({"lable": "mug", "since": "March"}, today=TODAY)
        assert str(raised.value).split("\n") == [
            "how_many has no parameter 'lable'; 'label' is meant perhaps.",
            "how_many needs label: the label.",
            "since='March' is no date: a day is wanted, such as 2026-03-01, today or today-7.",
        ]

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("SELECT 1", "first line"),
            ("-- A question?\n-- :a text of no type\nSELECT :a", "declares no parameter"),
            ("-- A question?\nSELECT :a", "not both declared and used: a"),
            ("-- A question?\n-- :a string unused\nSELECT 1", "not both declared and used: a"),
        ],
    )
    def test_that_is_wrong_is_refused(self, text: str, problem: str) -> None:
        with pytest.raises(QueryError, match=problem):
            saved.parse("wrong", text)


def test_an_unknown_query_is_answered_with_the_one_that_may_be_meant() -> None:
    with pytest.raises(QueryError, match="'failures_by_reasons'; 'failures_by_reason' is meant perhaps"):
        saved.find("failures_by_reasons")


class TestSeveralAtOnce:
    def test_each_takes_the_values_that_it_knows(self) -> None:
        values = {"label": "mug", "since": "2026-03-01"}
        first, second = saved.bind_all(["images_with_label", "slow_hours", "slow_hours"], values, today=TODAY)
        assert "'mug'" in first.literals
        assert second.literals == ("'2026-03-01'", "'2026-03-31'")

    def test_a_value_that_none_knows_is_refused_with_all_else(self) -> None:
        with pytest.raises(QueryError) as raised:
            saved.bind_all(["images_with_label", "slow_hours"], {"lable": "mug"}, today=TODAY)
        assert "None of the queries has a parameter 'lable'; 'label' is meant perhaps." in str(raised.value)
        assert "images_with_label needs label" in str(raised.value)


@pytest.mark.parametrize("name", saved.names())
class TestEachSavedQuery:
    def parsed(self, name: str) -> Any:
        return sqlglot.parse_one(saved.find(name).positional, dialect="trino")

    def test_has_parameters_only_in_where_clauses_as_athena_demands(self, name: str) -> None:
        placeholders = list(self.parsed(name).find_all(exp.Placeholder))
        assert placeholders
        for each in placeholders:
            assert isinstance(each.find_ancestor(exp.Where, exp.Select), exp.Where), each.parent

    def test_reads_each_table_once_and_only_the_days_asked_for(self, name: str) -> None:
        tables = [table for table in self.parsed(name).find_all(exp.Table) if table.name in ("image_labels", "runs")]
        assert len(tables) == 1
        where = tables[0].find_ancestor(exp.Select).args["where"]
        days = [each for each in where.find_all(exp.Between) if each.this.name == "dt"]
        assert len(days) == 1
        assert tables[0].name == "runs" or "analysis = 'custom_labels'" in where.sql()

    def test_has_defaults_for_its_days(self, name: str) -> None:
        defaults = {each.name: each.default for each in saved.find(name).parameters}
        assert (defaults["until"], (defaults["since"] or "").startswith("today-")) == ("today", True)

    def test_names_each_field_of_a_label(self, name: str) -> None:
        assert_unnests_labels_whole(self.parsed(name))

    def test_orders_its_rows(self, name: str) -> None:
        assert self.parsed(name).args.get("order")


def assert_unnests_labels_whole(parsed: Any) -> None:
    for unnest in parsed.find_all(exp.Unnest):
        if [each.name for each in unnest.expressions] == ["labels"]:
            assert [column.name for column in unnest.args["alias"].columns] == UNNESTED


@pytest.mark.parametrize("path", sorted((saved.SQL / "views").glob("*.sql")), ids=lambda path: path.stem)
def test_a_view_is_of_the_files_name_and_names_each_field_of_a_label(path: Any) -> None:
    parsed = sqlglot.parse_one(path.read_text(), dialect="trino")
    assert (parsed.kind, parsed.this.name, parsed.args["replace"]) == ("VIEW", path.stem, True)
    assert_unnests_labels_whole(parsed)


def test_latest_labels_has_every_column_of_its_table() -> None:
    parsed = sqlglot.parse_one((saved.SQL / "views/latest_labels.sql").read_text(), dialect="trino")
    assert [column.name for column in parsed.expression.expressions] == [*IMAGE_LABELS.names, "analysis", "dt"]
