"""Which archive batches a run takes up: as many as fit into its minutes, from all archives that go on in turn."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from include import layout, objects
from include.archive.archives import Archive, find_archive, pending_of
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


def pending_archives(s3: Any, settings: Settings) -> dict[str, Archive | None]:
    """The archives that have pending batches, oldest first; None for one whose record somebody has deleted."""
    bucket, first = settings.final_bucket, layout.archive_batches()
    # A request for a thousand archives, however many batches they have.
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=first, Delimiter=".")
    ids = [str(layout.archive_of(each["Prefix"])) for page in pages for each in page.get("CommonPrefixes", [])]
    return dict(
        zip(ids, in_parallel(lambda each: find_archive(s3, bucket, each), ids, threads=settings.threads), strict=True)
    )


def next_slice(
    s3: Any, settings: Settings, state: ModelState, archives: Mapping[str, Archive | None], *, most_batches: int
) -> Slice:
    """The archive batches that one run labels in `LABELS_ARCHIVE_MINUTES` with the most inference units allowed.

    Archives take turns batch by batch, so none waits for the end of another; where there are more archives than batches in a
    slice, the oldest ones do. What is left of a cancelled one is paid for, and comes first, to be published.

    :param archives: those with pending batches.
    :param most_batches: the run maps no more than these.
    """
    rate = (state.images_per_second or settings.assumed_images_per_second) * settings.inference_units_max
    room = rate * 60 * min(settings.archive_minutes, settings.max_model_minutes or settings.archive_minutes)
    cancelled = itertools.chain.from_iterable(
        pending_of(s3, settings.final_bucket, each) for each in _cancelled(archives)
    )
    taken = list(itertools.islice(cancelled, max(0, most_batches)))
    images = 0
    for key, batch_size in _in_turn(_that_go_on(s3, settings, archives)):
        if images >= room or len(taken) >= most_batches:
            return Slice(tuple(sorted(taken)), goes_on=True)
        taken.append(key)
        images += batch_size
    return Slice(tuple(sorted(taken)))


def has_more(
    s3: Any, settings: Settings, archives: Mapping[str, Archive | None], *, ours: Collection[str] = ()
) -> bool:
    """Whether archives that go on have other batches than ours."""
    return any(key not in ours for key, _ in _in_turn(_that_go_on(s3, settings, archives)))


def _that_go_on(s3: Any, settings: Settings, archives: Mapping[str, Archive | None]) -> list[Iterator[tuple[str, int]]]:
    """The batches of each archive that is neither paused nor cancelled: their keys, and how large they are."""
    return [
        zip(
            pending_of(s3, settings.final_bucket, archive_id),
            itertools.repeat(archive.batch_size if archive else settings.batch_size),
        )
        for archive_id, archive in archives.items()
        if archive is None or archive.going == "on"
    ]


def _in_turn(archives: Sequence[Iterator[tuple[str, int]]]) -> Iterator[tuple[str, int]]:
    """One of each, again and again, until all are at their end."""
    for of_each in itertools.zip_longest(*archives):
        yield from filter(None, of_each)


def _cancelled(archives: Mapping[str, Archive | None]) -> list[str]:
    return [archive_id for archive_id, archive in archives.items() if archive and archive.going == "cancelled"]


def clear_cancelled(s3: Any, settings: Settings, archives: Mapping[str, Archive | None]) -> int:
    """Take the batches of cancelled archives off the pending ones; how many.

    What of a batch is paid for already stays, and is published. Only for the one who decides: nobody labels meanwhile.

    :param archives: those with pending batches.
    """
    keys = itertools.chain.from_iterable(pending_of(s3, settings.final_bucket, each) for each in _cancelled(archives))
    return sum(in_parallel(lambda key: _clear(s3, settings, key), keys, threads=settings.threads))


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
    checked = list(objects.list_keys(s3, bucket, f"{layout.OUTCOMES}{batch_id}/"))
    staged = list(objects.list_keys(s3, bucket, layout.staged_of(batch_id))) if checked else []
    for left in (*checked, *staged):
        s3.delete_object(Bucket=bucket, Key=left)
    return True
