"""A trained model: linear scores over what a rectangle looks like, and the rule that turns scores into detections."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from local_aws.vision.features import Features, describe
from local_aws.vision.pixels import read_picture
from local_aws.vision.proposals import propose
from local_aws.vision.values import Box, Detection

Kind = Literal["detection", "classification"]

WHOLE = Box(0.0, 0.0, 1.0, 1.0)
_MOST_DETECTIONS = 100  # https://docs.aws.amazon.com/rekognition/latest/APIReference/API_DetectCustomLabels.html
_LEAST_CONFIDENCE = 1.0  # of 100; less is not worth a mention
_SAME_OBJECT = 0.45  # intersection over union from which the less confident of two detections of a label is dropped


@dataclass(frozen=True, eq=False)
class Detector:
    """`weights` has a row for each label and a last one for the background, `bias` a number for each."""

    labels: tuple[str, ...]
    kind: Kind
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]

    def detect(self, data: bytes) -> list[Detection]:
        """What the model sees on an image file, the most confident first, at most 100; VisionError if unreadable.

        A detection model also returns what it hardly believes, each with a box; a classification model each label once.
        """
        picture = read_picture(data)
        if self.kind == "classification":
            best = self.probabilities(describe(picture, [*propose(picture), WHOLE])).max(axis=0)
            found = [Detection(label, float(best[number]) * 100, None) for number, label in enumerate(self.labels)]
        else:
            boxes = propose(picture)
            scores = self.probabilities(describe(picture, boxes))
            columns = zip(self.labels, scores.T, strict=False)
            found = [detection for label, column in columns for detection in _distinct(label, boxes, column)]
        return sorted(found, key=lambda detection: -detection.confidence)[:_MOST_DETECTIONS]

    def probabilities(self, features: Features) -> NDArray[np.float32]:
        """For each row of features the probability (0-1) of each label, and last of the background."""
        scores = features @ self.weights.T + self.bias
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares: NDArray[np.float32] = odds / odds.sum(axis=1, keepdims=True)
        return shares

    def to_bytes(self) -> bytes:
        buffer = io.BytesIO()
        about = json.dumps({"labels": self.labels, "kind": self.kind})
        np.savez_compressed(buffer, about=np.array(about), weights=self.weights, bias=self.bias)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Detector:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            about = json.loads(str(arrays["about"]))
            return cls(tuple(about["labels"]), about["kind"], arrays["weights"], arrays["bias"])


def _distinct(label: str, boxes: Sequence[Box], scores: NDArray[np.float32]) -> list[Detection]:
    """Non-maximum suppression: of the boxes on one and the same object, the most confident."""
    kept: list[Detection] = []
    for number in np.argsort(-scores, kind="stable"):
        confidence, box = float(scores[number]) * 100, boxes[number]
        if confidence < _LEAST_CONFIDENCE:
            break
        if all(other.box is None or box.overlap(other.box) < _SAME_OBJECT for other in kept):
            kept.append(Detection(label, confidence, box))
    return kept
