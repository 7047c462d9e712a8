"""The model: its state, who uses it, who holds it; start it, stop it, keep it on.

A model bills from the moment it is RUNNING until it is STOPPED, busy or idle. Runs start and stop it by themselves; these
commands are for trying it by hand, and for the night when it is on and should not be. `model` alone is `model status`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from include import model
from include.cli import model_by_hand
from include.cli.arguments import add_by, add_command, count, minutes
from include.cli.clients import client, model_state
from include.cli.output import Answer, facts, line
from include.model_state import Hold
from include.settings import PREFIX, Settings, load_settings

if TYPE_CHECKING:
    from include.cli.arguments import Commands

STATUS = "Its state and what that means, who uses it, who holds it, and what it costs an hour at the moment."
START = """Start the model by hand, and hold it for a time: runs and the watchdog leave it on until then.

The minutes count from now on, those of the start included (5 to 30, free). Then the Dag stop_idle_model stops it, within ten
minutes. A model that is on already is only held."""
STOP = """Stop the model now, and end any hold.

Refused while a run uses it (its lease says so): mark that run as failed in Airflow, which stops the model and keeps all that
was labelled. With --force it is stopped under the run, which fails; no image is lost."""
HOLD = """Keep a model that is on running for a time, at its price; runs and the watchdog leave it on until then.

It starts nothing. A hold that somebody else has for longer stays as it is."""
RELEASE = "End a hold: the watchdog stops the model within ten minutes, unless a run uses it. `model stop` is sooner."


def add(commands: Commands) -> None:
    added = add_command(commands, "model", show_status, __doc__)
    actions = added.add_subparsers(metavar="ACTION", title="actions")
    add_command(actions, "status", show_status, STATUS)
    start = add_command(actions, "start", start_model, START, examples="example: model start --minutes 60 --units 1")
    start.add_argument(
        "--minutes", type=minutes, required=True, help="how long to keep it on, from now on; a day at most"
    )
    start.add_argument("--units", type=count, help=f"inference units (default: {PREFIX}INFERENCE_UNITS_MIN)")
    add_by(start)
    stop = add_command(actions, "stop", stop_model, STOP)
    stop.add_argument("--force", action="store_true", help="although a run uses it")
    for each in (actions, commands):  # `hold` and `release` are short for `model hold`, `model release`
        hold = add_command(each, "hold", hold_model, HOLD)
        hold.add_argument("--minutes", type=minutes, required=True, help="how long, from now on; a day at most")
        add_by(hold)
        add_command(each, "release", release_model, RELEASE)


def show_status(_: argparse.Namespace) -> Answer:
    return _answer(load_settings())


def start_model(chosen: argparse.Namespace) -> Answer:
    settings = load_settings()
    units = chosen.units or settings.inference_units_min
    if units > settings.inference_units_max:
        chosen.refuse(f"--units {units}: {PREFIX}INFERENCE_UNITS_MAX is {settings.inference_units_max}")
    now = datetime.now(UTC)
    mine = Hold(chosen.by, now + timedelta(minutes=chosen.minutes))
    told = model_by_hand.start(
        client("rekognition", settings), model_state(settings), settings, mine, units=units, now=now
    )
    return _answer(settings, told)


def stop_model(chosen: argparse.Namespace) -> Answer:
    settings = load_settings()
    told = model_by_hand.stop(
        client("rekognition", settings), model_state(settings), settings, force=chosen.force, now=datetime.now(UTC)
    )
    return _answer(settings, told)


def hold_model(chosen: argparse.Namespace) -> Answer:
    settings, now = load_settings(), datetime.now(UTC)
    mine = Hold(chosen.by, now + timedelta(minutes=chosen.minutes))
    counts = model_by_hand.hold(model_state(settings), mine, now=now)
    return _answer(
        settings, [f"{counts}, which is longer: it stays." if counts != mine else f"{counts}. It starts nothing."]
    )


def release_model(_: argparse.Namespace) -> Answer:
    settings = load_settings()
    model_state(settings).end_hold(now=datetime.now(UTC))
    return _answer(settings)


def _answer(settings: Settings, told: Sequence[str] = ()) -> Answer:
    """The model as it is now, and what has been done."""
    document = status_of(settings) | ({"said": " ".join(told)} if told else {})
    state = facts({name: value for name, value in document.items() if name not in ("said", "means")})
    said = [line(each) for each in (*told, "")] if told else []
    return Answer(document, [*said, state, line(document["means"])])


def status_of(settings: Settings) -> dict[str, Any]:
    """A state object that cannot be read is warned of, and taken for none: the model's own status is what counts."""
    described = model.describe(client("rekognition", settings), project_arn=settings.project_arn, name=settings.model)
    known = model_state(settings).read_or_empty()
    now = datetime.now(UTC)
    status, units = str(described["Status"]), described.get("MinInferenceUnits")
    return {
        "model": settings.model.version,
        "status": status,
        "means": model_by_hand.meaning(status),
        "aws_says": described.get("StatusMessage"),
        "inference_units": units,
        # Nobody says that STOPPING is free.
        "usd_per_hour": units * settings.price_per_unit_hour_usd
        if units and status in ("RUNNING", "STOPPING")
        else 0.0,
        "used_by": f"{known.lease.holder} until {known.lease.expires_at:%H:%M:%S} UTC"
        if known.lease and known.lease.is_live(now)
        else None,
        "hold": str(known.hold) if known.is_held(now) else None,
        "images_per_second_and_unit": known.images_per_second,
        "start_seconds": known.start_seconds,
    }
