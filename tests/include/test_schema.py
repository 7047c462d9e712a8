from __future__ import annotations

import io
import json
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from include.schema import (
    IMAGE_LABELS,
    RUNS,
    RunReport,
    image_labels_table,
    image_row,
    json_values,
    labels_document,
    labels_of,
    reason_document,
    runs_table,
)
from tests.include.samples import MODEL_ARN, NOW, custom_label, facts, image, outcome

THRESHOLDS = {"CAP": 98.8, "WATCH": 1.4}

IMAGE_LABELS_DESIGNED = {
    "source_bucket": "string",
    "source_key": "string",
    "version_id": "string",
    "etag": "string",
    "size_bytes": "int64",
    "width_px": "int32",
    "height_px": "int32",
    "format": "string",
    "exif_orientation": "int32",
    "event_time": "timestamp[ms, tz=UTC]",
    "processed_at": "timestamp[ms, tz=UTC]",
    "origin": "string",
    "run_id": "string",
    "batch_id": "string",
    "model_arn": "string",
    "model_version": "string",
    "status": "string",
    "error_code": "string",
    "error_message": "string",
    "label_count": "int32",
    "max_confidence": "double",
    "labels": "list<element: struct<name: string, confidence: double, threshold: double, passes: bool, left: double, "
    "top: double, width: double, height: double, parents: list<element: string>, attributes: map<string, string>>>",
}
RUNS_DESIGNED = [
    "run_id",
    "started_at",
    "ended_at",
    "trigger",
    "decision",
    "predicted_minutes",
    "predicted_cost_usd",
    "images",
    "labelled",
    "rejected",
    "missing",
    "failed",
    "skipped",
    "labels",
    "calls",
    "throttled_calls",
    "inference_units",
    "model_running_seconds",
    "idle_before_first_call_seconds",
    "ramp_seconds",
    "tail_seconds",
    "idle_after_last_call_seconds",
    "images_per_second",
    "utilisation",
    "cost_usd",
    "cost_usd_per_thousand_images",
    "model_final_status",
]


def row(found: Any = None, **options: Any) -> dict[str, Any]:
    values = {"batch_id": "b", "model_arn": MODEL_ARN, "model_version": "shop.v7", "thresholds": THRESHOLDS}
    return image_row(found or outcome(image("a.jpg")), **values | {"default_threshold": 50.0} | options)


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """Three rows as they lie in the final bucket, below their partitions."""
    labels = (
        custom_label("CAP", 99.5, (0.1, -0.02, 0.5, 1.1)),
        custom_label("CAP", 60.0),
        custom_label("Étui 🦊", 55.0),
    )
    rows = [
        row(outcome(image("a.jpg"), custom_labels=labels)),
        row(outcome(image("b é.jpg", minutes=1), processed_at=NOW + timedelta(milliseconds=1))),
        row(outcome(image("c.jpg", etag="", size_bytes=0), "MISSING", facts=None, error_code="NoSuchKey")),
    ]
    path = tmp_path / "image_labels" / "analysis=custom_labels" / "dt=2026-03-01" / "b.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(image_labels_table(rows), path, compression="zstd")
    return path


def test_the_columns_are_those_of_the_design() -> None:
    types = {field.name: str(field.type) for field in IMAGE_LABELS}
    assert {name: type.replace("item:", "element:") for name, type in types.items()} == {
        name: type.replace("item:", "element:") for name, type in IMAGE_LABELS_DESIGNED.items()
    }
    assert [field.name for field in RUNS] == RUNS_DESIGNED


def test_a_row_has_every_column_and_no_other() -> None:
    assert list(row()) == IMAGE_LABELS.names


