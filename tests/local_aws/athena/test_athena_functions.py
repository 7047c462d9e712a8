"""Functions and operators by value, against what Trino documents. https://trino.io/docs/current/functions.html"""

from __future__ import annotations

import pytest

from local_aws.athena.errors import QueryError
from local_aws.moto_services import MotoServices
from tests.local_aws.athena.sql import rows, run


@pytest.fixture(scope="module")
def moto() -> MotoServices:
    return MotoServices()


# Expression: its value as a result file has it, None for NULL.
VALUES: dict[str, str | None] = {
    # arithmetic: integers stay integers, decimals are exact, doubles know infinity
    "7 / 2": "3",
    "-7 / 2": "-3",
    "-7 % 3": "-1",
    "1.0 / 3": "0.3",
    "100.0 * 1 / 3": "33.3",
    "2.0 / 3.0": "0.7",
    "-1.00 / 3": "-0.33",
    "CAST(5 AS decimal(10,2)) / CAST(3 AS decimal(10,4))": "1.6667",
    "1e0 / 0": "Infinity",
    "0e0 / 0": "NaN",
    "10 % 3.5": "3.0",
    "2.5 * 2": "5.0",
    "0.1 + 0.2": "0.3",
    # doubles as Java prints them
    "1e7": "1.0E7",
    "1e-5": "1.0E-5",
    "123456.5e0": "123456.5",
    "1e0": "1.0",
    "CAST(1.1 AS real)": "1.1",
    "1e10": "1.0E10",
    # NaN is neither equal to itself nor greater
    "nan() = nan()": "false",
    "nan() <> nan()": "true",
    "nan() > 1e0": "false",
    "1e0 < nan()": "false",
    # casts
    "CAST(2.5e0 AS integer)": "3",
    "CAST(-2.5e0 AS integer)": "-3",
    "CAST('12' AS bigint)": "12",
    "CAST(1e10 AS varchar)": "1.0E10",
    "CAST('t' AS boolean)": "true",
    "CAST('1.5' AS decimal(5,2))": "1.50",
    "CAST('abc' AS varchar(2))": "ab",
    "CAST(ARRAY[1,2] AS array(varchar))": "[1, 2]",
    "CAST(ROW(1,'x') AS ROW(a integer, b varchar))": "{a=1, b=x}",
    "CAST(timestamp '2026-11-21 10:00:00.5' AS varchar)": "2026-11-21 10:00:00.500",
    "CAST(date '2026-11-21' AS timestamp)": "2026-11-21 00:00:00.000",
    "try_cast('x' AS bigint)": None,
    "try_cast('1.5' AS integer)": None,
    "try(1 / 0)": None,
    "try(coalesce(1 / 0, 5))": None,
    "typeof(1.5)": "decimal(2,1)",
    "typeof(ARRAY[1])": "array(integer)",
    "typeof(now())": "timestamp(3) with time zone",
    # conditions
    "CASE 2 WHEN 1 THEN 'a' WHEN 2 THEN 'b' END": "b",
    "IF(1 = 2, 'x')": None,
    "coalesce(NULL, 2)": "2",
    "nullif(1, 1)": None,
    "greatest(1, NULL)": None,
    "greatest(1, 3, 2)": "3",
    "least(2, 1.5)": "1.5",
    "1 IS DISTINCT FROM NULL": "true",
    "NULL IN (1)": None,
    "2 BETWEEN 1 AND 3": "true",
    "'a_b' LIKE 'a\\_b' ESCAPE '\\'": "true",
    "'axb' LIKE 'a\\_b' ESCAPE '\\'": "false",
    # numbers
    "abs(-5)": "5",
    "round(2.5e0)": "3.0",
    "round(-2.5e0)": "-3.0",
    "truncate(-1.7e0)": "-1.0",
    # of decimals they are decimals
    "round(2.567, 2)": "2.570",
    "ceil(1.2)": "2",
    "floor(-1.2)": "-2",
    "truncate(-1.7)": "-1",
    "mod(5.5, 2)": "1.5",
    "sign(-0.5)": "-1",
    "mod(7, 3)": "1",
    "sign(-3)": "-1",
    "sqrt(-1e0)": "NaN",
    "ln(0e0)": "-Infinity",
    "power(2, 10)": "1024.0",
    "width_bucket(5.3e0, 0.2e0, 10.6e0, 5)": "3",
    "bitwise_and(6, 3)": "2",
    # strings
    "'a' || NULL": None,
    "concat_ws(',', 'a', NULL, 'b')": "a,b",
    "length('é')": "1",
    "substr('abc', 0)": "",
    "substr('abc', -5)": "",
    "substr('abc', -2)": "bc",
    "substring('abc' FROM 2 FOR 1)": "b",
    "trim('  a ')": "a",
    "trim(LEADING 'x' FROM 'xax')": "ax",
    "lpad('a', 3, 'x')": "xxa",
    "position('b' IN 'abc')": "2",
    "split('a,b', ',')": "[a, b]",
    "reverse('aé')": "éa",
    "split_part('a,b', ',', 3)": None,
    "replace('aba', 'a')": "b",
    "codepoint('A')": "65",
    "url_encode('a b*~é')": "a+b*%7E%C3%A9",
    "url_decode('a+b%20c')": "a b c",
    "to_hex(md5(to_utf8('a')))": "0CC175B9C0F1B6A831C399E269772661",
    "x'41'": "41",
    "regexp_extract('abc', 'z')": None,
    "regexp_extract('abc12', '(\\d+)', 1)": "12",
    "regexp_replace('abc', '(b)', '[$1]')": "a[b]c",
    "regexp_extract_all('a1b2', '[a-z](\\d)', 1)": "[1, 2]",
    "regexp_like('abc', 'b')": "true",
    # arrays
    "ARRAY[1, NULL]": "[1, null]",
    "ARRAY[1, 2][1]": "1",
    "element_at(ARRAY[1, 2], -1)": "2",
    "element_at(ARRAY[1, 2], 5)": None,
    "contains(ARRAY[1, NULL], 2)": None,
    "contains(ARRAY[1, NULL], 1)": "true",
    "array_distinct(ARRAY[2, NULL, 1, 2, NULL])": "[2, null, 1]",
    "array_sort(ARRAY[3, NULL, 1])": "[1, 3, null]",
    "array_max(ARRAY[1, NULL])": None,
    "array_join(ARRAY[1, NULL, 2], '-')": "1-2",
    "array_join(ARRAY[1, NULL, 2], '-', '?')": "1-?-2",
    "array_position(ARRAY[1], 9)": "0",
    "array_remove(ARRAY[1, 2, NULL], 1)": "[2, null]",
    "array_union(ARRAY[1], ARRAY[2, 1])": "[1, 2]",
    "array_except(ARRAY[1, 2], ARRAY[2])": "[1]",
    "ARRAY[1] || 2": "[1, 2]",
    "slice(ARRAY[1, 2, 3, 4], -2, 2)": "[3, 4]",
    "sequence(3, 1)": "[3, 2, 1]",
    "flatten(ARRAY[ARRAY[1], ARRAY[2]])": "[1, 2]",
    "cardinality(ARRAY[1, 2])": "2",
    "transform(ARRAY[1, 2], x -> x * 2)": "[2, 4]",
    "filter(ARRAY[1, NULL, 3], x -> x > 1)": "[3]",
    "reduce(ARRAY[1, 2, 3], 0, (s, x) -> s + x, s -> s * 10)": "60",
    "reduce(ARRAY['a', 'b'], 0, (s, x) -> s + 1, s -> s)": "2",
    "zip_with(ARRAY[1, 2], ARRAY[3], (a, b) -> a + b)": "[4, null]",
    "any_match(ARRAY[1, NULL], x -> x > 5)": None,
    "all_match(ARRAY[1, 2], x -> x > 0)": "true",
    "none_match(ARRAY[1], x -> x > 5)": "true",
    # maps and rows
    "MAP(ARRAY['a'], ARRAY[1])": "{a=1}",
    "MAP(ARRAY['a'], ARRAY[1])['a']": "1",
    "element_at(MAP(ARRAY['a'], ARRAY[1]), 'b')": None,
    "map_filter(MAP(ARRAY['a', 'b'], ARRAY[1, 2]), (k, v) -> v > 1)": "{b=2}",
    "transform_values(MAP(ARRAY['a'], ARRAY[1]), (k, v) -> v + 1)": "{a=2}",
    "map_concat(MAP(ARRAY['a'], ARRAY[1]), MAP(ARRAY['a'], ARRAY[2]))": "{a=2}",
    "map_entries(MAP(ARRAY['a'], ARRAY[1]))": "[{field0=a, field1=1}]",
    "ROW(1, 'x')": "{field0=1, field1=x}",
    "ROW(1, 'x')[2]": "x",
    "CAST(ROW(1) AS ROW(a integer)).a": "1",
    # times
    "now()": "2026-11-21 10:00:00.123 UTC",
    "current_date": "2026-11-21",
    "localtimestamp": "2026-11-21 10:00:00.123",
    "now() AT TIME ZONE 'America/New_York'": "2026-11-21 05:00:00.123 America/New_York",
    "hour(now() AT TIME ZONE 'America/New_York')": "5",
    "date_trunc('week', date '2026-11-21')": "2026-11-16",
    "date_trunc('hour', now())": "2026-11-21 10:00:00.000 UTC",
    "date_diff('month', date '2026-01-31', date '2026-02-28')": "1",
    "date_diff('day', timestamp '2026-01-01 12:00:00', timestamp '2026-01-03 11:00:00')": "1",
    "date_diff('hour', timestamp '2026-01-01 12:59:00', timestamp '2026-01-01 13:01:00')": "0",
    "date_add('month', 1, date '2026-01-31')": "2026-02-28",
    "date_add('quarter', -1, timestamp '2026-05-01 00:00:00')": "2026-02-01 00:00:00.000",
    "date '2026-01-01' + interval '1' day": "2026-01-02",
    "timestamp '2026-01-02 00:00:00' - timestamp '2026-01-01 00:00:01'": "0 23:59:59.000",
    "interval '2' day": "2 00:00:00.000",
    "day_of_week(date '2026-11-22')": "7",
    "year_of_week(date '2027-01-01')": "2026",
    "millisecond(timestamp '2026-03-04 05:06:07.891')": "891",
    "extract(YEAR FROM date '2026-01-01')": "2026",
    "date_format(timestamp '2026-01-02 03:04:05.678', '%Y-%m-%d %H:%i:%s')": "2026-01-02 03:04:05",
    "date_parse('2026-01-02 03', '%Y-%m-%d %H')": "2026-01-02 03:00:00.000",
    "format_datetime(timestamp '2026-11-21 10:00:00', 'yyyy-MM-dd''T''HH:mm')": "2026-11-21T10:00",
    "from_iso8601_timestamp('2026-11-21T10:00:00Z')": "2026-11-21 10:00:00.000 UTC",
    "to_iso8601(timestamp '2026-11-21 10:00:00')": "2026-11-21T10:00:00.000",
    "from_unixtime(1.5e0)": "1970-01-01 00:00:01.500 UTC",
    "to_unixtime(timestamp '1970-01-01 00:00:01')": "1.0",
    # JSON
    """json_extract_scalar('{"a":{"b":[1,"x"]}}', '$.a.b[1]')""": "x",
    """json_extract_scalar('{"a":{}}', '$.a')""": None,
    "json_extract_scalar('bad', '$.a')": None,
    "json_format(json_parse('[1, 2]'))": "[1,2]",
}


