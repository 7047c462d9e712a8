"""The model: is it there, may it be used, is it on without a reason? And who is told when something goes wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from include import model
from include.cli.doctor_checks import DENIED, Check, Patient, Result, allow, looked_up, tried, typed
from include.cli.model_by_hand import ON, STARTABLE, meaning
from include.errors import LabellingError, error_code
from include.model_state import ModelState, ModelStateStore
from include.settings import PREFIX

AREA: Final = "model"
ALERTS: Final = "alerts"
STOP: Final = typed("python", "-m", "include.cli", "model", "stop")
IMPORT_SECONDS: Final = 120
# Run apart, since somebody else's module may do anything when it is imported.
IMPORT: Final = """
import importlib, sys
module, _, name = sys.argv[1].rpartition(".")
assert callable(getattr(importlib.import_module(module), name)), "it is no function"
"""


def check_model(patient: Patient, *, absent: str, now: datetime) -> Iterator[Check]:
    """The model's own state, its state object, and the permissions on it.

    :param absent: a key that no bucket has.
    """
    settings, rekognition, s3 = patient.settings, patient.client("rekognition"), patient.client("s3")
    store = ModelStateStore.of(s3, settings.final_bucket, settings.model)
    known, problem = _state(store)
    yield problem or _lease(known, now)
    action = "rekognition:DescribeProjectVersions"
    try:
        described = model.describe(rekognition, project_arn=settings.project_arn, name=settings.model)
    except ClientError as err:
        denied = error_code(err) in DENIED
        yield Check(AREA, action, "failed", str(err), allow(patient, action, settings.project_arn) if denied else "")
        return
    except (BotoCoreError, LabellingError) as err:
        yield Check(AREA, action, "failed", str(err), _list_versions(settings.project_arn))
        return
    yield Check(AREA, action, "ok", "allowed")
    status = str(described["Status"])
    yield _is_the_one(patient, described)
    yield _status(described, known, now)
    yield from _permissions(patient, status, known, absent, now)
    summary = described.get("EvaluationResult", {}).get("Summary", {}).get("S3Object")
    if summary:
        place = {"Bucket": summary["Bucket"], "Key": summary["Name"]}
        resource = f"{patient.bucket_arn(summary['Bucket'])}/{summary['Name']}"
        found = tried(patient, "evaluation summary", "s3:GetObject", resource, lambda: s3.get_object(**place))
        if found.result == "failed":  # labels are then compared with the default threshold, which is no fault
            found = Check(
                found.area, found.name, "warning", f"{found.found} (LABELS_DEFAULT_THRESHOLD counts)", found.mend
            )
        yield found


def _state(store: ModelStateStore) -> tuple[ModelState, Check | None]:
    try:
        return store.read(), None
    except LabellingError as err:
        delete = typed("aws", "s3", "rm", f"s3://{store.bucket}/{store.key}")
        return ModelState(), Check(AREA, "lease and hold", "failed", str(err), delete)
    except (ClientError, BotoCoreError) as err:
        return ModelState(), Check(AREA, "lease and hold", "not tried", f"s3://{store.bucket}/{store.key}: {err}")


def _lease(known: ModelState, now: datetime) -> Check:
    told = []
    if known.lease and known.lease.is_live(now):
        told.append(f"{known.lease.holder} uses it until {known.lease.expires_at:%H:%M:%S} UTC")
    if known.is_held(now):
        told.append(str(known.hold))
    return Check(AREA, "lease and hold", "ok", "; ".join(told) or "nobody uses or holds it")


def _is_used(known: ModelState, now: datetime) -> bool:
    return (known.lease is not None and known.lease.is_live(now)) or known.is_held(now)


def _is_the_one(patient: Patient, described: Mapping[str, Any]) -> Check:
    """A version that was deleted and trained anew has the same name and another ARN."""
    wanted, found = patient.settings.project_version_arn, described.get("ProjectVersionArn", "")
    if found in ("", wanted):
        return Check(AREA, "ARN", "ok", wanted)
    text = f"{PREFIX}PROJECT_VERSION_ARN is {wanted}, and the version of that name is {found}"
    return Check(AREA, "ARN", "failed", text, typed("export", f"{PREFIX}PROJECT_VERSION_ARN={found}"))


def _status(described: Mapping[str, Any], known: ModelState, now: datetime) -> Check:
    status = str(described["Status"])
    created = described.get("CreationTimestamp")
    trained = f", trained {(now - created).days} days ago" if isinstance(created, datetime) else ""
    reason = (
        f" ({described['StatusMessage']})"
        if described.get("StatusMessage") and status not in (*ON, *STARTABLE[:3])
        else ""
    )
    found = f"{status}{trained}{reason}. {meaning(status)}"
    if status in ON and not _is_used(known, now):
        return Check(AREA, "status", "warning", f"{found} No run uses it, and nobody holds it.", STOP)
    if status in (*ON, *STARTABLE[:3], "STOPPING"):
        return Check(AREA, "status", "ok", found)
    result: Result = "warning" if status.endswith("IN_PROGRESS") else "failed"
    start = typed("python", "-m", "include.cli", "model", "start", "--minutes", "60")
    return Check(AREA, "status", result, found, start if status == "FAILED" else "")


def _permissions(patient: Patient, status: str, known: ModelState, absent: str, now: datetime) -> Iterator[Check]:
    settings, rekognition = patient.settings, patient.client("rekognition")
    version = {"ProjectVersionArn": settings.project_version_arn}
    yield Check(AREA, "rekognition:StartProjectVersion", "not tried", "it would start, and cost")
    image = {"S3Object": {"Bucket": settings.source_bucket, "Name": absent}}
    is_off = status in STARTABLE
    if is_off and not _is_used(known, now):
        # A model that is off is not ready, and has nothing to stop: both are answered behind the permission.
        for action, call in (
            ("rekognition:DetectCustomLabels", lambda: rekognition.detect_custom_labels(Image=image, **version)),
            ("rekognition:StopProjectVersion", lambda: rekognition.stop_project_version(**version)),
        ):
            expected = ("ResourceNotReadyException", "ResourceInUseException")
            yield tried(patient, AREA, action, settings.project_version_arn, call, expected=expected)
        return
    why = "it is in use" if is_off else f"it is {status}"
    for action in ("rekognition:DetectCustomLabels", "rekognition:StopProjectVersion"):
        yield Check(AREA, action, "not tried", f"{why}: only a model that is off says so harmlessly")


def _list_versions(project_arn: str) -> str:
    query = "ProjectVersionDescriptions[].[ProjectVersionArn,Status]"
    return typed(
        *("aws", "rekognition", "describe-project-versions", "--project-arn", project_arn),
        *("--output", "table", "--query", query),
    )


def check_alerts(patient: Patient) -> Iterator[Check]:
    """Everybody who is to be told."""
    settings = patient.settings
    if not settings.alerts:
        yield Check(ALERTS, f"{PREFIX}ALERTS", "not tried", "it is empty: nobody is told when something needs a person")
    for target in settings.alerts:
        yield from _topic(patient, target) if target.startswith("arn:") else [_function(target)]


def _topic(patient: Patient, arn: str) -> Iterator[Check]:
    region = arn.split(":")[3] if arn.count(":") >= 5 else ""
    if region != patient.settings.region:
        yield Check(ALERTS, arn, "failed", f"the pipeline publishes in {patient.settings.region}: use a topic there")
        return
    sns = patient.client("sns")
    answer, problem = looked_up(
        ALERTS, arn, "sns:GetTopicAttributes", lambda: dict(sns.get_topic_attributes(TopicArn=arn)["Attributes"])
    )
    if answer is None:
        assert problem is not None
        make = (
            typed("aws", "sns", "create-topic", "--name", arn.rpartition(":")[2]) if "NotFound" in problem.found else ""
        )
        yield Check(ALERTS, arn, problem.result, problem.found, make)
        return
    confirmed = int(answer.get("SubscriptionsConfirmed", 0)) or _count_subscriptions(sns, arn)
    words = ("aws", "sns", "subscribe", "--topic-arn", arn, "--protocol", "email", "--notification-endpoint", "ADDRESS")
    found = f"{confirmed} confirmed subscriptions" + ("" if confirmed else ": nobody hears of it")
    yield Check(ALERTS, arn, "ok" if confirmed else "warning", found, "" if confirmed else typed(*words))
    yield Check(ALERTS, "sns:Publish", "not tried", "people would be told")


def _count_subscriptions(sns: Any, topic: str) -> int:
    """Confirmed ones on the first page of the list: the topic's own counter may lag."""
    answer, _ = looked_up(
        ALERTS,
        topic,
        "sns:ListSubscriptionsByTopic",
        lambda: dict(sns.list_subscriptions_by_topic(TopicArn=topic)),
    )
    return sum(each["SubscriptionArn"].startswith("arn:") for each in (answer or {}).get("Subscriptions", []))


def _function(path: str) -> Check:
    """Whether a notifier's import path leads to a function, in this Python."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", IMPORT, path],
            capture_output=True,
            text=True,
            check=False,
            timeout=IMPORT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return Check(ALERTS, path, "failed", f"its import takes more than {IMPORT_SECONDS} s")
    if done.returncode == 0:
        return Check(ALERTS, path, "ok", "can be imported here")
    lines = done.stderr.strip().splitlines()
    why = lines[-1] if lines else f"exit status {done.returncode}"
    return Check(
        ALERTS, path, "failed", f"cannot be imported here (in Airflow dags/ and plugins/ are on the path, too): {why}"
    )
