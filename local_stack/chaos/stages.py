"""The stages of a run as functions of what the stages before have noted, in the order and with the clients that the Dag uses.

As ``dags/labelling`` dresses them for Airflow, without Airflow: a stage is given the run's notes, and what it returns is added to
them. The model's own stages are in `local_stack.chaos.model_stages`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Final

from include import model
from include.access import check_access
from include.archive.archives import find_archive, going_of, read_progress, record_run
from include.archive.slices import Slice, clear_cancelled, next_slice, pending_archives
from include.batches import forget_attempts, list_pending, read_batch
from include.compact import compact_day, days_to_compact, remove_replaced
from include.decide import INFER_TASKS, MAX_BATCHES_A_RUN, Decision, batch_size, count_backlog
from include.decide import decide as choose
from include.drain import count_dead_letters
from include.drain import drain as drain_queue
from include.infer import InferReport, forget_inferred, not_inferred, note_inferred, running_since
from include.infer import infer as infer_batch
from include.layout import archive_of, batch_id_of
from include.preflight import preflight as preflight_batch
from include.publish import PublishReport
from include.publish import publish as publish_batch
from include.report import ModelTimes, build_report, for_archives, learn, worth_telling, write_report
from include.schema import ANALYSIS
from local_stack.chaos.model_stages import (
    Desk,
    Notes,
    now,
    request_stop,
    start_model,
    stop_idle_model,
    stop_model,
    stop_model_of_failed_run,
    stop_what_was_handed_over,
    wait_until_running,
)

log = logging.getLogger(__name__)


def drain(desk: Desk) -> Notes:
    settings = desk.settings
    check_access(desk.s3, desk.sqs, settings)
    known = desk.state.read()
    names = ["ApproximateNumberOfMessages"]
    waiting = int(
        desk.sqs.get_queue_attributes(QueueUrl=settings.queue_url, AttributeNames=names)["Attributes"][names[0]]
    )
    settings = settings.model_copy(update={"batch_size": batch_size(waiting, known, settings)})
    log.info("Drained: %s", drain_queue(desk.sqs, desk.s3, settings, monotonic=time.monotonic))
    return {}


def decide(desk: Desk) -> Notes:
    known = desk.state.read()
    archives = pending_archives(desk.s3, desk.settings)
    clear_cancelled(desk.s3, desk.settings, archives)
    keys = list_pending(desk.s3, desk.settings.final_bucket)
    taken: Slice = next_slice(desk.s3, desk.settings, known, archives, most_batches=MAX_BATCHES_A_RUN - len(keys))
    backlog = count_backlog(desk.s3, desk.settings, [*keys, *taken.batches], now=now(), run_id=desk.run_id)
    backlog = replace(backlog, archives_go_on=taken.goes_on)
    decision = choose(backlog, known, desk.settings, now=now())
    if decision.start and known.lease and known.lease.is_held_against(desk.holder, now()):
        reason = f"Postponed: {known.lease.holder} uses the model until {known.lease.expires_at:%H:%M} UTC."
        decision = Decision(False, reason, decision.images)
    elif decision.start:
        thresholds = model.assumed_thresholds(desk.s3, desk.describe())
        desk.state.update(lambda before: before.with_thresholds(thresholds))
    log.info(decision.reason)
    return {"decision": asdict(decision) | {"batches": len(decision.batches)}, "batches": list(decision.batches)}


def preflight(desk: Desk) -> Notes:
    found = read_batch(desk.s3, desk.settings.final_bucket, desk.batch)
    if found:
        preflight_batch(desk.s3, desk.settings, found, run_id=desk.run_id, now=now)
    return {}


def infer(desk: Desk) -> Notes:
    settings, bucket, batch_id = desk.settings, desk.settings.final_bucket, batch_id_of(desk.batch)
    decision, batches = desk.notes["decision"], desk.notes["batches"]
    rate = desk.state.read().images_per_second
    archive = archive_of(desk.batch)
    limits = [decision["limit_minutes"], settings.archive_minutes if archive else None]
    limit = min((minutes for minutes in limits if minutes is not None), default=None)

    def left() -> set[str]:
        return not_inferred(desk.s3, bucket, desk.run_id, batches)

    @cache
    def call_until(first_call: datetime | None) -> datetime | None:
        since = running_since(desk.s3, bucket, desk.run_id, first_call=first_call) or desk.notes.get("running_at")
        if archive and going_of(desk.s3, bucket, archive) != "on":
            return now()
        return since + timedelta(minutes=limit) if since and limit is not None else None

    report = infer_batch(
        desk.inference,
        desk.s3,
        settings,
        batch_id,
        run_id=desk.run_id,
        first_rate=rate * decision["inference_units"] / min(decision["batches"], INFER_TASKS) if rate else None,
        now=now,
        monotonic=time.monotonic,
        renew_lease=lambda: desk.state.renew(desk.holder, minutes=settings.lease_minutes, now=now()),
        describe_model=desk.describe,
        wait_seconds=settings.start_timeout_minutes * 60,
        callers=lambda: min(len(left() | {batch_id}), INFER_TASKS),
        call_until=call_until,
    )
    if report.left and (report.images or not report.calls):
        forget_attempts(desk.s3, bucket, [desk.batch], desk.run_id, threads=1)
    note_inferred(desk.s3, bucket, desk.run_id, batch_id)
    noted = {} if left() or decision["goes_on"] else request_stop(desk)
    return {"inferred": [(desk.batch, report)]} | noted


def publish(desk: Desk) -> Notes:
    found = read_batch(desk.s3, desk.settings.final_bucket, desk.batch)
    if found is None:
        return {}
    report = publish_batch(desk.s3, desk.settings, found, thresholds=desk.state.read().thresholds)
    log.info("Batch %s: %s", found.batch_id, report)
    return {"published": [(desk.batch, report)]}


def report(desk: Desk) -> Notes:
    s3, settings, notes = desk.s3, desk.settings, desk.notes
    pulled = notes.get("decision") or asdict(Decision(False, "No decision was reached."))
    units = notes.get("inference_units")
    decision = Decision(**pulled | {"batches": ()} | ({"inference_units": units} if units else {}))
    called: list[tuple[str, InferReport]] = notes.get("inferred", [])
    inferred = [counts for _, counts in called]
    published: list[tuple[str, PublishReport]] = notes.get("published", [])
    names = ("start_requested_at", "stop_requested_at", "stopped_at", "handed_over_at")
    ran_at = running_since(s3, settings.final_bucket, desk.run_id, first_call=None)
    times = ModelTimes(
        **{name: notes.get(name) for name in names},
        running_at=notes.get("taken_over_at") or notes.get("running_at", ran_at),
    )
    if not decision.start:
        stop_what_was_handed_over(desk)
    if times.running_at is None:
        forget_attempts(s3, settings.final_bucket, notes.get("batches", []), desk.run_id, threads=settings.threads)
    row = build_report(
        settings,
        run_id=desk.run_id,
        started_at=notes["started_at"],
        ended_at=now(),
        trigger="scheduled",
        decision=decision,
        inferred=inferred,
        published=[counts for _, counts in published],
        times=times,
        final_status=desk.status(),
        known_rate=desk.state.read().images_per_second,
    )
    write_report(s3, settings, row)
    learn(desk.state, row, inferred, times)
    done = for_archives(row, called, published)
    record_run(s3, settings.final_bucket, row.run_id, done)
    for archive_id in filter(lambda each: find_archive(s3, settings.final_bucket, each), done):
        log.info(read_progress(s3, settings.final_bucket, archive_id, threads=settings.threads).in_words())
    forget_inferred(s3, settings.final_bucket, desk.run_id)
    dead_letters = count_dead_letters(desk.sqs, settings.queue_url)
    for line in worth_telling(settings, row, decision, inferred, dead_letters=dead_letters):
        log.warning(line)
    return {}


def compact(desk: Desk) -> Notes:
    """The Dag leaves today alone; here today is all there is."""
    s3, bucket, threads = desk.s3, desk.settings.final_bucket, desk.settings.threads
    tomorrow = now() + timedelta(days=1)
    for day in days_to_compact(s3, bucket, analysis=ANALYSIS, now=tomorrow, threads=threads):
        log.info("Compacted: %s", compact_day(s3, bucket, analysis=ANALYSIS, day=day, threads=threads))
    removed = remove_replaced(s3, bucket, analysis=ANALYSIS, now=tomorrow, threads=threads)
    log.info("Removed %s files whose rows are in a merged one.", removed)
    return {}


STAGES: Final[dict[str, Callable[[Desk], Notes]]] = {
    each.__name__: each
    for each in (
        drain,
        decide,
        start_model,
        preflight,
        wait_until_running,
        infer,
        stop_model,
        publish,
        report,
        stop_model_of_failed_run,
        stop_idle_model,
        compact,
    )
}
