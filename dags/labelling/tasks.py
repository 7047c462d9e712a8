"""The stages of ``include`` dressed as tasks: clients from the connection in, counts and keys out.

XCom carries keys and counts, never images or labels.
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from airflow.sdk import get_current_context, task

from include import model
from include.access import check_access
from include.archive.archives import going_of
from include.archive.slices import Slice, clear_cancelled, next_slice, pending_archives
from include.batches import forget_attempts, list_pending, read_batch
from include.decide import INFER_TASKS, MAX_BATCHES_A_RUN, Decision, batch_size, count_backlog
from include.decide import decide as choose
from include.drain import DrainReport
from include.drain import drain as drain_queue
from include.infer import infer as infer_batch
from include.infer import not_inferred, note_inferred, running_since
from include.layout import archive_of, batch_id_of
from include.ledger import month_cost_usd
from include.preflight import preflight as preflight_batch
from include.publish import publish as publish_batch
from include.selection import find_images, queue_images
from include.settings import Settings, load_settings
from labelling.clients import client, inference_client
from labelling.model_session import holder_of, model_state, request_stop

log = logging.getLogger(__name__)

MANY = 1_000_000
# A paused archive is noticed within these.
PAUSE_SECONDS = 10
# Before the end of a run's model minutes: the last answers come, and the stop is requested.
LAST_SECONDS = timedelta(seconds=10)
EVERYTHING_PENDING = "everything pending"
A_PREFIX = "a prefix"
A_LIST = "a list of S3 URIs"


def now_utc() -> datetime:
    return datetime.now(UTC)


@task
def drain() -> list[str] | None:
    """Bring work into ``batches/pending/``: from the queue, or what a manual run asks for.

    Returns the keys of a manual run's own batches, None where everything pending is meant.
    """
    context = get_current_context()
    params, settings = context["params"], load_settings()
    s3, sqs = client("s3", settings), client("sqs", settings)
    check_access(s3, sqs, settings)
    known = model_state(settings).read()
    if params["what"] == EVERYTHING_PENDING:
        attributes = ["ApproximateNumberOfMessages"]
        answer = sqs.get_queue_attributes(QueueUrl=settings.queue_url, AttributeNames=attributes)
        waiting = int(answer["Attributes"]["ApproximateNumberOfMessages"])
        if params["dry_run"]:
            context["ti"].xcom_push(key="messages", value=waiting)
            log.info("Dry run: about %s messages wait in the queue; none was received.", waiting)
        else:
            settings = settings.model_copy(update={"batch_size": batch_size(waiting, known, settings)})
            report: DrainReport = drain_queue(sqs, s3, settings, monotonic=time.monotonic)
            log.info("Drained: %s", report)
            context["ti"].xcom_push(key="drained", value=asdict(report))
        return None
    images = find_images(
        s3,
        settings,
        prefix=params["prefix"] or "" if params["what"] == A_PREFIX else "",
        uris=params["uris"] or [] if params["what"] == A_LIST else [],
        force=params["force"],
    )
    if params["dry_run"]:
        found = sum(1 for _ in images)
        context["ti"].xcom_push(key="messages", value=found)
        log.info("Dry run: %s images found; no batch was written.", found)
        return []
    # A prefix is listed as it is queued: as many as there may be.
    size = batch_size(len(params["uris"]) if params["what"] == A_LIST else MANY, known, settings)
    settings = settings.model_copy(update={"batch_size": size})
    return queue_images(s3, settings, images, request_id=context["run_id"])


@task
def decide(requested: list[str] | None) -> list[str]:
    """Say in one sentence whether the model is started, with how many units and at what price.

    Returns the keys of the batches to work on; none where the model stays off.
    """
    context = get_current_context()
    params, settings = context["params"], load_settings()
    s3 = client("s3", settings)
    state = model_state(settings)
    dry_run = params["dry_run"]
    # Triggered by a Dag: an archive was queued, or goes on.
    by_hand = context["dag_run"].run_type in ("manual", "operator_triggered") or requested is not None
    known = state.read()
    taken = Slice()
    if requested is None:
        archives = pending_archives(s3, settings)
        if not dry_run:
            clear_cancelled(s3, settings, archives)
        requested = list_pending(s3, settings.final_bucket)
        taken = next_slice(s3, settings, known, archives, most_batches=MAX_BATCHES_A_RUN - len(requested))
    keys = [*requested, *taken.batches]
    backlog = count_backlog(s3, settings, keys, now=now_utc(), run_id=context["run_id"], change=not dry_run)
    backlog = replace(backlog, archives_go_on=taken.goes_on)
    if dry_run:
        announced = context["ti"].xcom_pull(task_ids="drain", key="messages")
        backlog = replace(backlog, announced=announced)
    units = params["inference_units"]
    if units is None and known.lease and known.lease.handed_over_at:
        # What runs already, runs with the units that it has.
        running = describe_model(settings)
        units = running.get("MinInferenceUnits") if running["Status"] == "RUNNING" else None
    spent = 0.0
    if settings.monthly_budget_usd is not None:
        spent = month_cost_usd(s3, settings.final_bucket, now=now_utc(), threads=settings.threads)
    decision = choose(
        backlog,
        known,
        settings,
        now=now_utc(),
        units=units,
        by_hand=by_hand,
        month_cost_usd=spent,
    )
    if dry_run:
        decision = Decision(False, f"Dry run, nothing was changed. {decision.reason}", decision.images)
    elif decision.start and known.lease and known.lease.is_held_against(holder_of(context), now_utc()):
        reason = f"Postponed: {known.lease.holder} uses the model until {known.lease.expires_at:%H:%M} UTC."
        decision = Decision(False, reason, decision.images)
    elif decision.start:
        description = describe_model(settings)
        thresholds = model.assumed_thresholds(s3, description)
        state.update(lambda before: before.with_thresholds(thresholds))
    log.log(logging.WARNING if decision.is_over_budget else logging.INFO, decision.reason)
    context["ti"].xcom_push(key="decision", value=asdict(decision) | {"batches": len(decision.batches)})
    return list(decision.batches)


@task(multiple_outputs=False)
def preflight(batch: str) -> dict[str, int]:
    """Check a batch's images while the model starts."""
    settings = load_settings()
    s3 = client("s3", settings)
    found = read_batch(s3, settings.final_bucket, batch)
    if found is None:
        return {}
    checked = preflight_batch(s3, settings, found, run_id=get_current_context()["run_id"], now=now_utc)
    counts = {
        "ready": sum(entry.is_ready for entry in checked),
        "already_labelled": sum(entry.already_labelled for entry in checked),
        "ended": sum(entry.outcome is not None for entry in checked),
    }
    log.info("Batch %s: %s", found.batch_id, counts)
    return counts


