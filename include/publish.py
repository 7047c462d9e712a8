"""Stage 6, once the model has been told to stop: JSON, Parquet, originals moved, the batch done.

Every step may be repeated and then changes nothing. Order: documents, Parquet, its line in the day's list of files, originals,
done marker, pending batch gone; whatever is killed in between, the batch is still pending and is published again from its
checkpoints.
"""

from __future__ import annotations

import io
import json
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import pyarrow.parquet as pq
from botocore.exceptions import ClientError

from include import layout, objects
from include.batches import Batch
from include.file_lists import add_file
from include.images import ImageRef, sequencer_order, source_parameters
from include.outcomes import Outcome, read_outcomes, read_preflight
from include.parallel import in_parallel
from include.preflight import earlier_result
from include.schema import ANALYSIS, image_labels_table, image_row, labels_document, reason_document
from include.settings import Settings

log = logging.getLogger(__name__)

MAX_COPY_BYTES: Final = 5 * 1024**3  # https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html


@dataclass(frozen=True, slots=True)
class PublishReport:
    """Counts of one batch. ``pending``: images without an outcome yet, for which the batch stays pending."""

    images: int = 0
    labelled: int = 0
    rejected: int = 0
    missing: int = 0
    failed: int = 0
    skipped: int = 0
    labels: int = 0
    pending: int = 0


def publish(s3: Any, settings: Settings, batch: Batch, *, thresholds: dict[str, float]) -> PublishReport:
    """Publish a batch whose images all have an outcome; leave it pending otherwise."""
    checked = {entry.image.place: entry for entry in read_preflight(s3, settings.final_bucket, batch.batch_id) or []}
    paid = read_outcomes(s3, settings.final_bucket, batch.batch_id)
    # The batch's own images are counted: what an earlier run left may speak of images that another batch has by now.
    entries = [checked[image.place] for image in batch.images if image.place in checked]
    skipped = [entry.image for entry in entries if entry.already_labelled]
    found = [entry.outcome or paid.get(entry.image.place) for entry in entries if not entry.already_labelled]
    outcomes = [outcome for outcome in found if outcome]
    pending = len(batch.images) - len(outcomes) - len(skipped)
    if pending:
        log.warning(
            "Batch %s stays pending: %s of its %s images have no outcome yet.",
            batch.batch_id,
            pending,
            len(batch.images),
        )
        return PublishReport(images=len(batch.images), pending=pending)

    outcomes = in_parallel(lambda outcome: _settled(s3, settings, outcome), outcomes, threads=settings.threads)
    earlier = _earlier_documents(s3, settings, {(each.image.bucket, each.image.key) for each in outcomes})
    outcomes = [_of_the_same_upload(outcome, earlier) for outcome in outcomes]
    rows = [
        image_row(
            outcome,
            batch_id=batch.batch_id,
            model_arn=settings.project_version_arn,
            model_version=settings.model.version,
            thresholds=thresholds,
            default_threshold=settings.default_threshold,
        )
        for outcome in outcomes
    ]
    # One key may have several versions in a batch: they are filed in turn, so that the newest stands in the end.
    by_key: dict[tuple[str, str], list[tuple[dict[str, Any], Outcome]]] = {}
    for row, outcome in sorted(zip(rows, outcomes, strict=True), key=lambda pair: sequencer_order(pair[1].image)):
        by_key.setdefault((outcome.image.bucket, outcome.image.key), []).append((row, outcome))

    # Messages come in any order: a newer image may have been labelled already. Its document and its place stay; the older image
    # has its row, and is filed beside it.
    superseded = {name for name, some in by_key.items() if _is_newer(earlier.get(name, {}), some[-1][1].image)}
    by_name = [(some, name in superseded) for name, some in by_key.items()]
    in_parallel(lambda some: _write_documents(s3, settings, *some), by_name, threads=settings.threads)
    days = _write_parquet(s3, settings, batch.batch_id, rows)
    in_parallel(lambda some: _file_originals(s3, settings, *some), by_name, threads=settings.threads)
    in_parallel(lambda image: _file_skipped(s3, settings, image), skipped, threads=settings.threads)
    _finish(s3, settings, batch, day=max(days, default=f"{batch.images[0].event_time:%Y-%m-%d}"))
    statuses = Counter(outcome.status for outcome in outcomes)
    return PublishReport(
        images=len(batch.images),
        labelled=statuses["LABELLED"],
        rejected=statuses["REJECTED"],
        missing=statuses["MISSING"],
        failed=statuses["FAILED"],
        skipped=len(skipped),
        labels=sum(row["label_count"] for row in rows),
    )


