"""Whatever happened to the results, and however often the index was refreshed meanwhile: it is what a full build makes."""

from __future__ import annotations

import tempfile
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from include import layout
from include.compact import compact_day
from include.file_lists import visible_files
from include.index.database import open_to_read
from include.index.published import fetch_index
from include.index.refresh import refresh_index
from include.schema import ANALYSIS
from tests.include.index.published_results import NOON, label, publish, row
from tests.include.memory_s3 import MemoryS3
from tests.include.samples import FINAL, NOW

DAYS: Final = ("2026-03-01", "2026-03-02")
# Everything that searches look at. `unsorted` in `facts` and the order of rows are how it came to be.
CONTENT: Final = (
    "SELECT * FROM images ORDER BY ALL",
    "SELECT * FROM labels ORDER BY ALL",
    "SELECT * FROM names ORDER BY ALL",
    "SELECT * FROM label_days ORDER BY ALL",
    "SELECT * FROM image_days ORDER BY ALL",
    "SELECT key, etag, rows FROM files ORDER BY ALL",
)

labels = st.builds(
    label, st.sampled_from(["mug", "Mug", "", "🦊"]), st.sampled_from([0.0, 49.9, 50.0, 99.0, None, float("nan")])
)


@st.composite
def rows(draw: st.DrawFn) -> dict[str, Any]:
    moments = st.none() | st.integers(0, 2).map(lambda hours: NOON + timedelta(hours=hours))
    return row(
        draw(st.sampled_from(["1.jpg", "2.jpg", "3.jpg"])),
        *draw(st.lists(labels, max_size=4)),
        event_time=draw(moments),
        processed_at=draw(moments),
        status=draw(st.sampled_from(["LABELLED", "FAILED", None])),
        model_version=draw(st.sampled_from(["shop.v1", "shop.v2"])),
    )


steps = st.lists(
    st.tuples(st.just("publish"), st.sampled_from(DAYS), st.lists(rows(), max_size=4))
    | st.tuples(st.just("compact"), st.sampled_from(DAYS), st.just([]))
    | st.tuples(st.just("take out"), st.sampled_from(DAYS), st.just([]))
    | st.tuples(st.just("refresh"), st.just(""), st.just([])),
    min_size=2,
    max_size=10,
)


def take_out(s3: MemoryS3, day: str) -> None:
    """The first file of a day is no longer among the results."""
    files = visible_files(s3, FINAL, analysis=ANALYSIS, threads=1, days=[day])
    if files:
        body = "".join(f"s3://{FINAL}/{file.key}\n" for file in files[1:])
        s3.put_object(Bucket=FINAL, Key=layout.file_list(analysis=ANALYSIS, day=day), Body=body)
        s3.delete_object(Bucket=FINAL, Key=files[0].key)


def content(s3: MemoryS3, folder: Path) -> list[list[tuple[Any, ...]]]:
    with closing(open_to_read(fetch_index(s3, FINAL, folder))) as con:
        return [con.execute(query).fetchall() for query in CONTENT]


@settings(max_examples=20, deadline=None)
@given(steps)
def test_any_history_of_refreshes_ends_with_what_one_build_makes(history: list[tuple[str, str, list[Any]]]) -> None:
    s3 = MemoryS3(FINAL)
    for number, (step, day, of_batch) in enumerate(history):
        if step == "publish":
            publish(s3, f"b{number}", of_batch, day=day)
        elif step == "compact":
            compact_day(s3, FINAL, analysis=ANALYSIS, day=day, threads=1)
        elif step == "take out":
            take_out(s3, day)
        else:
            refresh_index(s3, FINAL, now=NOW, threads=1)
    with tempfile.TemporaryDirectory() as name:
        refresh_index(s3, FINAL, now=NOW, threads=1)
        refreshed = content(s3, Path(name))
        built = refresh_index(s3, FINAL, now=NOW, threads=1, rebuild=True, verify=True)
        assert built.is_built_anew
        assert content(s3, Path(name)) == refreshed
