"""The queue and its dead-letter queue: may they be used, may S3 send, and do messages live long enough?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final

from include.cli.doctor_checks import Check, Patient, Result, looked_up, tried, typed
from include.drain import VISIBILITY_SECONDS

AREA: Final = "queue"
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
    found = tried(patient, AREA, "sqs:GetQueueAttributes", arn, lambda: _attributes(sqs, url))
    yield found
    yield Check(AREA, "sqs:ReceiveMessage", "not tried", "a message that is received counts as tried")
    for action, call in (
        ("sqs:DeleteMessage", lambda: sqs.delete_message(QueueUrl=url, ReceiptHandle=NO_HANDLE)),
        (
            "sqs:ChangeMessageVisibility",
            lambda: sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=NO_HANDLE, VisibilityTimeout=0),
        ),
    ):
        yield tried(patient, AREA, action, arn, call, expected=NO_SUCH_HANDLE)
    if found.result != "ok":
        yield Check(AREA, "settings", "not tried", "they cannot be read without sqs:GetQueueAttributes")
        return
    attributes = _attributes(sqs, url)
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
        _set(url, MessageRetentionPeriod=14 * DAY) if retention < LEAST_RETENTION_DAYS * DAY else "",
    )
    visibility = int(attributes["VisibilityTimeout"])
    yield Check(
        AREA,
        "visibility",
        "ok" if visibility <= LONGEST_VISIBILITY_SECONDS else "warning",
        f"{_lasting(visibility)} for others who read here; drain itself asks for {VISIBILITY_SECONDS} s",
        _set(url, VisibilityTimeout=VISIBILITY_SECONDS) if visibility > LONGEST_VISIBILITY_SECONDS else "",
    )
    if (delay := int(attributes.get("DelaySeconds", 0))) > 0:
        yield Check(AREA, "delay", "warning", f"uploads are seen {_lasting(delay)} late", _set(url, DelaySeconds=0))
    key = attributes.get("KmsMasterKeyId", "")
    if key == AWS_OWN_KEY:
        found = f"S3 cannot send to a queue that {key} encrypts: use SQS's own encryption, or a key of yours"
        mend = f"{_set(url, KmsMasterKeyId='')}\n{_set(url, SqsManagedSseEnabled='true')}"
        yield Check(AREA, "encryption", "failed", found, mend)
    elif key:
        found = f"by {key}; its policy must let s3.amazonaws.com use kms:GenerateDataKey and kms:Decrypt"
        yield Check(AREA, "encryption", "not tried", found)


def lets_s3_send(attributes: Mapping[str, str], *, queue_url: str, bucket_arn: str, account: str) -> Check:
    """Whether the queue's policy lets S3 send for the source bucket, and for it alone.

    :param attributes: of the queue; ``Policy`` is JSON.
    :param account: the bucket's.
    """
    name, arn = "policy", attributes["QueueArn"]
    policy = json.loads(attributes.get("Policy") or "{}")
    statements = policy.get("Statement", [])
    statements = [statements] if isinstance(statements, dict) else list(statements)
    judged = [_judge(each, arn, bucket_arn, account) for each in statements]
    wanted = {
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": bucket_arn}, "StringEquals": {"aws:SourceAccount": account}},
    }
    kept = [each for each, verdict in zip(statements, judged, strict=True) if verdict not in ("denied", "anybody")]
    mend = _set(queue_url, Policy=json.dumps({"Version": "2012-10-17", **policy, "Statement": [*kept, wanted]}))
    if "denied" in judged:
        return Check(AREA, name, "failed", "a statement denies sending: uploads are not announced", mend)
    if "perhaps denied" in judged:
        return Check(AREA, name, "warning", "a statement denies sending on a condition that cannot be judged here")
    if "allowed" in judged:
        return Check(AREA, name, "ok", f"lets S3 send for {bucket_arn}")
    if "anybody" in judged:
        return Check(AREA, name, "warning", "lets anybody's bucket send: name yours in aws:SourceArn", mend)
    if "perhaps" in judged:
        return Check(AREA, name, "warning", "lets S3 send on a condition that cannot be judged here")
    return Check(AREA, name, "failed", f"no statement lets S3 send for {bucket_arn}: uploads are not announced", mend)


def _judge(statement: Mapping[str, Any], queue_arn: str, bucket_arn: str, account: str) -> str:
    """A statement on S3's sending for the bucket: denied, perhaps denied, allowed, anybody, perhaps; empty where it is silent."""
    denies = statement.get("Effect") == "Deny"
    if not (_is_of_s3(statement) and _is_of_sending(statement, queue_arn)):
        return ""
    known = {"aws:sourcearn": bucket_arn, "aws:sourceaccount": account, "aws:securetransport": "true"}
    verdicts = [
        _holds(operator, key.lower(), values, known)
        for operator, conditions in statement.get("Condition", {}).items()
        for key, values in conditions.items()
    ]
    if False in verdicts:
        return ""
    if None in verdicts or "NotPrincipal" in statement:
        return "perhaps denied" if denies else "perhaps"
    if denies:
        return "denied"
    names = {key.lower() for conditions in statement.get("Condition", {}).values() for key in conditions}
    return "allowed" if "aws:sourcearn" in names else "anybody"


