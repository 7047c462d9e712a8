"""The buckets: are they there, in the model's region, and may they be used? And what time does S3 have?"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from include.cli.doctor_checks import DENIED, Check, Patient, looked_up, tried, typed
from include.cli.doctor_notifications import announces, keeps_quiet
from include.errors import error_code, error_message
from include.objects import is_condition_failed
from include.settings import PREFIX

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
    if (yield from _place(patient, "source bucket", settings.source_bucket, f"{PREFIX}SOURCE_BUCKET")):
        yield from _source(patient, settings.source_bucket, queue_arn, absent)
    if (yield from _place(patient, "final bucket", settings.final_bucket, f"{PREFIX}FINAL_BUCKET")):
        yield from _final(patient, settings.final_bucket, queue_arn)
    for bucket in settings.allowed_buckets:
        if (yield from _place(patient, f"bucket {bucket}", bucket, f"{PREFIX}ALLOWED_BUCKETS")):
            yield from _reading(patient, f"bucket {bucket}", bucket, absent)
    yield _clock(s3, settings.source_bucket, now)


def _source(patient: Patient, bucket: str, queue_arn: str, absent: str) -> Iterator[Check]:
    area, s3 = "source bucket", patient.client("s3")
    yield from _reading(patient, area, bucket, absent)
    yield from _removing(patient, bucket, absent)
    found = "it would announce an upload; only `redrive` needs it, not the pipeline"
    yield Check(area, "s3:PutObject", "not tried", found)
    answer, problem = looked_up(area, "notification", "s3:GetBucketNotification", lambda: _notification(s3, bucket))
    yield problem or announces(answer or {}, bucket=bucket, queue_arn=queue_arn)


def _final(patient: Patient, bucket: str, queue_arn: str) -> Iterator[Check]:
    area, s3 = "final bucket", patient.client("s3")
    answer, problem = looked_up(area, "notification", "s3:GetBucketNotification", lambda: _notification(s3, bucket))
    loops = problem or keeps_quiet(answer or {}, bucket=bucket, queue_arn=queue_arn)
    yield loops
    yield from _writing(patient, bucket, may_write=loops.result != "failed")


def _notification(s3: Any, bucket: str) -> dict[str, Any]:
    answer = dict(s3.get_bucket_notification_configuration(Bucket=bucket))
    answer.pop("ResponseMetadata", None)
    return answer


def _place(patient: Patient, area: str, bucket: str, setting: str) -> Generator[Check, None, bool]:
    """Whether it is there, and in the model's region, which a model reads images of; returns whether more can be looked at."""
    s3, region = patient.client("s3"), patient.settings.region
    try:
        answer: Mapping[str, Any] = s3.head_bucket(Bucket=bucket)
        code = ""
    except ClientError as err:
        answer, code = err.response, error_code(err)
    except BotoCoreError as err:
        yield Check(area, "bucket", "failed", str(err))
        return False
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
    return not code or code in DENIED


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
