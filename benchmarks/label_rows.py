"""Published results by the million: Parquet files of ``image_labels`` as batches leave them, without the service."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from include import layout
from include.schema import ANALYSIS, IMAGE_LABELS, LABEL

BUCKET: Final = "final"
LABELS_AN_IMAGE: Final = 8
NAMES: Final = 3_000
LAST_DAY: Final = datetime(2026, 11, 20, tzinfo=UTC)
THRESHOLD: Final = 50.0
# A few labels are on many images, most on few.
SKEW: Final = 0.8


def write_results(folder: Path, *, images: int, images_a_file: int, days: int) -> list[str]:
    """Files of batches under ``folder/final``, spread over the last days; their keys. The same ones each time."""
    random = np.random.default_rng(1)
    keys = []
    for number, first in enumerate(range(0, images, images_a_file)):
        count = min(images_a_file, images - first)
        day = LAST_DAY - timedelta(days=days - 1 - first * days // images)
        key = layout.image_labels(analysis=ANALYSIS, day=f"{day:%Y-%m-%d}", batch_id=f"{number:016x}")
        path = folder / BUCKET / key
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(results_of(first, count, f"{number:016x}", day, random), path, compression="zstd")
        keys.append(key)
    return keys


def results_of(first: int, count: int, batch_id: str, day: datetime, random: np.random.Generator) -> pa.Table:
    """Rows of labelled images in the order in which they were uploaded, which is not that of their names."""
    numbers = first + random.permutation(count)
    labels = _labels(count, random)
    best = labels.field("confidence").to_numpy(zero_copy_only=False).reshape(count, -1)
    begins = int(day.timestamp() * 1_000)
    columns: dict[str, Any] = {
        "source_bucket": pa.repeat("uploads", count),
        "source_key": [f"stock/{each % 1_000:03d}/series {each // 1_000:05d}/image-{each:09d}.jpg" for each in numbers],
        "etag": [f"{int(each) * 0x9E3779B97F4A7C15 % 2**128:032x}" for each in numbers],
        "size_bytes": random.integers(20_000, 9_000_000, count),
        "width_px": np.full(count, 4_000),
        "height_px": np.full(count, 3_000),
        "format": pa.repeat("JPEG", count),
        "event_time": begins + np.sort(random.integers(0, 86_400_000, count)),
        "processed_at": begins + np.arange(count) * 20,
        "origin": pa.repeat("upload", count),
        "run_id": pa.repeat(f"scheduled__{day:%Y-%m-%d}", count),
        "batch_id": pa.repeat(batch_id, count),
        "model_arn": pa.repeat("arn:aws:rekognition:us-east-1:123456789012:project/shop/version/shop.v1/1", count),
        "model_version": pa.repeat("shop.v1", count),
        "status": pa.repeat("LABELLED", count),
        "label_count": (best >= THRESHOLD).sum(axis=1),
        "max_confidence": np.where(best[:, 0] >= THRESHOLD, best[:, 0], np.nan),
        "labels": pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32) * LABELS_AN_IMAGE, labels),
    }
    return pa.table([_column(columns.get(field.name), field.type, count) for field in IMAGE_LABELS], IMAGE_LABELS)


def _column(values: Any, kind: pa.DataType, count: int) -> pa.Array:
    if values is None:
        return pa.nulls(count, kind)
    return values if isinstance(values, pa.Array) else pa.array(values, from_pandas=True).cast(kind)


def _labels(count: int, random: np.random.Generator) -> pa.StructArray:
    total = count * LABELS_AN_IMAGE
    names = pa.array([f"label {number:04d}" for number in range(NAMES)])
    drawn = np.minimum((random.pareto(SKEW, total) * 5).astype(np.int32), NAMES - 1)
    confidence = -np.sort(-random.uniform(0, 100, (count, LABELS_AN_IMAGE)), axis=1).ravel().round(4)
    nothing = np.zeros(total + 1, np.int32)
    texts = pa.array([], pa.string())
    values = {
        "name": names.take(pa.array(drawn)),
        "confidence": pa.array(confidence),
        "threshold": pa.array(np.full(total, THRESHOLD)),
        "passes": pa.array(confidence >= THRESHOLD),
        **{side: pa.array(random.uniform(0, 1, total).round(6)) for side in ("left", "top", "width", "height")},
        "parents": pa.ListArray.from_arrays(nothing, texts),
        "attributes": pa.MapArray.from_arrays(nothing, texts, texts),
    }
    return pa.StructArray.from_arrays([values[field.name] for field in LABEL], fields=list(LABEL))
