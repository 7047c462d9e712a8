"""The buckets: are they there, in the model's region, may they be used, and does the inbox announce its uploads?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from include.cli.doctor_checks import DENIED, Check, Patient, looked_up, tried, typed
from include.errors import error_code, error_message
from include.objects import is_condition_failed
from include.settings import PREFIX

CREATED: Final = "s3:ObjectCreated:*"
# All that there are: https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-how-to-event-types-and-destinations.html
EACH_CREATED: Final = {f"s3:ObjectCreated:{how}" for how in ("Put", "Post", "Copy", "CompleteMultipartUpload")}
GONE: Final = ("NoSuchKey", "404", "NoSuchVersion")
PROBE: Final = "state/doctor/probe"
COPY: Final = "state/doctor/copy"
# Leases compare the clocks of machines; AWS itself refuses requests that are 15 minutes off.
SKEW_SECONDS: Final = 5.0
MOST_SKEW_SECONDS: Final = 60.0

Head = tuple[dict[str, Any], None] | tuple[None, Check]


def check_buckets(patient: Patient, *, queue_arn: str, absent: str, now: Callable[[], datetime]) -> Iterator[Check]:
    """Every bucket.

    :param absent: a key that no bucket has.
    """
    settings, s3 = patient.settings, patient.client("s3")
    source, final = settings.source_bucket, settings.final_bucket
    yield from _place(patient, "source bucket", source, f"{PREFIX}SOURCE_BUCKET")
    yield from _reading(patient, "source bucket", source, absent)
    yield from _removing(patient, source, absent)
    area = "source bucket"
    yield Check(
        area, "s3:PutObject", "not tried", "it would announce an upload; only `redrive` needs it, not the pipeline"
    )
    answer, problem = looked_up(area, "notification", "s3:GetBucketNotification", lambda: _notification(s3, source))
    yield problem or announces(answer or {}, bucket=source, queue_arn=queue_arn)
    yield from _place(patient, "final bucket", final, f"{PREFIX}FINAL_BUCKET")
    answer, problem = looked_up(
        "final bucket", "notification", "s3:GetBucketNotification", lambda: _notification(s3, final)
    )
    loops = problem or keeps_quiet(answer or {}, bucket=final, queue_arn=queue_arn)
    yield loops
    yield from _writing(patient, final, may_write=loops.result != "failed")
    for bucket in settings.allowed_buckets:
        yield from _place(patient, f"bucket {bucket}", bucket, f"{PREFIX}ALLOWED_BUCKETS")
        yield from _reading(patient, f"bucket {bucket}", bucket, absent)
    yield _clock(s3, source, now)


def _notification(s3: Any, bucket: str) -> dict[str, Any]:
    answer = dict(s3.get_bucket_notification_configuration(Bucket=bucket))
    answer.pop("ResponseMetadata", None)
    return answer


def _place(patient: Patient, area: str, bucket: str, setting: str) -> Iterator[Check]:
    """Whether it exists and lies in the model's region, since a model reads images of its own region only; its versioning."""
    s3, region = patient.client("s3"), patient.settings.region
    try:
        answer: Mapping[str, Any] = s3.head_bucket(Bucket=bucket)
        code = ""
    except ClientError as err:
        answer, code = err.response, error_code(err)
    except BotoCoreError as err:
        yield Check(area, "bucket", "failed", str(err))
        return
    its_region = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-bucket-region", "")
    another = f"{bucket}-{region}"[:63]
    if code in ("404", "NoSuchBucket"):
        make = typed("aws", "s3", "mb", f"s3://{bucket}", "--region", region)
        yield Check(area, "bucket", "failed", f"{bucket} does not exist", make)
    elif its_region and its_region != region:
        make = typed("aws", "s3", "mb", f"s3://{another}", "--region", region)
        found = f"{bucket} lies in {its_region}, the model in {region}: use a bucket there, and set {setting}"
        yield Check(area, "region", "failed", found, make)
    elif code in DENIED:
        yield Check(area, "region", "not tried", f"{bucket}: these credentials may not look (s3:ListBucket)")
    elif code:
        yield Check(area, "bucket", "failed", f"{bucket}: {code}")
    else:
        where = f"in {its_region}" if its_region else "in a region that S3 does not tell"
        yield Check(area, "region", "ok" if its_region else "not tried", f"{bucket} is there, {where}")
        versioning, problem = looked_up(
            area, "versioning", "s3:GetBucketVersioning", lambda: s3.get_bucket_versioning(Bucket=bucket)
        )
        yield problem or Check(area, "versioning", "ok", str((versioning or {}).get("Status", "off")).lower())


