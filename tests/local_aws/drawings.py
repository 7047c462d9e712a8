"""Small drawn images, and the manifests that label them, for a model that trains in a moment."""

from __future__ import annotations

import io
import json
import random
from typing import Any

from PIL import Image, ImageDraw

SIDE_PX = 160


def jpeg(width: int = SIDE_PX, height: int = SIDE_PX, *, seed: int = 0) -> bytes:
    """A plain image of a size."""
    shade = random.Random(seed).randrange(60, 200)
    return encoded(Image.new("RGB", (width, height), (shade, 90, 120)), "JPEG")


def encoded(image: Image.Image, kind: str) -> bytes:
    """The image as a file."""
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def scene(shape: str, seed: int) -> tuple[bytes, tuple[int, int, int, int]]:
    """A JPEG with one shape (`ball` or `tile`) on a light ground, and its box in pixels: left, top, width, height."""
    generator = random.Random(f"{shape}-{seed}")
    size = generator.randrange(50, 80)
    left, top = (generator.randrange(5, SIDE_PX - size - 5) for _ in range(2))
    image = Image.new("RGB", (SIDE_PX, SIDE_PX), (235, 235, 230))
    draw = ImageDraw.Draw(image)
    corners = (left, top, left + size, top + size)
    if shape == "ball":
        draw.ellipse(corners, fill=(200, 40, 40))
    else:
        draw.rectangle(corners, fill=(40, 60, 190))
    return encoded(image, "JPEG"), (left, top, size, size)


def detection_line(uri: str, shape: str, box: tuple[int, int, int, int]) -> dict[str, Any]:
    """A Ground Truth line with one bounding box."""
    left, top, width, height = box
    return {
        "source-ref": uri,
        "boxes": {
            "image_size": [{"width": SIDE_PX, "height": SIDE_PX, "depth": 3}],
            "annotations": [{"class_id": 0, "left": left, "top": top, "width": width, "height": height}],
        },
        "boxes-metadata": {
            "objects": [{"confidence": 1}],
            "class-map": {"0": shape},
            "type": "groundtruth/object-detection",
        },
    }


def classification_line(uri: str, shape: str) -> dict[str, Any]:
    """A Ground Truth line with one label for the whole image."""
    metadata = {"confidence": 1, "class-name": shape, "type": "groundtruth/image-classification"}
    return {"source-ref": uri, "shape": 1, "shape-metadata": metadata}


def json_lines(lines: list[dict[str, Any]]) -> bytes:
    """A manifest of these lines."""
    return "".join(json.dumps(line) + "\n" for line in lines).encode()
