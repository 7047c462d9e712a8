"""How good a model is on images that it was not trained on: F1 score, precision, recall, and each label's threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from local_aws.vision.detector import Detector
from local_aws.vision.values import Box, Detection, LabelledImage

_SAME_OBJECT = 0.5  # intersection over union from which a detection counts as right; the usual mAP@.5


@dataclass(frozen=True)
class LabelEvaluation:
    """How well a label is found if detections from `threshold` (0-1) on count: the threshold with the best F1 score."""

    label: str
    number_of_testing_images: int
    f1: float
    precision: float
    recall: float
    threshold: float


@dataclass(frozen=True)
class Evaluation:
    """The means of the labels' figures; average precision (mAP at an overlap of 0.5) for detection alone."""

    f1: float
    precision: float
    recall: float
    average_precision: float | None
    labels: tuple[LabelEvaluation, ...]


def evaluate(detector: Detector, images: Sequence[LabelledImage]) -> Evaluation:
    """Judge the model on annotated images; labels that it was not trained on are left out of account."""
    seen = [detector.detect(image.data) for image in images]
    labels, precisions = [], []
    for label in detector.labels:
        truths = [[note.box for note in image.annotations if note.label == label] for image in images]
        if detector.kind == "classification":
            truths = [boxes[:1] for boxes in truths]
        verdicts = [
            verdict
            for detections, truth in zip(seen, truths, strict=True)
            for verdict in _judge([detection for detection in detections if detection.label == label], truth)
        ]
        verdicts.sort(key=lambda verdict: -verdict[0])
        wanted = sum(len(truth) for truth in truths)
        labels.append(_best_threshold(label, sum(bool(truth) for truth in truths), verdicts, wanted))
        precisions.append(_average_precision(verdicts, wanted))
    count = len(labels)
    return Evaluation(
        f1=sum(label.f1 for label in labels) / count,
        precision=sum(label.precision for label in labels) / count,
        recall=sum(label.recall for label in labels) / count,
        average_precision=sum(precisions) / count if detector.kind == "detection" else None,
        labels=tuple(labels),
    )


def _judge(detections: list[Detection], truth: Sequence[Box | None]) -> list[tuple[float, bool]]:
    """The confidence of each detection (best first) and whether it is right; an object can be found only once."""
    open_truth = list(truth)
    verdicts = []
    for detection in detections:
        match = max(open_truth, key=lambda box: _fit(detection, box), default=None)
        right = bool(open_truth) and _fit(detection, match) >= _SAME_OBJECT
        if right:
            open_truth.remove(match)
        verdicts.append((detection.confidence, right))
    return verdicts


def _fit(detection: Detection, truth: Box | None) -> float:
    return 1.0 if detection.box is None or truth is None else detection.box.overlap(truth)


def _best_threshold(label: str, images: int, verdicts: list[tuple[float, bool]], wanted: int) -> LabelEvaluation:
    best = LabelEvaluation(label, images, f1=0.0, precision=0.0, recall=0.0, threshold=0.5)
    right = 0
    for count, (confidence, is_right) in enumerate(verdicts, start=1):
        right += is_right
        following = verdicts[count][0] if count < len(verdicts) else 0.0
        f1 = 2 * right / (count + wanted)
        if following < confidence and f1 > best.f1:
            # Between this confidence and the next one all thresholds are alike: the middle is the safest.
            threshold = (confidence + following) / 2 / 100
            best = LabelEvaluation(label, images, f1, right / count, right / wanted, threshold)
    return best


def _average_precision(verdicts: list[tuple[float, bool]], wanted: int) -> float:
    """The area under the curve of precision over recall, each precision raised to the best at that recall or more."""
    right, points = 0, []
    for count, (_, is_right) in enumerate(verdicts, start=1):
        right += is_right
        if is_right:
            points.append(right / count)
    return sum(max(points[number:]) for number in range(len(points))) / wanted if wanted else 0.0
