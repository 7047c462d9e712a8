"""Is everything there that a run needs, and may these credentials use it? Each thing that is wrong with what to type to mend it.

Settings, both buckets, their notifications, the queue and its dead-letter queue, the model, the clock, who is told. Permissions
are tried in a way that changes nothing; one that cannot be is "not tried", which says nothing about it. In the final bucket a
small object below state/doctor/ is written, copied and deleted. Run it with the credentials of the Airflow connection: those are
what it speaks of.

Exit status: 0 nothing failed, 1 something did.
"""

from __future__ import annotations

import argparse
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
)

from include.cli.arguments import add_command
from include.cli.clients import client
from include.cli.doctor_buckets import check_buckets
from include.cli.doctor_checks import Check, Patient
from include.cli.doctor_model import check_alerts, check_model
from include.cli.doctor_queue import check_queue
from include.cli.output import Answer, line, progress, table
from include.errors import SettingsError
from include.settings import load_settings

if TYPE_CHECKING:
    from rich.text import Text

    from include.cli.arguments import Commands

MARKS: Final = {
    "ok": ("✓", "green"),
    "warning": ("!", "yellow"),
    "failed": ("✗", "bold red"),
    "not tried": ("·", "dim"),
}


def add(commands: Commands) -> None:
    add_command(commands, "doctor", run, __doc__)


def run(_: argparse.Namespace) -> Answer:
    try:
        settings = load_settings()
    except SettingsError as err:
        first, *problems = str(err).split("\n")
        return _answer(
            [Check("settings", "LABELS_*", "failed", each.removeprefix("  - ")) for each in problems or [first]]
        )
    made = cache(lambda service: client(service, settings))
    checks = [Check("settings", "LABELS_*", "ok", "all of them can be read")]
    caller = who(made("sts"), settings.model.account)
    checks.append(caller)
    if caller.result == "failed":
        return _answer(checks)
    patient = Patient(settings, made, caller.found.partition(" ")[0] if caller.result != "not tried" else "")
    with progress("checks") as advance:
        for check in examine(patient, now=lambda: datetime.now(UTC), absent=f"doctor/{uuid.uuid4().hex}"):
            checks.append(check)
            advance(1)
    return _answer(checks)


def examine(patient: Patient, *, now: Callable[[], datetime], absent: str) -> Iterator[Check]:
    """All that can be looked at once the settings are read.

    :param absent: a key that no bucket has.
    """
    queue_arn = patient.queue_arn(patient.settings.queue_url)
    yield from check_buckets(patient, queue_arn=queue_arn, absent=absent, now=now)
    yield from check_queue(patient)
    yield from check_model(patient, absent=absent, now=now())
    yield from check_alerts(patient)


def who(sts: Any, account: str) -> Check:
    """Whose credentials these are. Anybody may ask that: who gets no answer has none, or none that are valid."""
    try:
        identity = sts.get_caller_identity()
    except (ClientError, NoCredentialsError, PartialCredentialsError, CredentialRetrievalError) as err:
        return Check("settings", "credentials", "failed", str(err))
    except BotoCoreError as err:  # a network without a way to STS
        return Check("settings", "credentials", "not tried", str(err))
    arn = str(identity["Arn"])
    if identity["Account"] != account:
        return Check("settings", "credentials", "warning", f"{arn} is not of account {account}, which the model is of")
    return Check("settings", "credentials", "ok", arn)


def _answer(checks: Sequence[Check]) -> Answer:
    counts: Counter[str] = Counter(check.result for check in checks)
    document = {"ok": not counts["failed"], "counts": counts, "checks": [asdict(check) for check in checks]}
    rows = [(line(*MARKS[check.result]), check.area, check.name, check.result, check.found) for check in checks]
    said = ", ".join(f"{counts[result]} {result}" for result in MARKS)
    shown: list[Any] = [
        table("", "area", "check", "result", "found", rows=rows, whole=("check", "result")),
        line(""),
        line(f"{len(checks)} checks: {said}."),
    ]
    for check in checks:
        if check.mend:
            shown += [line(""), line(f"{MARKS[check.result][0]} {check.area}, {check.name}:"), *_commands(check.mend)]
    return Answer(document, shown, status=1 if counts["failed"] else 0)


def _commands(mend: str) -> list[Text]:
    """A command a line, whole, to be copied."""
    return [line(each) for each in mend.split("\n")]
