from __future__ import annotations

import csv
import io
import json
import os
import signal
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pytest

from include.cli import query
from include.cli.output import say
from include.cli.rows import MOST_SHOWN, show
from include.queries import QueryError, saved
from include.queries.athena import Done
from tests.include.cli.conftest import Account, document, typed
from tests.include.queries.sample_results import put_sample
from tests.include.samples import VALUES

DONE = Done("id", "slow_hours", 25_000_000, 1_234, "s3://final/queries/results/id.csv", is_billed=True)
KEYS = ["plain.jpg", "=cmd|' /C calc'!A0", 'two\nlines, "quoted".jpg', "\x1b[2J.jpg", "", None]


def batch(**columns: Sequence[Any]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(columns)


def shown(capsys: pytest.CaptureFixture[str], *batches: pa.RecordBatch, form: str, out: Path | None = None) -> str:
    say(show(DONE, batches, form=form, out=out), as_json=form == "json")
    return capsys.readouterr().out


class TestRows:
    def test_an_answer_that_breaks_off_leaves_the_file_as_it_was(self, tmp_path: Path) -> None:
        out = tmp_path / "mugs.csv"
        out.write_text("the answer before")

        def broken_off() -> Iterator[pa.RecordBatch]:
            yield batch(images=[1])
            raise QueryError("no more")

        with pytest.raises(QueryError, match="no more"):
            show(DONE, broken_off(), form="csv", out=out)
        assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("mugs.csv", "the answer before")]

    def test_numbers_stand_to_the_right_and_strangers_text_does_nothing(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = shown(capsys, batch(source_key=KEYS[:5], images=[1, 20, 300, 4, None]), form="table")
        lines = out.split("\n")
        assert lines[1].endswith("     1")
        assert lines[3].startswith("two\\nlines")
        assert lines[4].startswith("\\x1b[2J")
        assert lines[5].endswith("     -")
        assert lines[7] == "5 rows; 1.2 s, 25.0 MB read: $0.00013."

    def test_a_table_ends_somewhere_and_says_so(self, capsys: pytest.CaptureFixture[str]) -> None:
        more = batch(a=list(range(MOST_SHOWN)))
        assert f"{MOST_SHOWN:,} rows;" in shown(capsys, more, form="table")
        assert "The first 1,000 rows; --format csv has all" in shown(capsys, more, batch(a=[1]), form="table")

    def test_csv_is_exact_and_tells_null_from_empty(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        times = [datetime(2026, 3, 1, 12, 0, 0, 5_000)] * 6  # noqa: DTZ001 - as Athena's type
        out = shown(
            capsys,
            batch(key=KEYS, found=[1.5, 2, 3, None, 4, 5], at=times, ok=[True] * 6),
            form="csv",
            out=tmp_path / "a",
        )
        text = (tmp_path / "a").read_text()
        read = list(csv.reader(io.StringIO(text)))
        assert [row[0] for row in read] == ["key", *(key or "" for key in KEYS)]
        assert read[1] == ["plain.jpg", "1.5", "2026-03-01 12:00:00.005", "true"]
        assert [line.split(",")[0] for line in text.splitlines()[-2:]] == ['""', ""]
        assert "6 rows; 1.2 s" in out
        assert "1 texts begin as formulas do" in out

    def test_csv_to_a_pipe_is_nothing_but_csv(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert shown(capsys, batch(a=["x"]), batch(a=["y"]), form="csv") == '"a"\n"x"\n"y"\n'

    def test_json_has_rows_types_and_what_it_cost(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        told = json.loads(shown(capsys, batch(key=KEYS, n=[1, 2, 3, 4, 5, None]), form="json"))
        assert [row["key"] for row in told["rows"]] == KEYS
        assert told["columns"] == [{"name": "key", "type": "string"}, {"name": "n", "type": "int64"}]
        assert (told["scanned_bytes"], told["cost_usd"]) == (25_000_000, 0.000125)
        shown(capsys, batch(key=KEYS, n=[1, 2, 3, 4, 5, None]), form="json", out=tmp_path / "a")
        assert json.loads((tmp_path / "a").read_text()) == told

    def test_what_is_no_number_is_null_in_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        text = shown(capsys, batch(n=[1.5, float("nan"), float("inf"), None]), form="json")
        assert json.loads(text, parse_constant=pytest.fail)["rows"] == [
            {"n": 1.5},
            {"n": None},
            {"n": None},
            {"n": None},
        ]

    def test_json_loses_no_column_of_two_with_one_name(self) -> None:
        two = pa.RecordBatch.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
        with pytest.raises(QueryError, match="Two columns are called a"):
            show(DONE, [two], form="json", out=None)

    def test_a_file_that_cannot_be_written_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(Exception, match="cannot be written"):
            show(DONE, [batch(a=[1])], form="csv", out=tmp_path / "no" / "such" / "folder")


@pytest.fixture
def results(account: Account) -> Account:
    """An account with the results of three days, set up for queries."""
    put_sample(account.s3, account.settings)
    assert typed("query", "--setup").status == 0
    return account


def test_setting_up_says_what_was_made_and_may_be_repeated(results: Account) -> None:
    again = typed("query", "--setup")
    assert (again.status, again.out) == (0, "Ready: database labels, workgroup labels.\n")


def test_an_answer_ends_with_what_it_cost(results: Account) -> None:
    said = typed("query", "images_with_label", "--param", "label=mug", "--param", "since=2026-03-01")
    assert said.status == 0, said.err
    assert "it's =odd" in said.out.split("\n")[1]
    assert said.out.split("\n")[-2].startswith("3 rows; ")
    assert said.out.endswith("kB read: $0.00005.\n")


def test_a_script_gets_typed_rows(results: Account) -> None:
    words = ("slow_hours", "--param", "since=2026-03-01", "--param", "until=2026-03-01")
    told = document("query", *words)
    row = {"hour_of_day": 9, "runs": 1, "labelled": 3, "images_per_second": 0.05, "percent_used": 50.0}
    assert told["rows"] == [row | {"percent_throttled": 33.3}]
    assert {column["name"]: column["type"] for column in told["columns"]}["images_per_second"] == "double"
    assert typed("query", *words, "--format", "json").document["rows"] == told["rows"]


def test_sql_of_ones_own_reads_what_is_there(results: Account, tmp_path: Path) -> None:
    (tmp_path / "mine.sql").write_text(
        "-- mine\nSELECT status, count(*) AS images FROM latest_labels GROUP BY 1 ORDER BY 1;"
    )
    said = typed("query", "--file", str(tmp_path / "mine.sql"), "--format", "csv")
    assert said.out == '"status","images"\n"LABELLED",6\n"MISSING",1\n"REJECTED",1\n'
    assert "3 rows; " in said.err
    assert "image_labels" in typed("query", "--sql", "SHOW TABLES").out


def test_what_athena_refuses_is_said_with_what_to_do(results: Account) -> None:
    said = typed("query", "--sql", "SELECT no_such_column FROM runs")
    assert said.status == 1
    assert "your statement: Athena says:" in said.err
    assert "docs/queries.md" in said.err


def test_a_command_that_is_ended_stops_its_query(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = mock.Mock()
    asked.start_query_execution.return_value = {"QueryExecutionId": "some-query"}
    asked.get_query_execution.side_effect = lambda **_: os.kill(os.getpid(), signal.SIGTERM)
    monkeypatch.setattr(query, "client", lambda service, settings: asked)
    for name, value in VALUES.items():
        monkeypatch.setenv(f"LABELS_{name.upper()}", str(value))
    before = signal.getsignal(signal.SIGTERM)
    assert typed("query", "slow_hours").status == 143
    asked.stop_query_execution.assert_called_once_with(QueryExecutionId="some-query")
    assert signal.getsignal(signal.SIGTERM) == before


def test_it_lists_the_saved_queries_with_their_questions() -> None:
    said = typed("query")
    assert (said.status, typed("query", "--list")) == (0, said)
    assert [query["name"] for query in document("query")["queries"]] == list(saved.names())
    for name in saved.names():
        assert name in said.out
        assert saved.find(name).question in said.out


def test_it_describes_one(capsys: pytest.CaptureFixture[str]) -> None:
    said = typed("query", "images_with_label", "--describe")
    assert "(needed)" in said.out
    assert "name = :label" in said.out
    assert document("query", "images_with_label", "--describe")["parameters"][0]["name"] == "label"


@pytest.mark.parametrize(
    "words",
    [
        ("images_with_label", "--sql", "SELECT 1"),
        ("--setup", "--sql", "SELECT 1"),
        ("--sql", "SELECT 1", "--param", "a=b"),
        ("--param", "label=mug"),
        ("--describe",),
        ("images_with_label", "--param", "label"),
        ("images_with_label", "--param", "label=a", "--param", "label=b"),
        ("images_with_label", "--format", "excel"),
        ("images_with_label", "--format", "table", "--out", "file"),
        ("images_with_label", "--format", "csv", "--json"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_refused_before_anything_is_asked(words: tuple[str, ...]) -> None:
    assert typed("query", *words).status == 2


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("image_with_label",), "'images_with_label' is meant perhaps"),
        (("images_with_label",), "needs label"),
        (("images_with_label", "--param", "label=a", "--param", "since=March"), "since='March' is no date"),
        (("--sql", "DROP TABLE runs"), "may change something"),
        (("--sql", ""), "no statement"),
        (("--file", "/no/such/file.sql"), "cannot be read"),
    ],
    ids=str,
)
def test_a_wrong_question_is_answered_with_what_is_wrong(words: tuple[str, ...], problem: str) -> None:
    said = typed("query", *words)
    assert said.status == 1
    assert problem in said.err
