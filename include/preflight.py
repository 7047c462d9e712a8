"""Stage 3, while the model starts and does not bill yet: which images the model is to see.

Reads each image's first bytes, rejects what the service would refuse, notes size and orientation, and recognises images
that are gone or have a result already.
"""

from __future__ import annotations

import io
import logging
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, Literal

from botocore.exceptions import ClientError
from PIL import Image, ImageOps, UnidentifiedImageError

from include import layout, objects
from include.batches import Batch
from include.errors import TerminalError, error_code, error_message
from include.images import ImageRef, source_parameters
from include.outcomes import Checked, ImageFacts, Outcome, Status, read_outcomes, read_preflight, write_preflight
from include.parallel import in_parallel
from include.settings import Settings

log = logging.getLogger(__name__)

# https://docs.aws.amazon.com/rekognition/latest/customlabels-dg/limits.html, "Detection".
FORMATS: Final = frozenset({"JPEG", "PNG"})
MAX_BYTES: Final = 15 * 1024 * 1024
MIN_PX: Final = 64
MAX_PX: Final = 4096
MAX_ASPECT_RATIO: Final = 20

# Nearly every header, Exif thumbnail included, lies within the first bytes; the rest is fetched where it does not.
HEADER_BYTES: Final = 64 * 1024
ACCESS_DENIED: Final = "AccessDenied"
EXIF_ORIENTATION: Final = 0x0112
JPEG_QUALITY: Final = 92
# The largest that Pillow opens takes half a gigabyte decoded, however small its file: one at a time.
_ONE_CONVERSION: Final = threading.Lock()


def preflight(s3: Any, settings: Settings, batch: Batch, *, run_id: str, now: Callable[[], datetime]) -> list[Checked]:
    """Check each image of a batch and write what was found; an outcome once recorded stands.

    :raises TerminalError: where not one image may be read: that is about permissions, not about images.
    :raises botocore.exceptions.ClientError: where S3 itself fails; the stage may be repeated.
    """
    attempt = layout.attempt(batch.batch_id, run_id)
    s3.put_object(Bucket=settings.final_bucket, Key=attempt, Body=b"")
    before = {entry.image.place: entry for entry in read_preflight(s3, settings.final_bucket, batch.batch_id) or []}
    paid = read_outcomes(s3, settings.final_bucket, batch.batch_id)
    perhaps = _perhaps_filed(s3, settings, batch.images)

    def check(image: ImageRef) -> Checked:
        known = before.get(image.place)
        if known and (not known.is_ready or image.place in paid):
            return known
        if image in perhaps and earlier_result(s3, settings, image):
            return Checked(image, already_labelled=True)
        return _check(s3, settings, image, batch_id=batch.batch_id, run_id=run_id, now=now)

    checked = in_parallel(check, batch.images, threads=settings.threads)
    if all(entry.outcome and entry.outcome.error_code == ACCESS_DENIED for entry in checked):
        raise TerminalError(
            f"May not read any of the {len(checked)} images of batch {batch.batch_id}, such as {batch.images[0].uri}. "
            "Give the role s3:GetObject (and kms:Decrypt) on the bucket. Nothing is lost: the batch stays pending."
        )
    write_preflight(s3, settings.final_bucket, batch.batch_id, checked)
    return checked


