"""Answers and refusals in Trino's own words: its grammar (SqlBase.g4) and the tests of its functions.

https://github.com/trinodb/trino/tree/master/core/trino-main/src/test/java/io/trino
"""

from __future__ import annotations

import pytest

from local_aws.athena.errors import QueryError
from local_aws.moto_services import MotoServices
from tests.local_aws.athena.sql import Rows, rows, run


@pytest.fixture(scope="module")
def moto() -> MotoServices:
    return MotoServices()


T = "FROM (VALUES 1, 2) t(x)"
STATEMENTS: dict[str, Rows] = {
    # what stands in the text is read, all of it
    "SELECT x NOT LIKE 'a%', NOT x LIKE 'b%' FROM (VALUES 'abc') t(x)": [("false", "true")],
    f"SELECT x, count(*) FILTER (WHERE x > 1) OVER () {T} ORDER BY x": [("1", "1"), ("2", "1")],
    f"SELECT lag(x, 1, 9.5) OVER (ORDER BY x) {T} WHERE x IN (VALUES 1)": [("9.5",)],
    "VALUES 1, 3, 2 ORDER BY 1 DESC LIMIT 1": [("3",)],
    f"SELECT x {T} ORDER BY x FETCH NEXT ROW ONLY": [("1",)],
    f"SELECT x {T} ORDER BY x OFFSET 1 LIMIT 1": [("2",)],
    f"SELECT count(*), sum(x) {T} WHERE false GROUP BY ()": [("0", None)],
    "SELECT a, b, sum(c) FROM (VALUES (1, 2, 3), (1, 2, 4)) t(a, b, c) GROUP BY (a, b)": [("1", "2", "7")],
    "SELECT DECIMAL '0.12', DECIMAL '-10.50', DECIMAL '7', CAST('10.5' AS decimal)": [("0.12", "-10.50", "7", "11")],
    "SELECT max(x), min(x), max(x) FILTER (WHERE is_nan(x)) FROM (VALUES nan(), 1e0) t(x)": [("1.0", "1.0", "NaN")],
    "SELECT max_by(y, x), min_by(y, x) FROM (VALUES (nan(), 1), (2e0, 2)) t(x, y)": [("2", "2")],
    # StatementAnalyzer.visitUnnest: a row's fields keep their names
    "SELECT name, l.score FROM (VALUES ARRAY[CAST(ROW('cat', 9) AS ROW(name varchar, score integer))]) t(labels) "
    "CROSS JOIN UNNEST(labels) AS l": [("cat", "9")],
    "SELECT * FROM UNNEST(ARRAY[CAST(ROW(1) AS ROW(a integer))], MAP(ARRAY['k'], ARRAY['v'])) WITH ORDINALITY": [
        ("1", "k", "v", "1")
    ],
    # TestApproximateLongPercentileAggregation, TDigest.valueAt: the upper one of two in the middle
    f"SELECT approx_percentile(x, 0.5), approx_percentile(x, 0), approx_percentile(x, 1) {T}": [("2", "1", "2")],
    "SELECT approx_percentile(x, 0.95) FROM UNNEST(sequence(0, 19)) t(x)": [("19",)],
    "SELECT max_by(x, y, 2) FROM (VALUES (1, 10), (NULL, 20), (3, 15), (4, NULL)) t(x, y)": [("[null, 3]",)],
    f"SELECT x AS isnull, x AS list, x AS string {T} ORDER BY x LIMIT 1": [("1", "1", "1")],
    "SELECT list[1] FROM (VALUES ARRAY['a']) t(list)": [("a",)],
    'SELECT "end", "order" FROM (VALUES (1, 2)) t("end", "order")': [("1", "2")],
}


@pytest.mark.parametrize(("sql", "expected"), STATEMENTS.items())
def test_statements_answer_as_trino_does(moto: MotoServices, sql: str, expected: Rows) -> None:
    assert rows(run(moto, sql)) == expected