@task(multiple_outputs=False)
def infer(batch: str) -> dict[str, Any]:
    """Label a batch; the only stage that runs while the model bills."""
    context, settings = get_current_context(), load_settings()
    s3 = client("s3", settings)
    state, holder = model_state(settings), holder_of(context)
    decision = context["ti"].xcom_pull(task_ids="decide", key="decision")
    units = decision["inference_units"]
    rate = state.read().images_per_second
    batch_id, run_id = batch_id_of(batch), context["run_id"]
    batches = context["ti"].xcom_pull(task_ids="decide")

    running_at = to_time(context["ti"].xcom_pull(task_ids="wait_until_running", key="running_at"))
    archive = archive_of(batch)
    limits = [decision["limit_minutes"], settings.archive_minutes if archive else None]
    limit = min((minutes for minutes in limits if minutes is not None), default=None)

    def left() -> set[str]:
        return not_inferred(s3, settings.final_bucket, run_id, batches)

    @cache
    def call_until(first_call: datetime | None) -> datetime | None:
        # Noted with and without a limit: the report must know that the model ran, whatever becomes of this task.
        # An archive's minutes count from the first call: what goes before must not use them up, run after run.
        since = running_since(s3, settings.final_bucket, run_id, first_call=first_call) or (
            None if archive else running_at
        )
        return since + timedelta(minutes=limit) - LAST_SECONDS if since and limit is not None else None

    @cache
    def is_halted(_: int) -> bool:
        return archive is not None and going_of(s3, settings.final_bucket, archive) != "on"

    def is_paused() -> bool:
        return is_halted(int(time.monotonic() / PAUSE_SECONDS))

    def until(first_call: datetime | None) -> datetime | None:
        ends = call_until(first_call)  # in any case: it notes the first call
        return now_utc() if is_paused() else ends

    report = infer_batch(
        inference_client(settings),
        s3,
        settings,
        batch_id,
        run_id=run_id,
        # Its part of what the model serves; it finds out from there.
        first_rate=rate * units / min(decision["batches"], INFER_TASKS) if rate else None,
        now=now_utc,
        monotonic=time.monotonic,
        renew_lease=lambda: state.renew(holder, minutes=settings.lease_minutes, now=now_utc()),
        describe_model=lambda: describe_model(settings),
        wait_seconds=settings.start_timeout_minutes * 60,
        callers=lambda: min(len(left() | {batch_id}), INFER_TASKS),
        call_until=until,
    )
    if report.left:
        why = "its archive does not go on" if is_paused() else "the model's time is up"
        log.warning("Batch %s: %s; %s images stay pending.", batch_id, why, report.left)
        if report.images or not report.calls:
            # It was not taken up in vain: some of it was labelled, or it was not its turn yet.
            forget_attempts(s3, settings.final_bucket, [batch], run_id, threads=1)
    note_inferred(s3, settings.final_bucket, run_id, batch_id)
    if not left() and not decision["goes_on"]:
        request_stop(context, settings)
    log.info("Batch %s: %s", batch_id, report)
    return {"batch": batch, "counts": asdict(report)}


@task(multiple_outputs=False)
def publish(batch: str) -> dict[str, Any]:
    """Write a batch's JSON and Parquet, file its originals, mark it done."""
    settings = load_settings()
    s3 = client("s3", settings)
    found = read_batch(s3, settings.final_bucket, batch)
    if found is None:
        log.info("%s is done already.", batch)
        return {}
    report = publish_batch(s3, settings, found, thresholds=model_state(settings).read().thresholds)
    log.info("Batch %s: %s", found.batch_id, report)
    return {"batch": batch, "counts": asdict(report)}


def describe_model(settings: Settings) -> dict[str, Any]:
    return model.describe(client("rekognition", settings), project_arn=settings.project_arn, name=settings.model)


def to_time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
