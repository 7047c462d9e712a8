"""From the bytes of an image file to the picture that is analysed."""

from __future__ import annotations

import io

from PIL import Image, ImageOps

from local_aws.vision.values import VisionError

LONGEST_SIDE_PX = 320  # things of a tenth of the image keep enough of their shape, and there is little to look at


def read_picture(data: bytes) -> Image.Image:
    """The image upright (EXIF orientation applied), in RGB, at most LONGEST_SIDE_PX; VisionError if unreadable."""
    try:
        image = Image.open(io.BytesIO(data))
        image.draft("RGB", (LONGEST_SIDE_PX, LONGEST_SIDE_PX))  # a JPEG is decoded at a fraction of its size
        upright = ImageOps.exif_transpose(image).convert("RGB")
    except (Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise VisionError(f"The image cannot be decoded ({error}). Use a complete JPEG or PNG file.") from error
    upright.thumbnail((LONGEST_SIDE_PX, LONGEST_SIDE_PX), Image.Resampling.BOX)
    return upright
