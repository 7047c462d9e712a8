"""Results as publishing leaves them: a Parquet file, and its line in the day's list."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from include import layout
from include.file_lists import add_file
from include.schema import ANALYSIS, image_labels_table
from tests.include.samples import FINAL

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def label(name: Any, confidence: Any = 90.0, *, threshold: float = 50.0, passes: bool | None = None) -> dict[str, Any]:
    is_passing = confidence is not None and confidence >= threshold if passes is None else passes
    box = {"left": 0.1, "top": 0.2, "width": 0.3, "height": 0.4}
    return (
        {"name": name, "confidence": confidence, "threshold": threshold, "passes": is_passing}
        | box
        | {"parents": [], "attributes": {}}
    )


def row(key: str, *labels: dict[str, Any], minutes: float = 0, **values: Any) -> dict[str, Any]:
    """A row of ``image_labels`` of an image that came some minutes after noon."""
    passing = [each["confidence"] for each in labels if each["passes"]]
    return {
        "source_bucket": "inbox",
        "source_key": key,
        "event_time": NOON + timedelta(minutes=minutes),
        "processed_at": NOON + timedelta(hours=1),
        "origin": "upload",
        "model_version": "shop.v1",
        "status": "LABELLED",
        "label_count": len(passing),
        "labels": list(labels),
    } | values


def publish(
    s3: Any, batch_id: str, rows: Sequence[dict[str, Any]], *, day: str = "2026-03-01", bucket: str = FINAL
) -> str:
    """A batch's file, seen by readers from now on; its key."""
    table = image_labels_table([each | {"batch_id": batch_id} for each in rows])
    return publish_table(s3, batch_id, table, day=day, bucket=bucket)


def publish_table(s3: Any, batch_id: str, table: pa.Table, *, day: str = "2026-03-01", bucket: str = FINAL) -> str:
    key = layout.image_labels(analysis=ANALYSIS, day=day, batch_id=batch_id)
    s3.put_object(Bucket=bucket, Key=key, Body=parquet(table))
    add_file(s3, bucket, analysis=ANALYSIS, day=day, key=key)
    return key


def parquet(table: pa.Table) -> bytes:
    body = io.BytesIO()
    pq.write_table(table, body, compression="zstd")
    return body.getvalue()