class TestReadable:
    def test_by_pyarrow(self, parquet: Path) -> None:
        table = pq.read_table(parquet, partitioning=None)
        assert table.schema.names == IMAGE_LABELS.names
        assert {field.name: str(field.type) for field in table.schema if field.name != "labels"} == {
            name: type for name, type in IMAGE_LABELS_DESIGNED.items() if name != "labels"
        }
        assert pq.ParquetFile(parquet).metadata.row_group(0).column(0).compression == "ZSTD"
        first = table.to_pylist()[0]
        assert first["event_time"] == NOW
        assert first["labels"][0]["attributes"] == []
        assert first["labels"][0]["left"] == 0.1

    def test_by_pandas(self, parquet: Path) -> None:
        frame = pd.read_parquet(parquet.parents[2])
        assert len(frame) == 3
        assert str(frame["event_time"].dtype) == "datetime64[ms, UTC]"
        assert str(frame["size_bytes"].dtype) in ("int64", "float64")
        assert set(frame["dt"].astype(str)) == {"2026-03-01"}
        assert frame["labels"].map(len).tolist() == [3, 0, 0]

    def test_by_duckdb(self, parquet: Path) -> None:
        pattern = str(parquet.parents[2] / "**" / "*.parquet")
        database = duckdb.connect()
        database.execute("set timezone = 'UTC'")
        database.execute(
            f"create view image_labels as select * from read_parquet('{pattern}', hive_partitioning = true)"
        )
        types = dict(database.execute("select column_name, column_type from (describe image_labels)").fetchall())
        assert types["event_time"] == "TIMESTAMP WITH TIME ZONE"
        assert (types["size_bytes"], types["width_px"], types["max_confidence"]) == ("BIGINT", "INTEGER", "DOUBLE")
        assert types["labels"] == (
            'STRUCT("name" VARCHAR, confidence DOUBLE, threshold DOUBLE, passes BOOLEAN, "left" DOUBLE, top DOUBLE, '
            "width DOUBLE, height DOUBLE, parents VARCHAR[], attributes MAP(VARCHAR, VARCHAR))[]"
        )
        labels = database.execute(
            "select source_key, label.name, label.confidence, analysis from image_labels, unnest(labels) as t(label) "
            "where label.passes order by label.confidence desc"
        ).fetchall()
        assert labels == [("a.jpg", "CAP", 99.5, "custom_labels"), ("a.jpg", "Étui 🦊", 55.0, "custom_labels")]
        times = database.execute("select processed_at::varchar from image_labels order by source_key").fetchall()
        assert times == [("2026-03-01 12:00:00+00",), ("2026-03-01 12:00:00.001+00",), ("2026-03-01 12:00:00+00",)]

    def test_an_empty_file_has_the_schema(self) -> None:
        assert image_labels_table([]).schema.equals(IMAGE_LABELS)

    def test_labels_with_parents_and_attributes(self) -> None:
        found = row(outcome(image("a"), custom_labels=(custom_label("CAP", 99.0),)))
        found["labels"][0] |= {"parents": ["Clothing"], "attributes": {"colour": "red"}}
        (read,) = image_labels_table([found]).to_pylist()
        assert read["labels"][0]["parents"] == ["Clothing"]
        assert read["labels"][0]["attributes"] == [("colour", "red")]

    def test_every_number_and_time_that_can_occur_fits(self) -> None:
        extreme = row(
            outcome(
                image("a", size_bytes=2**63 - 1),
                facts=facts(size_bytes=2**63 - 1, width_px=2**31 - 1, height_px=2**31 - 1),
                processed_at=datetime(9999, 12, 31, tzinfo=UTC),
            )
        ) | {"event_time": datetime(1, 1, 1, tzinfo=UTC)}
        assert image_labels_table([extreme]).num_rows == 1


