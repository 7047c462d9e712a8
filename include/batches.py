"""Pending batches: the queue once SQS is drained. One object each, named by what it holds."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import logging
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from include import layout, objects
from include.images import ImageRef
from include.parallel import in_parallel, in_slices

log = logging.getLogger(__name__)

# Batches in memory at a time when a whole backlog is read: they may have 10,000 images each, and reading them is work
# for one processor rather than a wait for S3.
READ_AHEAD: Final = 4


@dataclass(frozen=True, slots=True)
class Batch:
    """A pending batch as it lies in the final bucket; ``etag`` is the condition for changing it."""

    key: str
    images: tuple[ImageRef, ...]
    etag: str = ""

    @property
    def batch_id(self) -> str:
        return layout.batch_id_of(self.key)


def plan_batches(images: Sequence[ImageRef], *, batch_size: int, request_id: str = "") -> list[Batch]:
    """Cut images into batches whose names follow from their content.

    :param request_id: sets apart requests for the same images (a manual run asked for again).
    """
    return [_named(chunk, request_id) for chunk in in_slices(images, batch_size)]


def _named(images: tuple[ImageRef, ...], request_id: str) -> Batch:
    content = hashlib.sha256(request_id.encode())
    for image in images:
        event = (*image.place, image.etag, image.sequencer, image.event_time.isoformat(), str(image.force))
        content.update("\0".join(event).encode())
    created = min(image.event_time for image in images)
    priority = layout.PRIORITY[images[0].origin]
    return Batch(layout.pending_batch(priority=priority, created=created, batch_id=content.hexdigest()[:16]), images)


def write_batches(s3: Any, bucket: str, batches: Iterable[Batch], *, threads: int) -> None:
    """Make batches durable. Writing one again writes the same bytes under the same key."""

    def write(batch: Batch) -> None:
        body = objects.pack_lines(image.to_dict() for image in batch.images)
        s3.put_object(Bucket=bucket, Key=batch.key, Body=body)

    in_parallel(write, batches, threads=threads)


def list_pending(s3: Any, bucket: str) -> list[str]:
    """Keys of the pending batches in the order of work, but for those of archives, of which there may be very many."""
    # They come last: a listing need not go through them.
    return list(
        itertools.takewhile(lambda key: not layout.archive_of(key), objects.list_keys(s3, bucket, layout.PENDING))
    )


def read_batch(s3: Any, bucket: str, key: str) -> Batch | None:
    """A pending batch, or None where it is pending no more (finished by an earlier attempt).

    :raises ValueError: where the object is not a batch.
    """
    found = objects.read(s3, bucket, key)
    if found is None:
        return None
    body, etag = found
    try:
        images = tuple(ImageRef.from_dict(line) for line in objects.unpack_lines(body))
    except (ValueError, TypeError, KeyError, EOFError, zlib.error, gzip.BadGzipFile) as err:
        raise ValueError(f"s3://{bucket}/{key} is not a batch of images: {err}") from err
    return Batch(key, images, etag)


def read_pending(s3: Any, bucket: str, keys: Sequence[str], *, threads: int, change: bool = True) -> Iterator[Batch]:
    """Pending batches in the order asked, a few in memory at a time.

    What cannot be read is put aside under ``batches/unreadable/``, so that it neither blocks the others nor gets lost.

    :param change: False leaves it where it is.
    """

    def attempt(key: str) -> Batch | None:
        try:
            return read_batch(s3, bucket, key)
        except ValueError as err:
            if not change:
                log.warning("%s.", err)
                return None
            aside = put_aside(s3, bucket, key, layout.UNREADABLE)
            log.error("%s. It now lies in s3://%s/%s; mend it and put it back, or delete it.", err, bucket, aside)
            return None

    for some in in_slices(keys, READ_AHEAD):
        yield from filter(None, in_parallel(attempt, some, threads=threads))


@dataclass(frozen=True, slots=True)
class History:
    """What earlier runs left of a pending batch: how many took it up, whether some of it is paid for, and whether all is done."""

    attempts: int
    is_paid: bool
    is_done: bool


def histories(s3: Any, bucket: str, keys: Sequence[str], *, threads: int) -> dict[str, History]:
    """The history of each pending batch."""

    def look(key: str) -> tuple[str, History]:
        batch_id = layout.batch_id_of(key)
        found = list(objects.list_keys(s3, bucket, f"{layout.OUTCOMES}{batch_id}/"))
        attempts = sum(name.startswith(layout.attempts(batch_id)) for name in found)
        is_paid = any(name.startswith(layout.outcome_parts(batch_id)) for name in found)
        return key, History(attempts, is_paid, is_done=layout.done_marker(batch_id) in found)

    return dict(in_parallel(look, keys, threads=threads))


def forget_attempts(s3: Any, bucket: str, keys: Sequence[str], run_id: str, *, threads: int) -> None:
    """A run whose model never ran did not try the batches: it does not count against them."""
    attempts = [layout.attempt(layout.batch_id_of(key), run_id) for key in keys]
    in_parallel(lambda attempt: s3.delete_object(Bucket=bucket, Key=attempt), attempts, threads=threads)


def put_aside(s3: Any, bucket: str, key: str, folder: str) -> str:
    """Take a batch off the pending ones without losing it; returns its new key. Copied back, it is pending again."""
    aside = folder + key.removeprefix(layout.PENDING)
    s3.copy_object(Bucket=bucket, Key=aside, CopySource={"Bucket": bucket, "Key": key})
    s3.delete_object(Bucket=bucket, Key=key)
    return aside


def keep_only(s3: Any, bucket: str, batch: Batch, images: Sequence[ImageRef]) -> Batch | None:
    """Take images that are pending elsewhere too out of a batch; None where nothing is left or somebody changed it."""
    if not images:
        s3.delete_object(Bucket=bucket, Key=batch.key)
        return None
    body = objects.pack_lines(image.to_dict() for image in images)
    if not objects.write_if(s3, bucket, batch.key, body, etag=batch.etag):
        return None
    return Batch(batch.key, tuple(images))
