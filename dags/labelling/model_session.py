"""The model's session in a run: start (a setup), wait until RUNNING (a second setup), stop (the teardown of both).

Two setups, because a teardown runs only when at least one of its setups succeeded: one setup that starts and waits
would leave the model running when the wait fails. All three respect the lease, which says who may use the model.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Context, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from botocore.exceptions import BotoCoreError, ClientError

from include.archive.slices import has_more, pending_archives
from include.errors import LabellingError, LeaseHeldError
from include.model_state import ModelStateStore
from include.settings import Settings, load_settings
from labelling.alerts import alert_of_failed_task
from labelling.clients import client
from labelling.defaults import AWS_CONN_ID
from rekognition.hooks import RekognitionHook
from rekognition.operators import RekognitionStartProjectVersionOperator, RekognitionStopProjectVersionOperator
from rekognition.sensors import RekognitionProjectVersionSensor

log = logging.getLogger(__name__)

# Templated, so that nothing is read from the environment while the Dag file is parsed.
ARNS: dict[str, Any] = {
    "project_arn": "{{ settings().project_arn }}",
    "project_version_arn": "{{ settings().project_version_arn }}",
}
# infer is started so long before the usual moment of RUNNING: starts vary, and Airflow takes seconds to start a task.
READY_PART = 0.2
READY_SECONDS = 15.0
# A stopped model is seen soon, since every poll more keeps a worker: quicker than a start is looked at.
STOP_POLL_SECONDS = 5
# What stop_model returns where it has left the model running for the next run, and how long that one may take to come.
HANDED_OVER = "HANDED_OVER"
HELD = "HELD"
HAND_OVER_MINUTES = 5.0


def holder_of(context: Any) -> str:
    """This run's name on the lease; a Dag's callback may be given no more than these two of a task's context."""
    return f"{context['dag'].dag_id}/{context['run_id']}"


def model_state(settings: Settings) -> ModelStateStore:
    """The object that holds the lease and what was learned."""
    return ModelStateStore.of(client("s3", settings), settings.final_bucket, settings.model)


class StartModel(RekognitionStartProjectVersionOperator):
    """Take the lease and request the start, in seconds. Skipped where ``decide`` found no work worth a start."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(aws_conn_id=AWS_CONN_ID, wait_for_completion=False, deferrable=False, **ARNS, **kwargs)

    def execute(self, context: Context, event: dict[str, Any] | None = None) -> str:
        decision = context["ti"].xcom_pull(task_ids="decide", key="decision")
        if not decision["start"]:
            raise AirflowSkipException(decision["reason"])
        settings = load_settings()
        state = model_state(settings)
        is_running = self._is_running(settings)
        # Long enough for the slowest start: nothing renews the lease while the run is deferred.
        minutes = settings.lease_minutes + (0 if is_running else settings.start_timeout_minutes)
        lease = state.acquire(holder_of(context), minutes=minutes, now=datetime.now(UTC))
        if is_running:
            # Nothing is learned of a start, and what somebody has handed over is this run's from then on.
            if lease.taken_over_at:
                context["ti"].xcom_push(key="taken_over_at", value=lease.taken_over_at.isoformat())
        else:
            context["ti"].xcom_push(key="start_requested_at", value=datetime.now(UTC).isoformat())
        self.min_inference_units = decision["inference_units"]
        return super().execute(context, event)

    def _is_running(self, settings: Settings) -> bool:
        description = self.hook.describe_project_version(settings.project_arn, settings.model.version)
        return bool(description["Status"] == "RUNNING")


class WaitUntilRunning(RekognitionProjectVersionSensor):
    """Wait without a worker slot until the model is RUNNING, or usually soon will be.

    Starting ``infer`` takes Airflow several seconds, in which a RUNNING model would bill for nothing. So where it is
    known how long this model takes to start, this ends some time before, and ``infer`` waits for the rest, ready to call.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(aws_conn_id=AWS_CONN_ID, deferrable=True, stop_on_kill=True, **ARNS, **kwargs)

    def execute(self, context: Context) -> None:
        settings = load_settings()
        state = model_state(settings)
        # Anew, since the start may have had to wait for an earlier stop.
        description = self.hook.describe_project_version(settings.project_arn, settings.model.version)
        is_running = description["Status"] == "RUNNING"
        minutes = settings.lease_minutes + (0 if is_running else settings.start_timeout_minutes)
        state.acquire(holder_of(context), minutes=minutes, now=datetime.now(UTC))
        self._configure(settings)
        usual = state.read().start_seconds
        if usual is not None:
            self.timeout = min(self.timeout, usual - max(usual * READY_PART, READY_SECONDS))
        if self.timeout > 0:
            super().execute(context)
        else:
            self.hook.describe_started_project_version(settings.project_arn, settings.model.version)
        self._seen(context, settings)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None, started_at: float = 0.0) -> None:
        settings = load_settings()
        self._configure(settings)
        if time.time() - started_at >= self.timeout:
            super().execute_complete(context, event, started_at)
        self._seen(context, settings)

    def _configure(self, settings: Settings) -> None:
        self.poke_interval = settings.poll_seconds
        self.timeout = settings.start_timeout_minutes * 60

    def _seen(self, context: Context, settings: Settings) -> None:
        """:raises RekognitionProjectVersionStateError: the model is in a state from which it will not be RUNNING."""
        ti = context["ti"]
        if self.poke(context):
            ti.xcom_push(key="running_at", value=datetime.now(UTC).isoformat())
            model_state(settings).acquire(holder_of(context), minutes=settings.lease_minutes, now=datetime.now(UTC))
        else:
            ti.xcom_push(key="not_running_at", value=datetime.now(UTC).isoformat())
            self.log.info("The model is usually RUNNING soon: infer gets ready, and waits for the rest.")
        # Not always the units decided: somebody may have started the model before.
        description = self.hook.describe_project_version(settings.project_arn, settings.model.version)
        ti.xcom_push(key="inference_units", value=description.get("MinInferenceUnits"))


