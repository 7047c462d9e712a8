"""Ground Truth manifests, good and bad lines."""

from __future__ import annotations

import json
from typing import Any

import pytest

from local_aws.rekognition.manifests import parse
from tests.local_aws.drawings import classification_line, detection_line, json_lines

BOX = (16, 32, 80, 40)


def test_boxes_in_pixels_become_ratios() -> None:
    [entry] = parse(json_lines([detection_line("s3://b/a folder/é+1.jpg", "ball", BOX)])).entries
    assert (entry.bucket, entry.key) == ("b", "a folder/é+1.jpg")
    assert entry.labels == (("ball", (0.1, 0.2, 0.5, 0.25)),)


def test_an_image_may_have_several_labels() -> None:
    line = classification_line("s3://b/k", "ball")
    line |= {"more": 1, "more-metadata": {"class-name": "red", "type": "groundtruth/image-classification"}}
    [entry] = parse(json_lines([line])).entries
    assert entry.labels == (("ball", None), ("red", None))
    assert json.loads(entry.line) == line


def test_an_image_without_boxes_is_an_entry_without_labels() -> None:
    line = detection_line("s3://b/k", "ball", BOX)
    line["boxes"]["annotations"] = []
    [entry] = parse(json_lines([line])).entries
    assert entry.labels == ()


def with_box(**changes: Any) -> dict[str, Any]:
    line = detection_line("s3://b/k", "ball", BOX)
    line["boxes"]["annotations"][0].update(changes)
    return line


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ({"source-ref": "s3://b/k"}, "no label attribute"),
        ({"source-ref": "https://b/k", "a-metadata": {}}, "not an S3 URI"),
        (with_box(class_id=3), "class-map"),
        (with_box(left=100), "not inside"),
        (with_box(width=0), "not inside"),
        ({"a": 1}, "source-ref"),
        ({"source-ref": "s3://b/k", "a": 1, "a-metadata": {"type": "groundtruth/text"}}, "groundtruth/text"),
        (["not", "an", "object"], ""),
    ],
)
def test_a_line_that_breaks_a_rule_is_told_with_its_number(line: Any, why: str) -> None:
    good = [classification_line("s3://b/k", "ball")] * 5
    manifest = parse(json_lines([*good, line]))
    [(number, reason)] = manifest.errors
    assert number == 6
    assert why in reason
    assert manifest.problem == ""
    assert len(manifest.entries) == 5


def test_a_fifth_of_bad_lines_is_the_most() -> None:
    good = [classification_line("s3://b/k", "ball")] * 4
    assert parse(json_lines(good) + b"not json\n").problem == ""
    assert "2 of 6; line 5" in parse(json_lines(good) + b"not json\nnor this\n").problem
    assert "no lines" in parse(b"\n\n").problem
