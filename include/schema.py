"""The schema of the results, defined once: JSON documents, Parquet, Glue columns and SQL derive from it.

Every label that the model returns is kept with its confidence and its threshold; what is shown is decided when reading.
"Nothing found" is a row with no labels, "could not be analysed" a row with a reason, "never analysed" has no row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, Final

import pyarrow as pa

from include.outcomes import Outcome

ANALYSIS: Final = "custom_labels"

_TIMESTAMP = pa.timestamp("ms", tz="UTC")  # Athena reads milliseconds
LABEL: Final = pa.struct(
    [
        pa.field("name", pa.string()),
        pa.field("confidence", pa.float64()),  # 0 to 100
        pa.field("threshold", pa.float64()),  # 0 to 100
        pa.field("passes", pa.bool_()),
        pa.field("left", pa.float64()),  # box as ratios of the image; null for labels of the whole image
        pa.field("top", pa.float64()),
        pa.field("width", pa.float64()),
        pa.field("height", pa.float64()),
        pa.field("parents", pa.list_(pa.string())),
        pa.field("attributes", pa.map_(pa.string(), pa.string())),
    ]
)

# The partition columns (analysis, dt) are in the path, not in the files.
IMAGE_LABELS: Final = pa.schema(
    [
        pa.field("source_bucket", pa.string()),
        pa.field("source_key", pa.string()),
        pa.field("version_id", pa.string()),
        pa.field("etag", pa.string()),
        pa.field("size_bytes", pa.int64()),
        pa.field("width_px", pa.int32()),
        pa.field("height_px", pa.int32()),
        pa.field("format", pa.string()),
        pa.field("exif_orientation", pa.int32()),
        pa.field("event_time", _TIMESTAMP),
        pa.field("processed_at", _TIMESTAMP),
        pa.field("origin", pa.string()),
        pa.field("run_id", pa.string()),
        pa.field("batch_id", pa.string()),
        pa.field("model_arn", pa.string()),
        pa.field("model_version", pa.string()),
        pa.field("status", pa.string()),
        pa.field("error_code", pa.string()),
        pa.field("error_message", pa.string()),
        pa.field("label_count", pa.int32()),
        pa.field("max_confidence", pa.float64()),
        pa.field("labels", pa.list_(LABEL)),
    ]
)


@dataclass(frozen=True, slots=True)
class RunReport:
    """One row a run. Seconds of RUNNING time are as this run saw them; utilisation is of what the model would have served.

    What the model was RUNNING for without being fully used, in the order in which it happens: idle before the first call;
    ramp, until its rate was known; tail, from the last image being called for to the last answer; idle until the stop was
    requested. STOPPING is not RUNNING, but counted (nobody says that it is free).
    """

    run_id: str
    started_at: datetime
    ended_at: datetime
    trigger: str
    decision: str
    predicted_minutes: float = 0.0
    predicted_cost_usd: float = 0.0
    images: int = 0
    labelled: int = 0
    rejected: int = 0
    missing: int = 0
    failed: int = 0
    skipped: int = 0
    labels: int = 0
    calls: int = 0
    throttled_calls: int = 0
    inference_units: int = 0
    model_running_seconds: float = 0.0
    idle_before_first_call_seconds: float = 0.0
    ramp_seconds: float = 0.0
    tail_seconds: float = 0.0
    idle_after_last_call_seconds: float = 0.0
    images_per_second: float | None = None
    utilisation: float | None = None
    cost_usd: float = 0.0
    cost_usd_per_thousand_images: float | None = None
    model_final_status: str = ""


_ARROW_TYPES = {
    "str": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "float | None": pa.float64(),
    "datetime": _TIMESTAMP,
}
RUNS: Final = pa.schema([pa.field(field.name, _ARROW_TYPES[str(field.type)]) for field in fields(RunReport)])


def labels_of(outcome: Outcome, thresholds: Mapping[str, float], default_threshold: float) -> list[dict[str, Any]]:
    """The service's labels with their thresholds, highest confidence first.

    What is no number (NaN, infinity, nothing) is null, and passes no threshold.

    :param thresholds: each label's assumed threshold, 0 to 100.
    """
    rows = []
    for label in outcome.custom_labels:
        box = (label.get("Geometry") or {}).get("BoundingBox") or {}
        name, confidence = writable(label.get("Name") or ""), _number(label.get("Confidence"))
        threshold = thresholds.get(name, default_threshold)
        rows.append(
            {
                "name": name,
                "confidence": confidence,
                "threshold": threshold,
                "passes": confidence is not None and confidence >= threshold,
                "left": _number(box.get("Left")),
                "top": _number(box.get("Top")),
                "width": _number(box.get("Width")),
                "height": _number(box.get("Height")),
                "parents": [],
                "attributes": {},
            }
        )
    return sorted(rows, key=_highest_first)


def _highest_first(row: dict[str, Any]) -> tuple[bool, float, str, float, float]:
    confidence = row["confidence"]
    return confidence is None, -(confidence or 0), row["name"], row["left"] or 0, row["top"] or 0


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def writable(value: Any) -> Any:
    """A service's answer as JSON and Parquet can hold it: null for NaN and infinity, ``?`` for half a character."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, Mapping):
        return {writable(name): writable(of) for name, of in value.items()}
    return [writable(of) for of in value] if isinstance(value, list | tuple) else value