def _settled(s3: Any, settings: Settings, outcome: Outcome) -> Outcome:
    """Tell "gone" from "not readable": the service says InvalidS3Object for both, and asking S3 would have cost model time.

    An image that an earlier attempt put into quarantine is not gone.
    """
    image = outcome.image
    if outcome.error_code != "InvalidS3ObjectException":
        return outcome
    try:
        s3.head_object(**source_parameters(image))
    except ClientError as err:
        quarantined = layout.quarantined(image.bucket, image.key)
        if not objects.is_missing(err) or objects.head(s3, settings.final_bucket, quarantined):
            return outcome
        message = f"{image.uri} was deleted before the model could read it."
        return replace(outcome, status="MISSING", error_code="NoSuchKey", error_message=message)
    return outcome


def _earlier_documents(
    s3: Any, settings: Settings, names: set[tuple[str, str]]
) -> dict[tuple[str, str], dict[str, str]]:
    """Of those names that have a document of labels, its metadata."""
    keys = {layout.labels_document(*name): name for name in names}

    def look(key: str) -> tuple[tuple[str, str], dict[str, str]] | None:
        there = objects.head(s3, settings.final_bucket, key)
        return (keys[key], there.get("Metadata", {})) if there else None

    perhaps = objects.perhaps_there(s3, settings.final_bucket, keys)
    return dict(filter(None, in_parallel(look, perhaps, threads=settings.threads)))


def _of_the_same_upload(outcome: Outcome, earlier: dict[tuple[str, str], dict[str, str]]) -> Outcome:
    """Labelled again, an image came when it came before: an event's time is later than the object's own LastModified.

    Else the older result, which has the event's time, would pass for the newer one.
    """
    image = outcome.image
    document = earlier.get((image.bucket, image.key), {})
    if not image.etag or document.get("etag") != image.etag or "event-time" not in document:
        return outcome
    came_at = max(image.event_time, datetime.fromisoformat(document["event-time"]))
    return replace(outcome, image=replace(image, event_time=came_at))


def _is_newer(document: dict[str, str], image: ImageRef) -> bool:
    """Whether a document, by its metadata, is of a newer image of the same name."""
    if document.get("etag") == image.etag or "event-time" not in document:
        return False
    sequencer, event_time = document.get("sequencer", ""), datetime.fromisoformat(document["event-time"])
    if sequencer and image.sequencer:
        return sequencer_order(replace(image, sequencer=sequencer, event_time=event_time)) > sequencer_order(image)
    return event_time > image.event_time


def _write_documents(
    s3: Any, settings: Settings, of_key: Sequence[tuple[dict[str, Any], Outcome]], is_superseded: bool
) -> None:
    for row, outcome in of_key:
        image, labelled = outcome.image, outcome.status == "LABELLED"
        if labelled and is_superseded:
            continue
        document = labels_document(row, outcome) if labelled else reason_document(row)
        s3.put_object(
            Bucket=settings.final_bucket,
            Key=(layout.labels_document if labelled else layout.quarantine_reason)(image.bucket, image.key),
            Body=json.dumps(document, ensure_ascii=False, sort_keys=True, indent=1).encode(),
            ContentType="application/json",
            Metadata={
                "etag": image.etag,
                "event-time": image.event_time.isoformat(),
                "sequencer": image.sequencer,
                "model-arn": settings.project_version_arn,
                "status": outcome.status,
            },
        )


