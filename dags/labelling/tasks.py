"""The stages of ``include`` dressed as tasks: clients from the connection in, counts and keys out.

XCom carries keys and counts, never images or labels.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from airflow.sdk import get_current_context, task

from include import model
from include.access import check_access
from include.archive.archives import find_archive, going_of, read_progress, record_run
from include.archive.slices import Slice, clear_cancelled, next_slice, pending_archives
from include.audit import audit as reconcile
from include.audit import render
from include.batches import forget_attempts, list_pending, read_batch
from include.decide import INFER_TASKS, MAX_BATCHES_A_RUN, Decision, batch_size, count_backlog
from include.decide import decide as choose
from include.drain import DrainReport, count_dead_letters
from include.drain import drain as drain_queue
from include.errors import AuditError, IncompleteRunError
from include.infer import InferReport, forget_inferred, not_inferred, note_inferred, running_since
from include.infer import infer as infer_batch
from include.layout import archive_of, batch_id_of
from include.ledger import month_cost_usd
from include.preflight import preflight as preflight_batch
from include.publish import PublishReport
from include.publish import publish as publish_batch
from include.report import ModelTimes, build_report, for_archives, in_a_sentence, learn, worth_telling, write_report
from include.schema import RunReport, json_values
from include.selection import find_images, queue_images
from include.settings import Settings, load_settings
from labelling.alerts import alert, alert_of_failed_task
from labelling.clients import client, inference_client
from labelling.model_session import holder_of, model_state, request_stop, stop_what_was_handed_over

log = logging.getLogger(__name__)

MANY = 1_000_000
# A paused archive is noticed within these.
PAUSE_SECONDS = 10
# Before the end of a run's model minutes: the last answers come, and the stop is requested.
LAST_SECONDS = timedelta(seconds=10)
EVERYTHING_PENDING = "everything pending"
A_PREFIX = "a prefix"
A_LIST = "a list of S3 URIs"


def _now() -> datetime:
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
    backlog = count_backlog(s3, settings, keys, now=_now(), run_id=context["run_id"], change=not dry_run)
    backlog = replace(backlog, archives_go_on=taken.goes_on)
    if dry_run:
        announced = context["ti"].xcom_pull(task_ids="drain", key="messages")
        backlog = replace(backlog, announced=announced)
    units = params["inference_units"]
    if units is None and known.lease and known.lease.handed_over_at:
        # What runs already, runs with the units that it has.
        running = _describe_model(settings)
        units = running.get("MinInferenceUnits") if running["Status"] == "RUNNING" else None
    spent = 0.0
    if settings.monthly_budget_usd is not None:
        spent = month_cost_usd(s3, settings.final_bucket, now=_now(), threads=settings.threads)
    decision = choose(
        backlog,
        known,
        settings,
        now=_now(),
        units=units,
        by_hand=by_hand,
        month_cost_usd=spent,
    )
    if dry_run:
        decision = Decision(False, f"Dry run, nothing was changed. {decision.reason}", decision.images)
    elif decision.start and known.lease and known.lease.is_held_against(holder_of(context), _now()):
        reason = f"Postponed: {known.lease.holder} uses the model until {known.lease.expires_at:%H:%M} UTC."
        decision = Decision(False, reason, decision.images)
    elif decision.start:
        description = _describe_model(settings)
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
    checked = preflight_batch(s3, settings, found, run_id=get_current_context()["run_id"], now=_now)
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

    running_at = _time(context["ti"].xcom_pull(task_ids="wait_until_running", key="running_at"))
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
        return _now() if is_paused() else ends

    report = infer_batch(
        inference_client(settings),
        s3,
        settings,
        batch_id,
        run_id=run_id,
        # Its part of what the model serves; it finds out from there.
        first_rate=rate * units / min(decision["batches"], INFER_TASKS) if rate else None,
        now=_now,
        monotonic=time.monotonic,
        renew_lease=lambda: state.renew(holder, minutes=settings.lease_minutes, now=_now()),
        describe_model=lambda: _describe_model(settings),
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


@task(multiple_outputs=False)
def report() -> dict[str, Any]:
    """Write the run's row, learn from it, and give the run its true state.

    Airflow calls a run a success when its last tasks were skipped and its teardown succeeded; this one looks at every task.
    """
    context, settings = get_current_context(), load_settings()
    ti, run_id, dry_run = context["ti"], context["run_id"], context["params"]["dry_run"]
    pulled = ti.xcom_pull(task_ids="decide", key="decision") or asdict(Decision(False, "No decision was reached."))
    units = ti.xcom_pull(task_ids="wait_until_running", key="inference_units")
    decision = Decision(**pulled | {"batches": ()} | ({"inference_units": units} if units else {}))
    called = [(each["batch"], InferReport(**each["counts"])) for each in _of_mapped(ti, "infer")]
    inferred = [counts for _, counts in called]
    published = [(each["batch"], PublishReport(**each["counts"])) for each in _of_mapped(ti, "publish")]
    stops = [_of_mapped(ti, task_id, "stop_requested_at") for task_id in ("infer", "stop_model")]
    s3 = client("s3", settings)
    # The moment lies between the last look at which it was not RUNNING and the first call that was let in.
    ran_at = running_since(s3, settings.final_bucket, run_id, first_call=None)
    seen = [each.not_running_at for each in inferred if each.not_running_at and ran_at]
    running_at = _time(ti.xcom_pull(task_ids="wait_until_running", key="running_at"))
    handed_over_at = _time(ti.xcom_pull(task_ids="stop_model", key="handed_over_at"))
    times = ModelTimes(
        start_requested_at=_time(ti.xcom_pull(task_ids="start_model", key="start_requested_at")),
        # What the run before has left running is this one's from then on.
        running_at=_time(ti.xcom_pull(task_ids="start_model", key="taken_over_at"))
        or running_at
        or max(seen, default=ran_at),
        stop_requested_at=_time(min(itertools.chain(*stops), default=None)),
        stopped_at=_time(ti.xcom_pull(task_ids="stop_model", key="stopped_at")),
        handed_over_at=handed_over_at,
    )
    state = model_state(settings)
    if times.running_at is None:
        forget_attempts(
            s3, settings.final_bucket, ti.xcom_pull(task_ids="decide") or [], run_id, threads=settings.threads
        )
    states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[run_id])[run_id]
    is_left_on = times.handed_over_at and states.get("next_run") != "success"
    if not dry_run and (not decision.start or is_left_on):
        since = stop_what_was_handed_over(context, settings)
        if since:
            # What it billed for nobody is this run's.
            times = replace(times, running_at=times.running_at or since, stop_requested_at=_now(), handed_over_at=None)
    model_now = _describe_model(settings)
    status = model_now["Status"]
    if times.running_at and not decision.inference_units:
        decision = replace(decision, inference_units=model_now.get("MinInferenceUnits", 0))
    row = build_report(
        settings,
        run_id=run_id,
        started_at=context["dag_run"].start_date or _now(),
        ended_at=_now(),
        trigger=context["dag_run"].run_type.value,
        decision=decision,
        inferred=inferred,
        published=[counts for _, counts in published],
        times=times,
        final_status=status,
        known_rate=state.read().images_per_second,
    )
    log.info(in_a_sentence(row))
    known = state.read_or_empty()
    if known.is_held(_now()) and status == "RUNNING":
        log.warning("The model goes on running, and bills: %s.", known.hold)
    if not dry_run:
        key = write_report(s3, settings, row)
        learn(state, row, inferred, times)
        _tell_of_archives(settings, row, called, published)
        forget_inferred(s3, settings.final_bucket, run_id)
        log.info("Written to s3://%s/%s", settings.final_bucket, key)
        dead_letters = count_dead_letters(client("sqs", settings), settings.queue_url)
        # That an archive has more than fits into a run is nothing to tell people.
        of_people = [counts for batch, counts in called if not archive_of(batch)]
        for line in worth_telling(settings, row, decision, of_people, dead_letters=dead_letters):
            alert(context, line)
    _raise_if_incomplete(states, decision, row.images)
    return json_values(asdict(row))


def _tell_of_archives(
    settings: Settings,
    row: RunReport,
    called: Sequence[tuple[str, InferReport]],
    published: Sequence[tuple[str, PublishReport]],
) -> None:
    """Note what the run did for each archive, and say how far it is."""
    s3, done = client("s3", settings), for_archives(row, called, published)
    record_run(s3, settings.final_bucket, row.run_id, done)
    for archive_id in filter(lambda each: find_archive(s3, settings.final_bucket, each), done):
        log.info(read_progress(s3, settings.final_bucket, archive_id, threads=settings.threads).in_words())


@task(on_failure_callback=alert_of_failed_task, multiple_outputs=False)
def audit() -> dict[str, int]:
    """Reconcile uploads with results; counts by finding.

    :raises AuditError: something is lost, doubled or left over; the log says what.
    """
    settings = load_settings()
    found = reconcile(
        client("s3", settings), client("sqs", settings), client("rekognition", settings), settings, now=_now()
    )
    log.info(render(found))
    if not found.is_clean:
        wrong = ", ".join(f"{finding.kind} {finding.count:,}" for finding in found.findings if finding.count)
        raise AuditError(
            f"Uploads and results do not agree: {wrong}. The log names examples, docs/runbook.md what to do."
        )
    return {finding.kind: finding.count for finding in found.findings if finding.count}


def _describe_model(settings: Settings) -> dict[str, Any]:
    return model.describe(client("rekognition", settings), project_arn=settings.project_arn, name=settings.model)


def _of_mapped(ti: Any, task_id: str, key: str = "return_value") -> list[Any]:
    # A list of task ids, since for one id Airflow unwraps the list when it has a single element.
    return [value for value in ti.xcom_pull(task_ids=[task_id], key=key) if value]


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _raise_if_incomplete(states: dict[str, str | None], decision: Decision, images: int) -> None:
    """:raises IncompleteRunError: naming the tasks that did not do their work, and what happens to it."""
    wrong = {"failed", "upstream_failed"} | ({"skipped", "removed"} if decision.start else set())
    if decision.given_up:
        raise IncompleteRunError(
            f"{decision.given_up} batches were given up after several runs in vain; what of them was not labelled is in "
            "quarantine/ of the final bucket. The log of decide names them. To try again: python -m include.cli redrive."
        )
    # No next run is what most runs have.
    looked_at = {task_id: state for task_id, state in states.items() if (task_id, state) != ("next_run", "skipped")}
    bad = sorted(f"{task_id} {state}" for task_id, state in looked_at.items() if state in wrong)
    if bad:
        shown = ", ".join(bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
        raise IncompleteRunError(
            f"The run is incomplete: {shown}. No image is lost: batches that are not done stay pending and the next run "
            "takes them up."
        )
    if images < decision.images and decision.start:
        log.warning("%s of %s images stay pending for the next run.", decision.images - images, decision.images)