def test_expressions_have_the_values_that_trino_gives_them(moto: MotoServices) -> None:
    written = ", ".join(VALUES)
    (found,) = rows(run(moto, f"SELECT {written}"))
    assert dict(zip(VALUES, found, strict=True)) == VALUES


AGGREGATES: dict[str, str | None] = {
    "count(*)": "4",
    "count(x)": "3",
    "count(DISTINCT y)": "3",
    "count_if(x > 1)": "2",
    "count(*) FILTER (WHERE x > 1)": "2",
    "sum(x)": "6",
    "avg(x)": "2.0",
    "avg(CAST(x AS decimal(5,2)))": "2.00",
    "min(y)": "a",
    "max_by(x, y)": None,
    "min_by(y, x)": "a",
    "array_agg(x ORDER BY y DESC)": "[null, 3, 1, 2]",
    "array_agg(DISTINCT y ORDER BY y)": "[a, b, c]",
    "listagg(y, '-') WITHIN GROUP (ORDER BY y DESC)": "c-b-a-a",
    "map_agg(y, x)['b']": "3",
    "element_at(histogram(y), 'a')": "2",
    "approx_distinct(y)": "3",
    "approx_percentile(x, 0.5)": "2",
    "bool_and(x > 0)": "true",
    "bool_or(x > 2)": "true",
    "stddev(x)": "1.0",
    "var_pop(x) > 0.6e0": "true",
    "sum(x) FILTER (WHERE false)": None,
}


