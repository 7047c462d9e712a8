"""Queries: names, joins, UNNEST, grouping, and how results look."""

from __future__ import annotations

import pytest

from local_aws.athena.errors import QueryError
from local_aws.moto_services import MotoServices
from tests.local_aws.athena.sql import Rows, header, rows, run


@pytest.fixture(scope="module")
def moto() -> MotoServices:
    return MotoServices()


LABELS = (
    "(VALUES (1, ARRAY[CAST(ROW('cat', 9.5e0) AS ROW(name varchar, confidence double))]), (2, ARRAY[])) t(id, labels)"
)
QUERIES: dict[str, Rows] = {
    # one column for each field of a row
    f"SELECT id, name, confidence FROM {LABELS} CROSS JOIN UNNEST(labels) AS u(name, confidence)": [
        ("1", "cat", "9.5")
    ],
    f"SELECT id, name FROM {LABELS} LEFT JOIN UNNEST(labels) AS u(name, confidence) ON TRUE ORDER BY id": [
        ("1", "cat"),
        ("2", None),
    ],
    "SELECT x, n FROM UNNEST(ARRAY[10, 20]) WITH ORDINALITY AS t(x, n) ORDER BY n": [("10", "1"), ("20", "2")],
    "SELECT k, v FROM UNNEST(MAP(ARRAY['a'], ARRAY[1])) AS t(k, v)": [("a", "1")],
    "SELECT a, b FROM UNNEST(ARRAY[1, 2], ARRAY['x']) AS t(a, b) ORDER BY a": [("1", "x"), ("2", None)],
    # nulls are last, up and down
    "SELECT x FROM (VALUES 1, NULL, 2) t(x) ORDER BY x": [("1",), ("2",), (None,)],
    "SELECT x FROM (VALUES 1, NULL, 2) t(x) ORDER BY x DESC": [("2",), ("1",), (None,)],
    "SELECT x FROM (VALUES 1, NULL) t(x) ORDER BY x NULLS FIRST": [(None,), ("1",)],
    # joins
    "SELECT a.x, b.y FROM (VALUES 1, 2) a(x) LEFT JOIN (VALUES (1, 'q')) b(x, y) ON a.x = b.x ORDER BY 1": [
        ("1", "q"),
        ("2", None),
    ],
    "SELECT * FROM (VALUES (1, 'p')) a(x, z) JOIN (VALUES (1, 'q')) b(x, y) USING (x)": [("1", "p", "q")],
    "SELECT a.*, b.y FROM (VALUES 1) a(x), (VALUES (2, 3)) b(x, y)": [("1", "3")],
    # grouping
    "SELECT x AS k, count(*) n FROM (VALUES 1, 1, 2) t(x) GROUP BY x HAVING count(*) > 1": [("1", "2")],
    "SELECT a, grouping(a), sum(b) FROM (VALUES ('x', 1), ('y', 2)) t(a, b) GROUP BY GROUPING SETS ((a), ()) ORDER BY 1": [
        ("x", "0", "1"),
        ("y", "0", "2"),
        (None, "1", "3"),
    ],
    # windows
    "SELECT x, row_number() OVER (ORDER BY x DESC), sum(x) OVER () FROM (VALUES 1, 2) t(x) ORDER BY x": [
        ("1", "2", "3"),
        ("2", "1", "3"),
    ],
    "SELECT sum(count(*)) OVER () FROM (VALUES 1, 2) t(x) GROUP BY x": [("2",), ("2",)],
    # WITH, sets, subqueries
    "WITH t(a, b) AS (SELECT 1, 2) SELECT b, a FROM t": [("2", "1")],
    "SELECT 1 UNION SELECT 1 UNION ALL SELECT 2 ORDER BY 1": [("1",), ("2",)],
    # rows are alike by place, whatever their fields are called
    "SELECT CAST(ROW(1, 'a') AS ROW(x integer, y varchar)) AS r "
    "UNION ALL SELECT CAST(ROW(2.5, 'b') AS ROW(y decimal(2,1), x varchar)) ORDER BY r": [
        ("{field0=1.0, field1=a}",),
        ("{field0=2.5, field1=b}",),
    ],
    "SELECT ARRAY[ROW(1)] || ARRAY[ROW(2.5)]": [("[{field0=1.0}, {field0=2.5}]",)],
    "SELECT 1 UNION ALL SELECT 2.5 ORDER BY 1": [("1.0",), ("2.5",)],
    "SELECT x FROM (VALUES 1, 2, 3) t(x) WHERE x NOT IN (SELECT 2) AND EXISTS (SELECT 1) ORDER BY x OFFSET 1 LIMIT 5": [
        ("3",)
    ],
    "SELECT (SELECT max(a) FROM (VALUES 1, 2) u(a) WHERE u.a <= t.a) FROM (VALUES 1, 2) t(a) ORDER BY 1": [
        ("1",),
        ("2",),
    ],
    # names have no case
    'SELECT "T".A FROM (SELECT 1 AS a) t': [("1",)],
    "SELECT t.r.x FROM (SELECT CAST(ROW(1) AS ROW(x integer)) r) t": [("1",)],
}


