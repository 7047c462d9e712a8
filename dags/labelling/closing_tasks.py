"""What closes a run, and what judges it: the report, and the audit of everything.

XCom carries keys and counts, never images or labels.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from airflow.sdk import get_current_context, task

from include.archive.archives import find_archive, read_progress, record_run
from include.audit import audit as reconcile
from include.audit import render
from include.batches import forget_attempts
from include.decide import Decision
from include.drain import count_dead_letters
from include.errors import AuditError, IncompleteRunError
from include.infer import InferReport, forget_inferred, running_since
from include.layout import archive_of
from include.publish import PublishReport
from include.report import ModelTimes, build_report, for_archives, in_a_sentence, learn, worth_telling, write_report
from include.schema import RunReport, json_values
from include.settings import Settings, load_settings
from labelling.alerts import alert, alert_of_failed_task
from labelling.clients import client
from labelling.model_session import model_state, stop_what_was_handed_over
from labelling.tasks import describe_model, now_utc, to_time

log = logging.getLogger(__name__)


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
    running_at = to_time(ti.xcom_pull(task_ids="wait_until_running", key="running_at"))
    handed_over_at = to_time(ti.xcom_pull(task_ids="stop_model", key="handed_over_at"))
    times = ModelTimes(
        start_requested_at=to_time(ti.xcom_pull(task_ids="start_model", key="start_requested_at")),
        # What the run before has left running is this one's from then on.
        running_at=to_time(ti.xcom_pull(task_ids="start_model", key="taken_over_at"))
        or running_at
        or max(seen, default=ran_at),
        stop_requested_at=to_time(min(itertools.chain(*stops), default=None)),
        stopped_at=to_time(ti.xcom_pull(task_ids="stop_model", key="stopped_at")),
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
            times = replace(
                times, running_at=times.running_at or since, stop_requested_at=now_utc(), handed_over_at=None
            )
    model_now = describe_model(settings)
    status = model_now["Status"]
    if times.running_at and not decision.inference_units:
        decision = replace(decision, inference_units=model_now.get("MinInferenceUnits", 0))
    row = build_report(
        settings,
        run_id=run_id,
        started_at=context["dag_run"].start_date or now_utc(),
        ended_at=now_utc(),
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
    if known.is_held(now_utc()) and status == "RUNNING":
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
        client("s3", settings), client("sqs", settings), client("rekognition", settings), settings, now=now_utc()
    )
    log.info(render(found))
    if not found.is_clean:
        wrong = ", ".join(f"{finding.kind} {finding.count:,}" for finding in found.findings if finding.count)
        raise AuditError(
            f"Uploads and results do not agree: {wrong}. The log names examples, docs/runbook.md what to do."
        )
    return {finding.kind: finding.count for finding in found.findings if finding.count}


def _of_mapped(ti: Any, task_id: str, key: str = "return_value") -> list[Any]:
    # A list of task ids, since for one id Airflow unwraps the list when it has a single element.
    return [value for value in ti.xcom_pull(task_ids=[task_id], key=key) if value]


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
