"""Ground Truth manifests: JSON Lines that say which image shows what.

https://docs.aws.amazon.com/rekognition/latest/customlabels-dg/md-create-manifest-file.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

# https://docs.aws.amazon.com/rekognition/latest/customlabels-dg/limits.html
MAX_LINES = 250_000
MAX_BOXES = 50
# "More than 20% of the JSON Lines have errors": md-create-manifest-file-validation-rules.html
MAX_INVALID_SHARE = 0.2

_CLASSIFICATION = "groundtruth/image-classification"
_DETECTION = "groundtruth/object-detection"

Ratios = tuple[float, float, float, float]


@dataclass(frozen=True)
class Entry:
    """One image, its labels, and the line that says so.

    A label is (name, None) for a whole image, (name, (left, top, width, height) as ratios) for a box.
    """

    bucket: str
    key: str
    labels: tuple[tuple[str, Ratios | None], ...]
    line: bytes


@dataclass(frozen=True)
class Manifest:
    """The usable lines of a manifest, and what is wrong with the others, as (line number, why)."""

    entries: tuple[Entry, ...] = ()
    errors: tuple[tuple[int, str], ...] = ()

    @property
    def problem(self) -> str:
        """Why the manifest as a whole is unusable; empty when it is usable."""
        lines = len(self.entries) + len(self.errors)
        if lines == 0:
            return "The manifest file has no lines."
        if lines > MAX_LINES:
            return f"The manifest file has {lines} lines; {MAX_LINES} are the most."
        if len(self.errors) > MAX_INVALID_SHARE * lines:
            number, why = self.errors[0]
            return f"The manifest file contains too many invalid lines: {len(self.errors)} of {lines}; line {number}: {why}"
        return ""

    @property
    def label_names(self) -> set[str]:
        """The labels that occur."""
        return {name for entry in self.entries for name, _ in entry.labels}


def parse(data: bytes) -> Manifest:
    """Read a manifest; a line that breaks a rule becomes an error, the rest stays usable."""
    entries, errors = [], []
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            entries.append(_entry(line))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            errors.append((number, str(error) if isinstance(error, ValueError) else f"missing or malformed: {error}"))
    return Manifest(tuple(entries), tuple(errors))


def _entry(text: bytes) -> Entry:
    line: Mapping[str, Any] = json.loads(text)
    source = urlsplit(line["source-ref"], allow_fragments=False)
    key = source.path.removeprefix("/") + (f"?{source.query}" if source.query else "")
    if source.scheme != "s3" or not source.netloc or not key:
        raise ValueError(f"source-ref {line['source-ref']!r} is not an S3 URI")
    labels: list[tuple[str, Ratios | None]] = []
    kinds = 0
    for name, metadata in line.items():
        if not name.endswith("-metadata"):
            continue
        attribute = name.removesuffix("-metadata")
        kind = metadata["type"]
        if kind == _CLASSIFICATION:
            labels.append((str(metadata["class-name"]), None))
        elif kind == _DETECTION:
            labels.extend(_boxes(line[attribute], metadata["class-map"]))
        else:
            raise ValueError(f"{name} has the type {kind!r}; known are {_CLASSIFICATION} and {_DETECTION}")
        kinds += 1
    if not kinds:
        raise ValueError("there is no label attribute")
    return Entry(source.netloc, key, tuple(labels), text)


def _boxes(value: Mapping[str, Any], class_map: Mapping[str, str]) -> list[tuple[str, Ratios]]:
    """Boxes in pixels become ratios of the image's size."""
    size = value["image_size"][0]
    width, height = int(size["width"]), int(size["height"])
    if len(value["annotations"]) > MAX_BOXES:
        raise ValueError(f"{len(value['annotations'])} bounding boxes; {MAX_BOXES} are the most for an image")
    boxes = []
    for box in value["annotations"]:
        label = class_map.get(str(box["class_id"]))
        if label is None:
            raise ValueError(f"class_id {box['class_id']} is not in the class-map")
        left, top, across, down = box["left"], box["top"], box["width"], box["height"]
        if left < 0 or top < 0 or across <= 0 or down <= 0 or left + across > width or top + down > height:
            raise ValueError(f"the box {left},{top} {across}x{down} is not inside the image of {width}x{height}")
        boxes.append((label, (left / width, top / height, across / width, down / height)))
    return boxes
