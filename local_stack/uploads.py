"""An hour of uploads as it comes in life: good images under strange names, and everything that can be wrong with one."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Final

from PIL import Image

from local_stack.scenes import DEMO_SEEDS, draw_scene, encode

# Folders, spaces, plus signs, brackets, accents, an emoji; what the pipeline must carry through unharmed.
NAMES: Final = (
    "2026/11/studio-{n:02d}.jpg",
    "shop window/summer sale ({n}).JPEG",
    "catalogue/c++/model+{n}.jpg",
    "Übersee/café n°{n}.PNG",
    "新商品/写真 {n}.jpg",
    "team 🚲/ride #{n} 100%.jpg",
)
GOOD_IMAGES: Final = 56


@dataclass(frozen=True)
class Upload:
    """A file to upload and what should become of it."""

    key: str
    body: bytes
    expected: str
    note: str = ""
    deleted_before_run: bool = False
    times: int = 1


def an_hour_of_uploads(good_images: int = GOOD_IMAGES) -> Iterator[Upload]:
    """Good images first, then one of each kind of trouble."""
    for number, (seed, name) in enumerate(zip(DEMO_SEEDS, cycle(NAMES), strict=False)):
        if number == good_images:
            break
        key = name.format(n=number)
        image_format = "PNG" if key.endswith(".PNG") else "JPEG"
        yield Upload(key, encode(draw_scene(seed).image, image_format), "LABELLED")
    spare = [draw_scene(seed).image for seed in DEMO_SEEDS[good_images : good_images + 4]]
    whole = encode(spare[0], "JPEG")
    yield Upload(
        "trouble/cut off in the middle.jpg", whole[: len(whole) // 3], "FAILED", "cut off: only the service can tell"
    )
    yield Upload("trouble/too wide.png", _plain(4200, 300), "REJECTED", "wider than 4,096 px")
    yield Upload("trouble/too small.png", _plain(40, 40), "REJECTED", "smaller than 64 px")
    yield Upload("trouble/modern.webp", encode(spare[1], "WEBP"), "REJECTED", "WebP")
    yield Upload("trouble/notes.jpg", b"Not an image at all.\n" * 40, "REJECTED", "a text file")
    yield Upload(
        "trouble/second thoughts.jpg",
        encode(spare[2], "JPEG"),
        "MISSING",
        "deleted before the run",
        deleted_before_run=True,
    )
    yield Upload("trouble/uploaded twice.jpg", encode(spare[3], "JPEG"), "LABELLED", "uploaded twice", times=2)


def _plain(width: int, height: int) -> bytes:
    body = io.BytesIO()
    Image.new("RGB", (width, height), (196, 206, 212)).save(body, "PNG")
    return body.getvalue()
