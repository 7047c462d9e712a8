from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from include.ledger import month_cost_usd
from include.report import write_report
from include.schema import RunReport
from include.settings import Settings
from tests.include.memory_s3 import MemoryS3
from tests.include.samples import FINAL, NOW
from tests.include.test_report import build


@pytest.fixture
def report(settings: Settings) -> RunReport:
    return build(settings)


def spent(s3: MemoryS3, settings: Settings, report: RunReport, *runs: tuple[datetime, float]) -> float:
    for number, (started_at, cost_usd) in enumerate(runs):
        write_report(s3, settings, replace(report, run_id=f"r{number}", started_at=started_at, cost_usd=cost_usd))
    return month_cost_usd(s3, FINAL, now=NOW, threads=2)


def test_a_month_without_runs_has_cost_nothing(s3: MemoryS3, settings: Settings, report: RunReport) -> None:
    assert spent(s3, settings, report) == 0.0


def test_it_is_the_sum_of_the_months_runs(s3: MemoryS3, settings: Settings, report: RunReport) -> None:
    first = NOW.replace(day=1, hour=0)
    assert spent(s3, settings, report, (first, 1.25), (NOW, 2.0), (NOW, 0.0)) == 3.25


def test_other_months_do_not_count(s3: MemoryS3, settings: Settings, report: RunReport) -> None:
    last = NOW.replace(day=1) - timedelta(days=1)
    next_month = NOW + timedelta(days=40)
    last_year = NOW.replace(year=NOW.year - 1)
    assert spent(s3, settings, report, (last, 9.0), (next_month, 9.0), (last_year, 9.0), (NOW, 0.5)) == 0.5