def request_stop(context: Any, settings: Settings) -> None:
    """Ask for the stop the moment that the last call has returned; the teardown sees it through, and asks where this fails."""
    known = model_state(settings).read_or_empty()
    if known.lease is None or known.lease.holder != holder_of(context) or known.is_held(datetime.now(UTC)):
        return
    requested_at = datetime.now(UTC).isoformat()
    try:
        client("rekognition", settings).stop_project_version(ProjectVersionArn=settings.project_version_arn)
    except (ClientError, BotoCoreError) as err:
        log.warning("The last call has returned, but the stop was refused (%s): stop_model does it.", err)
    else:
        context["ti"].xcom_push(key="stop_requested_at", value=requested_at)


class StopModel(RekognitionStopProjectVersionOperator):
    """Stop the model and see it STOPPED, then give the lease back; another run's model is left alone."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(aws_conn_id=AWS_CONN_ID, deferrable=False, waiter_delay=STOP_POLL_SECONDS, **ARNS, **kwargs)

    def execute(self, context: Context) -> str:
        settings = load_settings()
        self.waiter_delay = min(STOP_POLL_SECONDS, settings.poll_seconds)
        state = model_state(settings)
        known = state.read_or_empty()
        lease = known.lease
        if lease and lease.holder != holder_of(context) and lease.is_live(datetime.now(UTC)):
            self.log.warning("The model is left running: %s uses it until %s.", lease.holder, lease.expires_at)
            return "LEFT_TO_ANOTHER_RUN"
        if known.hold and known.is_held(datetime.now(UTC)):
            self.log.warning("The model is left running, and bills: %s.", known.hold)
            state.release(holder_of(context))
            return HELD
        ti = context["ti"]
        if lease and lease.holder == holder_of(context) and _handed_over(context, settings):
            return HANDED_OVER
        ti.xcom_push(key="stop_requested_at", value=datetime.now(UTC).isoformat())
        status = super().execute(context)
        ti.xcom_push(key="stopped_at", value=datetime.now(UTC).isoformat())
        if lease:
            state.release(holder_of(context))
        return status


def _handed_over(context: Any, settings: Settings) -> bool:
    """Leave the model running for the next run, where archives go on; whatever is in doubt stops it."""
    ti = context["ti"]
    if not ti.xcom_pull(task_ids="decide", key="decision")["goes_on"]:
        return False
    try:
        if not _labels_more(context, settings):
            return False
        now = datetime.now(UTC)
        model_state(settings).hand_over(holder_of(context), minutes=HAND_OVER_MINUTES, now=now)
    except (ClientError, BotoCoreError, LabellingError) as err:
        log.warning("The model is not handed over, but stopped: %s", err)
        return False
    ti.xcom_push(key="handed_over_at", value=now.isoformat())
    log.info("The model is left running for the next run, which goes on with archives.")
    return True


def _labels_more(context: Any, settings: Settings) -> bool:
    """Whether this run labelled something, all went well, and an archive that goes on has batches beyond this run's."""
    ti, s3 = context["ti"], client("s3", settings)
    states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id])[ti.run_id]
    inferred = [each["counts"]["images"] for each in ti.xcom_pull(task_ids=["infer"]) if each]
    if not any(inferred) or any(name.startswith("infer") and state != "success" for name, state in states.items()):
        return False
    ours = set(ti.xcom_pull(task_ids="decide"))
    return has_more(s3, settings, pending_archives(s3, settings), ours=ours)


