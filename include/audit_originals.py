"""The audit of originals: each image that a batch or a row speaks of lies in exactly one place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import numpy as np

from include.audit_places import digest, document_key, original_keys
from include.audit_records import BROKEN, OUTCOMES, Record, missing_in_checkpoints, read_results, visible_results
from include.audit_world import World, head


def suspect(world: World, records: Sequence[Record]) -> None:
    """Remember the images of which no listing shows an original. A row that says MISSING expects none."""
    wanted = [record for record in records if record.status != "MISSING"]
    world.places.list_buckets(world.s3, (record.bucket for record in wanted))
    is_found = world.places.found([(record.bucket, record.key, record.etag) for record in wanted]).any(axis=1)
    for number in np.flatnonzero(~is_found).tolist():
        record = wanted[number]
        if world.places.is_filed_by_size(record.bucket, record.key, record.etag, record.size_bytes):
            continue
        if world.may_look():
            world.suspects.append(record)
        else:
            world.notes.add("lost", f"{record.uri}, of batch {record.batch_id}")


def check_suspects(world: World) -> None:
    """Ask for suspects by name: lost are those that are nowhere, unless somebody wrote over them or said that they are gone."""
    suspects = list({record.identity: record for record in world.suspects}.values())
    with ThreadPoolExecutor(max_workers=world.settings.threads) as pool:
        is_there = list(pool.map(lambda record: _is_anywhere(world, record), suspects))
    lost = [record for record, found in zip(suspects, is_there, strict=True) if not found]
    gone = _told_to_be_gone(world, lost)
    over = _written_over(world, lost)
    for record in lost:
        if record.identity in over:
            world.overwritten += 1
        elif (record.bucket, record.key) not in gone.get(record.batch_id, ()):
            document = digest(document_key(record.bucket, record.key, is_labelled=False))
            is_refused = record.status in ("REJECTED", "FAILED") and world.places.documents.holds([document])[0]
            kind = "reason_without_file" if is_refused else "lost"
            world.notes.add(kind, f"{record.uri}, of batch {record.batch_id}")


def _is_anywhere(world: World, record: Record) -> bool:
    source = head(world.s3, record.bucket, record.key, record.version_id)
    if source and (not record.etag or source["ETag"].strip('"') == record.etag):
        return True
    kept, kept_aside, refused, refused_aside = original_keys(record.bucket, record.key, record.etag)
    if world.exists(world.bucket, kept_aside) or world.exists(world.bucket, refused_aside):
        return True
    for key in (kept, refused):
        found = head(world.s3, world.bucket, key)
        if found and (_is_same(found, record) or not record.etag):
            return True
    return False


def _is_same(found: dict[str, Any], record: Record) -> bool:
    """A copy has an ETag of its own where S3 encrypts with a key of KMS, or where the upload came in parts."""
    if found["ETag"].strip('"') == record.etag:
        return True
    has_own_etag = "-" in record.etag or str(found.get("ServerSideEncryption", "")).startswith("aws:kms")
    return has_own_etag and bool(found["ContentLength"] == record.size_bytes)


def _told_to_be_gone(world: World, lost: Iterable[Record]) -> dict[str, set[tuple[str, str]]]:
    """Of unfinished batches, the images whose checkpoint says MISSING; a row that says so is no suspect."""
    batches = {record.batch_id for record in lost if not record.status}
    gone = {}
    for batch_id in sorted(batches):
        try:
            gone[batch_id] = missing_in_checkpoints(world.s3, world.bucket, batch_id)
        except BROKEN as err:
            world.notes.add("unreadable", f"{OUTCOMES}{batch_id}/ holds no outcomes ({type(err).__name__}: {err})")
    return gone


def _written_over(world: World, lost: Sequence[Record]) -> set[int]:
    """Identities of which a newer upload took the name before their batch was done: nothing could be moved any more."""
    by_name: dict[int, list[Record]] = {}
    for record in lost:
        by_name.setdefault(record.name, []).append(record)
    over: set[int] = set()

    def compare(name: int, etag: str, time: datetime) -> None:
        for record in by_name.get(name, ()):
            is_newer = etag != record.etag and record.event_time <= time
            if is_newer and time <= world.done.get(record.batch_id, world.now):
                over.add(record.identity)

    for record in lost:
        if found := head(world.s3, record.bucket, record.key):
            compare(record.name, found["ETag"].strip('"'), found["LastModified"])
    if by_name:
        for read in read_results(world.s3, world.bucket, visible_results(world.s3, world.bucket)):
            for record in read.records or []:
                compare(record.name, record.etag, record.event_time)
    return over


def check_one_place(world: World, records: Sequence[Record]) -> None:
    """Nothing published is kept twice: but for the same content uploaded anew, which waits for its turn."""
    records = [record for record in records if record.etag and record.status != "MISSING"]
    if not records:
        return
    found = world.places.found([(record.bucket, record.key, record.etag) for record in records])
    identities = [record.identity for record in records]
    waits = world.places.fresh.holds(identities) | world.pending_images.holds(identities)
    copies = found[:, 1:].sum(axis=1) + (found[:, 0] & ~waits)
    for number in np.flatnonzero(copies > 1).tolist():
        record = records[number]
        places = [(record.bucket, record.key)]
        places += [(world.bucket, key) for key in original_keys(record.bucket, record.key, record.etag)]
        held = [place for place, is_held in zip(places, found[number].tolist(), strict=True) if is_held]
        if world.may_look(len(held)):  # moved since the inbox was listed?
            held = [place for place in held if _holds(world, *place, record.etag)]
        if len(held) > 1:
            shown = " and ".join(f"s3://{bucket}/{key}" for bucket, key in held)
            world.notes.add("original_twice", shown, once=record.identity)


def _holds(world: World, bucket: str, key: str, etag: str) -> bool:
    found = head(world.s3, bucket, key)
    return found is not None and found["ETag"].strip('"') == etag
