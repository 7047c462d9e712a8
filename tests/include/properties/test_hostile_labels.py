from __future__ import annotations

import csv
import io
import json
import math
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.images import to_json_line
from include.outcomes import Outcome, read_outcomes, write_part
from include.schema import image_labels_table, image_row, labels_document, reason_document
from tests.include.memory_s3 import MemoryS3
from tests.include.properties.strategies import half_characters, json_values, keys, label_names
from tests.include.samples import FINAL, custom_label, image, outcome

THRESHOLD = 50.0
odd_numbers = st.sampled_from([math.nan, math.inf, -math.inf, None, "99", True, -1.0, 100.1, 1e308, 0, 100])
numbers = st.floats(0, 100) | odd_numbers
boxes = st.none() | st.fixed_dictionaries({}, optional=dict.fromkeys(("Left", "Top", "Width", "Height"), numbers))
odd_labels = st.fixed_dictionaries(
    {}, optional={"Name": label_names | half_characters, "Confidence": numbers, "Geometry": st.none() | st.just({})}
) | st.builds(
    lambda name, confidence, box: {"Name": name, "Confidence": confidence, "Geometry": {"BoundingBox": box}},
    label_names | half_characters,
    numbers,
    boxes,
)


def row_of(of: Outcome) -> dict[str, Any]:
    return image_row(of, batch_id="b", model_arn="arn", model_version="v7", thresholds={}, default_threshold=THRESHOLD)


def through_parquet(*rows: dict[str, Any]) -> Any:
    file = io.BytesIO()
    pq.write_table(image_labels_table(rows), file, compression="zstd")
    return pq.read_table(io.BytesIO(file.getvalue()))


def strict_json(document: dict[str, Any]) -> Any:
    """As every reader of JSON takes it, not only Python: UTF-8, and no NaN."""

    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(json.dumps(document, ensure_ascii=False).encode(), parse_constant=no_constant)


@given(keys, label_names, st.floats(0, 100), label_names)
def test_names_keys_and_messages_come_back_unchanged_from_json_and_parquet(
    key: str, name: str, confidence: float, message: str
) -> None:
    of = outcome(image(key), custom_labels=(custom_label(name, confidence, (0, 0.5, 1, 0.5)),), error_message=message)
    row = row_of(of)
    (stored,) = through_parquet(row).to_pylist()
    assert (stored["source_key"], stored["error_message"] or "") == (key, message)
    assert [(label["name"], label["confidence"]) for label in stored["labels"]] == [(name, confidence)]
    document = strict_json(labels_document(row, of))
    assert (document["source_key"], document["labels"][0]["name"]) == (key, name)
    assert document["response"]["CustomLabels"] == list(of.custom_labels)
    assert strict_json(reason_document(row))["error_message"] in (message, None)


@given(keys, label_names, label_names)
def test_csv_from_parquet_keeps_every_cell_in_its_place(key: str, name: str, message: str) -> None:
    of = outcome(image(key), custom_labels=(custom_label(name, 99.0),), error_message=message)
    frame = through_parquet(row_of(of)).select(["source_key", "error_message", "status"]).to_pandas()
    frame["label"] = name
    text = pd.DataFrame(frame).to_csv(index=False, quoting=csv.QUOTE_ALL)
    header, cells = csv.reader(io.StringIO(text, newline=""))
    assert header == ["source_key", "error_message", "status", "label"]
    assert cells == [key, message, "LABELLED", name]


@given(st.lists(odd_labels, max_size=6))
def test_whatever_a_service_answers_can_be_checkpointed_and_published(labels: list[dict[str, Any]]) -> None:
    s3 = MemoryS3(FINAL)
    of = outcome(image("a.jpg"), custom_labels=tuple(labels))
    write_part(s3, FINAL, "b", [of], number=0)
    (read,) = read_outcomes(s3, FINAL, "b").values()
    assert json.dumps(read.to_dict(), sort_keys=True) == json.dumps(of.to_dict(), sort_keys=True)
    row = row_of(read)
    (stored,) = through_parquet(row).to_pylist()
    assert (
        len(stored["labels"]) == len(labels) == len(strict_json(labels_document(row, read))["response"]["CustomLabels"])
    )
    for label in stored["labels"]:
        assert label["confidence"] is None or math.isfinite(label["confidence"])
        assert label["passes"] == (label["confidence"] is not None and label["confidence"] >= THRESHOLD)
    assert stored["label_count"] == sum(label["passes"] for label in stored["labels"])


@pytest.mark.parametrize("confidence", [math.nan, math.inf, -math.inf])
def test_a_confidence_that_is_no_number_is_null_passes_nothing_and_comes_last(confidence: float) -> None:
    row = row_of(outcome(image("a"), custom_labels=(custom_label("ODD", confidence), custom_label("CAP", 1.0))))
    assert [(label["name"], label["confidence"], label["passes"]) for label in row["labels"]] == [
        ("CAP", 1.0, False),
        ("ODD", None, False),
    ]
    assert (row["label_count"], row["max_confidence"]) == (0, None)


@given(json_values)
def test_a_line_is_one_line_of_utf8_and_comes_back(value: Any) -> None:
    line = to_json_line({"value": value})
    assert line.encode().count(b"\n") == 0
    assert repr(json.loads(line)["value"]) == repr(json.loads(json.dumps(value, sort_keys=True)))


@given(st.lists(label_names, min_size=1, max_size=5), st.lists(keys, min_size=1, max_size=5))
def test_checkpoints_of_several_outcomes_come_back_one_by_one(names: list[str], some: list[str]) -> None:
    s3 = MemoryS3(FINAL)
    labels = tuple(custom_label(name, 50.0) for name in names)
    told = {each.image.place: each for each in (outcome(image(key), custom_labels=labels) for key in some)}
    write_part(s3, FINAL, "b", told.values(), number=0)
    assert read_outcomes(s3, FINAL, "b") == told
