"""Does it all add up? What was uploaded against what was published, from buckets, queue and model alone.

``python -m include.audit`` prints what it finds and changes nothing. Exit status: 0 all well, 1 something is wrong, 2 it could
not be audited. The stages are not asked: keys are told anew (`include.audit_places`), and only the schema and the settings are
shared with what is judged.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from include.audit_checks import find_unprocessed, survey
from include.audit_places import Digests, are_in, digest, listed
from include.audit_records import read_object
from include.errors import LabellingError, TerminalError, error_code
from include.settings import Settings, load_settings

GRACE_MINUTES: Final = 60.0
# Every kind of finding: what is wrong, and what to do.
KINDS: Final[dict[str, str]] = {
    "lost": "an image of a batch or a row whose original is nowhere: look for who deleted it; a versioned bucket still has it",
    "unprocessed": "uploads that no batch and no row knows, as if their event was lost: --queue-unprocessed has them labelled",
    "half_done": "batches whose results are paid but not published to the end: the next run does it",
    "done_without_results": "finished batches with images that have no row: docs/runbook.md says how to put a batch back",
    "row_without_document": "published rows whose JSON document is gone: docs/runbook.md says how to put a batch back",
    "document_without_row": "JSON documents of images that have no row: was a Parquet file deleted?",
    "document_outdated": "JSON documents of an image whose name a newer one has, which was labelled later",
    "row_twice": "images with more than one row of the same analysis and model: paid or counted twice",
    "pending_twice": "images that are pending more than once: the next run takes the second one out",
    "original_twice": "images whose original lies in two places: delete one",
    "original_without_row": "originals below images/ that have no row: was a Parquet file deleted?",
    "results_without_batch": "Parquet files of batches that are neither pending nor done",
    "checkpoints_without_batch": "checkpoints of batches that do not exist: labels may have been paid for in vain",
    "staged_left": "converted copies of batches that are not pending: they may be deleted",
    "quarantined_without_reason": "images in quarantine without their .error.json",
    "reason_without_file": "images in quarantine of which only the .error.json is left",
    "unreadable": "objects that are not what their name says: mend them and put them back, or delete them",
    "dead_letters": "messages in the dead-letter queue: those with a reason announce no image that was understood",
    "model_left_on": "the model is on, and billed, without a live lease: stop it (stop_idle_model does)",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of thing that does not add up: how often, and the first few by name."""

    kind: str
    count: int = 0
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit found; ``findings`` has every kind, most with a count of 0.

    ``overwritten``: images that a newer upload replaced before they could be moved. ``perhaps_announced``: uploads that nothing
    knows, but so many messages are in the queue (None of ``dead_letters``: that queue is none, or may not be looked into).
    ``has_changed``: batches came or went meanwhile, so a finding may be something on its way.
    ``unprocessed``: eight bytes for each unprocessed upload, for `queue_unprocessed`.
    """

    audited_at: datetime
    inbox_images: int
    pending_batches: int
    pending_images: int
    published_rows: int
    filed_originals: int
    overwritten: int
    perhaps_announced: int
    queue_messages: int
    dead_letters: int | None
    model_status: str
    lease_holder: str
    lease_expires_at: datetime | None
    has_changed: bool
    findings: tuple[Finding, ...]
    unprocessed: Digests = field(repr=False, compare=False)

    @property
    def is_clean(self) -> bool:
        return not any(finding.count for finding in self.findings)

    def count(self, kind: str) -> int:
        return sum(finding.count for finding in self.findings if finding.kind == kind)


@dataclass(frozen=True, slots=True)
class _Rights:
    """Who may use the model: the lease, and the hold of somebody who tries it by hand."""

    lease_holder: str = ""
    lease_expires_at: datetime | None = None
    hold_expires_at: datetime | None = None
    problem: str = ""

    def is_leased(self, now: datetime) -> bool:
        return self.lease_expires_at is not None and now < self.lease_expires_at

    def is_held(self, now: datetime) -> bool:
        return self.hold_expires_at is not None and now < self.hold_expires_at


def audit(
    s3: Any, sqs: Any, rekognition: Any, settings: Settings, *, now: datetime, grace_minutes: float = GRACE_MINUTES
) -> Audit:
    """Reconcile everything, and change nothing.

    Takes about 70 bytes of memory an image, on top of 250 MB for the batches it has in hand, and four listing requests for a
    thousand images: for a million, about 330 MB and a minute of one processor (measured with 200,000).

    :param now: aware UTC, not behind S3's clock.
    :param grace_minutes: for so long an upload may wait before somebody must know of it.
    :raises TerminalError: where the model does not exist.
    :raises botocore.exceptions.ClientError: where something may not be read; then nothing is known.
    """
    model_status = _model_status(rekognition, settings)
    rights = _read_rights(s3, settings)
    world = survey(s3, settings, now=now, grace_minutes=grace_minutes, is_in_use=rights.is_leased(now))
    unprocessed = find_unprocessed(world)
    messages, dead_letters = _count_messages(sqs, settings.queue_url)
    counts, examples = world.notes.counts, world.notes.examples
    perhaps_announced = len(unprocessed) if len(unprocessed) <= messages else 0
    if perhaps_announced:
        counts["unprocessed"] = 0
    counts["dead_letters"] = dead_letters or 0
    if rights.problem:
        world.notes.add("unreadable", rights.problem)
    # The status was read before the lease, which a run takes before it starts the model.
    is_on = model_status in ("STARTING", "RUNNING")
    is_another_ones = settings.foreign_model == "warn" and rights == _Rights()
    if is_on and not (rights.is_leased(now) or rights.is_held(now) or is_another_ones):
        until = f", the last one until {rights.lease_expires_at:%Y-%m-%d %H:%M} UTC" if rights.lease_expires_at else ""
        world.notes.add("model_left_on", f"{settings.project_version_arn} is {model_status} without a lease{until}")
    return Audit(
        audited_at=now,
        inbox_images=world.places.inbox,
        pending_batches=len(world.pending),
        pending_images=world.images_pending,
        published_rows=world.images_published,
        filed_originals=world.places.filed,
        overwritten=world.overwritten,
        perhaps_announced=perhaps_announced,
        queue_messages=messages,
        dead_letters=dead_letters,
        model_status=model_status,
        lease_holder=rights.lease_holder,
        lease_expires_at=rights.lease_expires_at,
        has_changed=world.has_changed,
        findings=tuple(
            Finding(kind, counts[kind], tuple(examples.get(kind, ())) if counts[kind] else ()) for kind in KINDS
        ),
        unprocessed=unprocessed,
    )


def _model_status(rekognition: Any, settings: Settings) -> str:
    model = settings.model
    answer = rekognition.describe_project_versions(ProjectArn=settings.project_arn, VersionNames=[model.version])
    for description in answer["ProjectVersionDescriptions"]:
        return str(description["Status"])
    raise TerminalError(f"Project {settings.project_arn} has no version {model.version!r}: was the model deleted?")


def _read_rights(s3: Any, settings: Settings) -> _Rights:
    key = f"state/model/{settings.model.project}/{settings.model.version}.json"
    body = read_object(s3, settings.final_bucket, key)
    try:
        state = json.loads(body) if body else {}
        lease, hold = state.get("lease") or {}, state.get("hold") or {}
        return _Rights(str(lease.get("holder", "")), _time(lease), _time(hold))
    except (ValueError, TypeError, AttributeError) as err:
        return _Rights(problem=f"{key} holds no state of the model ({err}): taken as no lease")


def _time(right: dict[str, Any]) -> datetime | None:
    if "expires_at" not in right:
        return None
    time = datetime.fromisoformat(right["expires_at"])
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _count_messages(sqs: Any, queue: str) -> tuple[int, int | None]:
    """Messages in the queue and in its dead-letter queue, as SQS counts them: up to a minute late, and not to the last one
    (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html)."""
    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
    policy = json.loads(attributes.get("RedrivePolicy") or "{}")
    if "deadLetterTargetArn" not in policy:
        return _messages(attributes), None
    account, name = policy["deadLetterTargetArn"].split(":")[-2:]
    try:
        dead = sqs.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"]
        return _messages(attributes), _messages(
            sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["All"])["Attributes"]
        )
    except ClientError as err:
        if not error_code(err).startswith("AccessDenied"):
            raise
        return _messages(attributes), None


def _messages(attributes: dict[str, str]) -> int:
    return sum(int(attributes.get(f"ApproximateNumberOfMessages{which}", 0)) for which in ("", "NotVisible", "Delayed"))


def queue_unprocessed(s3: Any, settings: Settings, found: Audit) -> list[str]:
    """Write batches of the uploads that an audit found unprocessed; returns their keys. Doing it again writes the same ones.

    The one thing here that is no judgement, and the one that the pipeline's own code does.
    """
    from include.images import ImageRef
    from include.selection import queue_images

    bucket = settings.source_bucket
    images = (
        ImageRef(bucket, item.key, item.etag, item.modified, size_bytes=item.size_bytes)
        for item in listed(s3, bucket)
        if are_in(found.unprocessed, [digest(bucket, item.key, item.etag)])[0]
    )
    return queue_images(s3, settings, images, request_id="")


def to_json(found: Audit) -> str:
    """An audit for scripts: its counts, ``is_clean``, and the findings that there are."""
    values = {name: value for name, value in asdict(found).items() if name not in ("unprocessed", "findings")}
    findings = {finding.kind: asdict(finding) for finding in found.findings}
    return json.dumps(values | {"is_clean": found.is_clean, "findings": findings}, default=datetime.isoformat, indent=1)


def render(found: Audit) -> str:
    """An audit for people: what there is, then what is wrong, and what to do about it."""
    lease = "no lease"
    if found.lease_expires_at:
        runs = "runs" if found.audited_at < found.lease_expires_at else "ran"
        lease = f"the lease of {found.lease_holder} {runs} until {found.lease_expires_at:%Y-%m-%d %H:%M} UTC"
    there = {
        "images in the inbox": f"{found.inbox_images:,}",
        "images pending": f"{found.pending_images:,} in {found.pending_batches:,} batches",
        "rows published": f"{found.published_rows:,}",
        "originals filed": f"{found.filed_originals:,}",
        "messages in the queue": f"about {found.queue_messages:,}",
        "the model": f"{found.model_status}, {lease}",
    }
    if found.overwritten:
        there["written over"] = f"{found.overwritten:,}, by newer uploads, before they could be moved"
    if found.perhaps_announced:
        there["not known yet"] = f"{found.perhaps_announced:,} uploads, which messages in the queue may announce"
    lines = [
        f"Audit of {found.audited_at:%Y-%m-%d %H:%M} UTC",
        *(f"  {name:22} {what}" for name, what in there.items()),
    ]
    wrong = [finding for finding in found.findings if finding.count]
    for finding in wrong:
        lines += ["", f"✗ {finding.count:>6,}  {finding.kind}: {KINDS[finding.kind]}"]
        lines += [f"           {example}" for example in finding.examples]
        if finding.examples and finding.count > len(finding.examples):
            lines.append(f"           and {finding.count - len(finding.examples):,} more")
    lines += ["", f"✗ {len(wrong)} of {len(KINDS)} checks found something." if wrong else "✓ All of it adds up."]
    if wrong and found.has_changed:
        lines.append(
            "  Batches came or went meanwhile: what is on its way may look wrong. Audit again when no run is at work."
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m include.audit", description=__doc__)
    parser.add_argument(
        "--grace-minutes", type=float, default=GRACE_MINUTES, help="how long an upload may wait before it is missed"
    )
    parser.add_argument("--json", action="store_true", help="for scripts")
    parser.add_argument(
        "--queue-unprocessed", action="store_true", help="write a pending batch of uploads whose event was lost"
    )
    options = parser.parse_args(arguments)
    try:
        settings = load_settings()
        config = Config(max_pool_connections=settings.threads)
        clients = {name: boto3.client(name, settings.region, config=config) for name in ("s3", "sqs", "rekognition")}
        found = audit(
            clients["s3"],
            clients["sqs"],
            clients["rekognition"],
            settings,
            now=datetime.now(UTC),
            grace_minutes=options.grace_minutes,
        )
        sys.stdout.write((to_json(found) if options.json else render(found)) + "\n")
        if options.queue_unprocessed and len(found.unprocessed):
            keys = queue_unprocessed(clients["s3"], settings, found)
            sys.stderr.write(f"Queued {len(found.unprocessed):,} images in {len(keys):,} batches, such as {keys[0]}.\n")
    except (LabellingError, ClientError, BotoCoreError) as err:
        sys.stderr.write(f"Could not be audited, so nothing is known: {err}\n")
        return 2
    return 0 if found.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
