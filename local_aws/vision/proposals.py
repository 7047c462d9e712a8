"""Where something could be: rectangles around the connected parts of an image that stand out from what is behind them.

Two views of "standing out" complement each other. Strong edges, their gaps closed, find outlined things on any calm
backdrop; the colour distance to the backdrop, guessed row by row from both sides of the image, finds large plain things
and what stands across a horizon. Each is cut at several levels, for no single threshold suits every image.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy import ndimage

from local_aws.vision.values import Box

_GRID_PX = 160  # the longest side of the map that is searched
# Where to cut (of 1), and how wide a gap to close (in map pixels): the surer the part, the farther it may reach.
_EDGE_CUTS = ((0.05, 1), (0.1, 3), (0.2, 6))
_DISTANCE_CUTS = ((0.1, 0), (0.15, 1), (0.25, 3))
_SMALLEST_SIDE = 0.04  # of the image's longest side
_MOST = 60  # a photograph falls into hundreds of parts; the small ones are the least likely to be anything
_SAME = 0.85  # intersection over union from which two proposals are one

Mask = NDArray[np.bool_]
Pixels = NDArray[np.float32]  # (height, width, red-green-blue), 0-1


def propose(picture: Image.Image) -> list[Box]:
    """Rectangles that may hold an object, the largest first, and no two nearly alike."""
    reduced = picture.reduce(max(1, round(max(picture.size) / _GRID_PX))).filter(ImageFilter.GaussianBlur(0.8))
    small = np.asarray(reduced, dtype=np.float32) / np.float32(255)
    edges = np.hypot(ndimage.sobel(small, axis=1) / 8, ndimage.sobel(small, axis=0) / 8).max(axis=2)
    away = np.abs(small - _backdrop(small)).max(axis=2)
    masks = [_closed(edges > level, gap) for level, gap in _EDGE_CUTS]
    masks += [_closed(away > level, gap) for level, gap in _DISTANCE_CUTS]
    kept: list[Box] = []
    for box in sorted((box for mask in masks for box in _boxes(mask)), key=lambda box: -box.width * box.height):
        if len(kept) < _MOST and all(box.overlap(other) < _SAME for other in kept):
            kept.append(box)
    return kept


def _backdrop(small: Pixels) -> Pixels:
    """Each row's colour if nothing stood in it: from its left end to its right end, smoothed down the image."""
    margin = max(1, small.shape[1] // 40)
    ends = [np.median(part, axis=1) for part in (small[:, :margin], small[:, -margin:])]
    left, right = (ndimage.median_filter(end, size=(9, 1)) for end in ends)
    across = np.linspace(0, 1, small.shape[1], dtype=np.float32)[None, :, None]
    blend: Pixels = left[:, None] * (1 - across) + right[:, None] * across
    return blend


def _closed(mask: Mask, gap: int) -> Mask:
    if not gap:
        return mask
    closed: Mask = ndimage.binary_closing(np.pad(mask, gap), iterations=gap)[gap:-gap, gap:-gap]
    return closed


def _boxes(mask: Mask) -> list[Box]:
    height, width = mask.shape
    smallest = _SMALLEST_SIDE * max(height, width)
    labelled, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    boxes = []
    for rows, columns in ndimage.find_objects(labelled):
        across, down = columns.stop - columns.start, rows.stop - rows.start
        if max(across, down) >= smallest * 2 and min(across, down) >= smallest:
            boxes.append(Box(columns.start / width, rows.start / height, across / width, down / height))
    return boxes
