"""Does the demo's result hold? Judged from the buckets, the queues and the bill, not from what the pipeline says of itself."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import httpx

from include.audit import audit
from include.settings import Settings
from local_stack import seed
from local_stack.stack import Stack
from local_stack.uploads import Upload


@dataclass
class Findings:
    """What was found; ``broken`` lists every check that does not hold, in words."""

    uploads: list[Upload]
    folder: Path
    report: dict[str, Any]
    statuses: Counter[str] = field(default_factory=Counter)
    reasons: list[tuple[str, str, str]] = field(default_factory=list)
    top_labels: list[tuple[str, int, float]] = field(default_factory=list)
    billed: dict[str, Any] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)

    def expect(self, holds: bool, what: str, otherwise: str) -> None:
        if holds:
            self.held.append(what)
        else:
            self.broken.append(f"{what}: {otherwise}")


# The one SQL query that the demo shows; reads what Athena would read.
TOP_LABELS_SQL = """\
SELECT label.name, count(*) AS boxes, round(avg(label.confidence), 1) AS confidence
FROM (
  SELECT unnest(labels) AS label
  FROM '{folder}/results/image_labels/**/*.parquet'
)
WHERE label.passes
GROUP BY label.name
ORDER BY boxes DESC, label.name"""


def check(
    stack: Stack, uploads: list[Upload], *, run_state: str, report: dict[str, Any], settings: Settings
) -> Findings:
    """Copy the final bucket into ``final-bucket/`` and hold everything against what was uploaded."""
    folder = stack.site.home / "final-bucket"
    s3 = stack.client("s3")
    final = _copy_bucket(s3, seed.FINAL_BUCKET, folder)
    findings = Findings(uploads, folder, report)
    findings.expect(run_state == "success", "the run succeeded", f"it is {run_state}; see {stack.site.logs}")
    if any(key.startswith("results/image_labels/") for key in final):
        _check_outcomes(findings)
        findings.top_labels = duckdb.sql(TOP_LABELS_SQL.format(folder=folder)).fetchall()
    else:
        findings.broken.append("there are results: none were written")
    _check_places(findings, s3, folder)
    _check_model(findings, stack, settings.project_version_arn)
    _check_queues(findings, stack)
    _check_audit(findings, stack, settings)
    return findings


def _check_outcomes(findings: Findings) -> None:
    rows = duckdb.sql(
        "SELECT source_key, status, error_message FROM "
        f"read_parquet('{findings.folder}/results/image_labels/**/*.parquet', hive_partitioning=true)"
    ).fetchall()
    count = Counter(key for key, _, _ in rows)
    wrong = [upload.key for upload in findings.uploads if count[upload.key] != 1]
    findings.expect(
        not wrong and len(rows) == len(findings.uploads),
        "each upload has exactly one outcome",
        f"{len(rows)} rows for {len(findings.uploads)} uploads; not one: {wrong[:5]}",
    )
    status = {key: state for key, state, _ in rows}
    surprises = [(u.key, status.get(u.key), u.expected) for u in findings.uploads if status.get(u.key) != u.expected]
    findings.expect(not surprises, "and the right one", f"{surprises[:5]}")
    findings.statuses = Counter(status.values())
    findings.reasons = [(state, key, message or "") for key, state, message in rows if state != "LABELLED"]
    documents = sum(1 for file in (findings.folder / "labels").rglob("*.json") if file.is_file())
    findings.expect(
        documents == findings.statuses["LABELLED"],
        "each labelled image has its JSON document",
        f"{documents} documents",
    )


def _check_places(findings: Findings, s3: Any, folder: Path) -> None:
    inbox = {
        item["Key"]: s3.get_object(Bucket=seed.SOURCE_BUCKET, Key=item["Key"])["Body"].read()
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=seed.SOURCE_BUCKET)
        for item in page.get("Contents", [])
    }
    lost = []
    for upload in findings.uploads:
        places = [inbox[upload.key]] if upload.key in inbox else []
        for prefix in ("images", "quarantine"):
            file = folder / prefix / seed.SOURCE_BUCKET / upload.key
            places += [file.read_bytes()] if file.is_file() else []
        wanted = [] if upload.deleted_before_run else [_digest(upload.body)]
        if [_digest(body) for body in places] != wanted:
            lost.append(upload.key)
    findings.expect(not lost, "every original lies in exactly one place, unchanged", f"not so: {lost[:5]}")
    findings.expect(not inbox, "the inbox is empty", f"{len(inbox)} left, such as {list(inbox)[:3]}")


def _check_model(findings: Findings, stack: Stack, version_arn: str) -> None:
    project_arn = version_arn.partition("/version/")[0]
    versions = stack.client("rekognition").describe_projects(ProjectNames=[seed.PROJECT])["ProjectDescriptions"]
    described = stack.client("rekognition").describe_project_versions(
        ProjectArn=versions[0]["ProjectArn"], VersionNames=[seed.VERSION]
    )
    status = described["ProjectVersionDescriptions"][0]["Status"]
    findings.expect(status == "STOPPED", "the model is STOPPED", f"it is {status} ({project_arn})")
    findings.billed = httpx.get(f"{stack.site.aws_url}/_local_aws/meter").json()


def _check_queues(findings: Findings, stack: Stack) -> None:
    sqs = stack.client("sqs")
    for name, wanted in ((seed.QUEUE, 0), (seed.DEAD_LETTER_QUEUE, 1)):
        counters = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        url = seed.queue_url(stack.site, name)
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(counters))["Attributes"]
        found = sum(int(attributes[counter]) for counter in counters)
        title = "the queue is empty" if not wanted else "the dead-letter queue holds the one message that was no upload"
        findings.expect(found == wanted, title, f"{name} holds {found} messages")


def _check_audit(findings: Findings, stack: Stack, settings: Settings) -> None:
    """What the pipeline's own auditor says; of the dead letter it is told already."""
    s3, sqs, rekognition = (stack.client(service) for service in ("s3", "sqs", "rekognition"))
    found = audit(s3, sqs, rekognition, settings, now=datetime.now(UTC))
    wrong = [f"{each.kind} {each.count}" for each in found.findings if each.count and each.kind != "dead_letters"]
    findings.expect(
        not wrong, "the auditor, who shares no code with the pipeline, finds nothing amiss", ", ".join(wrong)
    )


def _copy_bucket(s3: Any, bucket: str, folder: Path) -> list[str]:
    keys = []
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for item in page.get("Contents", []):
            file = folder / item["Key"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read())
            keys.append(item["Key"])
    return keys


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
