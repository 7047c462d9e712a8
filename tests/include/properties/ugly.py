"""Files that are named like images, and what becomes of each. Pillow makes most; the rest are bytes laid by hand."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import Any, Final

from PIL import Image

from include.preflight import MAX_BYTES
from tests.include.samples import picture


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _animation(format: str) -> bytes:
    body = io.BytesIO()
    frames = [Image.new("RGB", (100, 80), colour) for colour in ("red", "green", "blue")]
    frames[0].save(body, format, save_all=True, append_images=frames[1:])
    return body.getvalue()


def segment(marker: int, payload: bytes) -> bytes:
    """A segment of a JPEG."""
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(payload) + 2) + payload


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    """Segments behind a JPEG's first marker, before everything else."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *before_data: bytes, data: bytes = b"") -> bytes:
    """A PNG whose header says a size, whatever its data hold."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + b"".join(before_data)
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )


def claiming(jpeg: bytes, width: int, height: int) -> bytes:
    """A JPEG whose frame header says another size than its data have."""
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :]


def zipped() -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(1_000_000))
    return body.getvalue()


JPEG: Final = picture()
_HEIC: Final = struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic" + bytes(200)
_AVIF: Final = struct.pack(">I", 24) + b"ftypavif" + bytes(4) + b"mif1avif" + bytes(200)
_EXIF_LOOP: Final = b"Exif\0\0II*\0\x08\0\0\0" + b"\x01\0\x69\x87\x04\0\x01\0\0\0\x08\0\0\0" + b"\x08\0\0\0"

ACCEPTED: Final[dict[str, bytes]] = {
    "cmyk.jpg": picture(mode="CMYK"),
    "grey.jpg": picture(mode="L"),
    "grey 16 bit.png": picture("PNG", mode="I;16"),
    "palette.png": picture("PNG", mode="P"),
    "transparent.png": picture("PNG", mode="RGBA"),
    "animated.png": _animation("PNG"),
    "two pictures.mpo": _animation("MPO"),
    "progressive.jpg": picture(progressive=True, size=(640, 480)),
    "a png.jpg": picture("PNG"),
    "a jpeg.png": JPEG,
    "no extension": JPEG,
    "trailing garbage.jpg": JPEG + b"<?php system($_GET['c']); ?>" * 100,
    "trailing zip.jpg": JPEG + zipped(),
    "profile before the size.jpg": with_segments(JPEG, *[segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(60_000))] * 4),
    "exif beyond use.jpg": with_segments(JPEG, segment(0xE1, b"Exif\0\0" + b"\xff" * 500)),
    "exif that loops.jpg": with_segments(JPEG, segment(0xE1, _EXIF_LOOP)),
    "exif of half a tag.jpg": with_segments(JPEG, segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01")),
    "exif in png.png": png(100, 80, chunk(b"eXIf", b"MM\0*\xff\xff\xff\xff")),
    "xmp beyond use.png": png(100, 80, chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x" + b"<" * 5_000)),
    "smallest.jpg": picture(size=(64, 64)),
    "largest.png": picture("PNG", (4096, 4096), "1"),
    "20 to 1.jpg": picture(size=(1280, 64)),
    "1 to 20.jpg": picture(size=(64, 1280)),
    **{f"orientation {number}.jpg": picture(exif=_exif(number)) for number in range(1, 9)},
    "orientation 9.jpg": picture(exif=_exif(9)),
    "15 MB.jpg": JPEG + bytes(MAX_BYTES - len(JPEG)),
}

# Each with its code, and words of the reason.
REJECTED: Final[dict[str, tuple[bytes, str, str]]] = {
    "empty.jpg": (b"", "InvalidImageFormatException", "is empty"),
    "15 MB and a byte.jpg": (JPEG + bytes(MAX_BYTES + 1 - len(JPEG)), "ImageTooLargeException", "15,728,641 bytes"),
    "63 px wide.jpg": (picture(size=(63, 64)), "InvalidParameterException", "63x64 px"),
    "63 px high.png": (picture("PNG", (64, 63)), "InvalidParameterException", "64x63 px"),
    "one pixel.png": (picture("PNG", (1, 1)), "InvalidParameterException", "1x1 px"),
    "4097 px.png": (picture("PNG", (4097, 4096), "1"), "ImageTooLargeException", "4097x4096 px"),
    "beyond 20 to 1.jpg": (picture(size=(1281, 64)), "InvalidParameterException", "20:1"),
    "beyond 1 to 20.jpg": (picture(size=(64, 1281)), "InvalidParameterException", "20:1"),
    "bomb.png": (png(50_000, 50_000), "ImageTooLargeException", "4096"),
    "bomb of the largest size.png": (png(2**31 - 1, 2**31 - 1), "ImageTooLargeException", "4096"),
    "bomb below the limit of warnings.png": (png(9_000, 9_000), "ImageTooLargeException", "9000x9000 px"),
    "large in its header only.jpg": (claiming(JPEG, 65_500, 65_500), "ImageTooLargeException", "4096"),
    "small in its header only.jpg": (claiming(JPEG, 10, 10), "InvalidParameterException", "10x10 px"),
    "no pixels.png": (png(0, 0), "Invalid", ""),
    "bomb of text.png": (
        png(100, 80, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000))))[:3_000],
        "InvalidImageFormatException",
        "not an image",
    ),
    "gif.jpg": (_animation("GIF"), "InvalidImageFormatException", "is GIF"),
    "webp.jpg": (_animation("WEBP"), "InvalidImageFormatException", "is WEBP"),
    "tiff.jpg": (picture("TIFF"), "InvalidImageFormatException", "is TIFF"),
    "bmp.jpg": (picture("BMP"), "InvalidImageFormatException", "is BMP"),
    "ico.jpg": (picture("ICO"), "InvalidImageFormatException", "is ICO"),
    "jpeg 2000.jpg": (picture("JPEG2000"), "InvalidImageFormatException", "is JPEG2000"),
    "heic.jpg": (_HEIC, "InvalidImageFormatException", "not an image"),
    "avif.jpg": (_AVIF, "InvalidImageFormatException", ""),
    "svg.jpg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "InvalidImageFormatException", "not an image"),
    "html.jpg": (b"<html><script>alert(1)</script></html>", "InvalidImageFormatException", "not an image"),
    "postscript.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n", "InvalidImageFormatException", ""),
    "pdf.jpg": (b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n", "InvalidImageFormatException", "not an image"),
    "zip.jpg": (zipped(), "InvalidImageFormatException", "not an image"),
    "text.jpg": ("schön\n".encode() * 100, "InvalidImageFormatException", "not an image"),
    "zeros.jpg": (bytes(200_000), "InvalidImageFormatException", "not an image"),
    "program.jpg": (b"\x7fELF" + bytes(range(256)) * 10, "InvalidImageFormatException", "not an image"),
    "only a start.jpg": (JPEG[:2], "InvalidImageFormatException", "not an image"),
    "only a signature.png": (b"\x89PNG\r\n\x1a\n", "InvalidImageFormatException", "not an image"),
    "segments without end.jpg": (
        b"\xff\xd8" + segment(0xE1, bytes(60_000)) * 5,
        "InvalidImageFormatException",
        "not an image",
    ),
}


def every_body() -> dict[str, bytes]:
    return ACCEPTED | {name: expected[0] for name, expected in REJECTED.items()}


def seeds() -> list[Any]:
    """Small images of every kind, to be damaged."""
    small = {name: body for name, body in every_body().items() if 20 < len(body) < 4_000}
    return [small[name] for name in sorted(small)]