class NextRun(TriggerDagRunOperator):
    """Trigger the next run where archives go on, and this one has done something for them.

    Once for each run, however often it is tried. Where the model was not left running for it, a run that waits already will do.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trigger_dag_id="{{ dag.dag_id }}", skip_when_already_exists=True, **kwargs)

    def execute(self, context: Context) -> None:
        if context["ti"].xcom_pull(task_ids="stop_model") != HANDED_OVER and not self._is_wanted(context["ti"]):
            raise AirflowSkipException("No archive goes on.")
        began, which = context["dag_run"].start_date, uuid5(NAMESPACE_URL, context["run_id"]).hex[:8]
        self.trigger_run_id = f"archives__{began:%Y-%m-%dT%H%M%S}__{which}"
        super().execute(context)

    @staticmethod
    def _is_wanted(ti: Any) -> bool:
        published = [each["counts"] for each in ti.xcom_pull(task_ids=["publish"]) if each]
        states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id])[ti.run_id]
        has_failed = {"failed", "upstream_failed"} & set(states.values())
        if has_failed or not any(counts["images"] > counts["pending"] for counts in published):
            return False
        if ti.get_dr_count(dag_id=ti.dag_id, states=["queued"]):
            return False
        settings = load_settings()
        s3 = client("s3", settings)
        return has_more(s3, settings, pending_archives(s3, settings))


def stop_what_was_handed_over(context: Any, settings: Settings) -> datetime | None:
    """Stop a model that was left running for a run that has nothing for it to do, or for one that will not come.

    :return: since when it has been nobody's; None where there was nothing to stop.
    """
    state, holder = model_state(settings), holder_of(context)
    known = state.read_or_empty()
    lease = known.lease
    if lease is None or (lease.handed_over_at is None and lease.holder != holder):
        return None
    try:
        # First, so that no run begins to use it meanwhile; one that has begun keeps it.
        lease = state.acquire(holder, minutes=settings.lease_minutes, now=datetime.now(UTC))
    except LeaseHeldError:
        return None
    hook = RekognitionHook(aws_conn_id=AWS_CONN_ID, region_name=settings.region)
    status = hook.describe_project_version(settings.project_arn, settings.model.version)["Status"]
    if known.is_held(datetime.now(UTC)):
        log.warning("The model is left %s: %s.", status, known.hold)
    elif status in ("STARTING", "RUNNING"):
        log.info("The model was left running for a run that has nothing for it to do: stopping it.")
        hook.stop_project_version(settings.project_version_arn)
    state.release(holder)
    return lease.taken_over_at


def stop_model_of_failed_run(context: Any) -> None:
    """Dag-level failure callback, the second line behind the teardown: request the stop if this run holds the lease."""
    settings = load_settings()
    state = model_state(settings)
    known = state.read_or_empty()
    lease = known.lease
    if lease is None or lease.holder != holder_of(context):
        return
    # Airflow calls back some seconds after the run's end: it may have been cleared since, and use the model again.
    ended_at = context["dag_run"].end_date if "dag_run" in context else None
    if ended_at and lease.acquired_at > ended_at:
        return
    if known.hold and known.is_held(datetime.now(UTC)):
        log.warning("Run %s failed and leaves the model running, and billing: %s.", lease.holder, known.hold)
        state.release(lease.holder)
        return
    if lease.handed_over_at:
        try:
            state.acquire(lease.holder, minutes=settings.lease_minutes, now=datetime.now(UTC))
        except LeaseHeldError:
            return  # the next run has taken it over
    hook = RekognitionHook(aws_conn_id=AWS_CONN_ID, region_name=settings.region)
    status = hook.describe_project_version(settings.project_arn, settings.model.version)["Status"]
    if status in ("STARTING", "RUNNING"):
        log.error("Run %s failed and left the model %s: stopping it.", lease.holder, status)
        hook.stop_project_version(settings.project_version_arn)
    state.release(lease.holder)


@task(on_failure_callback=alert_of_failed_task)
def stop_if_idle() -> str:
    """Stop a model that is STARTING or RUNNING without a live lease or hold, and fail, so that somebody hears of it.

    :raises AirflowFailException: the model was stopped, or somebody else has started it and the settings say only to warn.
    """
    context, settings = get_current_context(), load_settings()
    state = model_state(settings)
    stop = RekognitionStopProjectVersionOperator(
        task_id="stop",
        aws_conn_id=AWS_CONN_ID,
        project_arn=settings.project_arn,
        project_version_arn=settings.project_version_arn,
        waiter_delay=STOP_POLL_SECONDS,
        deferrable=False,
    )
    status: str = stop.hook.describe_project_version(settings.project_arn, settings.model.version)["Status"]
    # Read after the status: a run takes the lease before it starts the model.
    known = state.read_or_empty()
    lease, hold = known.lease, known.hold
    if status not in ("STARTING", "RUNNING"):
        if hold and not hold.is_live(datetime.now(UTC)):
            state.set_hold(None)
        return f"The model is {status}: nothing to do."
    if lease and lease.is_live(datetime.now(UTC)):
        return f"The model is {status} for {lease.holder}, until {lease.expires_at:%H:%M:%S} UTC at the latest."
    if hold and hold.is_live(datetime.now(UTC)):
        return f"The model is {status}, and bills: {hold}."
    if lease is None and hold is None and settings.foreign_model == "warn":
        raise AirflowFailException(
            f"The model is {status}, and no run of this deployment has started it. It bills, and is left running, as "
            "LABELS_FOREIGN_MODEL=warn says: stop it, or hold it for a time (python -m include.cli hold)."
        )
    owner = (
        f"{lease.holder}, whose lease ran out at {lease.expires_at:%Y-%m-%d %H:%M} UTC,"
        if lease
        else f"{hold.holder}, whose hold ended at {hold.expires_at:%Y-%m-%d %H:%M} UTC,"
        if hold
        else "nobody known"
    )
    log.error("The model is %s and was left by %s. Stopping it.", status, owner)
    if not _took_the_lease(state, settings, holder_of(context)):
        return f"The model is {status}, and a run has just begun to use it."
    final = stop.execute(context)
    state.release(holder_of(context))
    if hold and not lease:
        state.set_hold(None)
        return f"The hold of {hold.holder} has ended: the model has been stopped ({final})."
    raise AirflowFailException(
        f"The model was {status} with no run using it (left by {owner}). It has been stopped: {final}."
    )


def _took_the_lease(state: ModelStateStore, settings: Settings, holder: str) -> bool:
    """Keep runs that begin now from starting the model in the midst of the stop; a broken lease object stops nobody."""
    try:
        state.acquire(holder, minutes=settings.lease_minutes, now=datetime.now(UTC))
    except LeaseHeldError:
        return False
    except (ClientError, BotoCoreError, LabellingError) as err:
        log.error("Could not take the lease (%s): stopping the model all the same.", err)
    return True