def _reading(patient: Patient, area: str, bucket: str, absent: str) -> Iterator[Check]:
    """What reads images. A key that is not there is asked for: without s3:ListBucket S3 says AccessDenied of it either way."""
    s3, objects = patient.client("s3"), f"{patient.bucket_arn(bucket)}/*"
    listing = tried(
        patient,
        area,
        "s3:ListBucket",
        patient.bucket_arn(bucket),
        lambda: s3.list_objects_v2(Bucket=bucket, MaxKeys=1),
    )
    yield listing
    # No version has the id null but what was written before versioning: it is not there either.
    key, version = {"Bucket": bucket, "Key": absent}, {"VersionId": "null"}
    for action, call in (
        ("s3:GetObject", lambda: s3.get_object(**key)),
        ("s3:GetObjectVersion", lambda: s3.get_object(**key, **version)),
        ("s3:GetObjectTagging", lambda: s3.get_object_tagging(**key)),
        ("s3:GetObjectVersionTagging", lambda: s3.get_object_tagging(**key, **version)),
    ):
        found = tried(patient, area, action, objects, call, expected=GONE)
        if found.result == "failed" and listing.result == "failed":
            found = Check(area, action, "not tried", "cannot be told without s3:ListBucket")
        yield found


def _removing(patient: Patient, bucket: str, absent: str) -> Iterator[Check]:
    """Deleting a version that is not there does nothing; deleting a key leaves a marker where versions are kept."""
    s3, area, objects = patient.client("s3"), "source bucket", f"{patient.bucket_arn(bucket)}/*"
    if patient.settings.originals == "leave":
        found = f"not needed: {PREFIX}ORIGINALS=leave"
        yield Check(area, "s3:DeleteObject", "not tried", found)
        return
    answer, problem = looked_up(
        area, "s3:DeleteObject", "s3:GetBucketVersioning", lambda: s3.get_bucket_versioning(Bucket=bucket)
    )
    if answer is None or answer.get("Status"):
        found = problem.found if problem else "versions are kept: even of what is not there a marker would stay"
        yield Check(area, "s3:DeleteObject", "not tried", found)
    else:
        yield tried(
            patient,
            area,
            "s3:DeleteObject",
            objects,
            lambda: s3.delete_object(Bucket=bucket, Key=absent),
            expected=GONE,
        )
    yield tried(
        patient,
        area,
        "s3:DeleteObjectVersion",
        objects,
        lambda: s3.delete_object(Bucket=bucket, Key=absent, VersionId="null"),
        expected=GONE,
    )


def _writing(patient: Patient, bucket: str, *, may_write: bool) -> Iterator[Check]:
    """A small object is written, read, tagged, copied and deleted."""
    s3, area, objects = patient.client("s3"), "final bucket", f"{patient.bucket_arn(bucket)}/*"
    yield tried(
        patient,
        area,
        "s3:ListBucket",
        patient.bucket_arn(bucket),
        lambda: s3.list_objects_v2(Bucket=bucket, MaxKeys=1),
    )
    probe, copy = {"Bucket": bucket, "Key": PROBE}, {"Bucket": bucket, "Key": COPY}
    if not may_write:
        yield Check(area, "s3:PutObject", "not tried", "it would announce an upload; mend the notification first")
        return
    written = tried(patient, area, "s3:PutObject", objects, lambda: s3.put_object(**probe, Body=b"is this written?"))
    yield written
    if written.result == "ok":
        yield _conditions(s3, probe)
    tags = {"TagSet": [{"Key": "written-by", "Value": "doctor"}]}
    for action, call in (
        ("s3:GetObject", lambda: s3.get_object(**probe)),
        ("s3:PutObjectTagging", lambda: s3.put_object_tagging(**probe, Tagging=tags)),
        ("s3:GetObjectTagging", lambda: s3.get_object_tagging(**probe)),
    ):
        yield tried(patient, area, action, objects, call, expected=GONE)
    if written.result == "ok":
        copied = tried(patient, area, "s3:PutObject", objects, lambda: s3.copy_object(**copy, CopySource=probe))
        yield Check(area, "copying", copied.result, copied.found, copied.mend)

    def delete() -> None:
        for each in (probe, copy):
            s3.delete_object(**each)

    yield tried(patient, area, "s3:DeleteObject", objects, delete)


def _conditions(s3: Any, probe: Mapping[str, str]) -> Check:
    """Two runs keep out of each other's way by conditional writes: the lease. What is there must not be written over."""
    area, name = "final bucket", "conditional writes"
    try:
        s3.put_object(**probe, Body=b"is this written over?", IfNoneMatch="*")
    except ClientError as err:
        if is_condition_failed(err):
            return Check(area, name, "ok", "what is there is not written over")
        return Check(area, name, "failed", f"{error_code(err)}: {error_message(err)}")
    return Check(area, name, "failed", "S3 wrote over what is there: two runs could both take the lease")


