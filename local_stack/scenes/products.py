"""The five products. Each roughly fits the square from (-0.5, -0.5) to (0.5, 0.5), stands upright, and
varies with the random numbers. `colour` is its own, `ink` that of its small parts: the opposite of the backdrop's."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from local_stack.scenes.pen import Colour, Pen, Point, arc, curve, rounded, shade

_STEEL: Colour = (148, 158, 172)
_CREAM: Colour = (250, 244, 230)
_WOODS: tuple[Colour, ...] = ((181, 120, 72), (150, 94, 58), (205, 152, 100))


def draw_bicycle(pen: Pen, colour: Colour, ink: Colour, rng: random.Random) -> None:
    rear, front, wheel = (-0.285, 0.14), (0.285, 0.14), 0.205
    crank, seat, head = (-0.05, 0.15), (-0.12, -0.13), (0.19, -0.14)
    tyre = rng.choice((ink, ink, shade(ink, 0.2)))
    guards = rng.random() < 0.5
    for hub in (rear, front):
        for angle in range(0, 180, 30):
            pen.stroke([arc(hub, (wheel, wheel), a, a + 1)[0] for a in (angle, angle + 180)], 0.006, _STEEL)
        pen.stroke(arc(hub, (wheel - 0.022, wheel - 0.022)), 0.012, shade(_STEEL, 0.45))
        pen.stroke(arc(hub, (wheel, wheel)), 0.034, tyre)
        pen.fill(arc(hub, (0.024, 0.024)), ink)
        if guards:
            pen.stroke(arc(hub, (wheel + 0.028, wheel + 0.028), 190, 300), 0.018, shade(colour, -0.2))
    stays = shade(colour, -0.22)
    pen.stroke([rear, crank], 0.022, stays)
    pen.stroke([rear, seat], 0.02, stays)
    if rng.random() < 0.35:  # a step-through frame
        pen.stroke(curve(head, (0.0, 0.12), (-0.085, 0.02)), 0.036, colour)
    else:
        pen.stroke([seat, head], 0.034, colour)
    pen.stroke([head, crank], 0.036, colour)
    pen.stroke([crank, (-0.135, -0.2)], 0.034, colour)
    pen.stroke([(0.175, -0.22), head, front], 0.03, colour)
    pen.stroke([(-0.13, -0.18), (-0.14, -0.225)], 0.02, _STEEL)
    pen.fill(curve((-0.235, -0.245), (-0.12, -0.29), (-0.055, -0.235)) + [(-0.14, -0.21)], ink)
    if rng.random() < 0.5:  # a drop bar, or a flat one with a grip
        pen.stroke([(0.175, -0.22), (0.235, -0.25), *arc((0.25, -0.195), (0.055, 0.055), 270, 430)], 0.022, ink)
    else:
        pen.stroke([(0.175, -0.22), (0.165, -0.27), (0.105, -0.285)], 0.022, _STEEL)
        pen.stroke([(0.13, -0.281), (0.085, -0.29)], 0.034, ink)
    if rng.random() < 0.4:
        pen.fill([(0.215, -0.2), (0.395, -0.2), (0.37, -0.06), (0.24, -0.06)], _WOODS[0])
        for x in (0.26, 0.305, 0.35):
            pen.stroke([(x, -0.185), (0.305 + (x - 0.305) * 0.8, -0.075)], 0.01, shade(_WOODS[0], -0.3))
        pen.stroke([(0.215, -0.2), (0.395, -0.2)], 0.022, shade(_WOODS[0], -0.2))
    pen.fill(arc(crank, (0.055, 0.055)), ink)
    pen.fill(arc(crank, (0.028, 0.028)), shade(_STEEL, 0.3))
    pen.stroke([crank, (0.0, 0.235)], 0.018, ink)
    pen.stroke([(-0.03, 0.24), (0.03, 0.24)], 0.026, ink)


def draw_mug(pen: Pen, colour: Colour, ink: Colour, rng: random.Random) -> None:
    height, taper = rng.uniform(0.29, 0.4), rng.choice((0.0, 0.0, 0.03, 0.05))
    left, right, lip, dark = -0.31, 0.21, 0.062, shade(colour, -0.2)
    centre, half = (left + right) / 2, (right - left) / 2
    reach, middle = rng.uniform(0.15, 0.19), rng.uniform(-0.04, 0.02)
    pen.stroke(arc((right - 0.03, middle), (reach, height * 0.56), -84, 84), 0.068, dark)

    def body(inset: float) -> list[Point]:
        width = half - taper
        end = math.degrees(math.acos(max(-1.0, (left + inset - centre) / width)))
        return [(right, -height), *arc((centre, height), (width, lip), 0, end), (left + inset, -height)]

    pen.fill(body(0), colour)
    pen.fill(body(0.37), shade(colour, -0.1))
    pen.fill(body(0.45), dark)
    _decorate_mug(pen, rng.choice((_CREAM, shade(colour, 0.55), shade(colour, -0.45))), half - taper * 0.6, height, rng)
    pen.stroke([(left + 0.06, -height + 0.13), (left + 0.06 + taper * 0.6, height - 0.14)], 0.028, shade(colour, 0.38))
    drink = rng.choice(((98, 62, 44), (128, 84, 56), (160, 108, 52)))
    pen.fill(arc((centre, -height), (half, lip)), shade(colour, 0.3))
    pen.fill(arc((centre, -height + 0.006), (half - 0.026, lip - 0.018)), shade(colour, -0.42))
    pen.fill(arc((centre, -height + 0.018), (half - 0.05, lip - 0.03)), drink)


def _decorate_mug(pen: Pen, accent: Colour, half: float, height: float, rng: random.Random) -> None:
    motif = rng.choice(("band", "dots", "heart", "leaf", "plain"))
    if motif == "band":
        top = rng.uniform(-0.1, 0.1)
        for y in (top, top + 0.085):
            pen.fill(arc((-0.05, y), (half, 0.056), 180, 0) + arc((-0.05, y + 0.05), (half, 0.056), 0, 180), accent)
    elif motif == "dots":
        rows = ((-0.26, (-0.17, -0.04, 0.09)), (0.2, (-0.105, 0.025)), (0.66, (-0.17, -0.04, 0.09)))
        for y, columns in rows:
            for x in columns:
                pen.fill(arc((x, y * height), (0.035, 0.035)), accent)
    elif motif == "heart":
        lobes = arc((-0.115, 0.0), (0.055, 0.055), 150, 360) + arc((-0.005, 0.0), (0.055, 0.055), 180, 390)
        pen.fill([*lobes, (-0.06, 0.15)], accent)
    elif motif == "leaf":
        tip, stem = (-0.06, -0.12), (-0.06, 0.18)
        pen.fill(curve(tip, (0.08, 0.02), stem) + curve(stem, (-0.2, 0.02), tip), accent)
        pen.stroke([(-0.06, -0.04), (-0.06, 0.23)], 0.014, shade(accent, -0.3))


def draw_bottle(pen: Pen, colour: Colour, ink: Colour, rng: random.Random) -> None:
    half, neck = rng.uniform(0.125, 0.165), rng.uniform(0.042, 0.062)
    shoulder, throat = rng.uniform(-0.14, -0.04), rng.uniform(-0.32, -0.25)
    glass = shade(colour, -0.08)

    def flank(side: int) -> list[Point]:
        bend = curve((neck * side, throat), (half * side, throat + 0.03), (half * side, shoulder))
        return [(neck * side, -0.43), *bend, *arc((side * (half - 0.045), 0.45), (side * 0.045, 0.045), 0, 90)]

    pen.fill(flank(1) + flank(-1)[::-1], glass)
    dark_side = [(x, y) for x, y in flank(1) if x > half * 0.42]
    pen.fill([*dark_side, (half * 0.42, 0.495), (half * 0.42, shoulder - 0.05)], shade(colour, -0.28))
    pen.stroke([(-half * 0.62, shoulder + 0.02), (-half * 0.62, 0.4)], 0.026, shade(colour, 0.45))
    pen.stroke([(-neck * 0.4, -0.38), (-neck * 0.4, throat)], 0.016, shade(colour, 0.45))
    cap = rng.choice((ink, (212, 74, 66), (226, 178, 72), _CREAM))
    pen.fill(rounded(-neck - 0.014, -0.5, neck + 0.014, -0.415, 0.014), cap)
    pen.fill(rounded(neck * 0.3, -0.5, neck + 0.014, -0.415, 0.012), shade(cap, -0.2))
    paper = rng.choice((_CREAM, shade(colour, 0.75), (255, 255, 255)))
    top, bottom = rng.uniform(0.0, 0.07), rng.uniform(0.24, 0.34)
    pen.fill([(-half, top), (half, top), (half, bottom), (-half, bottom)], paper)
    pen.fill([(half * 0.42, top), (half, top), (half, bottom), (half * 0.42, bottom)], shade(paper, -0.12))
    accent = rng.choice(((212, 74, 66), (64, 122, 106), (226, 156, 60), (70, 96, 156)))
    middle = (top + bottom) / 2
    if rng.random() < 0.5:
        pen.fill(arc((-half * 0.2, middle), (half * 0.42, half * 0.42)), accent)
    else:
        for y, length in ((middle - 0.05, 0.9), (middle, 0.6), (middle + 0.05, 0.76)):
            pen.stroke([(-half * 0.68, y), (-half * 0.68 + half * length, y)], 0.02, accent)


def draw_umbrella(pen: Pen, colour: Colour, ink: Colour, rng: random.Random) -> None:
    rim, panels = 0.02, rng.choice((4, 5, 6))
    second = rng.choice((shade(colour, -0.16), shade(colour, 0.3), _CREAM))
    handle = rng.choice((*_WOODS, ink))
    pen.stroke([(0, -0.4), (0, 0.3)], 0.024, shade(ink, 0.25))
    hook = rng.uniform(0.062, 0.085)
    pen.stroke([(0, 0.24), (0, 0.4), *arc((hook, 0.4), (hook, 0.082), 180, 20)], 0.042, handle)
    pen.stroke([(0, -0.5), (0, -0.38)], 0.024, ink)
    edges = [-0.49 + 0.98 * panel / panels for panel in range(panels + 1)]

    def rib(x: float) -> list[Point]:
        return curve((0, -0.41), (x * 1.02, -0.4 + 0.06 * (1 - abs(x))), (x, rim))

    for panel, (start, end) in enumerate(zip(edges, edges[1:], strict=False)):
        hem = arc(((start + end) / 2, rim), ((end - start) / 2, 0.055), 360, 180)
        pen.fill(rib(start) + hem[::-1] + rib(end)[::-1], colour if panel % 2 == 0 else second)
    for x in edges[1:-1]:
        pen.stroke(rib(x), 0.009, shade(colour, -0.35))
    pen.stroke(curve((-0.09, -0.35), (-0.3, -0.28), (-0.38, -0.12)), 0.02, shade(colour, 0.5))


def draw_chair(pen: Pen, colour: Colour, ink: Colour, rng: random.Random) -> None:
    wood = rng.choice(_WOODS) if rng.random() < 0.6 else shade(colour, -0.3)
    far = shade(wood, -0.28)
    back = rng.choice(("slats", "cushion", "round"))
    for x in (-0.13, 0.25):  # the far legs
        pen.stroke([(x, 0.1), (x + (0.02 if x > 0 else -0.01), 0.41)], 0.04, far)
    if back == "cushion":
        pen.fill(rounded(-0.25, -0.49, 0.21, 0.0, 0.07), shade(colour, -0.12))
        pen.fill(rounded(-0.215, -0.455, 0.175, -0.03, 0.055), colour)
        for x, y in ((-0.1, -0.32), (0.06, -0.32), (-0.1, -0.17), (0.06, -0.17)):
            pen.fill(arc((x, y), (0.014, 0.014)), shade(colour, -0.35))
    elif back == "slats":
        for x in (-0.12, -0.02, 0.08):
            pen.stroke([(x, -0.38), (x, 0.05)], 0.03, shade(wood, -0.12))
        for x in (-0.23, 0.19):
            pen.stroke([(x, -0.46), (x, 0.06)], 0.045, wood)
        pen.fill(rounded(-0.255, -0.49, 0.215, -0.36, 0.035), wood)
    else:
        pen.stroke(arc((-0.02, -0.26), (0.205, 0.215), 140, 400), 0.045, wood)
        pen.stroke([(-0.18, -0.12), (-0.19, 0.05)], 0.045, wood)
        pen.stroke([(0.14, -0.12), (0.15, 0.05)], 0.045, wood)
        pen.fill(arc((-0.02, -0.26), (0.16, 0.17)), shade(colour, -0.08))
    pen.fill([(-0.25, 0.0), (0.21, 0.0), (0.31, 0.12), (-0.33, 0.12)], colour)
    pen.fill(rounded(-0.335, 0.105, 0.315, 0.165, 0.028), shade(colour, -0.24))
    for x in (-0.295, 0.275):
        pen.stroke([(x, 0.17), (x + (0.012 if x > 0 else -0.012), 0.475)], 0.05, wood)
    if rng.random() < 0.5:
        pen.stroke([(-0.295, 0.33), (0.275, 0.33)], 0.026, far)


DRAWINGS: dict[str, Callable[[Pen, Colour, Colour, random.Random], None]] = {
    "bicycle": draw_bicycle,
    "bottle": draw_bottle,
    "chair": draw_chair,
    "mug": draw_mug,
    "umbrella": draw_umbrella,
}