def image_row(
    outcome: Outcome,
    *,
    batch_id: str,
    model_arn: str,
    model_version: str,
    thresholds: Mapping[str, float],
    default_threshold: float,
) -> dict[str, Any]:
    """One row of ``image_labels``, as plain Python values."""
    image, facts = outcome.image, outcome.facts
    labels = labels_of(outcome, thresholds, default_threshold)
    passing = [label["confidence"] for label in labels if label["passes"]]
    return {
        "source_bucket": image.bucket,
        "source_key": image.key,
        "version_id": image.version_id or None,
        "etag": image.etag or None,
        "size_bytes": facts.size_bytes if facts else image.size_bytes or None,
        "width_px": facts.width_px or None if facts else None,
        "height_px": facts.height_px or None if facts else None,
        "format": facts.format or None if facts else None,
        "exif_orientation": facts.exif_orientation if facts and facts.format else None,
        "event_time": image.event_time,
        "processed_at": outcome.processed_at,
        "origin": image.origin,
        "run_id": outcome.run_id,
        "batch_id": batch_id,
        "model_arn": model_arn,
        "model_version": model_version,
        "status": outcome.status,
        "error_code": writable(outcome.error_code) or None,
        "error_message": writable(outcome.error_message) or None,
        "label_count": len(passing),
        "max_confidence": max(passing, default=None),
        "labels": labels,
    }


def labels_document(row: Mapping[str, Any], outcome: Outcome) -> dict[str, Any]:
    """The JSON document of an image: its row, and the service's answer word for word."""
    return json_values(row) | {
        "analysis": ANALYSIS,
        "request": {"MinConfidence": 0},
        "response": writable({"CustomLabels": outcome.custom_labels, "RequestId": outcome.request_id}),
    }


def reason_document(row: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON document beside a quarantined image: its row without labels."""
    return {
        name: value
        for name, value in json_values(row).items()
        if name not in ("labels", "label_count", "max_confidence")
    }


def json_values(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as JSON holds it: times in ISO 8601."""
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}


def image_labels_table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Rows of ``image_labels`` as Arrow, which takes maps as pairs."""
    paired = [
        row | {"labels": [label | {"attributes": list(label["attributes"].items())} for label in row["labels"]]}
        for row in rows
    ]
    return pa.Table.from_pylist(paired, schema=IMAGE_LABELS)


def runs_table(report: RunReport) -> pa.Table:
    """A run's row as Arrow."""
    return pa.Table.from_pylist([asdict(report)], schema=RUNS)
