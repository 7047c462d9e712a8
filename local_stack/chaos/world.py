"""What stories happen in: one local AWS with a trained model, and for each story buckets and a queue of its own.

The verdict asks AWS alone: the buckets, the queue, the model and what it was paid for. The auditor is asked too.
"""

from __future__ import annotations

import io
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import pyarrow.parquet as pq

from include.archive.archives import Archive, queue_archive
from include.archive.request import archive_id
from include.audit import audit
from include.file_lists import visible_files
from include.images import ImageRef
from include.model_state import ModelState, ModelStateStore
from include.parallel import in_slices
from include.schema import ANALYSIS
from include.settings import Settings
from local_aws.process import LocalAws
from local_stack import seed
from local_stack.chaos.model_stages import ACTIVE
from local_stack.environment import ACCOUNT, REGION
from local_stack.scenes import HELD_OUT_SEEDS, draw_scene, encode

QUICK: Final = {
    "start_seconds": 0.05,
    "stop_seconds": 0.05,
    "tps_per_unit": 1000,
    "account_tps": 1000,
    "control_tps": 1000,
    "inference_latency": 0,
    "inference_latency_spread": 0,
    "describe_lag": 0,
}
# So an undisturbed run does not spend its time finding the model's pace.
KNOWN: Final = ModelState(images_per_second=100.0)
DIFFERENT_IMAGES: Final = 8
PATIENCE: Final = 100
SETTLING_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a story left. ``untidy``: anything else that the auditor or the queue has to say."""

    lost: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()
    left_running: tuple[str, ...] = ()
    untidy: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.doubled or self.left_running or self.untidy)

    def __str__(self) -> str:
        kinds = {"lost": self.lost, "doubled": self.doubled, "left running": self.left_running, "untidy": self.untidy}
        return "; ".join(f"{kind}: {', '.join(found)}" for kind, found in kinds.items() if found) or "clean"


class Theatre:
    """Where stories are played, one after the other: a server, its model, and images for all of them."""

    def __init__(self, aws: LocalAws) -> None:
        self.aws = aws
        self.s3, self.sqs, self.rekognition = (_patient(aws, name) for name in ("s3", "sqs", "rekognition"))
        seed.create_buckets_and_queues(self.s3, self.sqs)
        self.project_arn, self.version_arn = seed.train_model(self.s3, self.rekognition)
        seed.wait_until_trained(self.rekognition, self.project_arn)
        scenes = [draw_scene(each, size=(160, 120)) for each in HELD_OUT_SEEDS[:DIFFERENT_IMAGES]]
        self.images = [encode(scene.image, "JPEG") for scene in scenes]
        self._worlds = 0

    def world(self) -> World:
        """Empty buckets, an empty queue, the model off, no faults."""
        self.aws.clear_faults()
        self.aws.settings(**QUICK)
        self.aws.set_model(self.version_arn, status="STOPPED")
        self._worlds += 1
        return World(self, self._worlds)


@contextmanager
def a_theatre() -> Iterator[Theatre]:
    with LocalAws() as aws:
        yield Theatre(aws)


@dataclass
class World:
    """One story's buckets and queue. ``paid_again``: images that may have been paid for once more than they are many.

    ``nonsense``: messages that announce nothing, which belong into the dead-letter queue, at least once.
    """

    theatre: Theatre
    number: int
    uploads: dict[str, bytes] = field(default_factory=dict)
    bad: set[str] = field(default_factory=set)
    archived: set[str] = field(default_factory=set)
    paid_again: int = 0
    nonsense: int = 0

    def __post_init__(self) -> None:
        s3, sqs = self.theatre.s3, self.theatre.sqs
        self.source, self.final, queue = (f"{name}-{self.number}" for name in ("inbox", "final", "queue"))
        self.stock = f"stock-{self.number}"
        for bucket in (self.source, self.final, self.stock):
            s3.create_bucket(Bucket=bucket)
        dead = f"{queue}-dead"
        sqs.create_queue(QueueName=dead)
        redrive = {"deadLetterTargetArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{dead}", "maxReceiveCount": 50}
        sqs.create_queue(QueueName=queue, Attributes={"RedrivePolicy": json.dumps(redrive)})
        self.queue_url = f"{self.theatre.aws.endpoint_url}/{ACCOUNT}/{queue}"
        notification = {"QueueArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}", "Events": ["s3:ObjectCreated:*"]}
        s3.put_bucket_notification_configuration(
            Bucket=self.source, NotificationConfiguration={"QueueConfigurations": [notification]}
        )
        self.settings = Settings(
            source_bucket=self.source,
            final_bucket=self.final,
            queue_url=self.queue_url,
            allowed_buckets=(self.stock,),
            region=REGION,
            project_arn=self.theatre.project_arn,
            project_version_arn=self.theatre.version_arn,
            batch_size=3,
            batch_attempts=50,
            threads=2,
            inference_threads=4,
        )
        self.state = ModelStateStore.of(s3, self.final, self.settings.model)
        self.state.update(lambda _: KNOWN)
        self._served_before = self._calls_served()

    def upload(self, count: int, *, bad: int = 1, doubles: int = 1) -> None:
        """Upload so many images; the last ``bad`` of them are none, and the first ``doubles`` are uploaded twice."""
        first = len(self.uploads)
        for number in range(first, first + count):
            key = f"shop + {number % 3}/image {number:03d}.jpg"
            is_bad = number >= first + count - bad
            # Bytes behind a JPEG's end are nobody's business, and make each one another image.
            body = (
                b"no image %d" % number if is_bad else self.theatre.images[number % DIFFERENT_IMAGES] + b"%d" % number
            )
            for _ in range(2 if number < first + doubles else 1):
                self.theatre.s3.put_object(Bucket=self.source, Key=key, Body=body)
            self.uploads[key] = body
            if is_bad:
                self.bad.add(key)

    def queue_archive(self, batches: int) -> str:
        """An archive of so many batches, of which a run takes one; its id."""
        now, images = datetime.now(UTC), []
        for number in range(batches * self.settings.batch_size):
            key, body = f"{number:03d}.jpg", self.theatre.images[number % DIFFERENT_IMAGES] + b"archived %d" % number
            etag = self.theatre.s3.put_object(Bucket=self.stock, Key=key, Body=body)["ETag"]
            images.append(ImageRef(self.stock, key, etag.strip('"'), now, size_bytes=len(body), origin="archive"))
            self.archived.add(key)
        # Said to be as large as a slice, so that they are taken one by one.
        size = int(KNOWN.images_per_second or 1) * 60 * int(self.settings.archive_minutes) * 5
        known = Archive(archive_id("stock", now=now), f"s3://{self.stock}/", now, len(images), 0, batch_size=size)
        parts: list[Callable[[], Iterable[ImageRef]]] = [
            partial(list, some) for some in in_slices(images, self.settings.batch_size)
        ]
        return queue_archive(self.theatre.s3, self.settings, known, parts).archive_id

    def send_nonsense(self) -> None:
        """A message that announces no image."""
        self.theatre.sqs.send_message(QueueUrl=self.queue_url, MessageBody="not an event")
        self.nonsense += 1

    def status(self) -> str:
        answer = self.theatre.rekognition.describe_project_versions(ProjectArn=self.settings.project_arn)
        return str(answer["ProjectVersionDescriptions"][0]["Status"])

    def calls_served(self) -> int:
        """Images that this story has paid for."""
        return self._calls_served() - self._served_before

    def checkpointed(self) -> int:
        """Outcomes that checkpoints hold."""
        keys = [key for key in self.keys(self.final, "batches/outcomes/") if "/part-" in key]
        return sum(len(self.read(key).splitlines()) for key in keys)

    def let_lease_run_out(self) -> None:
        """What waiting for ``LABELS_LEASE_MINUTES`` does, at once."""
        past = datetime.now(UTC) - timedelta(seconds=1)
        self.state.update(
            lambda known: replace(known, lease=replace(known.lease, expires_at=past)) if known.lease else known
        )

    def waiting_messages(self, *suffixes: str) -> int:
        names = [f"ApproximateNumberOfMessages{suffix}" for suffix in suffixes or ("", "NotVisible", "Delayed")]
        found = self.theatre.sqs.get_queue_attributes(QueueUrl=self.queue_url, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)

    def let_messages_come(self) -> None:
        """Until none is on its way, or hidden for a process that died."""
        wait_for("messages are visible", lambda: not self.waiting_messages("NotVisible", "Delayed"))

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        pages = self.theatre.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def read(self, key: str, bucket: str = "") -> bytes:
        return bytes(self.theatre.s3.get_object(Bucket=bucket or self.final, Key=key)["Body"].read())

    def rows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for file in visible_files(self.theatre.s3, self.final, analysis=ANALYSIS, threads=1):
            table = pq.ParquetFile(io.BytesIO(self.read(file.key))).read(["source_key", "etag", "status"])
            found.extend(table.to_pylist())
        return found

    def verdict(self) -> Verdict:
        """Whether the promises hold, once everything that was to happen has happened."""
        lost, doubled, untidy = [], [], []
        rows = self.rows()
        of_key = Counter(str(row["source_key"]) for row in rows)
        status_of = {str(row["source_key"]): str(row["status"]) for row in rows}
        inbox, final = self.keys(self.source), self.keys(self.final)
        for key, body in self.uploads.items():
            wanted, folder = ("REJECTED", "quarantine") if key in self.bad else ("LABELLED", "images")
            places = [self.read(key, self.source)] if key in inbox else []
            filed = f"{folder}/{self.source}/{key}"
            places += [self.read(filed)] if filed in final else []
            if body not in places:
                lost.append(f"{key} lies nowhere")
            elif key not in of_key:
                lost.append(f"{key} has no outcome")
            elif len(places) > 1:
                doubled.append(f"{key} lies in two places")
            if of_key[key] > 1:
                doubled.append(f"{key} has {of_key[key]} rows")
            if key in status_of and status_of[key] != wanted:
                untidy.append(f"{key} is {status_of[key]}, not {wanted}")
        lost += [f"{key} of the archive has no outcome" for key in self.archived if not of_key[key]]
        lost += [f"{key} of the archive lies nowhere" for key in self.archived - set(self.keys(self.stock))]
        doubled += [f"{key} of the archive has {of_key[key]} rows" for key in self.archived if of_key[key] > 1]
        to_pay = len(self.uploads) - len(self.bad) + len(self.archived)
        if (paid := self.calls_served()) > to_pay + self.paid_again:
            doubled.append(f"{paid} calls were paid for {to_pay} images, {self.paid_again} again for good reason")
        status = self.status()
        if messages := self.waiting_messages():
            untidy.append(f"{messages} messages are left")
        found = audit(
            self.theatre.s3,
            self.theatre.sqs,
            self.theatre.rekognition,
            self.settings,
            now=datetime.now(UTC),
            grace_minutes=0,
        )
        if found.count("dead_letters") < self.nonsense:
            lost.append("a message of the dead-letter queue")
        untidy += [
            f"audit: {each.count} {each.kind} ({', '.join(each.examples[:2])})"
            for each in found.findings
            if each.count and not (each.kind == "dead_letters" and self.nonsense)
        ]
        running = (f"the model is {status}",) if status in ACTIVE else ()
        return Verdict(tuple(lost), tuple(doubled), running, tuple(untidy))

    def _calls_served(self) -> int:
        return sum(
            run["calls_served"]
            for line in self.theatre.aws.meter()["models"]
            if line["project_version_arn"] == self.theatre.version_arn
            for run in line["runs"]
        )


def _patient(aws: LocalAws, service: str) -> Any:
    """A client for whoever tells and judges the story: faults strike it too, and it calls again at once."""

    def again(response: Any, caught_exception: Exception | None, **_: Any) -> float | None:
        has_failed = caught_exception or response[0].status_code >= 500 or "Throttl" in str(response[1].get("Error"))
        return 0.0 if has_failed else None

    client = aws.client(service, retries={"total_max_attempts": PATIENCE})
    client.meta.events.register_first(f"needs-retry.{service}", again)
    return client


def wait_for(what: str, is_so: Callable[[], bool]) -> None:
    """:raises TimeoutError: it does not become so."""
    deadline = time.monotonic() + SETTLING_SECONDS
    while not is_so():
        if time.monotonic() >= deadline:
            raise TimeoutError(f"Not within {SETTLING_SECONDS:.0f} s: {what}.")
        time.sleep(0.05)