def _check(
    s3: Any, settings: Settings, image: ImageRef, *, batch_id: str, run_id: str, now: Callable[[], datetime]
) -> Checked:
    def ended(status: Status, code: str, message: str, facts: ImageFacts | None = None) -> Checked:
        return Checked(image, facts, Outcome(image, status, now(), run_id, facts, code, message))

    try:
        first_bytes, size, etag = _first_bytes(s3, image)
    except ClientError as err:
        if objects.is_missing(err) and _quarantined_status(s3, settings, image):
            return Checked(image, already_labelled=True)  # announced again after it went into quarantine
        return ended(*_not_readable(image, err))
    if image.etag and image.etag != etag:
        newer = "plan it again" if image.origin == "archive" else "the newer image has an event of its own"
        return ended("MISSING", "Overwritten", f"{image.uri} was overwritten; {newer}.")
    image = replace(image, etag=etag, size_bytes=size)
    facts, problem = examine(first_bytes, size, rest=lambda: _whole(s3, image))
    if problem is None:
        return Checked(image, facts)
    if settings.convert_images and (staged := _staged(s3, settings, image, batch_id)):
        return Checked(image, replace(facts, staged_key=staged))
    code, message = problem
    return ended("REJECTED", code, f"{image.uri} {message}", facts)


def _not_readable(image: ImageRef, error: ClientError) -> tuple[Status, str, str]:
    """Status, code and sentence for an image that S3 does not give; raises the error again where S3 itself fails."""
    if objects.is_missing(error):
        return "MISSING", "NoSuchKey", f"{image.uri} is gone: it was deleted or moved after it was announced."
    if objects.is_denied(error):
        return "FAILED", ACCESS_DENIED, f"May not read {image.uri}: check the bucket's and the role's permissions."
    if error_code(error) in objects.UNREADABLE:
        return "FAILED", error_code(error), f"{image.uri} cannot be read: {error_message(error)}"
    raise error


def _perhaps_filed(s3: Any, settings: Settings, images: Sequence[ImageRef]) -> frozenset[ImageRef]:
    """Images that may have a result; most have none, and two HeadObjects for each to learn that are two too many."""
    wanted = [image for image in images if not image.force]
    perhaps: set[str] = set()
    for named in (layout.labels_document, layout.quarantine_reason):
        keys = (named(image.bucket, image.key) for image in wanted)
        perhaps |= objects.perhaps_there(s3, settings.final_bucket, keys)
    return frozenset(
        image
        for image in wanted
        if layout.labels_document(image.bucket, image.key) in perhaps
        or layout.quarantine_reason(image.bucket, image.key) in perhaps
    )


def earlier_result(s3: Any, settings: Settings, image: ImageRef) -> Literal["LABELLED", "REJECTED"] | None:
    """Whether exactly this content was labelled by this model, or rejected, which holds for every model."""
    labels = objects.head(s3, settings.final_bucket, layout.labels_document(image.bucket, image.key))
    if (
        labels
        and _metadata(labels, "etag") == image.etag
        and _metadata(labels, "model-arn") == settings.project_version_arn
    ):
        return "LABELLED"
    # Where images are converted, an earlier refusal is no longer the last word.
    if not settings.convert_images and _quarantined_status(s3, settings, image) == "REJECTED":
        return "REJECTED"
    return None


def _quarantined_status(s3: Any, settings: Settings, image: ImageRef) -> str:
    """The status with which exactly this content went into quarantine; empty where it did not."""
    reason = objects.head(s3, settings.final_bucket, layout.quarantine_reason(image.bucket, image.key))
    return _metadata(reason, "status") if reason and _metadata(reason, "etag") == image.etag else ""


def _metadata(headers: dict[str, Any], name: str) -> str:
    return str(headers.get("Metadata", {}).get(name, ""))


def _first_bytes(s3: Any, image: ImageRef) -> tuple[bytes, int, str]:
    """The first bytes, the whole size and the ETag without quotes. A range of an empty object is an error in S3."""
    try:
        answer = s3.get_object(**source_parameters(image), Range=f"bytes=0-{HEADER_BYTES - 1}")
    except ClientError as err:
        if err.response.get("Error", {}).get("Code") not in ("InvalidRange", "416"):
            raise
        answer = s3.get_object(**source_parameters(image))
        return b"", 0, str(answer["ETag"]).strip('"')
    total = int(str(answer.get("ContentRange", f"/{answer['ContentLength']}")).rpartition("/")[2])
    return answer["Body"].read(), total, str(answer["ETag"]).strip('"')


