"""Stage 5, the only one that runs while the model bills: one paid call an image, and checkpoints. Nothing else."""

from __future__ import annotations

import contextlib
import logging
import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from include import layout, objects
from include.calling import Caller, Image, Work, access_error
from include.errors import TerminalError
from include.outcomes import Outcome, read_outcomes, read_preflight, write_part
from include.pacing import Pacer
from include.settings import Settings

log = logging.getLogger(__name__)

CHECKPOINT_IMAGES: Final = 100
CHECKPOINT_SECONDS: Final = 2.0
LEASE_SECONDS: Final = 30.0
CALLERS_SECONDS: Final = 2.0
LIMIT_SECONDS: Final = 0.5
# A note beside those of the batches, whose ids are hexadecimal.
RUNNING_SINCE: Final = "running-since"
LOOK_SECONDS: Final = 0.05
# How long calls under way are waited for when the task is told to end: their answers are paid for.
LAST_CALLS_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class InferReport:
    """Counts of one batch, and when what happened; None where it did not. ``left``: not called for, since time was up.

    ``not_running_at``: the model was last seen not yet RUNNING. ``first_call_at``: the first call that was let in was
    made. ``up_to_speed_at``: the rate had been measured. ``out_of_images_at``: the last image was called for.
    ``last_call_at``: the last answer came. ``latency_seconds``: of the calls served, on average.
    """

    images: int = 0
    labelled: int = 0
    failed: int = 0
    calls: int = 0
    throttled_calls: int = 0
    not_running_at: datetime | None = None
    first_call_at: datetime | None = None
    up_to_speed_at: datetime | None = None
    out_of_images_at: datetime | None = None
    last_call_at: datetime | None = None
    latency_seconds: float | None = None
    left: int = 0


def infer(
    rekognition: Any,
    s3: Any,
    settings: Settings,
    batch_id: str,
    *,
    run_id: str,
    first_rate: float | None,
    now: Callable[[], datetime],
    monotonic: Callable[[], float],
    renew_lease: Callable[[], object],
    describe_model: Callable[[], dict[str, Any]],
    wait_seconds: float = 0.0,
    callers: Callable[[], int] = lambda: 1,
    call_until: Callable[[datetime | None], datetime | None] = lambda first_call: None,
) -> InferReport:
    """Label what preflight let through and no checkpoint holds yet.

    May be called before the model is RUNNING: so no billed second goes by while workers start.

    :param rekognition: a client that makes each call once: pacing and repeating are done here.
    :param first_rate: calls a second to begin with; None where nothing was learned yet.
    :param describe_model: the project version as DescribeProjectVersions has it.
    :param wait_seconds: how long a model that is STARTING is waited for.
    :param callers: how many of the run's tasks share the model at the moment, this one included.
    :param call_until: when to end, whatever is left, given this task's first call that was let in (None: not yet); None: never.
    :raises ModelNotRunningError: the model is neither RUNNING nor soon will be.
    :raises TerminalError: no call can succeed (permissions, wrong ARN): retrying is useless.
    :raises TransientError: the service is failing for everyone: what was labelled is kept, retry.
    """
    checked = read_preflight(s3, settings.final_bucket, batch_id)
    if checked is None:
        raise TerminalError(
            f"Batch {batch_id} has no preflight: it was not checked, so it is not labelled. Clear preflight."
        )
    paid = read_outcomes(s3, settings.final_bucket, batch_id)
    ready = [entry for entry in checked if entry.is_ready and entry.image.place not in paid]
    if paid:
        log.info("Batch %s: %s images are checkpointed already and are not paid for again.", batch_id, len(paid))
    work = Work(left=len(ready), last_success=monotonic())

    def is_time_up() -> bool:
        ends = call_until(work.first_call_at)
        return ends is not None and now() >= ends

    if not ready or is_time_up():
        return InferReport(left=len(ready))
    for entry in ready:
        work.todo.put(Image(entry))
    pacer = Pacer(monotonic=monotonic, sleep=work.stop.wait, first_rate=first_rate, callers=callers())
    caller = Caller(rekognition, settings, run_id, pacer, describe_model, wait_seconds, now, monotonic, work)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="caller") as thread:
        calling = thread.submit(caller.run)
        chores = [
            (LEASE_SECONDS, renew_lease),
            (CALLERS_SECONDS, lambda: pacer.share(callers())),
            (LIMIT_SECONDS, lambda: work.end() if is_time_up() else None),
        ]
        try:
            outcomes = _checkpoint(s3, settings, batch_id, calling, work, monotonic, chores)
        finally:
            call_until(work.first_call_at)  # also of a batch that was over before the first look
    calling.result()
    if len(work.unreadable) == len(ready) > 1:
        raise access_error(work.unreadable)
    return InferReport(
        images=len(outcomes),
        labelled=sum(outcome.status == "LABELLED" for outcome in outcomes),
        failed=sum(outcome.status != "LABELLED" for outcome in outcomes),
        calls=work.calls,
        throttled_calls=work.throttled_calls,
        not_running_at=work.not_running_at,
        first_call_at=work.first_call_at,
        up_to_speed_at=work.up_to_speed_at,
        out_of_images_at=work.out_of_images_at,
        last_call_at=work.last_call_at,
        latency_seconds=round(work.served_seconds / work.served, 3) if work.served else None,
        left=len(ready) - len(outcomes),
    )


