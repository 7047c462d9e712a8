"""The queue and its dead-letter queue: may they be used, may S3 send, and do messages live long enough?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from include.cli.doctor_checks import Check, Patient, Result, tried, typed
from include.cli.doctor_policy import AREA, lets_s3_send, queue_attributes, set_queue
from include.drain import VISIBILITY_SECONDS

DEAD: Final = "dead-letter queue"
# Not a handle of any message: SQS looks at the permission first.
NO_HANDLE: Final = "doctor"
NO_SUCH_HANDLE: Final = ("ReceiptHandleIsInvalid", "InvalidParameterValue")
HOUR: Final = 3_600
DAY: Final = 24 * HOUR
# A weekend with Airflow down, and Monday morning.
LEAST_RETENTION_DAYS: Final = 4
LEAST_RECEIVES: Final = 3
LONGEST_VISIBILITY_SECONDS: Final = 12 * HOUR // 2
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/grant-destinations-permissions-to-s3.html
AWS_OWN_KEY: Final = "alias/aws/sqs"


def check_queue(patient: Patient) -> Iterator[Check]:
    """Both queues; the queue's own first."""
    sqs, url = patient.client("sqs"), patient.settings.queue_url
    if url.endswith(".fifo"):
        yield Check(
            AREA, "queue", "failed", "S3 announces to no FIFO queue: use a standard one, and set LABELS_QUEUE_URL"
        )
    arn = patient.queue_arn(url)
    attributes: dict[str, str] = {}
    make = _create(url.rpartition("/")[2])
    yield tried(
        patient,
        AREA,
        "sqs:GetQueueAttributes",
        arn,
        lambda: attributes.update(_attributes(sqs, url)),
        mend=make,
    )
    yield Check(AREA, "sqs:ReceiveMessage", "not tried", "a message that is received counts as tried")
    for action, call in (
        ("sqs:DeleteMessage", lambda: sqs.delete_message(QueueUrl=url, ReceiptHandle=NO_HANDLE)),
        (
            "sqs:ChangeMessageVisibility",
            lambda: sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=NO_HANDLE, VisibilityTimeout=0),
        ),
    ):
        yield tried(patient, AREA, action, arn, call, expected=NO_SUCH_HANDLE)
    if not attributes:
        yield Check(AREA, "settings", "not tried", "they cannot be read without sqs:GetQueueAttributes")
        return
    yield from _settings(patient, attributes)
    yield lets_s3_send(
        attributes,
        queue_url=url,
        bucket_arn=patient.bucket_arn(patient.settings.source_bucket),
        account=patient.settings.model.account,
    )
    yield from _dead_letters(patient, attributes)


