"""What goes into a model and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass


class VisionError(ValueError):
    """Images that no model can be trained on, or that cannot be read; the message is for the user."""


@dataclass(frozen=True)
class Box:
    """A rectangle in ratios (0-1) of the upright image's width and height, as Rekognition's BoundingBox."""

    left: float
    top: float
    width: float
    height: float

    def overlap(self, other: Box) -> float:
        """Intersection over union, 0-1."""
        across = min(self.left + self.width, other.left + other.width) - max(self.left, other.left)
        down = min(self.top + self.height, other.top + other.height) - max(self.top, other.top)
        shared = max(0.0, across) * max(0.0, down)
        either = self.width * self.height + other.width * other.height - shared
        return shared / either if either > 0 else 0.0


@dataclass(frozen=True)
class Annotation:
    """What a person said is on a training image; without a box it speaks of the whole image."""

    label: str
    box: Box | None


@dataclass(frozen=True)
class LabelledImage:
    """An image file and everything that is on it; no annotations: an image that shows none of the labels."""

    data: bytes
    annotations: tuple[Annotation, ...]


@dataclass(frozen=True)
class Detection:
    """A label that a model sees, with its confidence of 0-100; the box is None where the model labels whole images."""

    label: str
    confidence: float
    box: Box | None
