"""The audit's checks, each of which looks through one part of the buckets and notes what does not add up.

The order matters while a run is at work: what moves on meanwhile must be seen at least once. So the inbox is listed before the
batches, these before the results; and what then seems to be missing is asked for by name before it is noted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from include.audit_originals import check_one_place, check_suspects, suspect
from include.audit_places import (
    Collected,
    Digests,
    Places,
    are_in,
    aside_key,
    digest,
    document_key,
    in_slices,
    listed,
    original_keys,
    without_aside,
)
from include.audit_records import (
    DONE,
    MERGED,
    OUTCOMES,
    PENDING,
    STAGED,
    UNREADABLE,
    Record,
    batch_id_of,
    read_batches,
    read_results,
    visible_results,
)
from include.audit_world import MOST_LOOKS, World, head
from include.settings import Settings


def survey(s3: Any, settings: Settings, *, now: datetime, grace_minutes: float, is_in_use: bool) -> World:
    """Read everything once and note what does not add up, but for queue, model and what was never looked at.

    :param is_in_use: a run is at work: batches are half done then, as they should be.
    """
    world = World(s3, settings, now, Places(settings.final_bucket))
    world.places.list_inbox(s3, settings.source_bucket, settled_before=now - timedelta(minutes=grace_minutes))
    world.places.list_filed(s3)
    for item in listed(s3, world.bucket, OUTCOMES):
        batch_id, _, name = item.key.removeprefix(OUTCOMES).partition("/")
        world.checkpoints[batch_id] = world.checkpoints.get(batch_id, False) or name.startswith("part-")
    check_pending(world)
    done = {batch_id_of(item.key): item for item in listed(s3, world.bucket, DONE)}
    world.done = {batch_id: item.modified for batch_id, item in done.items()}
    check_results(world)
    check_done(world, [item.key for item in done.values()])
    check_rows_once(world)
    check_newest(world)
    check_filed(world)
    check_batches(world, is_in_use=is_in_use)
    check_suspects(world)
    return world


def check_pending(world: World) -> None:
    """Pending batches: readable, each image in one of them."""
    keys = [item.key for item in listed(world.s3, world.bucket, PENDING)]
    world.pending = {batch_id_of(key): key for key in keys}
    for read in read_batches(world.s3, world.bucket, keys):
        if read.problem:
            world.notes.add("unreadable", f"{read.key} {read.problem}")
        for record in read.records or []:
            world.images_pending += 1
            world.pending_images.add(record.identity)
            world.pending_names.add(record.name)
            _note_forced(world, record)
            if not record.etag and record.version_id:
                world.pending_images.add(digest(record.bucket, record.key, ""))
            if read.batch_id in world.checkpoints:  # in the midst of being published, perhaps
                _expect(world, record)
        suspect(world, read.records or [])
    twice = world.pending_images.repeated()
    if len(twice):
        for read in read_batches(world.s3, world.bucket, keys):
            records = read.records or []
            is_double = are_in(twice, [record.identity for record in records])
            for number in np.flatnonzero(is_double).tolist():
                record = records[number]
                world.notes.add("pending_twice", f"{record.uri} in {read.key}", once=record.identity)


def check_results(world: World) -> None:
    """Published rows: each with its document, and its original in one place."""
    world.results = visible_results(world.s3, world.bucket)
    for read in read_results(world.s3, world.bucket, world.results):
        records = read.records or []
        # A merged file has the rows of many batches; another one says by its name which batch it is of, also when damaged.
        named = set() if MERGED in read.key else {read.batch_id}
        world.published.update(named.union(record.batch_id for record in records))
        if read.problem:
            world.notes.add("unreadable", f"{read.key} {read.problem}")
        for record in records:
            world.images_published += 1
            world.published_rows.add(record.published)
            (world.missing_rows if record.status == "MISSING" else world.rows).add(record.identity)
            _expect(world, record, record.status)
            if record.status == "LABELLED":
                world.labelled_names.add(record.name)
        _check_documents(world, records)
        check_one_place(world, records)
        suspect(world, records)


def check_done(world: World, keys: Iterable[str]) -> None:
    """Finished batches: each image with a row, this batch's or an earlier one's."""
    for read in read_batches(world.s3, world.bucket, keys):
        records = read.records or []
        if read.problem:
            world.notes.add("unreadable", f"{read.key} {read.problem}")
        identities = [record.identity for record in records]
        has_row = world.rows.holds(identities) | world.missing_rows.holds(identities)
        without = []
        for record, known in zip(records, has_row.tolist(), strict=True):
            _note_forced(world, record)
            if not known and not (not record.etag and _has_row_by_name(world, record)):
                without.append(record)
        if without:
            some = f"{len(without):,} of {len(records):,} images, such as {without[0].uri}"
            world.notes.add("done_without_results", f"{read.key}: {some}")
            suspect(world, without)


def check_rows_once(world: World) -> None:
    """One row of each image, analysis and model; another one only where it was asked for by force."""
    twice = world.published_rows.repeated()
    if not len(twice):
        return
    seen = Collected()
    named: dict[int, str] = {}
    for read in read_results(world.s3, world.bucket, world.results):
        records = read.records or []
        is_double = are_in(twice, [record.published for record in records])
        is_double &= ~world.forced.holds([digest(record.batch_id, str(record.identity)) for record in records])
        for number in np.flatnonzero(is_double).tolist():
            record = records[number]
            seen.add(record.published)
            if len(named) < MOST_LOOKS or record.published in named:
                named[record.published] = f"{record.uri} {record.status}, once more in {read.key}"
    for published in seen.repeated().tolist():
        world.notes.add("row_twice", named.get(published, "another image"))


def check_newest(world: World) -> None:
    """The document of a name that several images had: of the last one uploaded, or of the last one labelled."""
    several = world.labelled_names.repeated()
    if not len(several):
        return
    newest: dict[int, list[Record]] = {}
    for read in read_results(world.s3, world.bucket, world.results):
        for record in read.records or []:
            if record.status != "LABELLED" or not are_in(several, [record.name])[0]:
                continue
            of_name = newest.setdefault(record.name, []) if len(newest) < MOST_LOOKS else newest.get(record.name, [])
            of_name.append(record)
            last_uploaded = max(each.event_time for each in of_name)
            last_labelled = max((each.processed_at for each in of_name if each.processed_at), default=None)
            of_name[:] = [
                each for each in of_name if each.event_time == last_uploaded or each.processed_at == last_labelled
            ]
    pending = world.pending_names.holds(list(newest))
    for records, is_pending in zip(newest.values(), pending.tolist(), strict=True):
        key = document_key(records[0].bucket, records[0].key, is_labelled=True)
        found = None if is_pending or not world.may_look() else head(world.s3, world.bucket, key)
        if found and found["Metadata"].get("etag", "") not in {record.etag for record in records}:
            world.notes.add("document_outdated", key)


def check_filed(world: World) -> None:
    """Documents and filed originals: each with a row. What was written since the audit began is another one's."""
    for folder in ("labels/", "images/", "quarantine/"):
        for some in in_slices(listed(world.s3, world.bucket, folder)):
            documented = world.documents_due.holds([digest(item.key) for item in some])
            filed = world.filed_due.holds([digest(without_aside(item.key)) for item in some])
            for item, is_documented, is_filed in zip(some, documented.tolist(), filed.tolist(), strict=True):
                if item.modified <= world.now and not is_documented and not is_filed:
                    _note_stray(world, folder, item.key)


