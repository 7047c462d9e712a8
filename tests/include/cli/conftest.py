"""One local AWS, seeded as a new account is, for all commands; each test finds it as on the first day."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include import cli
from include.model_state import ModelStateStore
from include.settings import Settings, load_settings
from local_aws.process import LocalAws
from local_stack import seed
from local_stack.environment import ACCOUNT, REGION

# A test looks at STARTING for as long as it wants: a model that is to be RUNNING is set so.
# Control operations come as fast as they like: one test would else spend the rate that the next one needs.
FLAGS = ("--start-seconds", "600", "--stop-seconds", "600", "--time-scale", "1", "--control-tps", "1000")


@dataclass(frozen=True)
class Said:
    """What a command said, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Account:
    """A seeded account, and its pipeline's settings."""

    aws: LocalAws
    values: dict[str, str]
    s3: Any
    sqs: Any
    rekognition: Any
    notifications: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        return load_settings()

    @property
    def state(self) -> ModelStateStore:
        return ModelStateStore.of(self.s3, seed.FINAL_BUCKET, self.settings.model)

    @property
    def queue(self) -> str:
        return self.values["LABELS_QUEUE_URL"]

    @property
    def dead_letter_queue(self) -> str:
        return f"{self.aws.endpoint_url}/{ACCOUNT}/{seed.DEAD_LETTER_QUEUE}"

    def remember(self) -> None:
        """What is set now is put back before each test."""
        for bucket in (seed.SOURCE_BUCKET, seed.FINAL_BUCKET):
            found = self.s3.get_bucket_notification_configuration(Bucket=bucket)
            self.notifications[bucket] = {name: value for name, value in found.items() if name != "ResponseMetadata"}
        for url in (self.queue, self.dead_letter_queue):
            found = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
            fixed = {"QueueArn", "CreatedTimestamp", "LastModifiedTimestamp"}
            self.attributes[url] = {"Policy": "", "RedrivePolicy": "", "KmsMasterKeyId": ""} | {
                name: value for name, value in found.items() if name not in fixed and "Approximate" not in name
            }

    def set_model(self, status: str) -> None:
        self.aws.set_model(self.values["LABELS_PROJECT_VERSION_ARN"], status=status)

    def status(self) -> str:
        arn = self.values["LABELS_PROJECT_ARN"]
        answer = self.rekognition.describe_project_versions(ProjectArn=arn, VersionNames=[seed.VERSION])
        return str(answer["ProjectVersionDescriptions"][0]["Status"])

    def take_lease(self, holder: str = "label_images/manual__1") -> None:
        self.state.acquire(holder, minutes=10, now=datetime.now(UTC))

    def objects(self, bucket: str) -> list[str]:
        return [item["Key"] for item in self.s3.list_objects_v2(Bucket=bucket).get("Contents", [])]

    def messages(self, url: str) -> tuple[int, int]:
        """Those that wait, and those in flight."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return int(found[names[0]]), int(found[names[1]])

    def clean(self) -> None:
        self.aws.clear_faults()
        self.set_model("STOPPED")
        for bucket in (seed.SOURCE_BUCKET, seed.FINAL_BUCKET):
            for key in self.objects(bucket):
                self.s3.delete_object(Bucket=bucket, Key=key)
        for bucket, notification in self.notifications.items():
            self.s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=notification)
        for url, attributes in self.attributes.items():
            self.sqs.set_queue_attributes(QueueUrl=url, Attributes=attributes)
            self.sqs.purge_queue(QueueUrl=url)


@pytest.fixture(scope="session")
def shared_account() -> Iterator[Account]:
    with LocalAws(*FLAGS) as aws:
        s3, sqs, rekognition = (aws.client(service) for service in ("s3", "sqs", "rekognition"))
        seed.create_buckets_and_queues(s3, sqs)
        project_arn, version_arn = seed.train_model(s3, rekognition)
        seed.wait_until_trained(rekognition, project_arn)
        values = {
            "LABELS_SOURCE_BUCKET": seed.SOURCE_BUCKET,
            "LABELS_FINAL_BUCKET": seed.FINAL_BUCKET,
            "LABELS_QUEUE_URL": f"{aws.endpoint_url}/{ACCOUNT}/{seed.QUEUE}",
            "LABELS_REGION": REGION,
            "LABELS_PROJECT_ARN": project_arn,
            "LABELS_PROJECT_VERSION_ARN": version_arn,
            "LABELS_THREADS": "4",
        }
        account = Account(aws, values, s3, sqs, rekognition)
        account.remember()
        yield account


@pytest.fixture
def account(shared_account: Account, monkeypatch: pytest.MonkeyPatch) -> Account:
    """The account, and the environment of a person who works on it."""
    for name, value in (shared_account.values | shared_account.aws.environment()).items():
        monkeypatch.setenv(name, value)
    shared_account.clean()
    return shared_account


@pytest.fixture
def minutes_ago() -> Callable[[float], datetime]:
    return lambda minutes: datetime.now(UTC) - timedelta(minutes=minutes)


def typed(*words: str) -> Said:
    """Type a command, where standard output is no terminal."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = cli.main(list(words))
        except SystemExit as end:
            status = int(end.code or 0)
    return Said(status, out.getvalue(), err.getvalue())


def document(*words: str) -> Any:
    """What a command says to a script."""
    return typed("--json", *words).document
