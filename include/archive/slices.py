"""Which archive batches a run takes up: as many as fit into its minutes, from all archives that go on in turn."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from include import layout, objects
from include.archive.archives import find_archive, going_of, pending_of
from include.batches import keep_only, read_batch
from include.model_state import ModelState
from include.outcomes import read_outcomes
from include.parallel import in_parallel
from include.settings import Settings


@dataclass(frozen=True, slots=True)
class Slice:
    """``batches``: keys, those of each archive in its order. ``goes_on``: more are left for the next run."""

    batches: tuple[str, ...] = ()
    goes_on: bool = False


def next_slice(s3: Any, settings: Settings, state: ModelState, *, most_batches: int) -> Slice:
    """The archive batches that one run labels in `LABELS_ARCHIVE_MINUTES` with the most inference units allowed.

    Archives take turns batch by batch, so none waits for the end of another.

    :param most_batches: the run maps no more than these.
    """
    rate = (state.images_per_second or settings.assumed_images_per_second) * settings.inference_units_max
    room = rate * 60 * min(settings.archive_minutes, settings.max_model_minutes or settings.archive_minutes)
    taken: list[str] = []
    images = 0
    for key, batch_size in _in_turn(_that_go_on(s3, settings)):
        if images >= room or len(taken) >= most_batches:
            return Slice(tuple(sorted(taken)), goes_on=True)
        taken.append(key)
        images += batch_size
    return Slice(tuple(sorted(taken)))


def _that_go_on(s3: Any, settings: Settings) -> list[Iterator[tuple[str, int]]]:
    """For each archive with pending batches that is neither paused nor cancelled: their keys, and how large they are."""
    bucket = settings.final_bucket
    found = [(archive_id, find_archive(s3, bucket, archive_id)) for archive_id in with_pending_batches(s3, bucket)]
    return [
        zip(
            pending_of(s3, bucket, archive_id),
            itertools.repeat(archive.batch_size if archive else settings.batch_size),
        )
        for archive_id, archive in found
        if archive is None or archive.going == "on"
    ]


def with_pending_batches(s3: Any, bucket: str) -> Iterator[str]:
    """Ids of the archives that have pending batches: a request each, however many batches there are."""
    first = layout.archive_batches()
    after = first
    while found := s3.list_objects_v2(Bucket=bucket, Prefix=first, StartAfter=after, MaxKeys=1).get("Contents"):
        archive_id = str(layout.archive_of(found[0]["Key"]))
        yield archive_id
        after = layout.archive_batches(archive_id)[:-1] + "/"  # the character after the dot: beyond all of its keys


def _in_turn(archives: Sequence[Iterator[tuple[str, int]]]) -> Iterator[tuple[str, int]]:
    """One of each, again and again, until all are at their end."""
    for of_each in itertools.zip_longest(*archives):
        yield from filter(None, of_each)


def clear_cancelled(s3: Any, settings: Settings, *, threads: int) -> int:
    """Take the batches of cancelled archives off the pending ones; how many.

    What of a batch is paid for already stays, and is published. Only for the one who decides: nobody labels meanwhile.
    """
    cancelled = [
        archive_id
        for archive_id in with_pending_batches(s3, settings.final_bucket)
        if going_of(s3, settings.final_bucket, archive_id) == "cancelled"
    ]
    keys = itertools.chain.from_iterable(pending_of(s3, settings.final_bucket, each) for each in cancelled)
    return sum(in_parallel(lambda key: _clear(s3, settings, key), keys, threads=threads))


def _clear(s3: Any, settings: Settings, key: str) -> bool:
    bucket, batch_id = settings.final_bucket, layout.batch_id_of(key)
    paid = read_outcomes(s3, bucket, batch_id)
    batch = read_batch(s3, bucket, key) if paid else None
    if batch:
        images = [image for image in batch.images if image.place in paid]
        if len(images) == len(batch.images):
            return False
        keep_only(s3, bucket, batch, images)
        return True
    s3.delete_object(Bucket=bucket, Key=key)
    for prefix in (f"{layout.OUTCOMES}{batch_id}/", layout.staged_of(batch_id)):
        for left in list(objects.list_keys(s3, bucket, prefix)):
            s3.delete_object(Bucket=bucket, Key=left)
    return True
