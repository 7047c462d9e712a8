"""A healthy account, and everything that may be wrong with one: found, named, and mended by what it says to type."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from include.cli.doctor import examine, who
from include.cli.doctor_checks import Check, Patient, allow
from local_stack.environment import ACCOUNT, REGION
from local_stack.seed import DEAD_LETTER_QUEUE, FINAL_BUCKET, QUEUE, SOURCE_BUCKET
from tests.include.cli.aws_cli import call_of, type_aws
from tests.include.cli.conftest import Account, document, typed

ROOT = Path(__file__).parents[3]
QUEUE_ARN = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{QUEUE}"
OTHER_QUEUE_ARN = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{DEAD_LETTER_QUEUE}"
STATE = "state/model/products/products-v1.json"
CREATED = "s3:ObjectCreated:*"

Break = Callable[[Account], object]


def found(answer: Any, area: str, name: str) -> dict[str, str]:
    """The one check of this name."""
    (check,) = [each for each in answer["checks"] if (each["area"], each["name"]) == (area, name)]
    return dict(check)


def bad(answer: Any) -> list[tuple[str, str, str]]:
    """Everything that is neither ok nor not tried."""
    wrong = [each for each in answer["checks"] if each["result"] in ("failed", "warning")]
    return [(each["area"], each["name"], each["result"]) for each in wrong]


def notify(account: Account, bucket: str, *configurations: dict[str, Any], **others: Any) -> None:
    account.s3.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"QueueConfigurations": list(configurations), **others}
    )


def announced(events: list[str], arn: str = QUEUE_ARN, **rules: str) -> dict[str, Any]:
    """A notification of the queue."""
    filters = [{"Name": name, "Value": value} for name, value in rules.items()]
    return {"QueueArn": arn, "Events": events} | ({"Filter": {"Key": {"FilterRules": filters}}} if rules else {})


def another_queue(account: Account) -> str:
    account.sqs.create_queue(QueueName="elsewhere")
    return OTHER_QUEUE_ARN.replace(DEAD_LETTER_QUEUE, "elsewhere")


def set_queue(account: Account, **attributes: str) -> None:
    account.sqs.set_queue_attributes(QueueUrl=account.queue, Attributes=attributes)


def test_a_healthy_account_is_all_right_and_as_it_was_before(account: Account) -> None:
    places = (SOURCE_BUCKET, FINAL_BUCKET)
    queues = (account.queue, account.dead_letter_queue)
    before = [account.objects(place) for place in places], [account.messages(queue) for queue in queues]
    said = typed("--json", "doctor")
    assert (said.status, bad(said.document), said.document["ok"]) == (0, [], True)
    assert [each for each in said.document["checks"] if each["mend"]] == []
    assert ([account.objects(place) for place in places], [account.messages(queue) for queue in queues]) == before
    assert account.status() == "STOPPED"
    assert "0 warning, 0 failed" in typed("doctor").out


def test_every_permission_of_the_readme_is_looked_at(account: Account) -> None:
    policy = re.findall(r"```\n(rekognition:.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)[0]
    service, needed = "", set[str]()
    for word in re.findall(r"[a-z0-9]+:(?=[A-Z])|\b[A-Z][a-z]+[A-Z]\w+", policy):
        service, needed = (word, needed) if word.endswith(":") else (service, needed | {service + word})
    looked_at = {each["name"] for each in document("doctor")["checks"]}
    assert len(needed) > 15
    assert needed - looked_at == set()


@pytest.mark.parametrize(
    ("service", "operation", "checks"),
    [
        ("s3", "ListObjectsV2", ["source bucket s3:ListBucket", "final bucket s3:ListBucket"]),
        (
            "s3",
            "GetObject",
            ["source bucket s3:GetObject", "source bucket s3:GetObjectVersion", "final bucket s3:GetObject"],
        ),
        (
            "s3",
            "GetObjectTagging",
            [
                "source bucket s3:GetObjectTagging",
                "source bucket s3:GetObjectVersionTagging",
                "final bucket s3:GetObjectTagging",
            ],
        ),
        (
            "s3",
            "DeleteObject",
            ["source bucket s3:DeleteObject", "source bucket s3:DeleteObjectVersion", "final bucket s3:DeleteObject"],
        ),
        ("s3", "PutObject", ["final bucket s3:PutObject"]),
        ("s3", "PutObjectTagging", ["final bucket s3:PutObjectTagging"]),
        ("s3", "CopyObject", ["final bucket copying"]),
        ("sqs", "GetQueueAttributes", ["queue sqs:GetQueueAttributes"]),
        ("sqs", "DeleteMessage", ["queue sqs:DeleteMessage"]),
        ("sqs", "ChangeMessageVisibility", ["queue sqs:ChangeMessageVisibility"]),
        ("sqs", "GetQueueUrl", ["dead-letter queue sqs:GetQueueUrl"]),
        ("rekognition", "DescribeProjectVersions", ["model rekognition:DescribeProjectVersions"]),
        ("rekognition", "DetectCustomLabels", ["model rekognition:DetectCustomLabels"]),
        ("rekognition", "StopProjectVersion", ["model rekognition:StopProjectVersion"]),
    ],
)
def test_a_permission_that_is_missing_is_named_and_can_be_given(
    account: Account, service: str, operation: str, checks: list[str]
) -> None:
    error = "AccessDeniedException" if service == "rekognition" else "AccessDenied"
    account.aws.add_fault(service=service, operation=operation, error=error, status=403)
    said = typed("--json", "doctor")
    assert said.status == 1
    failed = {f"{each['area']} {each['name']}": each for each in said.document["checks"] if each["result"] == "failed"}
    assert failed.keys() == set(checks)
    for name, check in failed.items():
        assert "denied" in check["found"].lower()
        called, method, parameters = call_of(check["mend"])
        assert (called, method, parameters["UserName"]) == ("iam", "put_user_policy", "moto")
        (statement,) = json.loads(parameters["PolicyDocument"])["Statement"]
        assert statement["Effect"] == "Allow"
        assert statement["Action"] == ("s3:PutObject" if check["name"] == "copying" else name.split()[-1])
        assert statement["Resource"].startswith(f"arn:aws:{service}:")


def test_the_commands_for_several_permissions_do_not_undo_each_other(account: Account) -> None:
    for service in ("s3", "sqs"):
        account.aws.add_fault(service=service, operation="*", error="AccessDenied", status=403)
    mends = [each["mend"] for each in document("doctor")["checks"] if each["mend"].startswith("aws iam")]
    names = [call_of(mend)[2]["PolicyName"] for mend in mends]
    assert len(set(mends)) == len(set(names)) >= 5


def test_what_may_not_be_read_is_not_guessed(account: Account) -> None:
    for operation in ("GetBucketNotificationConfiguration", "GetBucketVersioning"):
        account.aws.add_fault(service="s3", operation=operation, error="AccessDenied", status=403)
    answer = document("doctor")
    assert bad(answer) == []
    for area, name in (
        ("source bucket", "notification"),
        ("final bucket", "notification"),
        ("source bucket", "versioning"),
        ("source bucket", "s3:DeleteObject"),
    ):
        assert found(answer, area, name)["result"] == "not tried"


def test_an_aws_that_is_busy_says_nothing(account: Account) -> None:
    account.aws.add_fault(service="s3", operation="PutObject", error="SlowDown", status=503)
    answer = document("doctor")
    assert found(answer, "final bucket", "s3:PutObject")["result"] == "not tried"


def test_without_settings_all_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    said = typed("--json", "doctor")
    assert said.status == 1
    assert len(said.document["checks"]) == 6
    assert {each["result"] for each in said.document["checks"]} == {"failed"}


BREAKS: dict[str, tuple[Break, str, str, str]] = {
    "no notification": (
        lambda account: notify(account, SOURCE_BUCKET),
        *("source bucket", "notification", "failed"),
    ),
    "another queue is told": (
        lambda account: notify(account, SOURCE_BUCKET, announced([CREATED], another_queue(account))),
        *("source bucket", "notification", "failed"),
    ),
    "a suffix": (
        lambda account: notify(account, SOURCE_BUCKET, announced([CREATED], suffix=".jpg")),
        *("source bucket", "notification", "failed"),
    ),
    "a prefix": (
        lambda account: notify(account, SOURCE_BUCKET, announced([CREATED], prefix="in/")),
        *("source bucket", "notification", "warning"),
    ),
    "not every way to upload": (
        lambda account: notify(account, SOURCE_BUCKET, announced(["s3:ObjectCreated:Put"])),
        *("source bucket", "notification", "failed"),
    ),
    "results are announced": (
        lambda account: notify(account, FINAL_BUCKET, announced([CREATED])),
        *("final bucket", "notification", "failed"),
    ),
    "no policy": (lambda account: set_queue(account, Policy=""), "queue", "policy", "failed"),
    "messages live an hour": (
        lambda account: set_queue(account, MessageRetentionPeriod="3600"),
        *("queue", "retention", "warning"),
    ),
    "messages are hidden for half a day": (
        lambda account: set_queue(account, VisibilityTimeout="43200"),
        *("queue", "visibility", "warning"),
    ),
    "a delay": (lambda account: set_queue(account, DelaySeconds="900"), "queue", "delay", "warning"),
    "S3 cannot encrypt": (
        lambda account: set_queue(account, KmsMasterKeyId="alias/aws/sqs"),
        *("queue", "encryption", "failed"),
    ),
    "no dead-letter queue": (
        lambda account: set_queue(account, RedrivePolicy=""),
        *("dead-letter queue", "redrive policy", "failed"),
    ),
    "given up after one receive": (
        lambda account: set_queue(
            account, RedrivePolicy=json.dumps({"deadLetterTargetArn": OTHER_QUEUE_ARN, "maxReceiveCount": 1})
        ),
        *("dead-letter queue", "redrive policy", "warning"),
    ),
    "dead letters die before the others": (
        lambda account: account.sqs.set_queue_attributes(
            QueueUrl=account.dead_letter_queue, Attributes={"MessageRetentionPeriod": "86400"}
        ),
        *("dead-letter queue", "retention", "warning"),
    ),
    "a damaged state": (
        lambda account: account.s3.put_object(Bucket=FINAL_BUCKET, Key=STATE, Body=b"{"),
        *("model", "lease and hold", "failed"),
    ),
}


@pytest.mark.parametrize("what", BREAKS)
def test_what_is_wrong_is_found_and_what_it_says_to_type_mends_it(account: Account, what: str) -> None:
    break_it, area, name, result = BREAKS[what]
    break_it(account)
    said = typed("--json", "doctor")
    assert bad(said.document) == [(area, name, result)]
    assert said.status == (1 if result == "failed" else 0)
    mend = found(said.document, area, name)["mend"]
    for command in mend.split("\n"):
        type_aws(account.aws, command)
    assert bad(document("doctor")) == []


def test_what_to_type_is_shown_whole(account: Account) -> None:
    notify(account, SOURCE_BUCKET)
    mend = found(document("doctor"), "source bucket", "notification")["mend"]
    assert mend in typed("doctor").out.splitlines()


def test_mending_the_notification_keeps_the_others(account: Account) -> None:
    removed = announced(["s3:ObjectRemoved:*"], OTHER_QUEUE_ARN)
    notify(account, SOURCE_BUCKET, removed, announced([CREATED], suffix=".jpg"))
    type_aws(account.aws, found(document("doctor"), "source bucket", "notification")["mend"])
    kept = account.s3.get_bucket_notification_configuration(Bucket=SOURCE_BUCKET)
    assert sorted((each["QueueArn"], each["Events"]) for each in kept["QueueConfigurations"]) == [
        (QUEUE_ARN, [CREATED]),
        (OTHER_QUEUE_ARN, ["s3:ObjectRemoved:*"]),
    ]


def test_results_that_are_announced_are_not_added_to(account: Account) -> None:
    """The probe itself would be a message."""
    notify(account, FINAL_BUCKET, announced([CREATED]))
    account.sqs.purge_queue(QueueUrl=account.queue)
    assert found(document("doctor"), "final bucket", "s3:PutObject")["result"] == "not tried"
    assert account.messages(account.queue) == (0, 0)


def test_uploads_that_go_through_a_topic_are_not_judged(account: Account) -> None:
    topic = account.aws.client("sns").create_topic(Name="uploads")["TopicArn"]
    notify(account, SOURCE_BUCKET, TopicConfigurations=[{"TopicArn": topic, "Events": [CREATED]}])
    check = found(document("doctor"), "source bucket", "notification")
    assert (check["result"], topic in check["found"]) == ("not tried", True)


@pytest.mark.parametrize("setting", ["SOURCE_BUCKET", "FINAL_BUCKET", "ALLOWED_BUCKETS"])
def test_a_bucket_that_does_not_exist_can_be_made(
    account: Account, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    name = f"missing-{setting.lower().replace('_', '-')}"
    monkeypatch.setenv(f"LABELS_{setting}", name)
    (check,) = [each for each in document("doctor")["checks"] if each["name"] == "bucket"]
    assert (check["result"], check["found"]) == ("failed", f"{name} does not exist")
    type_aws(account.aws, check["mend"])
    assert [each for each in document("doctor")["checks"] if each["name"] == "bucket"] == []


def test_a_bucket_of_another_region_is_of_no_use_to_the_model(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.s3.create_bucket(Bucket="far-away", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    monkeypatch.setenv("LABELS_SOURCE_BUCKET", "far-away")
    check = found(document("doctor"), "source bucket", "region")
    assert check["result"] == "failed"
    assert "far-away lies in eu-west-1, the model in us-east-1" in check["found"]


def test_where_versions_are_kept_no_marker_is_left(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    account.s3.create_bucket(Bucket="versioned")
    account.s3.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    monkeypatch.setenv("LABELS_SOURCE_BUCKET", "versioned")
    answer = document("doctor")
    assert found(answer, "source bucket", "versioning")["found"] == "enabled"
    assert found(answer, "source bucket", "s3:DeleteObject")["result"] == "not tried"
    assert found(answer, "source bucket", "s3:DeleteObjectVersion")["result"] == "ok"
    left = account.s3.list_object_versions(Bucket="versioned")
    assert "DeleteMarkers" not in left


def test_an_inbox_that_is_not_emptied_needs_no_deleting(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABELS_ORIGINALS", "leave")
    assert found(document("doctor"), "source bucket", "s3:DeleteObject")["result"] == "not tried"


def test_dead_letters_are_worth_a_look(account: Account) -> None:
    account.sqs.send_message(QueueUrl=account.dead_letter_queue, MessageBody="x")
    check = found(document("doctor"), "dead-letter queue", "messages")
    assert (check["result"], check["mend"]) == (
        "warning",
        "python -m include.cli redrive --dead-letters --dry-run",
    )


@pytest.mark.parametrize("status", ["STARTING", "RUNNING"])
def test_a_model_that_is_on_for_nobody_is_told_and_not_called(account: Account, status: str) -> None:
    account.set_model(status)
    answer = document("doctor")
    check = found(answer, "model", "status")
    assert (check["result"], check["mend"]) == ("warning", "python -m include.cli model stop")
    for action in ("DetectCustomLabels", "StopProjectVersion", "StartProjectVersion"):
        assert found(answer, "model", f"rekognition:{action}")["result"] == "not tried"
    assert account.status() == status
    account.take_lease()
    assert found(document("doctor"), "model", "status")["result"] == "ok"


def test_a_model_that_a_run_is_about_to_start_is_left_alone(account: Account) -> None:
    account.take_lease()
    account.aws.add_fault(service="rekognition", operation="StopProjectVersion", error="AccessDeniedException")
    answer = document("doctor")
    assert found(answer, "model", "rekognition:StopProjectVersion")["result"] == "not tried"
    assert "label_images/manual__1 uses it until" in found(answer, "model", "lease and hold")["found"]


@pytest.mark.parametrize(
    ("status", "result"),
    [
        ("TRAINING_COMPLETED", "ok"),
        ("STOPPING", "ok"),
        ("TRAINING_IN_PROGRESS", "warning"),
        ("FAILED", "failed"),
        ("EXPIRED", "failed"),
    ],
)
def test_a_model_that_no_run_can_start_is_told(account: Account, status: str, result: str) -> None:
    account.set_model(status)
    assert found(document("doctor"), "model", "status")["result"] == result


def test_a_model_that_was_trained_anew_under_the_same_name_is_another_one(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = account.values["LABELS_PROJECT_VERSION_ARN"]
    monkeypatch.setenv("LABELS_PROJECT_VERSION_ARN", f"{real[:-3]}000")
    check = found(document("doctor"), "model", "ARN")
    assert (check["result"], check["mend"]) == ("failed", f"export LABELS_PROJECT_VERSION_ARN={real}")


def test_a_model_that_does_not_exist_is_told(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    real = account.values["LABELS_PROJECT_VERSION_ARN"]
    monkeypatch.setenv("LABELS_PROJECT_VERSION_ARN", real.replace("products-v1", "products-v9"))
    check = found(document("doctor"), "model", "rekognition:DescribeProjectVersions")
    assert check["result"] == "failed"
    assert "has no version 'products-v9'" in check["found"]
    assert call_of(check["mend"])[1] == "describe_project_versions"


def test_without_its_evaluation_the_default_threshold_counts(account: Account) -> None:
    account.aws.add_fault(service="s3", operation="GetObject", key="EvaluationResult", error="AccessDenied", status=403)
    said = typed("--json", "doctor")
    assert (said.status, bad(said.document)) == (0, [("evaluation summary", "s3:GetObject", "warning")])


def test_everybody_who_is_to_be_told_is_looked_up(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    sns = account.aws.client("sns")
    heard, unheard = (sns.create_topic(Name=name)["TopicArn"] for name in ("heard", "unheard"))
    sns.subscribe(TopicArn=heard, Protocol="sqs", Endpoint=OTHER_QUEUE_ARN)
    missing, away = f"arn:aws:sns:{REGION}:{ACCOUNT}:missing", f"arn:aws:sns:eu-west-1:{ACCOUNT}:away"
    targets = [heard, unheard, missing, away, "json.dumps", "json.nothing", "no.such.module", "json.__doc__"]
    monkeypatch.setenv("LABELS_ALERTS", ",".join(targets))
    answer = document("doctor")
    results = {each["name"]: each["result"] for each in answer["checks"] if each["area"] == "alerts"}
    assert results == {
        heard: "ok",
        unheard: "warning",
        "sns:Publish": "not tried",
        missing: "failed",
        away: "failed",
        "json.dumps": "ok",
        "json.nothing": "failed",
        "no.such.module": "failed",
        "json.__doc__": "failed",
    }
    type_aws(account.aws, found(answer, "alerts", missing)["mend"])
    assert found(document("doctor"), "alerts", missing)["result"] == "warning"


def test_a_notifier_that_does_something_when_it_is_imported_does_it_elsewhere(
    account: Account, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "loud.py").write_text("import sys\nsys.exit('I do not want to')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("LABELS_ALERTS", "loud.tell")
    check = found(document("doctor"), "alerts", "loud.tell")
    assert check["result"] == "failed"
    assert "I do not want to" in check["found"]
    assert "loud" not in sys.modules


@pytest.mark.parametrize(
    ("off_seconds", "result"), [(0, "ok"), (30, "warning"), (-30, "warning"), (600, "failed"), (-600, "failed")]
)
def test_a_clock_that_is_wrong_is_told(account: Account, off_seconds: float, result: str) -> None:
    patient = Patient(account.settings, cache(account.aws.client))
    checks = examine(patient, now=lambda: datetime.now(UTC) + timedelta(seconds=off_seconds), absent="absent")
    (clock,) = [check for check in checks if check.area == "clock"]
    assert clock.result == result


def test_without_credentials_there_is_nothing_else_to_say(account: Account) -> None:
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    environment = {name: value for name, value in os.environ.items() if name not in keys}
    nowhere = {
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_CONFIG_FILE": os.devnull,
    }
    done = subprocess.run(
        [sys.executable, "-m", "include.cli", "--json", "doctor"],
        cwd=ROOT,
        env=environment | nowhere,
        capture_output=True,
        text=True,
        check=False,
    )
    checks = json.loads(done.stdout)["checks"]
    assert (done.returncode, [(each["name"], each["result"]) for each in checks]) == (
        1,
        [("LABELS_*", "ok"), ("credentials", "failed")],
    )
    assert "Unable to locate credentials" in checks[1]["found"]


class Sts:
    def __init__(self, arn: str, account: str) -> None:
        self._identity = {"Arn": arn, "Account": account}

    def get_caller_identity(self) -> dict[str, str]:
        return self._identity


def test_credentials_of_another_account_are_told() -> None:
    arn = "arn:aws:sts::999999999999:assumed-role/ops/ann"
    assert who(Sts(arn, "999999999999"), "123456789012").result == "warning"
    assert who(Sts(arn, "999999999999"), "999999999999") == Check("settings", "credentials", "ok", arn)


@pytest.mark.parametrize(
    ("caller", "begins"),
    [
        ("arn:aws:sts::1:assumed-role/airflow-workers/i-0abc", "aws iam put-role-policy --role-name airflow-workers "),
        ("arn:aws:iam::1:user/people/ann", "aws iam put-user-policy --user-name ann "),
        ("arn:aws:iam::1:root", ""),
        ("", ""),
    ],
)
def test_a_permission_is_given_to_whoever_looks(account: Account, caller: str, begins: str) -> None:
    patient = Patient(account.settings, account.aws.client, caller)
    mend = allow(patient, "sqs:DeleteMessage", QUEUE_ARN)
    assert mend.startswith(begins)
    assert bool(mend) == bool(begins)