def announces(configuration: Mapping[str, Any], *, bucket: str, queue_arn: str) -> Check:
    """Whether the inbox's notification tells the queue of every upload.

    :param configuration: as GetBucketNotificationConfiguration answers.
    """
    area, name = "source bucket", "notification"
    ours = [each for each in configuration.get("QueueConfigurations", []) if each.get("QueueArn") == queue_arn]
    if not ours:
        elsewhere = [each["TopicArn"] for each in configuration.get("TopicConfigurations", [])]
        elsewhere += ["EventBridge"] if "EventBridgeConfiguration" in configuration else []
        if elsewhere:
            found = f"uploads are announced to {', '.join(elsewhere)}; whether that reaches the queue was not looked at"
            return Check(area, name, "not tried", found)
        found = f"uploads are not announced to {queue_arn}: nothing is ever labelled"
        return Check(area, name, "failed", found, _configure(configuration, bucket, queue_arn))
    complete = [each for each in ours if CREATED in each["Events"] or set(each["Events"]) >= EACH_CREATED]
    if not complete:
        found = (
            f"only {', '.join(sorted({event for each in ours for event in each['Events']}))}: other uploads are lost"
        )
        return Check(area, name, "failed", found, _configure(configuration, bucket, queue_arn))
    rules = [_rules(each) for each in complete]
    if {} in rules:
        return Check(area, name, "ok", f"every upload is announced to {queue_arn}")
    if all("suffix" in each for each in rules):
        suffixes = ", ".join(sorted({each["suffix"] for each in rules}))
        found = f"only keys that end in {suffixes} are announced, and S3 compares with case"
        return Check(area, name, "failed", found, _configure(configuration, bucket, queue_arn))
    prefixes = ", ".join(sorted({each["prefix"] for each in rules if "suffix" not in each}))
    found = f"only keys that begin with {prefixes} are announced; nothing else is labelled"
    return Check(area, name, "warning", found, _configure(configuration, bucket, queue_arn))


def keeps_quiet(configuration: Mapping[str, Any], *, bucket: str, queue_arn: str) -> Check:
    """Whether results stay out of the queue: each would be a message that announces no image."""
    area, name = "final bucket", "notification"
    others = [each for each in configuration.get("QueueConfigurations", []) if each.get("QueueArn") != queue_arn]
    if len(others) == len(configuration.get("QueueConfigurations", [])):
        return Check(area, name, "ok", "results are not announced to the queue")
    without = {**configuration, "QueueConfigurations": others}
    found = f"it announces to {queue_arn}, too: every result becomes a message for nothing"
    return Check(area, name, "failed", found, _put(bucket, without))


def _rules(configuration: Mapping[str, Any]) -> dict[str, str]:
    """A notification's filter; empty where it has none."""
    rules: Sequence[Mapping[str, str]] = configuration.get("Filter", {}).get("Key", {}).get("FilterRules", [])
    return {rule["Name"].lower(): rule["Value"] for rule in rules if rule["Value"]}


def _configure(configuration: Mapping[str, Any], bucket: str, queue_arn: str) -> str:
    """The command that announces every upload, and leaves the other notifications: it replaces all of them at once."""
    others = [each for each in configuration.get("QueueConfigurations", []) if each.get("QueueArn") != queue_arn]
    return _put(
        bucket, {**configuration, "QueueConfigurations": [*others, {"QueueArn": queue_arn, "Events": [CREATED]}]}
    )


def _put(bucket: str, configuration: Mapping[str, Any]) -> str:
    return typed(
        *("aws", "s3api", "put-bucket-notification-configuration", "--bucket", bucket),
        *("--notification-configuration", json.dumps(configuration)),
    )


def _clock(s3: Any, bucket: str, now: Callable[[], datetime]) -> Check:
    """This machine's clock against S3's, to a second."""
    before = now()
    answer, problem = looked_up("clock", "clock", "s3:ListBucket", lambda: s3.head_bucket(Bucket=bucket))
    date = (answer or {}).get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    if problem or not date:
        return Check("clock", "clock", "not tried", problem.found if problem else "S3 did not say what time it is")
    theirs = parsedate_to_datetime(date)
    # The header has whole seconds; it was made between these two.
    skew = max((before - theirs).total_seconds() - 1, (theirs - now()).total_seconds(), 0.0)
    if skew <= SKEW_SECONDS:
        return Check("clock", "clock", "ok", "agrees with S3's")
    found = f"{skew:.0f} s off S3's: leases and holds end at the wrong time; all machines of Airflow need the same"
    result = "warning" if skew <= MOST_SKEW_SECONDS else "failed"
    return Check("clock", "clock", result, found, typed("sudo", "timedatectl", "set-ntp", "true"))  # type: ignore[arg-type]
