"""Published results by the million: Parquet files of ``image_labels`` as batches leave them, without the service.

Names are skewed as in life: the most frequent label is on almost half of the images.
"""

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
SKEW: Final = 0.9
LAST_DAY: Final = datetime(2026, 11, 20, tzinfo=UTC)
THRESHOLD: Final = 50.0


def write_results(folder: Path, *, images: int, images_a_file: int, days: int, first: int = 0) -> list[str]:
    """Files of batches below ``folder/final``, spread over the last days; their keys. The same ones each time."""
    keys = []
    for start in range(first, first + images, images_a_file):
        count = min(images_a_file, first + images - start)
        day = LAST_DAY - timedelta(days=days - 1 - (start - first) * days // images)
        key = layout.image_labels(analysis=ANALYSIS, day=f"{day:%Y-%m-%d}", batch_id=f"{start:016x}")
        path = folder / BUCKET / key
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(_results(start, count, day), path, compression="zstd")
        keys.append(key)
    return keys


def label_name(number: int) -> str:
    """The smaller the number, the more frequent."""
    return f"product-{number:04d}"


def image_key(number: int) -> str:
    return f"stock/{number % 1_000:03d}/series {number // 1_000:05d}/image-{number:09d}.jpg"


def _results(first: int, count: int, day: datetime) -> pa.Table:
    """A batch's rows, in the order of upload, which is not that of the names; column by column, not label by label."""
    random = np.random.default_rng(first)
    numbers = (first + random.permutation(count)).tolist()
    labels = _labels(count, random)
    best = labels.field("confidence").to_numpy().reshape(count, -1)
    begins = int(day.timestamp() * 1_000)
    columns: dict[str, Any] = {
        "source_bucket": pa.repeat("uploads", count),
        "source_key": [image_key(number) for number in numbers],
        "etag": [f"{number * 0x9E3779B97F4A7C15 % 2**128:032x}" for number in numbers],
        "size_bytes": random.integers(20_000, 9_000_000, count),
        "width_px": np.full(count, 4_000),
        "height_px": np.full(count, 3_000),
        "format": pa.repeat("JPEG", count),
        "event_time": begins + np.sort(random.integers(0, 86_400_000, count)),
        "processed_at": begins + np.arange(count) * 20,
        "origin": pa.repeat("upload", count),
        "run_id": pa.repeat(f"scheduled__{day:%Y-%m-%d}", count),
        "batch_id": pa.repeat(f"{first:016x}", count),
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
    """Highest confidence first, as the service answers."""
    total = count * LABELS_AN_IMAGE
    weights = 1 / np.arange(1, NAMES + 1) ** SKEW
    codes = random.choice(NAMES, total, p=weights / weights.sum())
    drawn = 100 - random.exponential(20, (count, LABELS_AN_IMAGE)).clip(0, 99.9)
    confidence = _as_answered(-np.sort(-drawn, axis=1).ravel())
    nothing, texts = np.zeros(total + 1, np.int32), pa.array([], pa.string())
    values = {
        "name": pa.array([label_name(number) for number in range(NAMES)]).take(pa.array(codes)),
        "confidence": pa.array(confidence),
        "threshold": pa.array(np.full(total, THRESHOLD)),
        "passes": pa.array(confidence >= THRESHOLD),
        **{side: pa.array(_as_answered(random.random(total))) for side in ("left", "top", "width", "height")},
        "parents": pa.ListArray.from_arrays(nothing, texts),
        "attributes": pa.MapArray.from_arrays(nothing, texts, texts),
    }
    return pa.StructArray.from_arrays([values[field.name] for field in LABEL], fields=list(LABEL))


def _as_answered(values: Any) -> Any:
    """32 bits, written as 64."""
    return values.astype(np.float32).astype(np.float64)