REFUSED = {
    # other dialects' syntax, which sqlglot reads
    f"SELECT x {T} LIMIT 1 OFFSET 1": "SYNTAX_ERROR: line 1:42: mismatched input 'OFFSET'",
    f"SELECT x {T} LIMIT 1 BY x": "NOT_SUPPORTED",
    f"SELECT x {T} JOIN (VALUES 1) u(y)": "SYNTAX_ERROR",
    f"SELECT x {T} CROSS JOIN (VALUES 1) u(y) ON x = y": "SYNTAX_ERROR",
    f"SELECT x {T} CROSS JOIN UNNEST(ARRAY[1]) u(y) ON y = x": "NOT_SUPPORTED",
    f"SELECT x {T} JOIN UNNEST(ARRAY[1]) u(y) ON y = x": "NOT_SUPPORTED: line 1:52: INNER JOIN involving UNNEST",
    f"SELECT * {T} PIVOT (sum(x) FOR x IN (1))": "SYNTAX_ERROR",
    f"SELECT x {T} WHERE x IN 1": "SYNTAX_ERROR",
    f"SELECT x {T} WHERE x IN ()": "SYNTAX_ERROR",
    f"SELECT x {T} WHERE x NOT NULL": "SYNTAX_ERROR",
    f"SELECT sum(x) FILTER (x > 1) {T}": "SYNTAX_ERROR",
    "SELECT 1 = 1 = true": "SYNTAX_ERROR",
    "SELECT 1 <=> 1": "SYNTAX_ERROR",
    "SELECT 1_000": "SYNTAX_ERROR",
    "SELECT 0x1F": "SYNTAX_ERROR",
    "SELECT [1]": "SYNTAX_ERROR",
    "SELECT ()": "SYNTAX_ERROR",
    "SELECT 1 AS 'b'": "SYNTAX_ERROR",
    "SELECT 1 AS end": "SYNTAX_ERROR: line 1:13: mismatched input 'end'",
    f"SELECT a$b {T}": "SYNTAX_ERROR",
    "SELECT INTERVAL 7 DAY": "SYNTAX_ERROR",
    "SELECT INTERVAL '7 day'": "SYNTAX_ERROR",
    "SELECT INTERVAL '1' WEEK": "SYNTAX_ERROR",
    "SELECT current_date()": "SYNTAX_ERROR",
    "SELECT EXTRACT('year' FROM now())": "SYNTAX_ERROR",
    "SELECT CAST(1 AS string)": "SYNTAX_ERROR",
    "SELECT CAST(1 AS float)": "SYNTAX_ERROR",
    "SELECT CAST(1 AS decimal(39, 0))": "TYPE_MISMATCH",
    f"SELECT listagg('a', ',') {T}": "SYNTAX_ERROR",
    # https://github.com/trinodb/trino/blob/master/core/trino-main/src/test/java/io/trino/sql/analyzer/TestAnalyzer.java
    "SELECT DISTINCT a FROM (VALUES (1, 2)) t(a, b) ORDER BY b": "EXPRESSION_NOT_IN_DISTINCT",
    "WITH t AS (SELECT 1 a), t AS (SELECT 2 b) SELECT * FROM t": "DUPLICATE_NAMED_QUERY",
    "SELECT * FROM information_schema.tables": "NOT_SUPPORTED",
    'SELECT * FROM "t$partitions"': "NOT_SUPPORTED",
    f'SELECT "$file_size" {T}': "NOT_SUPPORTED",
    f"SELECT count(DISTINCT x) OVER () {T}": "NOT_SUPPORTED: line 1:8: DISTINCT in window function parameters",
    f"SELECT transform(ARRAY[1], y -> count(*)) {T}": "EXPRESSION_NOT_SCALAR",
    "SELECT any_match(ARRAY[1], y -> y)": "TYPE_MISMATCH",
    "SELECT filter(ARRAY[1], y -> 1)": "TYPE_MISMATCH",
    f"SELECT lag(x, -1) OVER (ORDER BY x) {T}": "INVALID_FUNCTION_ARGUMENT: Offset must be at least 0",
    f"SELECT nth_value(x, 0) OVER (ORDER BY x) {T}": "INVALID_FUNCTION_ARGUMENT: Offset must be at least 1",
    "SELECT -(-2147483647 - 1)": "NUMERIC_VALUE_OUT_OF_RANGE",
    "SELECT 'abc' LIKE 'a#b' ESCAPE '#'": "INVALID_FUNCTION_ARGUMENT",
    "SELECT 'abc' LIKE 'a%' ESCAPE ''": "INVALID_FUNCTION_ARGUMENT",
}


@pytest.mark.parametrize(("sql", "reason"), REFUSED.items())
def test_what_trino_refuses_is_refused(moto: MotoServices, sql: str, reason: str) -> None:
    with pytest.raises(QueryError) as refused:
        run(moto, sql)
    assert str(refused.value).startswith(reason)