def _note_stray(world: World, folder: str, key: str) -> None:
    if folder == "images/":
        world.notes.add("original_without_row", key)
    elif folder == "labels/" or key.endswith(".error.json"):
        world.notes.add("document_without_row", key)
    elif not world.places.documents.holds([digest(f"{without_aside(key)}.error.json")])[0]:
        world.notes.add("quarantined_without_reason", key, once=digest(key))


def check_batches(world: World, *, is_in_use: bool) -> None:
    """Batches against what belongs to them: half done, unreadable, checkpoints and staged copies of none."""
    before = world.pending
    world.pending = {batch_id_of(item.key): item.key for item in listed(world.s3, world.bucket, PENDING)}
    done = {batch_id_of(item.key) for item in listed(world.s3, world.bucket, DONE)}
    world.has_changed = before != world.pending or done != world.done.keys()
    aside = {batch_id_of(item.key): item.key for item in listed(world.s3, world.bucket, UNREADABLE)}
    for key in aside.values():
        world.notes.add("unreadable", key)
    unfinished = before.keys() | world.pending.keys()
    for batch_id in sorted(before.keys() & world.pending.keys()):
        if not is_in_use and (why := _half_done(world, batch_id)):
            world.notes.add("half_done", f"{world.pending[batch_id]}: {why}")
    for batch_id in sorted(world.published - unfinished - done):
        world.notes.add("results_without_batch", batch_id)
    for batch_id in sorted(world.checkpoints.keys() - unfinished - done - aside.keys()):
        world.notes.add("checkpoints_without_batch", f"{OUTCOMES}{batch_id}/")
    for item in listed(world.s3, world.bucket, STAGED):
        if item.key.split("/")[1] not in unfinished:
            world.notes.add("staged_left", item.key)


