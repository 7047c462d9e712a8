"""Bring images back out of quarantine: they are labelled again with the next run."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from include import layout, objects
from include.batches import plan_batches, write_batches
from include.images import ImageRef
from include.parallel import in_slices
from include.settings import Settings

log = logging.getLogger(__name__)

REASON = ".error.json"


@dataclass(frozen=True, slots=True)
class Quarantined:
    """An image in quarantine. ``code`` and ``message`` are the reason; ``reason_key`` is the object that says it."""

    bucket: str
    key: str
    etag: str
    code: str
    message: str
    reason_key: str


def find_quarantined(
    s3: Any, settings: Settings, *, bucket: str = "", prefix: str = "", codes: Collection[str] = ()
) -> Iterator[Quarantined]:
    """What is in quarantine.

    :param bucket: of the source; the configured one where empty.
    :param prefix: of the source's keys.
    :param codes: error codes; all where empty.
    """
    below = f"{layout.QUARANTINE}{bucket or settings.source_bucket}/{prefix}"
    for key in objects.list_keys(s3, settings.final_bucket, below):
        found = objects.read(s3, settings.final_bucket, key) if key.endswith(REASON) else None
        reason = _reason(found[0]) if found else None
        if reason is None:
            continue
        code = reason.get("error_code") or ""
        if codes and code not in codes:
            continue
        yield Quarantined(
            bucket=reason["source_bucket"],
            key=reason["source_key"],
            etag=reason.get("etag") or "",
            code=code,
            message=reason.get("error_message") or "",
            reason_key=key,
        )


def redrive(s3: Any, settings: Settings, images: Iterator[Quarantined], *, now: datetime, request_id: str) -> int:
    """Queue images once more, those that were moved being back where they came from; returns how many.

    The batch is written before the reason is deleted: killed in between, an image is queued twice, and paid for once.
    """
    count = 0
    for some in in_slices(images, settings.batch_size):
        back = [(image, _back(s3, settings, image)) for image in some]
        refs = [
            ImageRef(image.bucket, image.key, etag, now, origin="redrive", force=True)
            for image, etag in back
            if etag is not None
        ]
        batches = plan_batches(refs, batch_size=settings.batch_size, request_id=request_id)
        write_batches(s3, settings.final_bucket, batches, threads=settings.threads)
        for image, etag in back:
            if etag is not None:
                s3.delete_object(Bucket=settings.final_bucket, Key=layout.quarantined(image.bucket, image.key))
                s3.delete_object(Bucket=settings.final_bucket, Key=image.reason_key)
        count += len(refs)
    return count


def _back(s3: Any, settings: Settings, image: Quarantined) -> str | None:
    """The ETag of the image at its source; None where it is not there, or something newer is."""
    source = {"Bucket": settings.final_bucket, "Key": layout.quarantined(image.bucket, image.key)}
    try:
        answer = s3.copy_object(Bucket=image.bucket, Key=image.key, CopySource=source, IfNoneMatch="*")
    except ClientError as err:
        if not (objects.is_missing(err) or objects.is_condition_failed(err)):
            raise
    else:
        return str(answer["CopyObjectResult"]["ETag"]).strip('"')
    # It was never moved, or is back already.
    there = objects.head(s3, image.bucket, image.key)
    if there is None:
        log.warning("s3://%s/%s is neither in quarantine nor where it came from: left out.", image.bucket, image.key)
        return None
    etag = there["ETag"].strip('"')
    moved = objects.head(s3, settings.final_bucket, source["Key"])
    if etag != image.etag and not (moved and moved["ETag"] == there["ETag"]):
        log.warning(
            "s3://%s/%s holds a newer image by now: the one in quarantine stays there.", image.bucket, image.key
        )
        return None
    return str(etag)


def _reason(body: bytes) -> dict[str, Any] | None:
    """The document beside a quarantined image; None for an image whose own name ends like one."""
    try:
        found = json.loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) and {"source_bucket", "source_key"} <= found.keys() else None