def _checkpoint(
    s3: Any,
    settings: Settings,
    batch_id: str,
    calling: Future[None],
    work: Work,
    monotonic: Callable[[], float],
    chores: Sequence[tuple[float, Callable[[], object]]],
) -> list[Outcome]:
    """Write outcomes as they come, at least every 100 images and every two seconds, until all calling has ended.

    Also when something is raised here or in a calling thread. A process that is killed loses what came in since the last
    checkpoint, two seconds at most, and calls for it again.

    :param chores: what else is to be done every so many seconds meanwhile.
    """
    written: list[Outcome] = []
    waiting: list[Outcome] = []
    number = 0

    def write() -> None:
        nonlocal number
        if waiting:
            number = write_part(s3, settings.final_bucket, batch_id, waiting, number=number)
            written.extend(waiting)
            waiting.clear()

    due = monotonic() + CHECKPOINT_SECONDS
    next_chores = [monotonic() + seconds for seconds, _ in chores]
    try:
        while not calling.done() or not work.done.empty():
            # Not woken by every outcome: at hundreds a second, that costs the calling threads time.
            wait([calling], timeout=LOOK_SECONDS)
            waiting.extend(_arrived(work.done, most=CHECKPOINT_IMAGES - len(waiting)))
            if len(waiting) >= CHECKPOINT_IMAGES or monotonic() >= due:
                write()
                due = monotonic() + CHECKPOINT_SECONDS
            for which, (seconds, chore) in enumerate(chores):
                if monotonic() >= next_chores[which]:
                    chore()
                    next_chores[which] = monotonic() + seconds
    finally:
        work.end()
        wait([calling], timeout=LAST_CALLS_SECONDS)
        waiting.extend(_arrived(work.done))
        if work.served or len(work.unreadable) == 1:
            waiting.extend(work.unreadable)
        write()
    return written


def _arrived(done: queue.SimpleQueue[Outcome], most: int | None = None) -> Iterator[Outcome]:
    with contextlib.suppress(queue.Empty):
        while most is None or (most := most - 1) >= 0:
            yield done.get_nowait()


def note_inferred(s3: Any, bucket: str, run_id: str, batch_id: str) -> None:
    """Note that a run has called for all of a batch."""
    s3.put_object(Bucket=bucket, Key=layout.inferred(run_id, batch_id), Body=b"")


def not_inferred(s3: Any, bucket: str, run_id: str, batches: Sequence[str]) -> set[str]:
    """Batches that the run has not called for yet, by their ids.

    Who has noted his own and finds none is the last one: S3 lists all that was written before, so of tasks that end at the
    same moment at least one finds that.

    :param batches: keys of all the run's pending batches.
    """
    prefix = layout.inferred(run_id)
    noted = {key.removeprefix(prefix) for key in objects.list_keys(s3, bucket, prefix)}
    return set(map(layout.batch_id_of, batches)) - noted


def running_since(s3: Any, bucket: str, run_id: str, *, first_call: datetime | None) -> datetime | None:
    """When a task of the run first found the model RUNNING; whoever is the first to find it notes it for all.

    :param first_call: when this task did; None where it has not yet.
    """
    key = layout.inferred(run_id, RUNNING_SINCE)
    if first_call:
        objects.write_if(s3, bucket, key, first_call.isoformat().encode(), etag=None)
    found = objects.read(s3, bucket, key)
    return datetime.fromisoformat(found[0].decode()) if found else None


def forget_inferred(s3: Any, bucket: str, run_id: str) -> None:
    """The run is over: its notes are not needed any more."""
    for key in list(objects.list_keys(s3, bucket, layout.inferred(run_id))):
        s3.delete_object(Bucket=bucket, Key=key)
