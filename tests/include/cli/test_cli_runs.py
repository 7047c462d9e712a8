from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include import layout
from include.report import write_report
from include.schema import RunReport
from local_stack.seed import FINAL_BUCKET
from tests.include.cli.conftest import Account, document, typed

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def ran(account: Account, run_id: str, began: datetime, **fields: Any) -> RunReport:
    """A run's row."""
    report = RunReport(run_id, began, began + timedelta(minutes=20), "scheduled", "Start: it is worth it.")
    report = replace(report, **fields)
    write_report(account.s3, account.settings, report)
    return report


def ids(found: dict[str, Any]) -> list[str]:
    return [run["run_id"] for run in found["runs"]]


def test_there_may_be_none_yet(account: Account) -> None:
    found = document("runs")
    assert (found["runs"], found["totals"]["runs"], found["totals"]["cost_usd_per_thousand_images"]) == ([], 0, None)
    assert "No such run" in typed("runs").out


def test_their_totals_are_those_of_the_runs_shown(account: Account) -> None:
    worked = {"inference_units": 2, "model_running_seconds": 90.0, "utilisation": 0.98}
    ran(account, "a", NOON, images=500, labelled=400, rejected=100, cost_usd=0.5, **worked)
    ran(account, "b", NOON + timedelta(hours=1), images=600, labelled=600, cost_usd=1.5, **worked)
    ran(account, "c", NOON + timedelta(hours=2))
    found = document("runs")
    assert ids(found) == ["a", "b", "c"]
    assert found["totals"] == {
        "runs": 3,
        "starts": 2,
        "images": 1_100,
        "labelled": 1_000,
        "model_minutes": 3.0,
        "cost_usd": 2.0,
        "cost_usd_per_thousand_images": 2.0,
    }
    shown = typed("runs").out
    assert "3 runs, 2 of them started the model: 1,100 images, 1,000 labelled; 3.0 model minutes, $2.00" in shown
    assert "98%" in shown


def test_the_last_ones_are_the_newest_whatever_they_are_called(account: Account) -> None:
    for hour in range(24):
        ran(account, f"{23 - hour:02d}", NOON.replace(hour=hour))
    ran(account, "next day", NOON + timedelta(days=1))
    assert ids(document("runs", "--last", "3")) == ["01", "00", "next day"]
    assert len(ids(document("runs"))) == 20


def test_only_the_days_asked_for_are_read(account: Account) -> None:
    for day in range(1, 10):
        ran(account, f"day {day}", NOON.replace(day=day))
    account.aws.add_fault(service="s3", operation="GetObject", key="dt=2026-03-0[1-7]", error="AccessDenied")
    assert ids(document("runs", "--last", "2")) == ["day 8", "day 9"]
    assert ids(document("runs", "--since", "2026-03-08")) == ["day 8", "day 9"]


def test_a_month_is_a_month(account: Account) -> None:
    for began in (NOON - timedelta(days=1), NOON, NOON.replace(month=4), NOON.replace(year=2025)):
        ran(account, f"{began:%Y-%m-%d}", began)
    assert ids(document("runs", "--month", "2026-03")) == ["2026-03-01"]


def test_a_file_that_is_no_row_is_named_and_the_others_are_shown(account: Account) -> None:
    ran(account, "good", NOON)
    key = f"{layout.RUNS}dt=2026-03-01/half.parquet"
    account.s3.put_object(Bucket=FINAL_BUCKET, Key=key, Body=b"PAR1half")
    said = typed("--json", "runs")
    assert said.status == 1
    assert (ids(said.document), said.document["unreadable"]) == (["good"], [key])
    assert key in typed("runs").out


def test_a_row_of_an_older_release_lacks_columns(account: Account) -> None:
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    row = {"run_id": "old", "started_at": NOON, "ended_at": NOON, "trigger": "manual", "decision": "x", "gone": 1}
    body = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([row]), body)
    account.s3.put_object(Bucket=FINAL_BUCKET, Key=f"{layout.RUNS}dt=2026-03-01/old.parquet", Body=body.getvalue())
    (run,) = document("runs")["runs"]
    assert (run["run_id"], run["cost_usd"], run["utilisation"]) == ("old", 0.0, None)


@pytest.mark.parametrize("run_id", ["[red]x[/red]", "\x1b[31mx", "manual__2026-03-01T12:00:00+00:00"])
def test_run_ids_are_letters_to_the_terminal(account: Account, run_id: str) -> None:
    ran(account, run_id, NOON)
    out = typed("runs").out
    assert run_id.replace("\x1b", "\\x1b") in out
