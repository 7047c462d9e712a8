"""The archives that have been queued: what they are, whether they go on, and how far they are.

An archive's images wait as pending batches like all others, under keys that name the archive. One small object says what it is
and whether it goes on; each run leaves another one that says what it did for it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from include import layout, objects
from include.batches import plan_batches, write_batches
from include.errors import SelectionError, TransientError
from include.images import ImageRef, to_json_line
from include.parallel import in_parallel, in_slices
from include.settings import Settings

log = logging.getLogger(__name__)


class UnknownArchiveError(SelectionError):
    """Raised where there is no archive of that id."""


Going = Literal["on", "paused", "cancelled"]
WRITE_ATTEMPTS: Final = 20
# What lies behind is forgotten when the end is predicted: a pause at the beginning says nothing of it.
RECENT_RUNS: Final = 20


@dataclass(frozen=True, slots=True)
class Archive:
    """One archive. ``images`` and ``size_bytes`` are what was queued, in batches of ``batch_size``; ``source``: told where."""

    archive_id: str
    source: str
    queued_at: datetime
    images: int
    size_bytes: int
    batch_size: int
    going: Going = "on"
    is_queued: bool = False

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), default=datetime.isoformat, sort_keys=True, indent=1).encode()

    @classmethod
    def from_json(cls, body: bytes) -> Archive:
        fields = json.loads(body)
        return cls(**fields | {"queued_at": datetime.fromisoformat(fields["queued_at"])})


@dataclass(frozen=True, slots=True)
class ArchiveRun:
    """What one run did for an archive: images by outcome, and its share of what the model cost."""

    ended_at: datetime
    images: int = 0
    labelled: int = 0
    rejected: int = 0
    missing: int = 0
    failed: int = 0
    skipped: int = 0
    cost_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an archive is. ``left`` is 0 once no batch is pending; ``expected_end`` is None where nobody can tell."""

    archive: Archive
    pending_batches: int
    done: ArchiveRun
    left: int
    runs: int
    expected_end: datetime | None = None

    @property
    def state(self) -> str:
        if self.archive.going == "cancelled":
            return "cancelled"
        if not self.archive.is_queued:
            return "being queued"
        return "done" if not self.pending_batches else "waiting" if self.archive.going == "on" else "paused"

    def in_words(self) -> str:
        share = self.done.images / self.archive.images if self.archive.images else 1.0
        unlabelled = self.done.failed + self.done.rejected + self.done.missing
        told = (
            f"Archive {self.archive.archive_id}: {self.state}, {self.done.images:,} of {self.archive.images:,} images done "
            f"({share:.1%}), {unlabelled:,} of them not labelled, ${self.done.cost_usd:,.2f} so far"
        )
        return f"{told}, expected to end {self.expected_end:%Y-%m-%d %H:%M} UTC." if self.expected_end else f"{told}."


def queue_archive(
    s3: Any,
    settings: Settings,
    archive: Archive,
    parts: Iterable[Callable[[], Iterable[ImageRef]]],
) -> Archive:
    """Write an archive's batches. Broken off and repeated, it writes the same ones again.

    :param archive: what it is; one that is known already goes on as it stands.
    :param parts: the plan's parts, each read when its turn comes.
    :raises SelectionError: it was cancelled meanwhile.
    """
    archive = _known_or_new(s3, settings.final_bucket, archive)
    if archive.going == "cancelled":
        raise SelectionError(
            f"Archive {archive.archive_id} was cancelled: plan it again; what has a result is left out."
        )
    number = written = 0
    for read in [] if archive.is_queued else parts:
        if going_of(s3, settings.final_bucket, archive.archive_id) == "cancelled":
            raise SelectionError(f"Archive {archive.archive_id} was cancelled while it was being queued.")
        planned = plan_batches(list(read()), batch_size=archive.batch_size, request_id=archive.archive_id)
        named = [
            replace(batch, key=layout.archive_batch(archive.archive_id, number=number + place, batch_id=batch.batch_id))
            for place, batch in enumerate(planned)
        ]
        write_batches(s3, settings.final_bucket, named, threads=settings.threads)
        number, written = number + len(named), written + sum(len(batch.images) for batch in named)
        log.info("Archive %s: %s of %s images are queued.", archive.archive_id, f"{written:,}", f"{archive.images:,}")
    return change_archive(s3, settings.final_bucket, archive.archive_id, lambda known: replace(known, is_queued=True))


def _known_or_new(s3: Any, bucket: str, archive: Archive) -> Archive:
    objects.write_if(s3, bucket, layout.archive(archive.archive_id), archive.to_json(), etag=None)
    return read_archive(s3, bucket, archive.archive_id)


def read_archive(s3: Any, bucket: str, archive_id: str) -> Archive:
    """:raises SelectionError: there is no such archive, or its record is damaged."""
    return _read(s3, bucket, archive_id)[0]


def find_archive(s3: Any, bucket: str, archive_id: str) -> Archive | None:
    """The archive as it stands, None where there is no record of it; one whose record is damaged waits, as if paused."""
    try:
        return read_archive(s3, bucket, archive_id)
    except UnknownArchiveError:
        return None
    except SelectionError as err:
        log.error("%s Until then it waits, and all else goes on.", err)
        return Archive(archive_id, "", datetime.min.replace(tzinfo=UTC), 0, 0, 1, going="paused", is_queued=True)


