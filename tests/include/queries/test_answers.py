"""What the saved queries and the views answer, counted by hand from `sample_results`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from include.compact import compact_day
from include.queries import saved
from include.schema import ANALYSIS
from tests.include.queries.conftest import Analyst
from tests.include.queries.sample_results import ODD, RESULTS, at, put_results

TODAY = date(2026, 3, 3)
NOON = {day: at(day).replace(tzinfo=None) for day in (1, 2, 3)}

ANSWERS: dict[str, list[tuple[dict[str, Any], list[tuple[Any, ...]]]]] = {
    "images_with_label": [
        ({"label": "mug"}, [(ODD, 99.0, 1), ("a.jpg", 88.0, 2), ("f.jpg", 70.0, 1)]),
        ({"label": "mug", "without": "bottle"}, [(ODD, 99.0, 1), ("f.jpg", 70.0, 1)]),
        ({"label": "mug", "min_confidence": 75}, [(ODD, 99.0, 1), ("a.jpg", 88.0, 1)]),
        ({"label": "mug", "until": "2026-03-01"}, [("a.jpg", 95.0, 1), ("b.jpg", 55.0, 1)]),
        ({"label": "chair"}, [("b.jpg", 93.0, 1), ("e.jpg", 52.5, 1)]),
        ({"label": "mug' OR '1'='1"}, []),
        ({"label": "mug", "since": "2026-03-04", "until": "2026-03-05"}, []),
    ],
    "low_confidence_labels": [
        ({}, [("e.jpg", "chair", 52.5, True), ("b.jpg", "mug", 45.0, False), ("a.jpg", "mug", 60.0, True)]),
        ({"label": "mug", "margin": 9.5}, [("b.jpg", "mug", 45.0, False)]),
    ],
    "label_counts_by_day": [
        (
            {},
            [
                ("2026-03-02", "mug", 2, 2, 84.5),
                ("2026-03-02", "chair", 1, 1, 52.5),
                ("2026-03-03", "bottle", 1, 1, 71.0),
                ("2026-03-03", "chair", 1, 1, 93.0),
                ("2026-03-03", "mug", 1, 2, 74.0),
            ],
        ),
        ({"label": "mug", "until": "2026-03-01"}, [("2026-03-01", "mug", 2, 2, 75.0)]),
    ],
    "co_occurring_labels": [
        ({"label": "mug"}, [("bottle", 1, 3, 33.3)]),
        ({"label": "chair"}, []),
        ({"label": "mug", "until": "2026-03-01"}, [("chair", 1, 2, 50.0)]),
    ],
    "thresholds_what_if": [
        ({}, [("mug", 3, 3, 3, 1), ("chair", 2, 2, 1, 1), ("bottle", 1, 1, 1, 0)]),
        ({"label": "mug", "until": "2026-03-01"}, [("mug", 2, 2, 1, 1)]),
    ],
    "model_version_changes": [
        ({"before": "v1", "after": "v2"}, [("bottle", 0, 0, 1), ("mug", 1, 1, 0), ("chair", 1, 0, 0)]),
        ({"before": "v1", "after": "v9"}, []),
    ],
    "failures_by_reason": [
        (
            {},
            [
                ("MISSING", "NoSuchKey", 1, NOON[2], "s3://stock/a.jpg"),
                ("REJECTED", "UNSUPPORTED_FORMAT", 1, NOON[2], "s3://inbox/d.tiff"),
            ],
        ),
        (
            {"until": "2026-03-01"},
            [
                ("FAILED", "InternalServerError", 1, NOON[1], "s3://inbox/e.jpg"),
                ("REJECTED", "UNSUPPORTED_FORMAT", 1, NOON[1], "s3://inbox/d.tiff"),
            ],
        ),
    ],
    "images_never_labelled": [
        (
            {},
            [
                ("inbox", "d.tiff", None, 2, "REJECTED", "UNSUPPORTED_FORMAT", "It is a TIFF.", NOON[2]),
                ("stock", "a.jpg", None, 1, "MISSING", "NoSuchKey", "It is gone.", NOON[2]),
            ],
        ),
    ],
    "cost_per_thousand_by_week": [
        ({}, [(date(2026, 2, 23), 1, 3, 1.0, 0.07, 23.33), (date(2026, 3, 2), 2, 1_000, 30.0, 2.0, 2.0)]),
        ({"since": "2026-03-03"}, [(date(2026, 3, 2), 1, 0, 0.0, 0.0, None)]),
    ],
    "slow_hours": [({}, [(9, 1, 3, 0.05, 50.0, 33.3), (13, 1, 1_000, 0.56, None, 0.0)])],
}
# Of these the columns in the middle are of no matter here.
COLUMNS = {"images_with_label": (1, 3, 4), "low_confidence_labels": (1, 2, 3, 5)}


def test_every_saved_query_is_asked() -> None:
    assert set(ANSWERS) == set(saved.names())


@pytest.mark.parametrize(
    ("name", "values", "rows"), [(name, *each) for name, cases in ANSWERS.items() for each in cases], ids=str
)
def test_a_saved_query_answers_its_question(
    analyst: Analyst, name: str, values: dict[str, Any], rows: list[tuple[Any, ...]]
) -> None:
    bound = saved.find(name).bind(values, today=TODAY)
    found = analyst.ask(bound.sql, *bound.literals)
    assert [tuple(row[at] for at in COLUMNS.get(name, range(len(row)))) for row in found] == rows
    assert analyst.ask(bound.as_prepared) == found


class TestViews:
    def test_latest_labels_has_each_image_once(self, analyst: Analyst) -> None:
        rows = analyst.ask("SELECT source_bucket, source_key, dt, status FROM latest_labels ORDER BY 1, 2")
        assert rows == [
            ("inbox", "a.jpg", "2026-03-03", "LABELLED"),
            ("inbox", "b.jpg", "2026-03-03", "LABELLED"),
            ("inbox", "c.jpg", "2026-03-02", "LABELLED"),
            ("inbox", "d.tiff", "2026-03-02", "REJECTED"),
            ("inbox", "e.jpg", "2026-03-02", "LABELLED"),
            ("inbox", "f.jpg", "2026-03-02", "LABELLED"),
            ("inbox", ODD, "2026-03-02", "LABELLED"),
            ("stock", "a.jpg", "2026-03-02", "MISSING"),
        ]

    def test_labels_flat_has_the_labels_that_pass(self, analyst: Analyst) -> None:
        rows = analyst.ask("SELECT source_key, label, confidence, box_left FROM labels_flat ORDER BY 1, 3")
        assert rows == [
            ("a.jpg", "mug", 60.0, 0.2),
            ("a.jpg", "bottle", 71.0, 0.1),
            ("a.jpg", "mug", 88.0, 0.0),
            ("b.jpg", "chair", 93.0, 0.0),
            ("e.jpg", "chair", 52.5, 0.0),
            ("f.jpg", "mug", 70.0, 0.0),
            (ODD, "mug", 99.0, 0.0),
        ]

    def test_problems_has_what_is_not_labelled(self, analyst: Analyst) -> None:
        rows = analyst.ask("SELECT source_key, error_code FROM problems ORDER BY 1")
        assert rows == [("a.jpg", "NoSuchKey"), ("d.tiff", "UNSUPPORTED_FORMAT")]

    def test_cost_by_day_sums_up_the_runs_of_a_day(self, analyst: Analyst) -> None:
        rows = analyst.ask("SELECT * FROM cost_by_day WHERE dt >= '2026-03-02' ORDER BY dt")
        assert rows == [
            ("2026-03-02", 1, 1_000, 1_000, 0, 30.0, 2.0, 2.0),
            ("2026-03-03", 1, 0, 0, 0, 0.0, 0.0, None),
        ]


def test_only_the_days_that_are_asked_for_are_read(analyst: Analyst) -> None:
    def scanned(since: str) -> int:
        bound = saved.find("label_counts_by_day").bind({"since": since}, today=TODAY)
        return analyst.run(bound.sql, *bound.literals).scanned_bytes

    assert scanned("2026-03-04") == 0
    assert 0 < scanned("2026-03-03") < scanned("2026-03-01")


def test_a_day_of_many_files_answers_the_same_as_one_that_was_compacted(an_analyst: Callable[[str], Analyst]) -> None:
    analyst = an_analyst("compacted")
    for number, each in enumerate(RESULTS):
        batch_id = f"batch-{number:02d}"
        put_results(analyst.s3, analyst.settings, [each | {"batch_id": batch_id}], batch_id=batch_id)
    analyst.set_up()
    names = ("images_with_label", "thresholds_what_if", "images_never_labelled")
    asked = [saved.find(name).bind(values, today=TODAY) for name in names for values, _ in ANSWERS[name]]

    def answers() -> list[Any]:
        return [analyst.ask(bound.sql, *bound.literals) for bound in asked]

    before = answers()
    for day in (1, 2, 3):
        done = compact_day(
            analyst.s3, analyst.settings.final_bucket, analysis=ANALYSIS, day=f"2026-03-0{day}", threads=2
        )
        assert (done.files_after, done.unreadable) == (1, ())
    assert answers() == before
    assert len(before[0]) == 3
