"""One scene: a backdrop, up to three products with their shadows, a little grain, and where each product is."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from local_stack.scenes.backdrops import Backdrop, draw_backdrop
from local_stack.scenes.pen import Colour, Pen
from local_stack.scenes.products import DRAWINGS

_COLOURS: tuple[Colour, ...] = (
    (216, 72, 68), (236, 128, 62), (240, 186, 66), (92, 158, 98), (44, 136, 132), (66, 128, 196),
    (70, 84, 160), (138, 92, 168), (214, 98, 142), (122, 88, 70), (84, 98, 116), (244, 238, 226),
)  # fmt: skip
_DARK_INK: Colour = (46, 50, 66)
_PALE_INK: Colour = (226, 220, 208)
_CONTRAST = 95  # distance in RGB between a product and the tone behind it
_SHADOW_COLOUR: Colour = (20, 24, 40)
_SHADOW_LEVEL = 56  # how opaque it is, of 255
_MOST_OBJECTS = (0.06, 0.44, 0.82)  # cumulated odds of 0, 1 and 2 objects; 3 otherwise
_VISIBLE = 96  # alpha from which a pixel counts as part of the object, not of its soft edge


@dataclass(frozen=True)
class SceneObject:
    """A product in a scene; its visible pixels lie inside this box, given in pixels from the top left."""

    label: str
    left_px: int
    top_px: int
    width_px: int
    height_px: int


@dataclass(frozen=True)
class Scene:
    image: Image.Image
    objects: tuple[SceneObject, ...]


def draw_scene(seed: int, *, size: tuple[int, int] = (480, 360), labels: Sequence[str] | None = None) -> Scene:
    """Draw the scene of a seed: the same pixels each time, on any machine.

    `labels` says which products to show (an empty list: none); left out, the seed decides on none to three.
    Raises KeyError for a label that is not one of PRODUCTS.
    """
    rng = random.Random(seed)
    backdrop = draw_backdrop(size, rng)
    if labels is None:
        roll = rng.random()
        labels = rng.choices(tuple(DRAWINGS), k=sum(roll >= odds for odds in _MOST_OBJECTS))
    places = _places(backdrop, len(labels), rng)
    objects = tuple(_add_product(backdrop, label, place, rng) for label, place in zip(labels, places, strict=True))
    return Scene(_grain(backdrop.image, rng), objects)


def encode(image: Image.Image, image_format: str) -> bytes:
    """The image as a file: "JPEG", "PNG" or "WEBP"; equal pixels give equal bytes."""
    buffer = io.BytesIO()
    image.save(buffer, image_format, quality=88)
    return buffer.getvalue()


@dataclass(frozen=True)
class _Place:
    """Where a product goes, and how many pixels it reaches from end to end; y is its foot if it stands, else its middle."""

    x: float
    y: float
    reach: float
    stands: bool


def _places(backdrop: Backdrop, count: int, rng: random.Random) -> Iterator[_Place]:
    """Side by side, in columns, on the floor if there is one; elsewhere now and then cut off by the lower edge."""
    width, height = backdrop.image.size
    column = width / max(count, 1)
    for index in range(count):
        reach = min(column, height) * rng.uniform(0.62, 0.94)
        x = column * (index + 0.5) + rng.uniform(-0.5, 0.5) * (column - reach)
        if backdrop.floor_px is not None:
            y = backdrop.floor_px + rng.uniform(0.25, 0.9) * (height - backdrop.floor_px)
            yield _Place(x, max(y, reach), reach, stands=True)
        else:
            middle = height / 2 + rng.uniform(-0.3, 0.45) * (height - reach)
            cut_off = rng.random() < 0.12
            y = height - reach * rng.uniform(0.36, 0.42) if cut_off else middle
            yield _Place(x, y, reach, stands=False)


def _add_product(backdrop: Backdrop, label: str, place: _Place, rng: random.Random) -> SceneObject:
    tilted = not place.stands and rng.random() < 0.6
    tilt_degrees = rng.uniform(-24, 24) if tilted else rng.uniform(-2, 2)
    pen = Pen(round(place.reach * 1.5), place.reach, tilt_degrees, mirrored=rng.random() < 0.5)
    colours = [colour for colour in _COLOURS if math.dist(colour, backdrop.tone) > _CONTRAST]
    DRAWINGS[label](pen, rng.choice(colours), _PALE_INK if backdrop.is_dark else _DARK_INK, rng)
    layer = pen.finish()
    alpha = layer.getchannel("A")
    first_x, first_y, last_x, last_y = _bounds(alpha)

    left = round(place.x - layer.width / 2)
    top = round(place.y) - last_y if place.stands else round(place.y - layer.height / 2)
    image = backdrop.image
    image.paste(_SHADOW_COLOUR, (left, top), _shadow(alpha, place))
    image.paste(layer, (left, top), alpha)
    box_left, box_top = max(0, left + first_x), max(0, top + first_y)
    right, bottom = min(image.width, left + last_x), min(image.height, top + last_y)
    return SceneObject(label, box_left, box_top, right - box_left, bottom - box_top)


def _bounds(alpha: Image.Image) -> tuple[int, int, int, int]:
    """From where (left, top) and up to where (right, bottom, not included) a layer shows anything."""
    bounds = alpha.point([255 * (level >= _VISIBLE) for level in range(256)]).getbbox()
    if bounds is None:
        raise ValueError(
            f"The product on a layer of {alpha.width} pixels is too small to be seen. Draw a larger scene."
        )
    return bounds


def _shadow(alpha: Image.Image, place: _Place) -> Image.Image:
    """A pool of shade under a thing that stands, a soft copy behind one that hangs before a wall."""
    mask = Image.new("L", alpha.size)
    if place.stands:
        left, _, right, bottom = _bounds(alpha)
        pool = (left, bottom - place.reach * 0.05, right, bottom + place.reach * 0.02)
        ImageDraw.Draw(mask).ellipse(pool, fill=_SHADOW_LEVEL * 3 // 2)
        return mask.filter(ImageFilter.GaussianBlur(place.reach * 0.02))
    offset = round(place.reach * 0.045)
    mask.paste(_SHADOW_LEVEL, (offset, offset), alpha)
    return mask.filter(ImageFilter.GaussianBlur(place.reach * 0.04))


def _grain(image: Image.Image, rng: random.Random) -> Image.Image:
    """A little noise, as cameras have, on some of the scenes."""
    strength = rng.choice((0, 0, 2, 3, 5))
    if not strength:
        return image
    noise = Image.frombytes("L", image.size, rng.randbytes(image.width * image.height))
    noise = noise.point([level * 2 * strength // 255 for level in range(256)])
    return ImageChops.add(image, Image.merge("RGB", (noise, noise, noise)), offset=-strength)
