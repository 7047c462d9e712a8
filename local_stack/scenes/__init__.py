"""Product scenes for the demo, drawn by code: a seed in, a flat illustration and its exact bounding boxes out.

Training, test, held-out and demo images come from disjoint ranges of seeds, so that no model is ever judged on, or
shown off with, an image that it was trained on.
"""

from __future__ import annotations

from local_stack.scenes.ground_truth import ground_truth_label_line, ground_truth_line
from local_stack.scenes.products import DRAWINGS
from local_stack.scenes.scene import Scene, SceneObject, draw_scene, encode

PRODUCTS = tuple(DRAWINGS)

TRAINING_SEEDS = range(0, 10_000)
TEST_SEEDS = range(10_000, 20_000)  # what a model is evaluated on when it is trained
HELD_OUT_SEEDS = range(20_000, 30_000)  # what the tests of the vision engine judge it on
DEMO_SEEDS = range(100_000, 1_100_000)  # what the demo and the benchmarks upload

__all__ = [
    "DEMO_SEEDS",
    "HELD_OUT_SEEDS",
    "PRODUCTS",
    "TEST_SEEDS",
    "TRAINING_SEEDS",
    "Scene",
    "SceneObject",
    "draw_scene",
    "encode",
    "ground_truth_label_line",
    "ground_truth_line",
]
