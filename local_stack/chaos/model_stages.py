"""The model's stages: requested, waited for, stopped; and the lines behind the stop.

As the plugin's operators and the Dag's model session do it: what they ask of AWS, in the same order, with shorter waits.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from include import model
from include.archive.slices import has_more, pending_archives
from include.errors import LeaseHeldError, TransientError, error_code
from include.model_state import ModelStateStore
from include.settings import Settings

log = logging.getLogger(__name__)

Notes = dict[str, Any]
HAND_OVER_MINUTES: Final = 5.0
POLL_SECONDS: Final = 0.02
POLLS: Final = 250
# The stop is asked for again after so many looks, as the operator does.
POLLS_BEFORE_ASKING_AGAIN: Final = 50
ACTIVE: Final = ("STARTING", "RUNNING", "STOPPING")


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Desk:
    """What a stage has before it: the clients, the settings, its run's id and notes, and its batch, where it is mapped."""

    s3: Any
    sqs: Any
    rekognition: Any
    inference: Any
    settings: Settings
    run_id: str
    notes: Notes
    batch: str = ""

    @property
    def holder(self) -> str:
        return f"label_images/{self.run_id}"

    @cached_property
    def state(self) -> ModelStateStore:
        return ModelStateStore.of(self.s3, self.settings.final_bucket, self.settings.model)

    def describe(self) -> dict[str, Any]:
        return model.describe(self.rekognition, project_arn=self.settings.project_arn, name=self.settings.model)

    def status(self) -> str:
        return str(self.describe()["Status"])


def start_model(desk: Desk) -> Notes:
    minutes = desk.settings.start_timeout_minutes + desk.settings.lease_minutes
    before = desk.state.read().lease
    desk.state.acquire(desk.holder, minutes=minutes, now=now())
    noted: Notes = {"start_requested_at": now()}
    if desk.status() == "RUNNING":
        noted = {"taken_over_at": before.handed_over_at} if before and before.handed_over_at else {}
    for _ in range(POLLS):
        status = desk.status()
        if status in ("STARTING", "RUNNING"):
            break
        if status != "STOPPING" and _is_accepted(
            desk.rekognition.start_project_version,
            ProjectVersionArn=desk.settings.project_version_arn,
            MinInferenceUnits=desk.notes["decision"]["inference_units"],
        ):
            break
        time.sleep(POLL_SECONDS)
    else:
        raise TransientError("The model kept refusing to start.")
    return noted


def wait_until_running(desk: Desk) -> Notes:
    minutes = desk.settings.start_timeout_minutes + desk.settings.lease_minutes
    desk.state.acquire(desk.holder, minutes=minutes, now=now())
    for _ in range(POLLS):
        description = desk.describe()
        if description["Status"] == "RUNNING":
            break
        time.sleep(POLL_SECONDS)
    else:
        raise TransientError(f"The model is {description['Status']}, not RUNNING.")
    desk.state.acquire(desk.holder, minutes=desk.settings.lease_minutes, now=now())
    return {"running_at": now(), "inference_units": description.get("MinInferenceUnits")}


def request_stop(desk: Desk) -> Notes:
    """What ``infer`` does with its last answer."""
    known = desk.state.read_or_empty()
    if known.lease is None or known.lease.holder != desk.holder or known.is_held(now()):
        return {}
    requested_at = now()
    try:
        desk.rekognition.stop_project_version(ProjectVersionArn=desk.settings.project_version_arn)
    except (ClientError, BotoCoreError) as err:
        log.warning("The last call has returned, but the stop was refused (%s): stop_model does it.", err)
        return {}
    return {"stop_requested_at": requested_at}


def stop_model(desk: Desk) -> Notes:
    known = desk.state.read_or_empty()
    lease = known.lease
    if lease and lease.holder != desk.holder and lease.is_live(now()):
        log.warning("The model is left running: %s uses it until %s.", lease.holder, lease.expires_at)
        return {}
    if lease and lease.holder == desk.holder and _goes_on(desk):
        handed_over_at = now()
        desk.state.hand_over(desk.holder, minutes=HAND_OVER_MINUTES, now=handed_over_at)
        return {"handed_over_at": handed_over_at}
    requested_at = now()
    _stop(desk)
    if lease:
        desk.state.release(desk.holder)
    return {"stop_requested_at": desk.notes.get("stop_requested_at", requested_at), "stopped_at": now()}


def _goes_on(desk: Desk) -> bool:
    if not desk.notes["decision"]["goes_on"] or not desk.notes.get("infer_went_well"):
        return False
    archives, ours = pending_archives(desk.s3, desk.settings), set(desk.notes["batches"])
    return has_more(desk.s3, desk.settings, archives, ours=ours)


def stop_what_was_handed_over(desk: Desk) -> None:
    """What ``report`` does in a run that has nothing for the model."""
    lease = desk.state.read_or_empty().lease
    if lease is None or lease.handed_over_at is None:
        return
    desk.rekognition.stop_project_version(ProjectVersionArn=desk.settings.project_version_arn)
    desk.state.release(lease.holder)


def stop_model_of_failed_run(desk: Desk) -> Notes:
    """The Dag's failure callback."""
    lease = desk.state.read_or_empty().lease
    if lease is None or lease.holder != desk.holder:
        return {}
    status = desk.status()
    if status in ("STARTING", "RUNNING"):
        log.error("Run %s failed and left the model %s: stopping it.", lease.holder, status)
        desk.rekognition.stop_project_version(ProjectVersionArn=desk.settings.project_version_arn)
    desk.state.release(lease.holder)
    return {}


def stop_idle_model(desk: Desk) -> Notes:
    """The watchdog."""
    status = desk.status()
    lease = desk.state.read_or_empty().lease
    if status not in ("STARTING", "RUNNING") or (lease and lease.is_live(now())):
        return {"watchdog": "nothing to do"}
    log.error("The model is %s and was left by %s. Stopping it.", status, lease.holder if lease else "nobody known")
    holder = f"stop_idle_model/{desk.run_id}"
    try:
        desk.state.acquire(holder, minutes=desk.settings.lease_minutes, now=now())
    except LeaseHeldError:
        return {"watchdog": "a run has just begun to use it"}
    _stop(desk)
    desk.state.release(holder)
    return {"watchdog": "stopped"}


def _stop(desk: Desk) -> None:
    """Look, ask, wait a while, and look again, until nothing runs."""
    is_accepted = False
    for look in range(POLLS):
        status = desk.status()
        if status not in ACTIVE:
            return
        if status == "STOPPING":
            is_accepted = True
        elif not is_accepted or look % POLLS_BEFORE_ASKING_AGAIN == 0:
            is_accepted = _is_accepted(
                desk.rekognition.stop_project_version, ProjectVersionArn=desk.settings.project_version_arn
            )
        time.sleep(POLL_SECONDS)
    raise TransientError(f"The model is still {status}, and bills until it is STOPPED.")


def _is_accepted(switch: Callable[..., object], **parameters: Any) -> bool:
    """Whether a start or a stop is on its way; not while the model is changing."""
    try:
        switch(**parameters)
    except ClientError as err:
        if error_code(err) != "ResourceInUseException":
            raise
        return False
    return True