def _read(s3: Any, bucket: str, archive_id: str) -> tuple[Archive, str]:
    found = objects.read(s3, bucket, layout.archive(archive_id))
    if found is None:
        raise UnknownArchiveError(f"There is no archive {archive_id!r}: `python -m include.cli archives` lists them.")
    try:
        return Archive.from_json(found[0]), found[1]
    except (ValueError, TypeError, KeyError, AttributeError) as err:
        raise SelectionError(
            f"s3://{bucket}/{layout.archive(archive_id)} is damaged ({err}). Delete it: the archive then goes on."
        ) from err


def change_archive(s3: Any, bucket: str, archive_id: str, change: Callable[[Archive], Archive]) -> Archive:
    """Read, change, write on the condition that nobody wrote in between; again where somebody did."""
    for _ in range(WRITE_ATTEMPTS):
        before, etag = _read(s3, bucket, archive_id)
        after = change(before)
        if after == before or objects.write_if(s3, bucket, layout.archive(archive_id), after.to_json(), etag=etag):
            return after
    raise TransientError(f"Archive {archive_id} is being changed by others without end; try again.")


def set_going(s3: Any, bucket: str, archive_id: str, going: Going) -> Archive:
    """Pause an archive, let it go on, or cancel it. What is being labelled at the moment ends within seconds.

    :raises SelectionError: there is no such archive, or it was cancelled, which is for good.
    """

    def change(archive: Archive) -> Archive:
        if archive.going == "cancelled" and going != "cancelled":
            raise SelectionError(f"Archive {archive_id} was cancelled: plan it again; what has a result is left out.")
        return replace(archive, going=going)

    return change_archive(s3, bucket, archive_id, change)


def going_of(s3: Any, bucket: str, archive_id: str) -> Going:
    """Whether an archive goes on. One whose record somebody has deleted does: its batches are pending, and must not be lost."""
    found = find_archive(s3, bucket, archive_id)
    return found.going if found else "on"


def list_archives(s3: Any, bucket: str) -> list[str]:
    """Ids of all archives that were ever queued, oldest first."""
    keys = objects.list_keys(s3, bucket, layout.ARCHIVES)
    return [key.split("/")[1] for key in keys if key == layout.archive(key.split("/")[1])]


def pending_of(s3: Any, bucket: str, archive_id: str) -> Iterator[str]:
    """An archive's pending batches, in the order of work."""
    return objects.list_keys(s3, bucket, layout.archive_batches(archive_id))


def record_run(s3: Any, bucket: str, run_id: str, done: Mapping[str, ArchiveRun]) -> None:
    """Note what a run did for each archive. Repeated, it is noted once."""
    for archive_id, run in done.items():
        body = to_json_line(asdict(run) | {"ended_at": run.ended_at.isoformat()}).encode()
        s3.put_object(Bucket=bucket, Key=layout.archive_run(archive_id, run_id), Body=body)


def read_progress(s3: Any, bucket: str, archive_id: str, *, threads: int) -> Progress:
    """How far an archive is, from what its runs have noted and what is pending.

    :raises SelectionError: there is no such archive.
    """
    archive = find_archive(s3, bucket, archive_id) or read_archive(s3, bucket, archive_id)

    def read(key: str) -> ArchiveRun:
        body, _ = objects.read(s3, bucket, key) or (b"", "")
        fields = json.loads(body)
        return ArchiveRun(**fields | {"ended_at": datetime.fromisoformat(fields["ended_at"])})

    runs: list[ArchiveRun] = []
    for some in in_slices(objects.list_keys(s3, bucket, layout.archive_runs(archive_id)), 1_000):
        runs.extend(in_parallel(read, some, threads=threads))
    runs.sort(key=lambda run: run.ended_at)
    done = ArchiveRun(
        ended_at=runs[-1].ended_at if runs else datetime.min.replace(tzinfo=UTC),
        **{name: sum(getattr(run, name) for run in runs) for name in _COUNTS},
        cost_usd=round(sum(run.cost_usd for run in runs), 4),
    )
    pending = sum(1 for _ in pending_of(s3, bucket, archive_id))
    # An image that another batch had already was done there: what is left is then less than the difference.
    left = max(0, archive.images - done.images) if pending or not archive.is_queued else 0
    goes_on = archive.going == "on" and left > 0
    return Progress(archive, pending, done, left, len(runs), _expected_end(runs, left) if goes_on else None)


_COUNTS: Final = ("images", "labelled", "rejected", "missing", "failed", "skipped")


def _expected_end(runs: list[ArchiveRun], left: int) -> datetime | None:
    """As fast as the last runs went, one after another."""
    recent = runs[-RECENT_RUNS:]
    seconds = (recent[-1].ended_at - recent[0].ended_at).total_seconds() if len(recent) > 1 else 0.0
    images = sum(run.images for run in recent[1:])
    return recent[-1].ended_at + timedelta(seconds=seconds * left / images) if seconds and images else None