def test_aggregates_have_the_values_that_trino_gives_them(moto: MotoServices) -> None:
    table = "(VALUES (1, 'a'), (2, 'a'), (3, 'b'), (NULL, 'c')) t(x, y)"
    # Of rows that are alike in `y`, any may come first.
    table = table.replace("(2, 'a')", "(2, 'a')")
    (found,) = rows(run(moto, f"SELECT {', '.join(AGGREGATES)} FROM {table}"))
    answers = dict(zip(AGGREGATES, found, strict=True))
    assert answers.pop("array_agg(x ORDER BY y DESC)") in ("[null, 3, 1, 2]", "[null, 3, 2, 1]")
    assert answers == {name: value for name, value in AGGREGATES.items() if name in answers}


FAILURES = {
    "1 / 0": "DIVISION_BY_ZERO: / by zero",
    "1.0 / 0": "DIVISION_BY_ZERO: Division by zero",
    "ARRAY[1][2]": "INVALID_FUNCTION_ARGUMENT: Array subscript must be less than or equal to array length: 2 > 1",
    "ARRAY[1][0]": "INVALID_FUNCTION_ARGUMENT: SQL array indices start at 1",
    "MAP(ARRAY['a'], ARRAY[1])['b']": "INVALID_FUNCTION_ARGUMENT: Key not present in map: b",
    "CAST('a' AS bigint)": "INVALID_CAST_ARGUMENT: Cannot cast 'a' to bigint",
    "CAST('1.5' AS integer)": "INVALID_CAST_ARGUMENT: Cannot cast '1.5' to integer",
    "2147483647 + 1": "NUMERIC_VALUE_OUT_OF_RANGE",
    "'a' = 1": "TYPE_MISMATCH: line 1:8: Cannot apply operator: varchar = integer",
    "'a' || 1": "TYPE_MISMATCH",
    "length(1)": "FUNCTION_NOT_FOUND: line 1:8: Unexpected parameters (integer) for function length",
    "no_such(1)": "FUNCTION_NOT_FOUND: line 1:8: Function 'no_such' not registered",
    "split('a', '')": "INVALID_FUNCTION_ARGUMENT: The delimiter may not be the empty string",
    "CAST(ROW(1) AS json)": "NOT_SUPPORTED",
    "soundex('a')": "NOT_SUPPORTED: local Athena does not have the function soundex",
    "list_sort(ARRAY[1])": "FUNCTION_NOT_FOUND: line 1:8: Function 'list_sort' not registered",
    "regexp_like('a', '(?=a)')": "NOT_SUPPORTED",
    "from_iso8601_timestamp('2026-11-21T10:00:00+02:00')": "NOT_SUPPORTED",
    "date_format(now(), '%U')": "NOT_SUPPORTED",
    "date_trunc('hour', date '2026-01-01')": "INVALID_FUNCTION_ARGUMENT: 'hour' is not a valid DATE field",
    "now() AT TIME ZONE 'Mars'": "INVALID_FUNCTION_ARGUMENT: 'Mars' is not a valid time zone",
    "(SELECT * FROM (VALUES 1, 2) t(a))": "SUBQUERY_MULTIPLE_ROWS",
    "CAST(date '2026-01-01' AS integer)": "TYPE_MISMATCH: line 1:18: Cannot cast date to integer",
}


@pytest.mark.parametrize(("expression", "reason"), FAILURES.items())
def test_what_trino_refuses_is_refused_and_what_is_not_known_too(
    moto: MotoServices, expression: str, reason: str
) -> None:
    with pytest.raises(QueryError) as refused:
        run(moto, f"SELECT {expression}")
    assert str(refused.value).startswith(reason)