@pytest.mark.parametrize(("sql", "expected"), QUERIES.items())
def test_queries_answer_as_trino_does(moto: MotoServices, sql: str, expected: Rows) -> None:
    assert rows(run(moto, sql)) == expected


REFUSED = {
    "SELECT nope FROM (VALUES 1) t(a)": "COLUMN_NOT_FOUND: line 1:8: Column 'nope' cannot be resolved",
    "SELECT a FROM (SELECT 1 a) t, (SELECT 2 a) u": "AMBIGUOUS_NAME: line 1:8: Column 'a' is ambiguous",
    "SELECT * FROM nowhere.t": "SCHEMA_NOT_FOUND: line 1:15: Schema 'nowhere' does not exist",
    f"SELECT * FROM {LABELS} CROSS JOIN UNNEST(labels) AS u(label)": "MISMATCHED_COLUMN_ALIASES",
    "SELECT a, count(*) FROM (VALUES 1) t(a)": "EXPRESSION_NOT_AGGREGATE",
    "SELECT a AS b FROM (VALUES 1) t(a) WHERE b = 1": "COLUMN_NOT_FOUND",
    "SELECT a AS b FROM (VALUES 1) t(a) GROUP BY b": "COLUMN_NOT_FOUND",
    "SELECT 1 WHERE count(*) > 1": "EXPRESSION_NOT_SCALAR",
    "SELECT 1 UNION SELECT 'a'": "TYPE_MISMATCH",
    "SELECT 1 FROM (VALUES 1) t(a) WHERE a": "TYPE_MISMATCH: line 1:37: WHERE clause must evaluate to a boolean",
    "SELECT * FROM (VALUES 1) t(a) TABLESAMPLE BERNOULLI (10)": "NOT_SUPPORTED",
    "WITH RECURSIVE r(n) AS (SELECT 1) SELECT * FROM r": "NOT_SUPPORTED",
    "SELECT * FROM read_csv('/etc/passwd')": "NOT_SUPPORTED",
    "SELECT 1::bigint": "SYNTAX_ERROR",
    "SELECT 1 == 1": "SYNTAX_ERROR: line 1:10: mismatched input '=='",
    "SELECT 1, FROM (VALUES 1) t(a)": "SYNTAX_ERROR: line 1:9: mismatched input ','",
    "SELECT 1 LIMIT 1, 2": "SYNTAX_ERROR",
    "SELECT 'a' ILIKE 'A'": "SYNTAX_ERROR",
    "MERGE INTO t USING u ON true": "NOT_SUPPORTED",
    "DELETE FROM t": "NOT_SUPPORTED",
}


@pytest.mark.parametrize(("sql", "reason"), REFUSED.items())
def test_what_is_wrong_or_unknown_is_refused(moto: MotoServices, sql: str, reason: str) -> None:
    with pytest.raises(QueryError) as refused:
        run(moto, sql)
    assert str(refused.value).startswith(reason)


def test_columns_are_named_and_typed_as_athena_does(moto: MotoServices) -> None:
    result = run(moto, "SELECT 1, 'a' AS Letter, ARRAY[1], ROW(1), 1.5, now(), CAST(1 AS real), NULL")
    assert header(result) == ["_col0", "Letter", "_col2", "_col3", "_col4", "_col5", "_col6", "_col7"]
    kinds = ["integer", "varchar", "array", "row", "decimal", "timestamp with time zone", "float", "unknown"]
    assert [each["Type"] for each in result.columns] == kinds
    assert (result.columns[4]["Precision"], result.columns[4]["Scale"]) == (2, 1)


def test_every_field_is_quoted_and_null_is_empty(moto: MotoServices) -> None:
    assert run(moto, "SELECT 'a\"b' AS x, '' AS y, NULL AS z").data == b'"x","y","z"\n"a""b","",\n'


def test_parameters_are_literals_and_nothing_else(moto: MotoServices) -> None:
    sql = "SELECT ?, ? + 1, x FROM (VALUES 'it''s', 'b') t(x) WHERE x = ?"
    assert rows(run(moto, sql, ["DATE '2026-11-21'", "-1", "'it''s'"])) == [("2026-11-21", "0", "it's")]


@pytest.mark.parametrize("given", ["'a' OR 1=1", "1; DROP TABLE t", "(SELECT 1)", "x", "1 -- ", "now()", "'a"])
def test_a_parameter_cannot_bring_sql_with_it(moto: MotoServices, given: str) -> None:
    if given == "1 -- ":
        assert rows(run(moto, "SELECT count(*) FROM (VALUES 1, 2) t(x) WHERE x = ? AND x > 1", [given])) == [("0",)]
        return
    with pytest.raises(QueryError):
        run(moto, "SELECT 1 FROM (VALUES 'a') t(x) WHERE x = ?", [given])


def test_too_few_parameters_are_refused(moto: MotoServices) -> None:
    with pytest.raises(QueryError, match="expected 2 but found 1"):
        run(moto, "SELECT ?, ?", ["1"])