def _is_of_s3(statement: Mapping[str, Any]) -> bool:
    principal = statement.get("Principal", "*" if "NotPrincipal" in statement else {})
    if principal == "*":
        return True
    return "*" in _listed(principal.get("AWS")) or "s3.amazonaws.com" in _listed(principal.get("Service"))


def _is_of_sending(statement: Mapping[str, Any], queue_arn: str) -> bool:
    actions = [each.lower() for each in _listed(statement.get("Action"))]
    excepted = [each.lower() for each in _listed(statement.get("NotAction"))]
    is_action = any(fnmatchcase("sqs:sendmessage", each) for each in actions) if actions else bool(excepted)
    if any(fnmatchcase("sqs:sendmessage", each) for each in excepted):
        return False
    resources = _listed(statement.get("Resource", queue_arn))
    return is_action and any(fnmatchcase(queue_arn, each) for each in resources)


def _holds(operator: str, key: str, values: Any, known: Mapping[str, str]) -> bool | None:
    """Whether a condition holds for S3's message; None for a condition that is not known here."""
    plain = operator.removesuffix("IfExists").lower()
    if key not in known or plain not in ("arnequals", "arnlike", "stringequals", "stringlike", "bool"):
        return None
    if plain.startswith(("arn", "stringlike")):
        return any(fnmatchcase(known[key], str(value)) for value in _listed(values))
    return known[key] in [str(value).lower() if plain == "bool" else str(value) for value in _listed(values)]


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [] if value is None else [value]


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
            + _set(url, RedrivePolicy=_policy(attributes["QueueArn"].rpartition(":")[0] + f":{name}")),
        )
        return
    dead, most = str(policy["deadLetterTargetArn"]), int(policy["maxReceiveCount"])
    enough = most >= LEAST_RECEIVES
    yield Check(
        DEAD,
        "redrive policy",
        "ok" if enough else "warning",
        f"{dead} after {most} receives" + ("" if enough else ": a drain that dies once or twice gives images up"),
        "" if enough else _set(url, RedrivePolicy=_policy(dead)),
    )
    account, name = dead.split(":")[-2:]
    found: dict[str, str] = {}

    def look_for() -> None:
        found["url"] = sqs.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"]

    yield tried(patient, DEAD, "sqs:GetQueueUrl", dead, look_for, mend=_create(name))
    yield Check(DEAD, "sqs:SendMessage", "not tried", "a message would be sent")
    if "url" not in found:
        return
    looked, problem = looked_up(
        DEAD, "sqs:GetQueueAttributes", "sqs:GetQueueAttributes", lambda: dict(_attributes(sqs, found["url"]))
    )
    yield tried(patient, DEAD, "sqs:GetQueueAttributes", dead, lambda: _attributes(sqs, found["url"]))
    if looked is None or problem:
        return
    waiting, retention = int(looked["ApproximateNumberOfMessages"]), int(looked["MessageRetentionPeriod"])
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
        "" if longer else _set(found["url"], MessageRetentionPeriod=14 * DAY),
    )


def _create(name: str) -> str:
    """The command for a queue whose messages wait as long as they can."""
    attributes = _json(MessageRetentionPeriod=14 * DAY)
    return typed("aws", "sqs", "create-queue", "--queue-name", name, "--attributes", attributes)


def _policy(dead_letter_arn: str) -> str:
    return json.dumps({"deadLetterTargetArn": dead_letter_arn, "maxReceiveCount": 5})


def _set(url: str, **attributes: str | int) -> str:
    return typed("aws", "sqs", "set-queue-attributes", "--queue-url", url, "--attributes", _json(**attributes))


def _json(**attributes: str | int) -> str:
    """Queue attributes are strings, numbers as well."""
    return json.dumps({name: str(value) for name, value in attributes.items()})


def _lasting(seconds: int) -> str:
    for unit, name in ((DAY, "days"), (HOUR, "hours"), (60, "minutes")):
        if seconds >= unit:
            return f"{seconds / unit:g} {name}"
    return f"{seconds} s"
