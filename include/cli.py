"""`python -m include.cli`: what a person on call types. Settings come from LABELS_*, credentials from boto3's usual places."""

from __future__ import annotations

import argparse
import getpass
import itertools
import json
import socket
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from include import model
from include.errors import LabellingError
from include.model_state import Hold, ModelStateStore
from include.redrive import find_quarantined, redrive
from include.settings import Settings, load_settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    chosen = _parser().parse_args(arguments)
    try:
        settings = load_settings()
        answer = chosen.run(settings, chosen)
    except (LabellingError, ClientError, BotoCoreError) as err:
        print(err, file=sys.stderr)
        return 1
    print(json.dumps(answer, default=str, indent=1) if chosen.json else "\n".join(_lines(answer)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m include.cli", description=__doc__)
    parser.add_argument("--json", action="store_true", help="for scripts")
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, run: Any) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        added.set_defaults(run=run)
        return added

    command("model", show_model)
    hold = command("hold", hold_model)
    hold.add_argument("--minutes", type=float, required=True, help="from now on")
    hold.add_argument("--by", default=f"{getpass.getuser()}@{socket.gethostname()}", help="who (default %(default)s)")
    command("release", release_model)
    again = command("redrive", redrive_quarantine)
    again.add_argument("--bucket", default="", help="of the source (default: the source bucket)")
    again.add_argument("--prefix", default="", help="only keys that begin like this")
    again.add_argument("--code", action="append", default=[], help="only this error code, such as GivenUp; repeatable")
    again.add_argument("--limit", type=int, help="so many at most")
    again.add_argument("--dry-run", action="store_true", help="say what would be queued")
    return parser


def show_model(settings: Settings, _: argparse.Namespace) -> dict[str, Any]:
    """The model's status, who uses it, and whether somebody holds it."""
    status = model.describe(_client("rekognition", settings), project_arn=settings.project_arn, name=settings.model)
    known = _state(settings).read()
    now = datetime.now(UTC)
    return {
        "model": settings.model.version,
        "status": status["Status"],
        "inference_units": status.get("MinInferenceUnits"),
        "used_by": f"{known.lease.holder} until {known.lease.expires_at:%H:%M:%S} UTC"
        if known.lease and known.lease.is_live(now)
        else None,
        "hold": str(known.hold) if known.is_held(now) else None,
        "images_per_second_and_unit": known.images_per_second,
        "start_seconds": known.start_seconds,
    }


def hold_model(settings: Settings, chosen: argparse.Namespace) -> dict[str, Any]:
    """Keep a running model running for a time, at its price; runs and the watchdog leave it on until then."""
    _state(settings).set_hold(Hold(chosen.by, datetime.now(UTC) + timedelta(minutes=chosen.minutes)))
    return show_model(settings, chosen)


def release_model(settings: Settings, chosen: argparse.Namespace) -> dict[str, Any]:
    """End a hold: the watchdog stops the model within ten minutes, unless a run uses it."""
    _state(settings).end_hold(now=datetime.now(UTC))
    return show_model(settings, chosen)


def redrive_quarantine(settings: Settings, chosen: argparse.Namespace) -> dict[str, Any]:
    """Queue images that are in quarantine once more."""
    s3 = _client("s3", settings)
    found = find_quarantined(s3, settings, bucket=chosen.bucket, prefix=chosen.prefix, codes=chosen.code)
    images = itertools.islice(found, chosen.limit)
    if chosen.dry_run:
        return {"would_queue": sum(1 for _ in images)}
    now = datetime.now(UTC)
    return {"queued": redrive(s3, settings, images, now=now, request_id=f"redrive {now.isoformat()}")}


def _lines(answer: dict[str, Any]) -> list[str]:
    width = max(map(len, answer))
    return [f"{name.replace('_', ' '):{width}}  {'-' if value is None else value}" for name, value in answer.items()]


def _state(settings: Settings) -> ModelStateStore:
    return ModelStateStore.of(_client("s3", settings), settings.final_bucket, settings.model)


def _client(service: str, settings: Settings) -> Any:
    return boto3.client(service, region_name=settings.region)


if __name__ == "__main__":
    sys.exit(main())
