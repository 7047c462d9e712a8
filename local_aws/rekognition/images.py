"""Which images DetectCustomLabels takes, by their size and header alone.

https://docs.aws.amazon.com/rekognition/latest/customlabels-dg/limits.html ("Detection")
"""

from __future__ import annotations

import io

from PIL import Image, UnidentifiedImageError

from local_aws.wire import AwsError

MAX_S3_BYTES = 15 * 1024 * 1024
MAX_INLINE_BYTES = 4 * 1024 * 1024
MIN_SIDE_PX = 64
MAX_SIDE_PX = 4096
MAX_ASPECT_RATIO = 20


def check(data: bytes, *, inline: bool) -> None:
    """ImageTooLargeException, InvalidImageFormatException or InvalidParameterException for what the service refuses.

    AWS does not say which error a dimension raises; too large is ImageTooLargeException here, too small or too
    narrow InvalidParameterException.
    """
    most = MAX_INLINE_BYTES if inline else MAX_S3_BYTES
    if len(data) > most:
        raise AwsError("ImageTooLargeException", f"Image size is too large: {len(data)} bytes; {most} are the most")
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
            width, height = image.size
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise AwsError("InvalidImageFormatException", "Request has invalid image format") from error
    except Image.DecompressionBombError as error:
        raise AwsError("ImageTooLargeException", f"Input image dimensions are too large: {error}") from error
    if max(width, height) > MAX_SIDE_PX:
        reason = f"Input image dimensions {width} x {height} exceed maximum dimension size of {MAX_SIDE_PX} pixels"
        raise AwsError("ImageTooLargeException", reason)
    if min(width, height) < MIN_SIDE_PX:
        reason = (
            f"Input image dimensions {width} x {height} are below the minimum dimension size of {MIN_SIDE_PX} pixels"
        )
        raise AwsError("InvalidParameterException", reason)
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        reason = f"The aspect ratio of {width} x {height} is greater than {MAX_ASPECT_RATIO}:1"
        raise AwsError("InvalidParameterException", reason)