def _whole(s3: Any, image: ImageRef) -> bytes:
    return bytes(s3.get_object(**source_parameters(image))["Body"].read())


def examine(
    first_bytes: bytes, size_bytes: int, *, rest: Callable[[], bytes]
) -> tuple[ImageFacts, tuple[str, str] | None]:
    """An image's facts, and the reason (code, sentence) why the service would refuse it, or None.

    :param rest: fetches the whole image, where its header is longer than ``first_bytes``.
    """
    facts = ImageFacts(size_bytes)
    if size_bytes == 0:
        return facts, ("InvalidImageFormatException", "is empty.")
    try:
        facts = _read_header(first_bytes, size_bytes)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as err:
        if len(first_bytes) < size_bytes <= MAX_BYTES:
            whole = rest()
            return examine(whole, len(whole), rest=rest)
        if not isinstance(err, Image.DecompressionBombError):
            return facts, ("InvalidImageFormatException", "is not an image that can be read.")
        return facts, ("ImageTooLargeException", f"has more pixels than {MAX_PX}x{MAX_PX}.")
    return facts, _refusal(facts)


def _read_header(data: bytes, size_bytes: int) -> ImageFacts:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bombs (only the header is read), Exif data beyond use
        with Image.open(io.BytesIO(data)) as header:
            # A JPEG with a second picture behind it (a thumbnail, a depth map), as many phones write them, is a JPEG.
            name = "JPEG" if header.format == "MPO" else str(header.format)
            return ImageFacts(size_bytes, *header.size, name, _orientation(header))


def _orientation(header: Image.Image) -> int:
    """1 where none is given. Only where the header has it: looking further in a PNG would decode all its pixels."""
    if "exif" not in header.info:
        return 1
    orientation: Any = header.getexif().get(EXIF_ORIENTATION)
    return int(orientation) if orientation in range(1, 9) else 1


def _refusal(facts: ImageFacts) -> tuple[str, str] | None:
    width, height = facts.width_px, facts.height_px
    size = f"is {width}x{height} px"
    if facts.format not in FORMATS:
        return "InvalidImageFormatException", f"is {facts.format}; the service takes JPEG and PNG."
    if facts.size_bytes > MAX_BYTES:
        return "ImageTooLargeException", f"has {facts.size_bytes:,} bytes; the service takes up to {MAX_BYTES:,}."
    if max(width, height) > MAX_PX:
        return "ImageTooLargeException", f"{size}; the service takes up to {MAX_PX} px a side."
    if min(width, height) < MIN_PX:
        return "InvalidParameterException", f"{size}; the service takes {MIN_PX} px a side and more."
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        return "InvalidParameterException", f"{size}; the service takes aspect ratios up to {MAX_ASPECT_RATIO}:1."
    return None


def _staged(s3: Any, settings: Settings, image: ImageRef, batch_id: str) -> str | None:
    """Re-encode as an upright JPEG that fits, under ``staged/``; None where that cannot be done.

    Bounding boxes are ratios of the upright image.
    """
    if image.size_bytes > 4 * MAX_BYTES:
        return None
    whole = _whole(s3, image)
    try:
        with _ONE_CONVERSION, Image.open(io.BytesIO(whole)) as source:
            upright = ImageOps.exif_transpose(source).convert("RGB")
            upright.thumbnail((MAX_PX, MAX_PX))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as err:
        log.info("%s could not be converted: %s.", image.uri, err)
        return None
    if min(upright.size) < MIN_PX or max(upright.size) > MAX_ASPECT_RATIO * min(upright.size):
        return None
    body = io.BytesIO()
    upright.save(body, "JPEG", quality=JPEG_QUALITY)
    key = layout.staged(batch_id, image.digest())
    s3.put_object(Bucket=settings.final_bucket, Key=key, Body=body.getvalue(), ContentType="image/jpeg")
    return key