# Expression: its value as a result file has it, None for NULL.
VALUES: dict[str, str | None] = {
    # TestDoubleOperators, TestRealOperators, TestArrayOperators.testArrayJoin: numbers as SQL writes them, not as Java does
    "CAST(99.53125e0 AS varchar)": "9.953125E1",
    "CAST(1e0 AS varchar)": "1.0E0",
    "CAST(-0.001e0 AS varchar)": "-1.0E-3",
    "CAST(0e0 AS varchar)": "0E0",
    "CAST(nan() AS varchar)": "NaN",
    "CAST(REAL '12345678.9' AS varchar)": "1.234568E7",
    "CAST(ARRAY[1.5e0] AS array(varchar))": "[1.5E0]",
    "array_join(ARRAY[1.0, DOUBLE '002.100', 3.3], 'x')": "1.0E0x2.1E0x3.3E0",
    # VarcharToTimestampCast
    "CAST('2026-01-01 00:00:00.1236' AS timestamp)": "2026-01-01 00:00:00.124",
    # DecimalConversions: half up, of the digits that a double shows
    "CAST(1.005e0 AS decimal(5,2))": "1.01",
    "CAST(-2.675e0 AS decimal(5,2))": "-2.68",
    "CAST(1e20 AS decimal(38,2))": "100000000000000000000.00",
    "CAST('abc' AS varbinary)": "61 62 63",
    "CAST(json_parse('\"x\"') AS varchar)": "x",
    "typeof('abc')": "varchar(3)",
    # TestArrayOperators, TestRowOperators, TestMapOperators: a null inside leaves equality open, unless all else decides it
    "ARRAY[1, NULL] = ARRAY[1, NULL]": None,
    "ARRAY[1, NULL] = ARRAY[2, NULL]": "false",
    "ARRAY[1, NULL] <> ARRAY[1]": "true",
    "ARRAY[ARRAY[1], ARRAY[NULL]] = ARRAY[ARRAY[1], ARRAY[2]]": None,
    "ARRAY[nan()] = ARRAY[nan()]": "false",
    "ROW(1, NULL) = ROW(1, NULL)": None,
    "(1, NULL) IN ((1, 2), (3, 4))": None,
    "(3, 4) IN ((1, NULL), (3, 4))": "true",
    "ROW(1, 2) < ROW(1, 3)": "true",
    "MAP(ARRAY['a', 'b'], ARRAY[1, 2]) = MAP(ARRAY['b', 'a'], ARRAY[2, 1])": "true",
    "MAP(ARRAY['a'], ARRAY[NULL]) = MAP(ARRAY['a'], ARRAY[NULL])": None,
    "CAST(NULL AS array(integer)) = ARRAY[1]": None,
    # TestArrayOperators, TestSequenceFunction, TestArraysOverlapFunction
    "array_remove(ARRAY[1, NULL], NULL)": None,
    "array_join(ARRAY[NULL], ',')": "",
    "array_join(ARRAY[1], ',', NULL)": None,
    "cardinality(NULL)": None,
    "ARRAY[1][NULL]": None,
    "ARRAY[1] || NULL": None,
    "arrays_overlap(ARRAY[1, NULL], ARRAY[2, 1])": "true",
    "arrays_overlap(ARRAY[1, NULL], ARRAY[3])": None,
    "arrays_overlap(ARRAY[1], ARRAY[3])": "false",
    "sequence(date '2026-01-02', date '2026-01-01')": "[2026-01-02, 2026-01-01]",
    "sequence(date '2026-01-01', date '2026-01-06', interval '2' day)": "[2026-01-01, 2026-01-03, 2026-01-05]",
    # TestMathFunctions: what is rounded keeps its type
    "round(15, -1)": "20",
    "typeof(round(5, 1))": "integer",
    "typeof(round(CAST(99.53 AS real), 1))": "real",
    # MaxAggregationFunction, TestArrayOperators.testArrayMax: NaN is less than any number to max, greater to min
    "array_max(ARRAY[nan(), 2, 3])": "3.0",
    "array_max(ARRAY[nan(), NULL])": None,
    "greatest(1e0, nan())": "1.0",
    "greatest(nan(), nan())": "NaN",
    # TestStringFunctions
    "split('a.b.c', '.', 2)": "[a, b.c]",
    "split('a.b', '.', 2)": "[a, b]",
    "upper('straße')": "STRAßE",
    # AbstractTestRegexpFunctions: a group that has no part in the match is null, not empty
    "regexp_extract('1a', '(\\d+)(x)?', 2)": None,
    "regexp_extract('a', '(\\d*)a', 1)": "",
    "regexp_extract_all('1a 2', '(\\d+)([a-z])?', 2)": "[a, null]",
    "regexp_replace('a有朋💰', '.', 'Y')": "YYYY",
    "regexp_replace('größe', 'ö', 'oe')": "groeße",
    "split('a', NULL)": None,
    "-CAST(NULL AS integer)": None,
    # TestStringFunctions.testTrim: all that Unicode calls white
    "trim(chr(12288) || 'b' || chr(8232))": "b",
    # DateTimeFunctions.dateParse: what the format leaves out is of 1970-01-01
    "date_parse('10 11', '%H %i')": "1970-01-01 10:11:00.000",
    "date('2026-01-02')": "2026-01-02",
    "EXTRACT(DAY FROM timestamp '2026-01-03 05:00:00' - timestamp '2026-01-01 00:00:00')": "2",
    "hour(interval '50' hour)": "2",
    # JsonExtract.ScalarValueJsonExtractor: a number's own text; TestJsonFunctions.testJsonArrayLength
    "json_extract_scalar('{\"a\": 99.5}', '$.a')": "99.5",
    "json_array_length('{\"a\": 1}')": None,
    "typeof(CAST(ROW(1) AS ROW(a integer)))": "row(a integer)",
}


