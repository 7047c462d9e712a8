"""What a rectangle of an image looks like, as numbers: histograms of oriented gradients (HOG).

N. Dalal and B. Triggs, "Histograms of Oriented Gradients for Human Detection", CVPR 2005. Written for many patches at
once: scikit-image's `hog` takes them one by one, which would be most of the time that a detection takes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from local_aws.vision.values import Box

Features = NDArray[np.float32]  # (patches, LENGTH)

_PATCH_PX = 56
_CELL_PX = 7
_CELLS = _PATCH_PX // _CELL_PX
_BINS = 9  # of 20 degrees; a gradient and its opposite are the same
_CONTEXT = 0.04  # what lies just around a thing tells where it ends
_CLIP = 0.2  # Dalal and Triggs' L2-Hys: no single edge may dominate a block

LENGTH = (_CELLS - 1) ** 2 * 4 * _BINS + 2


def describe(picture: Image.Image, boxes: Sequence[Box], *, mirrored: bool = False) -> Features:
    """One row of LENGTH numbers for each box; `mirrored`: as if the picture were turned left to right."""
    if not boxes:
        return np.empty((0, LENGTH), dtype=np.float32)
    patches = np.stack([_patch(picture, box) for box in boxes]).astype(np.float32) / np.float32(255)
    shapes = np.array([[box.width * picture.width, box.height * picture.height] for box in boxes], dtype=np.float32)
    shapes = np.maximum(shapes, 1)
    aspect = np.log(shapes[:, :1] / shapes[:, 1:])
    gradients = _histograms(patches[:, :, ::-1] if mirrored else patches)
    return np.concatenate([gradients, aspect, np.abs(aspect)], axis=1)


def _patch(picture: Image.Image, box: Box) -> NDArray[np.uint8]:
    """The box and a little around it, stretched to a square."""
    width, height = picture.size
    left, right = _widened(box.left, box.width, width)
    top, bottom = _widened(box.top, box.height, height)
    patch = picture.resize((_PATCH_PX, _PATCH_PX), Image.Resampling.BILINEAR, box=(left, top, right, bottom))
    return np.asarray(patch)


def _widened(start: float, length: float, pixels: int) -> tuple[float, float]:
    """From and to which pixel a side reaches with its context: inside the picture, and a pixel long at the least."""
    first = min(max(0.0, (start - _CONTEXT * length) * pixels), pixels - 1)
    return first, max(first + 1, min(float(pixels), (start + (1 + _CONTEXT) * length) * pixels))


def _histograms(patches: NDArray[np.float32]) -> Features:
    across, down = np.zeros_like(patches), np.zeros_like(patches)
    across[:, :, 1:-1] = patches[:, :, 2:] - patches[:, :, :-2]
    down[:, 1:-1] = patches[:, 2:] - patches[:, :-2]
    strength = across**2 + down**2
    strongest = strength.argmax(axis=3)[..., None]  # of the three colours
    across, down = (np.take_along_axis(part, strongest, axis=3)[..., 0] for part in (across, down))
    strength = np.sqrt(np.take_along_axis(strength, strongest, axis=3)[..., 0])
    turn = np.arctan2(down, across) / np.pi % 1 * _BINS
    lower = np.floor(turn)
    share = turn - lower
    lower_bin = lower.astype(np.intp) % _BINS

    count = len(patches)
    cell = np.arange(_PATCH_PX) // _CELL_PX
    cells = (np.arange(count)[:, None, None] * _CELLS + cell[:, None]) * _CELLS + cell[None, :]
    flat = sum(
        np.bincount((cells * _BINS + bins).ravel(), (strength * part).ravel(), minlength=count * _CELLS**2 * _BINS)
        for bins, part in ((lower_bin, 1 - share), ((lower_bin + 1) % _BINS, share))
    )
    grid = np.asarray(flat, dtype=np.float32).reshape(count, _CELLS, _CELLS, _BINS)
    blocks = np.concatenate([grid[:, :-1, :-1], grid[:, :-1, 1:], grid[:, 1:, :-1], grid[:, 1:, 1:]], axis=3)
    return _unit(np.minimum(_unit(blocks), _CLIP)).reshape(count, -1)


def _unit(blocks: NDArray[np.float32]) -> NDArray[np.float32]:
    length: NDArray[np.float32] = np.sqrt((blocks**2).sum(axis=3, keepdims=True) + 1e-3)
    return blocks / length
