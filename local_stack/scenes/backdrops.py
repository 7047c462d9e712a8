"""What stands behind the products: soft gradients, rooms, patterns, lights; always calmer than what stands in front."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from PIL import Image, ImageDraw, ImageFilter, ImageOps

from local_stack.scenes.pen import Colour, Point, arc, curve, rounded, shade

_TONES: tuple[Colour, ...] = (
    (244, 232, 214), (222, 233, 240), (232, 226, 241), (222, 238, 226), (248, 222, 212), (236, 236, 232),
    (250, 236, 196), (206, 222, 232), (196, 218, 210), (58, 72, 98), (52, 84, 88), (92, 72, 96), (74, 66, 62),
)  # fmt: skip


@dataclass(frozen=True)
class Backdrop:
    """`tone` is the colour it is in, that products stand out from; `floor_px` is where a floor begins, if it has one."""

    image: Image.Image
    tone: Colour
    floor_px: int | None

    @property
    def is_dark(self) -> bool:
        return sum(self.tone) < 380


def draw_backdrop(size: tuple[int, int], rng: random.Random) -> Backdrop:
    tone = rng.choice(_TONES)
    image = _gradient(size, shade(tone, rng.uniform(0.1, 0.3)), shade(tone, -rng.uniform(0.02, 0.14)), rng)
    decorate = rng.choice((None, _room, _room, _dots, _stripes, _lights, _hills))
    backdrop = Backdrop(image, tone, round(size[1] * rng.uniform(0.6, 0.74)) if decorate is _room else None)
    if decorate:
        decorate(backdrop, rng)
    return backdrop


def _gradient(size: tuple[int, int], light: Colour, dark: Colour, rng: random.Random) -> Image.Image:
    if rng.random() < 0.35:
        ramp = Image.radial_gradient("L").resize(size, Image.Resampling.BILINEAR)
        return ImageOps.colorize(ramp, light, dark)
    ramp = Image.linear_gradient("L").rotate(rng.choice((0, 0, 180, 90, 270)))
    return ImageOps.colorize(ramp.resize(size, Image.Resampling.BILINEAR), light, dark)


def _room(backdrop: Backdrop, rng: random.Random) -> None:
    image, tone, floor = backdrop.image, backdrop.tone, backdrop.floor_px or backdrop.image.height
    for thing in rng.sample((_hang_picture, _hang_pennants, _cut_window), k=rng.randint(0, 2)):
        thing(backdrop, rng)
    ground = _gradient((image.width, image.height - floor), shade(tone, -0.1), shade(tone, -0.2), rng)
    image.paste(ground, (0, floor))
    ImageDraw.Draw(image).rectangle([0, floor - 5, image.width, floor - 1], fill=_tinted(backdrop, 0.5))


def _hang_picture(backdrop: Backdrop, rng: random.Random) -> None:
    width, height = rng.randint(50, 84), rng.randint(50, 84)
    left, top = rng.randint(16, max(17, backdrop.image.width // 2 - width)), rng.randint(20, 44)
    draw = ImageDraw.Draw(backdrop.image)
    draw.rectangle([left, top, left + width, top + height], fill=_tinted(backdrop, -0.6))
    draw.rectangle([left + 5, top + 5, left + width - 5, top + height - 5], fill=_tinted(backdrop, 0.7))
    middle = (left + width / 2, top + height / 2)
    _tint(backdrop, [arc(middle, (width * 0.2, width * 0.2))], -0.4)


def _hang_pennants(backdrop: Backdrop, rng: random.Random) -> None:
    width, sag = backdrop.image.width, rng.uniform(20, 50)
    string = curve((-10, 10), (width / 2, 10 + 2 * sag), (width + 10, 10), steps=14)
    flags = [[start, end, ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + 30)] for start, end in pairwise(string)]
    _tint(backdrop, flags[::2], -0.5)
    _tint(backdrop, flags[1::2], 0.7)


def _cut_window(backdrop: Backdrop, rng: random.Random) -> None:
    width, height = rng.randint(90, 130), rng.randint(90, 120)
    right, top = backdrop.image.width - rng.randint(16, 70), rng.randint(18, 36)
    _tint(backdrop, [rounded(right - width, top, right, top + height, 8)], -0.5)
    gap, pane = 6, (width - 18) / 2
    for left in (right - width + gap, right - width + 2 * gap + pane):
        _tint(backdrop, [rounded(left, top + gap, left + pane, top + height - gap, 3)], 0.9)


def _dots(backdrop: Backdrop, rng: random.Random) -> None:
    step = rng.randint(34, 56)
    radius = step * rng.uniform(0.12, 0.22)
    rows = enumerate(range(0, backdrop.image.height + step, step // 2 + 6))
    columns = range(0, backdrop.image.width + step, step)
    dots = [arc((x + row % 2 * step / 2, y), (radius, radius)) for row, y in rows for x in columns]
    _tint(backdrop, dots, rng.choice((-0.45, 0.8)))


def _stripes(backdrop: Backdrop, rng: random.Random) -> None:
    width, height = backdrop.image.size
    step, slant = rng.randint(30, 60), rng.choice((-1, 0, 1)) * height
    lefts = range(-height, width + height, step * 2)
    stripes = [[(x, 0), (x + step, 0), (x + step + slant, height), (x + slant, height)] for x in lefts]
    _tint(backdrop, stripes, rng.choice((-0.4, 0.7)))


def _lights(backdrop: Backdrop, rng: random.Random) -> None:
    width, height = backdrop.image.size
    for _ in range(rng.randint(5, 9)):
        radius = rng.uniform(20, 60)
        light = arc((rng.uniform(0, width), rng.uniform(0, height)), (radius, radius))
        _tint(backdrop, [light], rng.choice((1.0, 0.7, -0.5)), blur=3)


def _hills(backdrop: Backdrop, rng: random.Random) -> None:
    width, height = backdrop.image.size
    for depth in (0.3, 0.6, 0.9):
        crest = height * (0.5 + depth * 0.3)
        rises = [rng.uniform(-40, 40) for _ in range(5)]
        ridge = [(width * step / 4, crest + rise) for step, rise in enumerate(rises)]
        middles = [((a[0] + b[0]) / 2, (a[1] + b[1]) / 2) for a, b in pairwise(ridge)]
        tops = zip(ridge[1:-1], pairwise(middles), strict=True)
        slopes = [point for knee, (start, end) in tops for point in curve(start, knee, end)]
        _tint(backdrop, [[(0, height), ridge[0], *slopes, ridge[-1], (width, height)]], -depth)


def _tinted(backdrop: Backdrop, by: float) -> Colour:
    """The tone, a little lighter (`by` up to 1) or darker (down to -1), never enough to compete with a product."""
    return shade(backdrop.tone, by * (0.12 if backdrop.is_dark else 0.45 if by > 0 else 0.16))


def _tint(backdrop: Backdrop, shapes: Sequence[Sequence[Point]], by: float, blur: float = 0) -> None:
    mask = Image.new("L", (backdrop.image.width * 2, backdrop.image.height * 2))  # twice as large: smooth edges
    draw = ImageDraw.Draw(mask)
    for shape in shapes:
        draw.polygon([(x * 2, y * 2) for x, y in shape], fill=255)
    smooth = mask.reduce(2)
    soft = smooth.filter(ImageFilter.GaussianBlur(blur)) if blur else smooth
    backdrop.image.paste(_tinted(backdrop, by), (0, 0), soft)
