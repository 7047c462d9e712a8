"""Bring images back out of quarantine: they are labelled again with the next run."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from botocore.exceptions import ClientError

from include import layout, objects
from include.batches import plan_batches, write_batches
from include.errors import SelectionError
from include.images import ImageRef, Origin
from include.parallel import in_parallel, in_slices
from include.settings import PREFIX, Settings

log = logging.getLogger(__name__)

REASON: Final = ".error.json"
# Images brought back together: between an image's return and its batch lie seconds, however many there are.
IMAGES_TOGETHER: Final = 1_000


@dataclass(frozen=True, slots=True)
class Quarantined:
    """An image in quarantine. ``code`` and ``message`` are the reason; ``reason_key`` is the object that says it.

    ``reason_etag`` has its quotes, as conditions want it.
    """

    bucket: str
    key: str
    etag: str
    code: str
    message: str
    reason_key: str
    reason_etag: str
    size_bytes: int
    origin: str
    run_id: str


def find_quarantined(
    s3: Any, settings: Settings, *, bucket: str = "", prefix: str = "", codes: Collection[str] = (), run_id: str = ""
) -> Iterator[Quarantined]:
    """What is in quarantine.

    :param bucket: of the source; every bucket that images may be labelled from where empty.
    :param prefix: of the source's keys.
    :param codes: error codes; all where empty.
    :param run_id: the run whose result it is; any where empty.
    :raises SelectionError: for a bucket that images may not be labelled from.
    """
    if bucket and bucket not in settings.readable_buckets:
        raise SelectionError(
            f"Not allowed: bucket {bucket}. Allowed are {', '.join(sorted(settings.readable_buckets))}; "
            f"{PREFIX}ALLOWED_BUCKETS adds more."
        )

    def look(key: str) -> Quarantined | None:
        found = objects.read(s3, settings.final_bucket, key)
        return _quarantined(key, *found) if found else None

    def is_meant(image: Quarantined) -> bool:
        return (
            image.key.startswith(prefix)
            and (not codes or image.code in codes)
            and (not run_id or image.run_id == run_id)
        )

    for each in [bucket] if bucket else sorted(settings.readable_buckets):
        listed = objects.list_keys(s3, settings.final_bucket, f"{layout.QUARANTINE}{each}/{prefix}")
        reasons = (key for key in listed if key.endswith(REASON))
        for some in in_slices(reasons, IMAGES_TOGETHER):
            looked = in_parallel(look, some, threads=settings.threads)
            yield from (image for image in looked if image and is_meant(image))


def redrive(s3: Any, settings: Settings, images: Iterator[Quarantined], *, now: datetime, request_id: str) -> int:
    """Queue images once more, those that were moved being back where they came from; returns how many.

    Each step leaves what the next one needs, so it may be killed anywhere and repeated: an image is back before it leaves
    quarantine, and its reason stays until its batch is written. Killed before that, it is queued twice, and paid for once.
    """
    count = 0
    for some in in_slices(images, min(settings.batch_size, IMAGES_TOGETHER)):
        back = in_parallel(lambda image: _back(s3, settings, image, now), some, threads=settings.threads)
        refs = [ref for ref in back if ref]
        # By origin, since a batch has one place in the order of work.
        for origin in ("redrive", "archive"):
            of_origin = [ref for ref in refs if ref.origin == origin]
            batches = plan_batches(of_origin, batch_size=settings.batch_size, request_id=request_id)
            write_batches(s3, settings.final_bucket, batches, threads=settings.threads)
        queued = [image for image, ref in zip(some, back, strict=True) if ref]
        in_parallel(
            lambda image: _delete_unchanged(s3, settings.final_bucket, image.reason_key, image.reason_etag),
            queued,
            threads=settings.threads,
        )
        count += len(refs)
    return count


def _back(s3: Any, settings: Settings, image: Quarantined, now: datetime) -> ImageRef | None:
    """The image at its source, brought back there if it had been moved; None where it is nowhere, or something newer is.

    Images of archives were never moved, and nothing is written where they lie. They stay images of an archive: else their next
    result would take them from there.
    """
    place = layout.quarantined(image.bucket, image.key)
    moved = objects.head(s3, settings.final_bucket, place)
    try:
        there = objects.head(s3, image.bucket, image.key)
    except ClientError as err:
        if not objects.is_denied(err):
            raise
        log.warning("s3://%s/%s may not be read still (%s): left out.", image.bucket, image.key, err)
        return None
    if there is None and moved is None:
        log.warning("s3://%s/%s is neither in quarantine nor where it came from: left out.", image.bucket, image.key)
        return None
    if there is None and moved:
        etag = _copied_back(s3, settings.final_bucket, place, image, moved["ETag"])
    elif there and (_is(image, there) or moved and moved["ETag"] == there["ETag"]):
        etag = there["ETag"]
    else:
        etag = None
    if etag is None:
        log.warning(
            "s3://%s/%s holds a newer image by now: the one in quarantine stays there.", image.bucket, image.key
        )
        return None
    if moved and (there is None or moved["ETag"] == there["ETag"]):
        _delete_unchanged(s3, settings.final_bucket, place, moved["ETag"])
    origin: Origin = "archive" if image.origin == "archive" else "redrive"
    return ImageRef(
        image.bucket, image.key, etag.strip('"'), now, size_bytes=image.size_bytes, origin=origin, force=True
    )


def _copied_back(s3: Any, bucket: str, place: str, image: Quarantined, etag: str) -> str | None:
    """The copy's ETag (another one than before where KMS encrypts); None where somebody was faster."""
    try:
        answer = s3.copy_object(
            Bucket=image.bucket,
            Key=image.key,
            CopySource={"Bucket": bucket, "Key": place},
            CopySourceIfMatch=etag,
            IfNoneMatch="*",
        )
    except ClientError as err:
        if objects.is_condition_failed(err):
            return None
        raise
    return str(answer["CopyObjectResult"]["ETag"])


def _is(image: Quarantined, there: Mapping[str, Any]) -> bool:
    """Whether an object is the image that was given up. A copy of what was uploaded in parts has another ETag."""
    same_size = "-" in image.etag and there["ContentLength"] == image.size_bytes
    return bool(there["ETag"].strip('"') == image.etag or same_size)


def _delete_unchanged(s3: Any, bucket: str, key: str, etag: str) -> None:
    """Delete what was read; what a run has put there since stays."""
    try:
        s3.delete_object(Bucket=bucket, Key=key, IfMatch=etag)
    except ClientError as err:
        if not (objects.is_condition_failed(err) or objects.is_missing(err)):
            raise


def _quarantined(key: str, body: bytes, etag: str) -> Quarantined | None:
    """What the document beside a quarantined image says; None where it is no such document, or stands beside another image."""
    try:
        reason = json.loads(body)
    except ValueError:
        return None
    if not (isinstance(reason, dict) and {"source_bucket", "source_key"} <= reason.keys()):
        return None
    bucket, source_key = str(reason["source_bucket"]), str(reason["source_key"])
    if layout.quarantine_reason(bucket, source_key) != key:
        log.warning("%s speaks of s3://%s/%s, which lies elsewhere: left out.", key, bucket, source_key)
        return None
    return Quarantined(
        bucket=bucket,
        key=source_key,
        etag=reason.get("etag") or "",
        code=reason.get("error_code") or "",
        message=reason.get("error_message") or "",
        reason_key=key,
        reason_etag=etag,
        size_bytes=int(reason.get("size_bytes") or 0),
        origin=reason.get("origin") or "",
        run_id=reason.get("run_id") or "",
    )
