"""Results of three days that hold what is easily miscounted: images labelled twice, overwritten, failed, with nothing on them."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from include import layout
from include.file_lists import add_file
from include.report import write_report
from include.schema import ANALYSIS, RunReport, image_labels_table
from include.settings import Settings

UPLOADED = datetime(2026, 3, 1, 6, tzinfo=UTC)
ODD = 'it\'s =odd, "name".jpg'
THRESHOLD = 50.0
Labels = list[tuple[str, float | None]]


def at(day: int, hour: int = 12) -> datetime:
    return datetime(2026, 3, day, hour, tzinfo=UTC)


def row(day: int, key: str, labels: Labels | None = None, **changes: Any) -> dict[str, Any]:
    """A row of ``image_labels``, processed at noon of a day in March."""
    found = [label(*each, number=number) for number, each in enumerate(labels or [])]
    passing = [each["confidence"] for each in found if each["passes"]]
    made = {
        "source_bucket": "inbox",
        "source_key": key,
        "version_id": None,
        "etag": "0" * 32,
        "size_bytes": 1_000,
        "width_px": 640,
        "height_px": 480,
        "format": "JPEG",
        "exif_orientation": 1,
        "event_time": UPLOADED,
        "processed_at": at(day),
        "origin": "upload",
        "run_id": f"run-{day}",
        "batch_id": f"batch-{day}",
        "model_arn": "arn",
        "model_version": "v1",
        "status": "LABELLED",
        "error_code": None,
        "error_message": None,
        "label_count": len(passing),
        "max_confidence": max(passing, default=None),
        "labels": found,
    }
    return made | changes


def label(name: str, confidence: float | None, *, number: int) -> dict[str, Any]:
    return {
        "name": name,
        "confidence": confidence,
        "threshold": THRESHOLD,
        "passes": confidence is not None and confidence >= THRESHOLD,
        "left": number / 10,
        "top": 0.25,
        "width": 0.5,
        "height": 0.5,
        "parents": [],
        "attributes": {},
    }


REFUSED = {"status": "REJECTED", "error_code": "UNSUPPORTED_FORMAT", "error_message": "It is a TIFF."}
RESULTS = (
    row(1, "a.jpg", [("mug", 95.0), ("bottle", 40.0)]),
    row(1, "b.jpg", [("chair", 92.0), ("mug", 55.0)]),
    row(1, "d.tiff", **REFUSED),
    row(1, "e.jpg", status="FAILED", error_code="InternalServerError", error_message="It did not answer."),
    row(2, "c.jpg", []),
    row(2, "d.tiff", origin="redrive", **REFUSED),
    row(2, "e.jpg", [("chair", 52.5), ("chair", None)], origin="redrive"),
    # Uploaded again, and labelled before the archive's run came to the earlier upload.
    row(2, "f.jpg", [("mug", 70.0)], event_time=UPLOADED + timedelta(hours=1)),
    row(3, "f.jpg", [("bottle", 90.0)], origin="archive"),
    row(2, ODD, [("mug", 99.0)]),
    row(2, "a.jpg", source_bucket="stock", status="MISSING", error_code="NoSuchKey", error_message="It is gone."),
    # Another version of the model.
    row(3, "a.jpg", [("mug", 88.0), ("bottle", 71.0), ("mug", 60.0)], model_version="v2"),
    row(3, "b.jpg", [("chair", 93.0), ("mug", 45.0)], model_version="v2"),
)

_RUN = RunReport("run", at(1, 9), at(1, 10), "scheduled", "Start: it is worth it.")
RUNS = (
    replace(
        _RUN,
        run_id="run-1",
        images=4,
        labelled=3,
        rejected=1,
        calls=3,
        throttled_calls=1,
        model_running_seconds=60.0,
        utilisation=0.5,
        cost_usd=0.07,
    ),
    replace(
        _RUN,
        run_id="run-2",
        started_at=at(2, 13),
        images=1_000,
        labelled=1_000,
        calls=1_000,
        model_running_seconds=1_800.0,
        cost_usd=2.0,
    ),
    replace(_RUN, run_id="run-3", started_at=at(3, 13), decision="Postponed: too few."),
)


def put_results(s3: Any, settings: Settings, rows: Iterable[dict[str, Any]], *, batch_id: str = "batch") -> None:
    """Rows as publishing leaves them: a file for each day, on the list of its day."""
    by_day: dict[str, list[dict[str, Any]]] = {}
    for each in rows:
        by_day.setdefault(f"{each['processed_at']:%Y-%m-%d}", []).append(each)
    for day, of_day in by_day.items():
        key = layout.image_labels(analysis=ANALYSIS, day=day, batch_id=batch_id)
        put_parquet(s3, settings.final_bucket, key, image_labels_table(of_day))
        add_file(s3, settings.final_bucket, analysis=ANALYSIS, day=day, key=key)


def put_parquet(s3: Any, bucket: str, key: str, table: pa.Table) -> None:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    s3.put_object(Bucket=bucket, Key=key, Body=buffer.getvalue())


def put_sample(s3: Any, settings: Settings) -> None:
    put_results(s3, settings, RESULTS)
    for run in RUNS:
        write_report(s3, settings, run)