def _write_parquet(s3: Any, settings: Settings, batch_id: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    """One file a day of ``processed_at`` (nearly always one); returns the days."""
    days: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(
        rows, key=lambda row: (row["event_time"], row["source_bucket"], row["source_key"], row["etag"] or "")
    ):
        days.setdefault(f"{row['processed_at']:%Y-%m-%d}", []).append(row)
    for day, of_day in days.items():
        body = io.BytesIO()
        pq.write_table(image_labels_table(of_day), body, compression="zstd")
        key = layout.image_labels(analysis=ANALYSIS, day=day, batch_id=batch_id)
        s3.put_object(Bucket=settings.final_bucket, Key=key, Body=body.getvalue())
        add_file(s3, settings.final_bucket, analysis=ANALYSIS, day=day, key=key)
    return list(days)


def _file_originals(
    s3: Any, settings: Settings, of_key: Sequence[tuple[dict[str, Any], Outcome]], is_superseded: bool
) -> None:
    """Labelled images to ``images/``, others to ``quarantine/``; what S3 does not let us read stays."""
    for _, outcome in of_key:
        image = outcome.image
        if outcome.status == "LABELLED" and is_superseded:
            _move(s3, settings, image, lambda *name, etag=image.etag: layout.earlier(layout.original(*name), etag))
        elif outcome.status == "LABELLED":
            _move(s3, settings, image, layout.original)
        elif outcome.status != "MISSING" and outcome.error_code not in objects.UNREADABLE:
            _move(s3, settings, outcome.image, layout.quarantined)


def _file_skipped(s3: Any, settings: Settings, image: ImageRef) -> None:
    """Where the same content went when it had its result."""

    def target(bucket: str, key: str) -> str:
        rejected = earlier_result(s3, settings, image) == "REJECTED"
        return (layout.quarantined if rejected else layout.original)(bucket, key)

    _move(s3, settings, image, target)


def _move(s3: Any, settings: Settings, image: ImageRef, target: Callable[[str, str], str]) -> None:
    """Move exactly what was analysed: nothing happens where the object is gone or holds something newer by now."""
    if settings.originals == "leave" or image.origin == "archive" or image.bucket != settings.source_bucket:
        return
    if image.size_bytes > MAX_COPY_BYTES:
        log.warning("%s stays where it is: S3 copies up to %s bytes at once.", image.uri, MAX_COPY_BYTES)
        return
    source = source_parameters(image)
    condition = {"CopySourceIfMatch": f'"{image.etag}"'} if image.etag else {}
    key = target(image.bucket, image.key)
    try:
        copy = {"Bucket": settings.final_bucket, "Key": key, "CopySource": source, **condition}
        try:
            s3.copy_object(**copy, IfNoneMatch="*")
        except ClientError as err:
            if not objects.is_condition_failed(err):
                raise
            _make_room(s3, settings.final_bucket, key, image)
            s3.copy_object(**copy)
        only_if = {} if image.version_id else {"IfMatch": f'"{image.etag}"'} if image.etag else {}
        s3.delete_object(**source, **only_if)
    except ClientError as err:
        if objects.is_denied(err):
            log.warning(
                "%s stays where it is: the role may not move it (%s). README.md lists the permissions.", image.uri, err
            )
        elif objects.is_missing(err) or objects.is_condition_failed(err):
            log.info("%s is not moved: it is gone, or was overwritten since.", image.uri)
        else:
            raise


def _make_room(s3: Any, bucket: str, key: str, image: ImageRef) -> None:
    """Where another image of the same name was filed before, that one makes way: ``<key>~<its ETag>``."""
    there = objects.head(s3, bucket, key)
    if there is None or there["ETag"].strip('"') == image.etag:
        return
    if "-" in image.etag and there["ContentLength"] == image.size_bytes:
        return  # uploaded in parts and filed before: a copy's ETag differs from that of the parts
    aside = layout.earlier(key, there["ETag"].strip('"'))
    while (taken := objects.head(s3, bucket, aside)) and taken["ETag"] != there["ETag"]:
        if (further := layout.earlier(aside, there["ETag"].strip('"'))) == aside:
            break
        aside = further  # somebody's image is really called so
    s3.copy_object(Bucket=bucket, Key=aside, CopySource={"Bucket": bucket, "Key": key})


def _finish(s3: Any, settings: Settings, batch: Batch, *, day: str) -> None:
    """Mark the batch done, then take it off the pending ones."""
    body = objects.pack_lines(image.to_dict() for image in batch.images)
    s3.put_object(Bucket=settings.final_bucket, Key=layout.done_batch(day=day, batch_id=batch.batch_id), Body=body)
    for key in objects.list_keys(s3, settings.final_bucket, f"{layout.STAGED}{batch.batch_id}/"):
        s3.delete_object(Bucket=settings.final_bucket, Key=key)
    s3.put_object(Bucket=settings.final_bucket, Key=layout.done_marker(batch.batch_id), Body=b"")
    s3.delete_object(Bucket=settings.final_bucket, Key=batch.key)
