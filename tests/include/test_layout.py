from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from include import layout
from tests.include.samples import AWKWARD_KEYS, NOW

BY_SOURCE = [layout.labels_document, layout.original, layout.quarantined, layout.quarantine_reason]


@pytest.mark.parametrize("key", AWKWARD_KEYS)
def test_the_source_key_is_kept_whole(key: str) -> None:
    assert layout.labels_document("inbox", key) == f"labels/inbox/{key}.json"
    assert layout.original("inbox", key) == f"images/inbox/{key}"
    assert layout.quarantined("inbox", key) == f"quarantine/inbox/{key}"
    assert layout.quarantine_reason("inbox", key) == f"quarantine/inbox/{key}.error.json"


@pytest.mark.parametrize("place", BY_SOURCE)
@pytest.mark.parametrize("letter", ["a", "é", "写", "🦊"])
def test_keys_always_fit(place: Callable[[str, str], str], letter: str) -> None:
    for length in (1024, 1023, 1020, 1000, 950, 900):
        key = letter * (length // len(letter.encode()))
        made = place("b" * 63, key)
        assert len(made.encode()) <= layout.MAX_KEY_BYTES
        assert place("b" * 63, key) == made


@pytest.mark.parametrize("place", BY_SOURCE)
def test_long_keys_stay_apart_and_keep_their_ending(place: Callable[[str, str], str]) -> None:
    keys = ["k" * 1020 + ending for ending in ("1", "2", "3")]
    made = {place("inbox", key) for key in keys}
    assert len(made) == 3
    assert {key.endswith(".json") for key in made} == {place in (layout.labels_document, layout.quarantine_reason)}


def test_a_listing_of_pending_batches_is_the_order_of_work() -> None:
    upload, archive = layout.PRIORITY["upload"], layout.PRIORITY["archive"]
    later = NOW + timedelta(seconds=1)
    made = [
        layout.pending_batch(priority=upload, created=NOW, batch_id="ff"),
        layout.pending_batch(priority=upload, created=later, batch_id="00"),
        layout.pending_batch(priority=archive, created=NOW - timedelta(days=9), batch_id="00"),
    ]
    assert made == sorted(made)
    assert made[0] == "batches/pending/1-20260301T120000Z-ff.jsonl.gz"


def test_every_origin_has_a_priority() -> None:
    assert set(layout.PRIORITY) == {"upload", "manual", "archive", "redrive"}


def test_the_batch_id_is_read_back_from_its_key() -> None:
    assert layout.batch_id_of(layout.pending_batch(priority=1, created=NOW, batch_id="0123456789abcdef")) == (
        "0123456789abcdef"
    )


def test_parts_sort_as_they_were_written() -> None:
    parts = [layout.outcome_part("b", number) for number in range(0, 1_200, 7)]
    assert parts == sorted(parts)
    assert all(part.startswith(layout.outcome_parts("b")) for part in parts)
    assert not layout.preflight("b").startswith(layout.outcome_parts("b"))


def test_run_ids_become_names_that_query_engines_can_read() -> None:
    key = layout.run(day="2026-03-01", run_id="scheduled__2026-03-01T12:00:00+00:00")
    assert key == "results/runs/dt=2026-03-01/scheduled__2026-03-01T12-00-00-00-00.parquet"


def test_everything_lies_where_the_design_says() -> None:
    assert layout.done_batch(day="2026-03-01", batch_id="b") == "batches/done/2026-03-01/b.jsonl.gz"
    assert layout.preflight("b") == "batches/outcomes/b/preflight.jsonl"
    assert layout.outcome_part("b", 7) == "batches/outcomes/b/part-00007.jsonl"
    assert layout.image_labels(analysis="custom_labels", day="2026-03-01", batch_id="b") == (
        "results/image_labels/analysis=custom_labels/dt=2026-03-01/b.parquet"
    )
    assert layout.model_state("shop", "v7") == "state/model/shop/v7.json"
    assert re.fullmatch(r"staged/b/[0-9a-f]{16}\.jpg", layout.staged("b", 2**64 - 1))


def test_times_are_written_in_utc() -> None:
    assert "20260301T120000Z" in layout.pending_batch(
        priority=1, created=datetime(2026, 3, 1, 12, tzinfo=UTC), batch_id="b"
    )
