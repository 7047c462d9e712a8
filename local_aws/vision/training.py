"""Learns a model from labelled images: logistic regression over what annotated and other rectangles look like.

With bounding boxes, rectangles on them are examples of their label, and what lies elsewhere of the background. Without,
the model finds out by itself which part of an image its label means: at first any part may be it; what is learned from
that says which part is the likeliest; and so on, a few times (multiple-instance learning).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from local_aws.vision.detector import WHOLE, Detector, Kind
from local_aws.vision.features import Features, describe
from local_aws.vision.pixels import read_picture
from local_aws.vision.proposals import propose
from local_aws.vision.values import Box, LabelledImage, VisionError

_HIT = 0.6  # intersection over union with an object's box from which a rectangle is an example of its label
_MISS = 0.45  # and up to which it is an example of the background; in between it teaches nothing
_SHIFTED_COPIES = 2  # of an annotated box, for no proposal will fit an object as exactly as a person's box does
_WINDOWS = 6  # anywhere on the image, so that there is a background even where nothing else stands out
_COMPONENTS = 160  # principal components of the features: most of what differs, a tenth of the numbers
_FREEDOM = 0.1  # scikit-learn's C: less gives softer confidences, more gives surer ones and learns accidents
_NEVER = -50.0  # as a log-odds
_ROUNDS = 6  # of finding out what a whole-image label means

Marks = NDArray[np.intp]  # for each candidate the number of its label; the number of labels: background


@dataclass(frozen=True)
class _Example:
    """An image's candidate rectangles, what each looks like, and what is known to be on the image."""

    candidates: list[Box]
    features: Features
    mirrored: Features
    truth: list[tuple[int, Box | None]]


def train(images: Sequence[LabelledImage]) -> Detector:
    """Train a detection model if any annotation has a box, else a classification model of whole-image labels.

    The same images give the same model. In a detection dataset, an image with a label but no box for it is left out,
    since nothing says where to look. Raises VisionError: no labels, a single label and no boxes, an image that cannot
    be decoded.
    """
    notes = [note for image in images for note in image.annotations]
    kind: Kind = "detection" if any(note.box for note in notes) else "classification"
    labels = tuple(sorted({note.label for note in notes if note.box or kind == "classification"}))
    if not labels:
        raise VisionError("The training dataset has no labels: label its images, or draw bounding boxes on them.")
    if kind == "classification" and len(labels) < 2:
        # https://docs.aws.amazon.com/rekognition/latest/customlabels-dg/limits.html
        raise VisionError(
            f"The training dataset has one label ({labels[0]}) and no bounding boxes: "
            "telling images apart takes at least 2 labels, finding objects takes bounding boxes."
        )
    with threadpool_limits(1):  # sums over several threads round differently from run to run
        rng = random.Random(0)
        examples = [
            _study(number, image, labels, rng)
            for number, image in enumerate(images, start=1)
            if kind == "classification" or all(note.box for note in image.annotations)
        ]
        if kind == "detection":
            return _fit(kind, labels, [(example, _mark(example, example.truth, labels)) for example in examples])
        return _learn_whole_images(labels, examples)


def _study(number: int, image: LabelledImage, labels: tuple[str, ...], rng: random.Random) -> _Example:
    try:
        picture = read_picture(image.data)
    except VisionError as error:
        raise VisionError(f"Training image {number}: {error}") from error
    boxes = [note.box for note in image.annotations if note.box]
    shifted = [_shifted(box, rng) for box in boxes for _ in range(_SHIFTED_COPIES)]
    candidates = [*boxes, *shifted, *propose(picture), *(_window(rng) for _ in range(_WINDOWS)), WHOLE]
    return _Example(
        candidates,
        describe(picture, candidates),
        describe(picture, candidates, mirrored=True),
        [(labels.index(note.label), note.box) for note in image.annotations],
    )


def _mark(example: _Example, objects: Sequence[tuple[int, Box | None]], labels: tuple[str, ...]) -> Marks:
    """The label of each candidate, given what is where; -1: neither clearly on an object nor clearly beside all."""
    marks = []
    for candidate in example.candidates:
        overlaps = [(candidate.overlap(box), label) for label, box in objects if box]
        overlap, label = max(overlaps, default=(0.0, len(labels)))
        marks.append(label if overlap >= _HIT else len(labels) if overlap <= _MISS else -1)
    return np.array(marks)


def _learn_whole_images(labels: tuple[str, ...], examples: Sequence[_Example]) -> Detector:
    anywhere = [
        (example, np.full(len(example.candidates), label))
        for example in examples
        for label in {label for label, _ in example.truth} or {len(labels)}
    ]
    detector = _fit("classification", labels, anywhere)
    for _ in range(_ROUNDS):
        marked = []
        for example in examples:
            likeliest = detector.probabilities(example.features).argmax(axis=0)
            objects = [(label, example.candidates[likeliest[label]]) for label, _ in example.truth]
            marked.append((example, _mark(example, objects, labels)))
        detector = _fit("classification", labels, marked)
    return detector


def _fit(kind: Kind, labels: tuple[str, ...], marked: Sequence[tuple[_Example, Marks]]) -> Detector:
    parts = [part[marks >= 0] for example, marks in marked for part in (example.features, example.mirrored)]
    targets = np.concatenate([part[part >= 0] for _, marks in marked for part in (marks, marks)])
    features = np.concatenate(parts)
    components = min(_COMPONENTS, *features.shape)
    reduction = PCA(components, svd_solver="randomized", random_state=0).fit(features)
    model = LogisticRegression(C=_FREEDOM, max_iter=500).fit(reduction.transform(features), targets)
    scores, offsets = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # scikit-learn scores the second of two classes only; the first one's score is 0
        scores, offsets = np.vstack([np.zeros_like(scores), scores]), np.concatenate([np.zeros_like(offsets), offsets])
    # Reduction and regression are both linear: one matrix does them together. A label that is left without examples
    # (its objects were taken for another's) stays so unlikely that it is never reported.
    weights = np.zeros((len(labels) + 1, features.shape[1]), dtype=np.float32)
    bias = np.full(len(labels) + 1, _NEVER, dtype=np.float32)
    weights[model.classes_] = scores @ reduction.components_
    bias[model.classes_] = offsets - scores @ reduction.components_ @ reduction.mean_
    return Detector(labels, kind, weights, bias)


def _shifted(box: Box, rng: random.Random) -> Box:
    left = min(max(0.0, box.left + box.width * rng.uniform(-0.1, 0.1)), 0.98)
    top = min(max(0.0, box.top + box.height * rng.uniform(-0.1, 0.1)), 0.98)
    width, height = box.width * rng.uniform(0.9, 1.12), box.height * rng.uniform(0.9, 1.12)
    return Box(left, top, min(width, 1 - left), min(height, 1 - top))


def _window(rng: random.Random) -> Box:
    width, height = rng.uniform(0.1, 0.6), rng.uniform(0.1, 0.6)
    return Box(rng.uniform(0, 1 - width), rng.uniform(0, 1 - height), width, height)
