"""Results as publishing leaves them: a Parquet file and its line in the day's list; and an S3 that takes files."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from include import layout
from include.file_lists import MERGED_FROM, ResultFile, add_file, merged_from, swap_files, visible_files
from include.schema import ANALYSIS, image_labels_table
from tests.include.memory_s3 import MemoryS3
from tests.include.samples import FINAL

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class FilingS3(MemoryS3):
    """Takes an open file as a body, as boto3 does."""

    def put_object(self, *, Bucket: str, Key: str, Body: Any, **options: Any) -> dict[str, Any]:
        return super().put_object(
            Bucket=Bucket, Key=Key, Body=Body.read() if hasattr(Body, "read") else Body, **options
        )


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


def publish(s3: Any, batch_id: str, rows: Sequence[dict[str, Any]], *, day: str = "2026-03-01") -> str:
    """A batch's file, seen by readers from now on; its key."""
    return publish_table(s3, batch_id, image_labels_table([each | {"batch_id": batch_id} for each in rows]), day=day)


def publish_table(s3: Any, batch_id: str, table: pa.Table, *, day: str = "2026-03-01") -> str:
    key = layout.image_labels(analysis=ANALYSIS, day=day, batch_id=batch_id)
    s3.put_object(Bucket=FINAL, Key=key, Body=parquet(table))
    add_file(s3, FINAL, analysis=ANALYSIS, day=day, key=key)
    return key


def parquet(table: pa.Table) -> bytes:
    body = io.BytesIO()
    pq.write_table(table, body, compression="zstd")
    return body.getvalue()


def compact(s3: Any, *, day: str = "2026-03-01") -> str:
    """Merge what readers see of a day into one file; its key."""
    files = visible_files(s3, FINAL, analysis=ANALYSIS, threads=1, days=[day])
    names = sorted(name for file in files for name in _batches(s3, file))
    tables = [pq.read_table(io.BytesIO(s3.contents(FINAL)[file.key])) for file in files]
    merged = pa.concat_tables(tables).replace_schema_metadata({MERGED_FROM: "\n".join(names).encode()})
    digest = hashlib.sha256("".join(names).encode()).hexdigest()[:16]
    key = layout.merged_image_labels(analysis=ANALYSIS, day=day, digest=digest)
    s3.put_object(Bucket=FINAL, Key=key, Body=parquet(merged))
    assert swap_files(s3, FINAL, analysis=ANALYSIS, day=day, merged=key, files=[file.key for file in files])
    return key


def _batches(s3: Any, file: ResultFile) -> list[str]:
    keys = merged_from(s3, FINAL, file) if file.is_merged else [file.key]
    return [key.rpartition("/")[2] for key in keys]