def test_expressions_have_trinos_values(moto: MotoServices) -> None:
    (found,) = rows(run(moto, f"SELECT {', '.join(VALUES)}"))
    assert dict(zip(VALUES, found, strict=True)) == VALUES


FAILING = {
    # TestVarcharOperators and the castToVarchar of each type: a number is never cut
    "CAST(123 AS varchar(2))": "INVALID_CAST_ARGUMENT: Value 123 cannot be represented as varchar(2)",
    "CAST(nan() AS decimal(5,2))": "INVALID_CAST_ARGUMENT",
    "CAST(json_parse('[1]') AS varchar)": "INVALID_CAST_ARGUMENT",
    "ARRAY[1, NULL] < ARRAY[1, 2]": "NOT_SUPPORTED",
    "slice(ARRAY[1, 2], 1, -1)": "INVALID_FUNCTION_ARGUMENT",
    "sequence(1, 5, 0)": "INVALID_FUNCTION_ARGUMENT",
    "sequence(1, 5, -1)": "INVALID_FUNCTION_ARGUMENT",
    "repeat('a', -1)": "INVALID_FUNCTION_ARGUMENT",
    "split('a', ',', 0)": "INVALID_FUNCTION_ARGUMENT",
    "lpad('text', -1, 'x')": "INVALID_FUNCTION_ARGUMENT",
    "concat('a')": "INVALID_FUNCTION_ARGUMENT",
    "MAP(ARRAY['a', 'a'], ARRAY[1, 2])": "INVALID_FUNCTION_ARGUMENT: Duplicate map keys",
    "json_parse('bad')": "INVALID_FUNCTION_ARGUMENT",
    "regexp_extract('1a', '(\\d+)([a-z]+)', 3)": "INVALID_FUNCTION_ARGUMENT: Pattern has 2 groups. Cannot access group 3",
    "date_parse(' 2026-01-02', '%Y-%m-%d')": "INVALID_FUNCTION_ARGUMENT",
    "date('2026-01-02 03:04:05')": "INVALID_CAST_ARGUMENT",
    "from_iso8601_date('bad')": "INVALID_FUNCTION_ARGUMENT",
    "regexp_extract(123, '\\d')": "FUNCTION_NOT_FOUND",
    "from_hex('zz')": "INVALID_FUNCTION_ARGUMENT",
    # known there, and not here
    "regexp_replace('x', '.*', 'xxxxx')": "NOT_SUPPORTED: local Athena does not repeat a pattern that may match the empty",
    "regexp_replace('größe', '\\W', '')": "NOT_SUPPORTED: local Athena knows",
    "levenshtein_distance('ä', 'a')": "NOT_SUPPORTED",
    "sum(interval '1' day)": "NOT_SUPPORTED",
    "date_parse('69', '%y')": "NOT_SUPPORTED",
    "now() AT TIME ZONE '+02:00'": "NOT_SUPPORTED",
    "from_iso8601_date('2026-W01-1')": "NOT_SUPPORTED",
    "regexp_replace('abc', 'b', '\\$')": "NOT_SUPPORTED",
    "json_extract_scalar('{\"a\": 1.50}', '$.a')": "NOT_SUPPORTED: local Athena cannot tell how a number is written",
    "strpos('abc', 'b', 2)": "NOT_SUPPORTED: local Athena does not know strpos(varchar, varchar, integer)",
    "replace('a', '', 'x')": "NOT_SUPPORTED",
    "timestamp '2026-01-01 00:00:00.123456'": "NOT_SUPPORTED",
    "CAST('2026-01-01 00:00:00' AS timestamp(6))": "NOT_SUPPORTED",
    "timestamp '2026-01-01 00:00:00 America/New_York'": "NOT_SUPPORTED: local Athena reads no other zone than UTC",
    "typeof(upper('a'))": "NOT_SUPPORTED",
}


@pytest.mark.parametrize(("expression", "reason"), FAILING.items())
def test_what_has_no_value_says_why(moto: MotoServices, expression: str, reason: str) -> None:
    with pytest.raises(QueryError) as refused:
        run(moto, f"SELECT {expression}")
    assert str(refused.value).startswith(reason)