class TestLabels:
    def test_each_is_compared_with_its_own_threshold(self) -> None:
        found = outcome(image("a"), custom_labels=(custom_label("WATCH", 2.0), custom_label("CAP", 90.0)))
        assert [(each["name"], each["threshold"], each["passes"]) for each in labels_of(found, THRESHOLDS, 50.0)] == [
            ("CAP", 98.8, False),
            ("WATCH", 1.4, True),
        ]

    def test_one_without_a_threshold_is_compared_with_the_default(self) -> None:
        found = outcome(image("a"), custom_labels=(custom_label("NEW", 50.0), custom_label("NEW", 49.9)))
        assert [each["passes"] for each in labels_of(found, THRESHOLDS, 50.0)] == [True, False]

    def test_none_is_dropped(self) -> None:
        found = outcome(image("a"), custom_labels=tuple(custom_label("CAP", n / 10) for n in range(100)))
        assert len(row(found)["labels"]) == 100
        assert (row(found)["label_count"], row(found)["max_confidence"]) == (0, None)

    def test_count_and_maximum_are_of_those_that_pass(self) -> None:
        found = outcome(image("a"), custom_labels=(custom_label("CAP", 98.0), custom_label("WATCH", 3.0)))
        assert (row(found)["label_count"], row(found)["max_confidence"]) == (1, 3.0)

    def test_the_order_does_not_depend_on_the_services(self) -> None:
        boxes = [custom_label("CAP", 9.0, (left, 0.1, 0.1, 0.1)) for left in (0.3, 0.1, 0.2)]
        labels = [*boxes, custom_label("A", 9.0), custom_label("Z", 99.0)]
        forwards = labels_of(outcome(image("a"), custom_labels=tuple(labels)), {}, 50.0)
        backwards = labels_of(outcome(image("a"), custom_labels=tuple(reversed(labels))), {}, 50.0)
        assert forwards == backwards
        assert [(each["name"], each["left"]) for each in forwards] == [
            ("Z", None),
            ("A", None),
            ("CAP", 0.1),
            ("CAP", 0.2),
            ("CAP", 0.3),
        ]

    def test_a_box_may_reach_over_the_edge(self) -> None:
        (label,) = labels_of(outcome(image("a"), custom_labels=(custom_label("CAP", 9, (-0.1, 0, 1.2, 1)),)), {}, 50)
        assert (label["left"], label["width"]) == (-0.1, 1.2)

    def test_a_polygon_beside_the_box_is_no_trouble(self) -> None:
        label = custom_label("CAP", 9.0, (0.1, 0.1, 0.1, 0.1))
        label["Geometry"]["Polygon"] = [{"X": 0.1, "Y": 0.1}]
        assert labels_of(outcome(image("a"), custom_labels=(label,)), {}, 50)[0]["top"] == 0.1


class TestJson:
    def test_a_document_is_the_row_and_the_answer(self) -> None:
        label = custom_label("CAP", 99.123456789, (0.1, 0.2, 0.3, 0.4))
        found = outcome(image("a", version_id="v1"), custom_labels=(label,), request_id="r-1")
        document = json.loads(json.dumps(labels_document(row(found), found)))
        assert {name: document[name] for name in IMAGE_LABELS.names} == json.loads(json.dumps(json_values(row(found))))
        assert document["event_time"] == "2026-03-01T12:00:00+00:00"
        assert document["analysis"] == "custom_labels"
        assert document["response"] == {"CustomLabels": [label], "RequestId": "r-1"}

    def test_a_reason_is_the_row_without_labels(self) -> None:
        bad = outcome(image("a"), "REJECTED", error_code="ImageTooLargeException", error_message="is 9x9 px")
        document = json.loads(json.dumps(reason_document(row(bad))))
        assert set(document) == {*IMAGE_LABELS.names} - {"labels", "label_count", "max_confidence"}
        assert document["error_message"] == "is 9x9 px"

    def test_what_is_not_known_is_null(self) -> None:
        found = row(outcome(image("a", etag="", size_bytes=0), "MISSING", facts=None))
        unknown = {"version_id", "etag", "size_bytes", "width_px", "height_px", "format", "exif_orientation"}
        assert all(found[name] is None for name in unknown)


def test_a_run_is_one_typed_row() -> None:
    report = RunReport("manual__1", NOW, NOW, "manual", "Start: …", utilisation=0.93, inference_units=2)
    body = io.BytesIO()
    pq.write_table(runs_table(report), body)
    table = pq.read_table(body)
    assert table.to_pylist() == [asdict(report)]
    assert str(table.schema.field("started_at").type) == "timestamp[ms, tz=UTC]"
    assert {str(RUNS.field(field.name).type) for field in fields(RunReport) if field.type == "int"} == {"int64"}
    assert not pa.types.is_null(table.schema.field("images_per_second").type)
