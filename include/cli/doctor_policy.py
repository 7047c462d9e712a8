"""Whether a queue's policy lets S3 send for the inbox, as far as that can be judged from here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Final

from include.cli.doctor_checks import Check, typed

AREA: Final = "queue"


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
    mend = set_queue(queue_url, Policy=json.dumps({"Version": "2012-10-17", **policy, "Statement": [*kept, wanted]}))
    if "denied" in judged:
        found = "a statement denies sending: uploads are not announced; the command takes that statement out"
        return Check(AREA, name, "failed", found, mend)
    if "perhaps denied" in judged:
        return Check(AREA, name, "warning", "a statement denies sending on a condition that cannot be judged here")
    if "allowed" in judged:
        return Check(AREA, name, "ok", f"lets S3 send for {bucket_arn}")
    if "anybody" in judged:
        found = "lets anybody's bucket send; the command puts one that names yours in place of that statement"
        return Check(AREA, name, "warning", found, mend)
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
    return "allowed" if names & {"aws:sourcearn", "aws:sourceaccount"} else "anybody"


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


def set_queue(url: str, **attributes: str | int) -> str:
    return typed(
        "aws", "sqs", "set-queue-attributes", "--queue-url", url, "--attributes", queue_attributes(**attributes)
    )


def queue_attributes(**attributes: str | int) -> str:
    """Queue attributes are strings, numbers as well."""
    return json.dumps({name: str(value) for name, value in attributes.items()})
