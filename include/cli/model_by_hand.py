"""Start, hold and stop the model by hand, so that runs, watchdog and people do not get in each other's way.

The states are those of https://docs.aws.amazon.com/rekognition/latest/APIReference/API_ProjectVersionDescription.html
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from include import model
from include.errors import LabellingError, TerminalError, error_code
from include.model_state import Hold, ModelState, ModelStateStore
from include.settings import PREFIX, Settings

# Every state of a project version: what it means for whoever wants the model to run, or not to.
STATES: Final[dict[str, str]] = {
    "TRAINING_IN_PROGRESS": "It is being trained, for up to a day; it can be started once it is TRAINING_COMPLETED.",
    "TRAINING_COMPLETED": "It is off and was never started.",
    "TRAINING_FAILED": f"It was never usable: train a new version and set {PREFIX}PROJECT_VERSION_ARN.",
    "STARTING": "It becomes RUNNING 5 to 30 minutes after the start was asked for, and bills from then on; now it is free.",
    "RUNNING": "It bills, busy or idle, until it is STOPPED.",
    "FAILED": "Its last start failed, and it is off. `model start` tries once more; if it fails again, train a new version "
    "or ask AWS Support.",
    "STOPPING": "It is off in a few minutes; until it is STOPPED it cannot be started.",
    "STOPPED": "It is off.",
    "DELETING": f"Somebody is deleting it: set {PREFIX}PROJECT_VERSION_ARN to another version.",
    "COPYING_IN_PROGRESS": "It is being copied here; it can be started once it is COPYING_COMPLETED.",
    "COPYING_COMPLETED": "It is off and was never started.",
    "COPYING_FAILED": "Copying it here failed: copy it once more, or use the version that it was copied from.",
    "DEPRECATED": f"AWS runs it no longer: train a new version and set {PREFIX}PROJECT_VERSION_ARN.",
    "EXPIRED": f"AWS runs it no longer: train a new version and set {PREFIX}PROJECT_VERSION_ARN.",
}
UNKNOWN: Final = "No state that is known here: look at it in the console."
ON: Final = ("STARTING", "RUNNING")
# A FAILED one is started by hand only: runs do not, since it fails for a reason.
STARTABLE: Final = ("TRAINING_COMPLETED", "COPYING_COMPLETED", "STOPPED", "FAILED")


def meaning(status: str) -> str:
    """What a state means, in a sentence."""
    return STATES.get(status, UNKNOWN)


def hold(store: ModelStateStore, mine: Hold, *, now: datetime) -> Hold:
    """Keep the model on, unless somebody else holds it for longer already; the hold that counts."""

    def take(state: ModelState) -> ModelState:
        theirs = state.hold
        is_longer = (
            theirs and theirs.is_live(now) and theirs.holder != mine.holder and theirs.expires_at >= mine.expires_at
        )
        return state if is_longer else replace(state, hold=mine)

    counts = store.update(take).hold
    assert counts is not None
    return counts


def start(
    rekognition: Any, store: ModelStateStore, settings: Settings, mine: Hold, *, units: int, now: datetime
) -> list[str]:
    """Hold the model, so that the watchdog leaves it on, and then start it; what to tell the person who asked.

    :raises TerminalError: where it cannot be started; the hold is then as it was before.
    """
    described = model.describe(rekognition, project_arn=settings.project_arn, name=settings.model)
    status = str(described["Status"])
    if status not in (*STARTABLE, *ON):
        raise TerminalError(f"The model is {status} and was not started. {meaning(status)}")
    before = store.read()
    counts = hold(store, mine, now=now)
    told = [
        f"{counts}. It stops by itself then: the Dag stop_idle_model sees to it, unless it is paused. `model stop` is sooner."
    ]
    if before.lease and before.lease.is_live(now):
        told.append(f"{before.lease.holder} uses it as well; its run leaves the model on when it ends.")
    if status in ON:
        has = described.get("MinInferenceUnits") or 1
        told.insert(0, f"The model is {status} already, with {_units(has)}: {_price(settings, has)} while RUNNING.")
        return told
    try:
        rekognition.start_project_version(ProjectVersionArn=settings.project_version_arn, MinInferenceUnits=units)
    except (ClientError, BotoCoreError) as err:
        store.update(lambda state: replace(state, hold=before.hold) if state.hold == mine else state)
        raise TerminalError(f"The model was not started, and is not held: {_why(err, status)}") from err
    usual = f"usually {before.start_seconds / 60:.0f} minutes" if before.start_seconds else "5 to 30 minutes"
    told.insert(
        0,
        f"The model starts with {_units(units)}, which takes {usual} and is free; it costs {_price(settings, units)} from then "
        f"on. No run's row and no {PREFIX}MONTHLY_BUDGET_USD counts that.",
    )
    return told


def stop(rekognition: Any, store: ModelStateStore, settings: Settings, *, force: bool, now: datetime) -> list[str]:
    """End any hold and ask for the stop; what to tell the person who asked.

    :param force: stop it under a run, too.
    :raises TerminalError: where a run uses it, or it cannot be stopped yet.
    """
    known = store.read_or_empty()
    lease = known.lease
    if lease and lease.is_live(now) and not force:
        raise TerminalError(
            f"{lease.holder} uses the model until {lease.expires_at:%H:%M:%S} UTC at the latest: not stopped. Mark that run as "
            "failed in Airflow; it stops the model, and sees it STOPPED. Where Airflow is down, add --force: no image is lost."
        )
    told = []
    if known.hold and known.is_held(now):
        try:
            store.end_hold(now=now)
            told.append(f"The hold of {known.hold.holder} has ended.")
        except (ClientError, BotoCoreError, LabellingError) as err:
            told.append(f"The hold could not be ended ({err}); the model is stopped all the same.")
    status = str(model.describe(rekognition, project_arn=settings.project_arn, name=settings.model)["Status"])
    if status not in ON:
        return [f"The model is {status}: there is nothing to stop. {meaning(status)}", *told]
    try:
        rekognition.stop_project_version(ProjectVersionArn=settings.project_version_arn)
    except ClientError as err:
        if error_code(err) != "ResourceInUseException":
            raise
        raise TerminalError(
            f"The model is {status} and cannot be stopped yet; STARTING is free. Type this again in a minute; "
            "stop_idle_model, which looks every ten minutes, tries as well."
        ) from err
    return ["The model is being stopped. It bills until it is STOPPED, a few minutes: look with `model status`.", *told]


def _why(error: ClientError | BotoCoreError, status: str) -> str:
    code = error_code(error) if isinstance(error, ClientError) else ""
    if code == "LimitExceededException":
        return f"a quota of AWS is used up ({error}). Fewer --units, stop another model, or ask AWS for more."
    if code == "ResourceInUseException" and status == "FAILED":
        return f"AWS starts none that is FAILED ({error}). Ask AWS Support, or train a new version."
    if code == "ResourceInUseException":
        return f"somebody starts or stops it at this moment ({error}). Look with `model status`, and try again."
    if not code:
        return f"{error}. Whether AWS has heard of it is not known: look with `model status`."
    return str(error)


def _units(units: int) -> str:
    return f"{units} inference unit" + ("s" if units > 1 else "")


def _price(settings: Settings, units: int) -> str:
    return f"${units * settings.price_per_unit_hour_usd:.2f} an hour"