def _half_done(world: World, batch_id: str) -> str:
    if batch_id in world.done:
        return "done, and pending still"
    if batch_id in world.published:
        return "published, and pending still"
    return "paid results wait to be published" if world.checkpoints.get(batch_id) else ""


def find_unprocessed(world: World) -> Digests:
    """Uploads older than the grace period that no batch and no row knows; each is noted."""
    waiting = world.places.waiting.sorted()
    unknown = np.unique(waiting[~(world.rows.holds(waiting) | world.pending_images.holds(waiting))])
    if not len(unknown):
        return unknown
    found = Collected()
    bucket = world.settings.source_bucket
    for some in in_slices(listed(world.s3, bucket)):  # again, to name them; what is gone by now was on its way
        places = [digest(bucket, item.key, item.etag) for item in some]
        is_unknown = are_in(unknown, places)
        is_unknown &= ~world.pending_images.holds([digest(bucket, item.key, "") for item in some])
        for number in np.flatnonzero(is_unknown).tolist():
            since = f"{some[number].modified:%Y-%m-%d %H:%M} UTC"
            world.notes.add("unprocessed", f"s3://{bucket}/{some[number].key}, since {since}")
            found.add(places[number])
    return np.unique(found.sorted())


def _check_documents(world: World, records: Sequence[Record]) -> None:
    """Each row's document is there. Why an image had no labels is forgotten once it is taken out of quarantine."""
    keys = [document_key(record.bucket, record.key, is_labelled=record.status == "LABELLED") for record in records]
    there = world.places.documents.holds([digest(key) for key in keys])
    for number in np.flatnonzero(~there).tolist():
        record, key = records[number], keys[number]
        if world.may_look() and world.exists(world.bucket, key):
            continue
        refused = original_keys(record.bucket, record.key, record.etag)[2:]
        held = [place for place in refused if world.places.documents.holds([digest(place)])[0]]
        if record.status in ("REJECTED", "FAILED") and held:
            world.notes.add("quarantined_without_reason", held[0], once=digest(held[0]))
        elif record.status == "LABELLED" or not _is_redriven(world, record):
            world.notes.add("row_without_document", f"{record.uri} ({record.status}): no {key}", once=digest(key))


def _is_redriven(world: World, record: Record) -> bool:
    """Whether an image that had no labels is pending again, or labelled by now."""
    labels = digest(document_key(record.bucket, record.key, is_labelled=True))
    return bool(world.places.documents.holds([labels])[0] or world.pending_names.holds([record.name])[0])


def _expect(world: World, record: Record, status: str = "") -> None:
    """Note what must be in the final bucket for a row; of a pending batch, what may be there."""
    kept, _, refused, _ = original_keys(record.bucket, record.key, record.etag)
    for is_labelled, filed in ((True, kept), (False, refused)):
        if status and is_labelled != (status == "LABELLED"):
            continue
        world.documents_due.add(digest(document_key(record.bucket, record.key, is_labelled=is_labelled)))
        # A long name is cut for the ETag behind it; and a name may end like one that made way.
        for key in {filed, without_aside(filed), without_aside(aside_key(filed, record.etag))}:
            world.filed_due.add(digest(key))


def _has_row_by_name(world: World, record: Record) -> bool:
    keys = (document_key(record.bucket, record.key, is_labelled=labelled) for labelled in (True, False))
    return bool(world.documents_due.holds([digest(key) for key in keys]).any())


def _note_forced(world: World, record: Record) -> None:
    if record.force:
        world.forced.add(digest(record.batch_id, str(record.identity)))