def _attributes(sqs: Any, url: str) -> dict[str, str]:
    return dict(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"])


def _settings(patient: Patient, attributes: Mapping[str, str]) -> Iterator[Check]:
    url, region = patient.settings.queue_url, attributes["QueueArn"].split(":")[3]
    same = region == patient.settings.region
    yield Check(
        AREA,
        "region",
        "ok" if same else "failed",
        f"in {region}" + ("" if same else f", not {patient.settings.region}"),
    )
    retention = int(attributes["MessageRetentionPeriod"])
    yield Check(
        AREA,
        "retention",
        "ok" if retention >= LEAST_RETENTION_DAYS * DAY else "warning",
        f"messages live {_lasting(retention)}: longer than that no run may be missing (14 days is the most)",
        set_queue(url, MessageRetentionPeriod=14 * DAY) if retention < LEAST_RETENTION_DAYS * DAY else "",
    )
    visibility = int(attributes["VisibilityTimeout"])
    yield Check(
        AREA,
        "visibility",
        "ok" if visibility <= LONGEST_VISIBILITY_SECONDS else "warning",
        f"{_lasting(visibility)} for others who read here; drain itself asks for {VISIBILITY_SECONDS} s",
        set_queue(url, VisibilityTimeout=VISIBILITY_SECONDS) if visibility > LONGEST_VISIBILITY_SECONDS else "",
    )
    if (delay := int(attributes.get("DelaySeconds", 0))) > 0:
        yield Check(
            AREA, "delay", "warning", f"uploads are seen {_lasting(delay)} late", set_queue(url, DelaySeconds=0)
        )
    key = attributes.get("KmsMasterKeyId", "")
    if key == AWS_OWN_KEY:
        found = f"S3 cannot send to a queue that {key} encrypts: use SQS's own encryption, or a key of yours"
        mend = f"{set_queue(url, KmsMasterKeyId='')}\n{set_queue(url, SqsManagedSseEnabled='true')}"
        yield Check(AREA, "encryption", "failed", found, mend)
    elif key:
        found = f"by {key}; its policy must let s3.amazonaws.com use kms:GenerateDataKey and kms:Decrypt"
        yield Check(AREA, "encryption", "not tried", found)


def _dead_letters(patient: Patient, attributes: Mapping[str, str]) -> Iterator[Check]:
    sqs, url = patient.client("sqs"), patient.settings.queue_url
    policy = json.loads(attributes.get("RedrivePolicy") or "{}")
    if "deadLetterTargetArn" not in policy:
        name = f"{url.rpartition('/')[2]}-dead-letters"
        yield Check(
            DEAD,
            "redrive policy",
            "failed",
            "there is none: a message that announces no image comes again with every run, until it expires",
            f"{_create(name)}\n"
            + set_queue(url, RedrivePolicy=_policy(attributes["QueueArn"].rpartition(":")[0] + f":{name}")),
        )
        return
    dead, most = str(policy["deadLetterTargetArn"]), int(policy["maxReceiveCount"])
    enough = most >= LEAST_RECEIVES
    yield Check(
        DEAD,
        "redrive policy",
        "ok" if enough else "warning",
        f"{dead} after {most} receives" + ("" if enough else ": a drain that dies once or twice gives images up"),
        "" if enough else set_queue(url, RedrivePolicy=_policy(dead)),
    )
    account, name = dead.split(":")[-2:]
    yield Check(DEAD, "sqs:SendMessage", "not tried", "a message would be sent")
    its: dict[str, str] = {}
    by_name = {"QueueName": name, "QueueOwnerAWSAccountId": account}
    yield tried(
        patient,
        DEAD,
        "sqs:GetQueueUrl",
        dead,
        lambda: its.update(url=sqs.get_queue_url(**by_name)["QueueUrl"]),
        mend=_create(name),
    )
    if its:
        yield tried(patient, DEAD, "sqs:GetQueueAttributes", dead, lambda: its.update(_attributes(sqs, its["url"])))
    if "MessageRetentionPeriod" not in its:
        return
    waiting, retention = int(its["ApproximateNumberOfMessages"]), int(its["MessageRetentionPeriod"])
    yield Check(
        DEAD,
        "messages",
        "warning" if waiting else "ok",
        f"about {waiting:,}" + (": some may announce images" if waiting else ""),
        typed("python", "-m", "include.cli", "redrive", "--dead-letters", "--dry-run") if waiting else "",
    )
    # A message keeps the age that it had in the queue.
    longer = retention >= int(attributes["MessageRetentionPeriod"])
    result: Result = "ok" if longer else "warning"
    yield Check(
        DEAD,
        "retention",
        result,
        f"messages live {_lasting(retention)}, counted from their upload" + ("" if longer else ": longer in the queue"),
        "" if longer else set_queue(its["url"], MessageRetentionPeriod=14 * DAY),
    )


def _create(name: str) -> str:
    """The command for a queue whose messages wait as long as they can."""
    attributes = queue_attributes(MessageRetentionPeriod=14 * DAY)
    return typed("aws", "sqs", "create-queue", "--queue-name", name, "--attributes", attributes)


def _policy(dead_letter_arn: str) -> str:
    return json.dumps({"deadLetterTargetArn": dead_letter_arn, "maxReceiveCount": 5})


def _lasting(seconds: int) -> str:
    for unit, name in ((DAY, "days"), (HOUR, "hours"), (60, "minutes")):
        if seconds >= unit:
            return f"{seconds / unit:g} {name}"
    return f"{seconds} s"
