from __future__ import annotations

import pytest

from include.queries import QueryError
from include.queries.tokens import read_only, tokens, without_comments

READS = [
    "SELECT 1",
    "select 1;",
    "  -- a comment; with a semicolon\nSELECT ';' ;",
    "/* DROP TABLE t; */ SELECT 1",
    "(SELECT 1) UNION (SELECT 2)",
    "WITH a AS (SELECT 1) SELECT * FROM a",
    "VALUES (1), (2)",
    "SELECT 'it''s; DROP TABLE t'",
    'SELECT "odd;name" FROM t',
    "SHOW CREATE TABLE `image_labels`",
    "DESCRIBE image_labels",
    "EXPLAIN SELECT 1",
    "EXPLAIN ANALYZE VERBOSE SELECT 1",
    "EXPLAIN (FORMAT JSON) WITH a AS (SELECT 1) SELECT * FROM a",
    "EXPLAIN (SELECT 1)",
    "SELECT 1 -- ; DROP TABLE t",
]
WRITES = [
    "DROP TABLE t",
    "-- SELECT\nDROP TABLE t",
    "/* SELECT */ INSERT INTO t SELECT 1",
    "/* SELECT 1 */ */ SELECT 1",
    "(DELETE FROM t)",
    "CREATE TABLE t AS SELECT 1",
    "UNLOAD (SELECT 1) TO 's3://b/'",
    "EXPLAIN ANALYZE INSERT INTO t SELECT 1",
    "EXPLAIN ANALYZE (FORMAT JSON) CREATE TABLE t AS SELECT 1",
    "EXPLAIN",
    "EXPLAIN (FORMAT",
    "EXECUTE q",
    "PREPARE q FROM SELECT 1",
    "MSCK REPAIR TABLE t",
    "selects 1",
    "'SELECT' 1",
]


@pytest.mark.parametrize("sql", READS)
def test_what_reads_may_run_and_is_one_statement_without_its_end(sql: str) -> None:
    told = read_only(sql)
    assert not told.endswith(";")
    assert read_only(told) == told


@pytest.mark.parametrize("sql", WRITES)
def test_what_may_write_may_not(sql: str) -> None:
    with pytest.raises(QueryError, match="may change something"):
        read_only(sql)


@pytest.mark.parametrize(
    "sql", ["SELECT 1; DROP TABLE t", "SELECT ';' ; SELECT 2", "SELECT 1 -- x\r; DROP TABLE t", "SELECT 1 /* ; */ ; ("]
)
def test_there_is_one_statement_at_a_time(sql: str) -> None:
    with pytest.raises(QueryError, match="One statement"):
        read_only(sql)


@pytest.mark.parametrize("sql", ["", "  ", "-- only a comment", ";", "/* */"])
def test_there_is_one_at_least(sql: str) -> None:
    with pytest.raises(QueryError, match="no statement"):
        read_only(sql)


@pytest.mark.parametrize("sql", ["SELECT 'it''s", 'SELECT "a', "SELECT 1 /* a", "SHOW TABLES `a"])
def test_what_does_not_end_is_refused(sql: str) -> None:
    with pytest.raises(QueryError, match="does not end"):
        read_only(sql)


@pytest.mark.parametrize("sql", ["SELECT 1", "SELECT 1;", "SELECT 1 ; \n", "SELECT 1; -- that is all", "SELECT 1;;"])
def test_no_semicolon_is_passed_on(sql: str) -> None:
    assert [token.text for token in tokens(read_only(sql)) if token.kind in ("word", "sign")] == ["SELECT", "1"]


@pytest.mark.parametrize("sql", ["-- why?\nSELECT/* what? */1", "SELECT--\n1 ; -- that?", "/**/SELECT 1/**/"])
def test_comments_are_not_passed_on_and_part_words(sql: str) -> None:
    assert read_only(sql).split() == ["SELECT", "1"]
    assert "?" not in without_comments(sql)


@pytest.mark.parametrize("sql", [*READS, *WRITES])
def test_no_character_is_lost(sql: str) -> None:
    assert "".join(token.text for token in tokens(sql)) == sql
