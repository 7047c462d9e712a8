"""What a run acts upon, as seen from outside: uploads, queue, model and results in local AWS."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from include.audit import Audit, audit
from include.model_state import Lease, ModelState, ModelStateStore
from include.settings import Settings
from local_aws.process import LocalAws
from local_stack import seed
from local_stack.environment import Site
from tests.integration.network import Network

QUICK = {
    "start_seconds": 1,
    "stop_seconds": 0.5,
    "tps_per_unit": 1000,
    "account_tps": 1000,
    "control_tps": 1000,
    "inference_latency": 0,
    "inference_latency_spread": 0,
    "describe_delay": 0,
    "stop_while_starting": "accept",
}
T = TypeVar("T")

# A pace that is known already, so that a run of a few images does not spend its time finding it. How long the model takes to
# start is not known: every run waits for it to the end.
KNOWN = ModelState(images_per_second=100.0)


def wait_for(what: str, look: Callable[[], T], *, seconds: float = 120) -> T:
    """Look until there is something true to see."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.1)
    return seen


@dataclass
class World:
    """Local AWS with buckets, queue and a trained model, and the network that leads there."""

    aws: LocalAws
    network: Network
    site: Site
    settings: dict[str, str]
    images: list[bytes]
    uploads: dict[str, bytes] = field(default_factory=dict)
    _runs_before: int = 0

    def __post_init__(self) -> None:
        self.s3, self.sqs = self.aws.client("s3"), self.aws.client("sqs")
        self.rekognition = self.aws.client("rekognition")
        self.queue_url = f"{self.aws.endpoint_url}/{seed.queue_url(self.site, seed.QUEUE).split('/', 3)[3]}"
        fields: dict[str, Any] = {name.removeprefix("LABELS_").lower(): value for name, value in self.settings.items()}
        self.parsed = Settings(**fields)
        self.version_arn, self.model = self.parsed.project_version_arn, self.parsed.model
        self.project_arn = self.parsed.project_arn
        self.state = ModelStateStore.of(self.s3, seed.FINAL_BUCKET, self.model)

    def clean(self) -> None:
        """As on the first day: nothing uploaded, nothing waiting, the model off, no trouble."""
        self.network.clear()
        self.aws.settings(**QUICK)
        self.aws.set_model(self.version_arn, status="STOPPED")
        for bucket in (seed.SOURCE_BUCKET, seed.FINAL_BUCKET):
            for key in self.keys(bucket):
                self.s3.delete_object(Bucket=bucket, Key=key)
        for queue in (seed.QUEUE, seed.DEAD_LETTER_QUEUE):
            self.sqs.purge_queue(QueueUrl=self.queue_url.replace(seed.QUEUE, queue))
        self.state.update(lambda _: KNOWN)
        self.uploads = {}
        self._runs_before = len(self._model_runs())

    def upload(self, count: int, *, folder: str = "summer sale +1") -> list[str]:
        """Upload images; their keys."""
        new = {f"{folder}/{number:02d}.jpg": self.images[number] for number in range(count)}
        for key, body in new.items():
            self.s3.put_object(Bucket=seed.SOURCE_BUCKET, Key=key, Body=body)
        self.uploads |= new
        return list(new)

    def announcements(self) -> list[str]:
        """The bodies of the messages that wait; they go on waiting."""
        bodies: dict[str, str] = {}
        while len(bodies) < len(self.uploads):
            got = self.sqs.receive_message(QueueUrl=self.queue_url, MaxNumberOfMessages=10, VisibilityTimeout=0)
            bodies |= {message["MessageId"]: message["Body"] for message in got.get("Messages", [])}
        return list(bodies.values())

    def announce(self, bodies: list[str]) -> None:
        for body in bodies:
            self.sqs.send_message(QueueUrl=self.queue_url, MessageBody=body)

    # The model

    def status(self) -> str:
        answer = self.rekognition.describe_project_versions(
            ProjectArn=self.project_arn, VersionNames=[self.model.version]
        )
        return str(answer["ProjectVersionDescriptions"][0]["Status"])

    def times_run(self) -> int:
        """How often the model has been RUNNING since the world was clean."""
        return len(self._model_runs()) - self._runs_before

    def paid_calls(self) -> int:
        """Images that were paid for since the world was clean."""
        return sum(run["calls_served"] for run in self._model_runs()[self._runs_before :])

    def lease(self) -> Lease | None:
        return self.state.read().lease

    def let_lease_run_out(self) -> None:
        """What waiting for LABELS_LEASE_MINUTES does, at once."""
        past = datetime.now(UTC) - timedelta(seconds=1)

        def expired(state: ModelState) -> ModelState:
            assert state.lease, "nobody holds the lease"
            return replace(state, lease=replace(state.lease, expires_at=past))

        self.state.update(expired)

    def give_lease_to(self, holder: str) -> None:
        self.state.acquire(holder, minutes=10, now=datetime.now(UTC))

    # The buckets and the queue

    def keys(self, bucket: str = seed.FINAL_BUCKET, prefix: str = "") -> dict[str, str]:
        """Every key with its ETag."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return {item["Key"]: item["ETag"] for page in pages for item in page.get("Contents", [])}

    def read(self, key: str, bucket: str = seed.FINAL_BUCKET) -> bytes:
        return bytes(self.s3.get_object(Bucket=bucket, Key=key)["Body"].read())

    def batches(self, kind: str = "pending") -> dict[str, list[str]]:
        """Keys of ``pending`` or ``done`` batches, each with its images' keys."""
        found = {}
        for key in self.keys(prefix=f"batches/{kind}/"):
            lines = gzip.decompress(self.read(key)).splitlines()
            found[key] = [str(json.loads(line)["key"]) for line in lines]
        return found

    def labelled(self) -> set[str]:
        """Source keys with a document."""
        prefix = f"labels/{seed.SOURCE_BUCKET}/"
        return {key.removeprefix(prefix).removesuffix(".json") for key in self.keys(prefix=prefix)}

    def waiting_messages(self, queue: str = seed.QUEUE) -> int:
        counters = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        url = self.queue_url.replace(seed.QUEUE, queue)
        found = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=counters)["Attributes"]
        return sum(int(found[name]) for name in counters)

    def lost(self) -> dict[str, str]:
        """Uploads that are not accounted for, with what is wrong; empty when no image is lost.

        The file lies in exactly one place, unchanged, and it is announced, pending, or done with a result.
        """
        inbox, final = self.keys(seed.SOURCE_BUCKET), self.keys()
        pending = {image for images in self.batches("pending").values() for image in images}
        done = {image for images in self.batches("done").values() for image in images} & self.labelled()
        announced = self.waiting_messages() >= len(self.uploads)
        wrong = {}
        for key, body in self.uploads.items():
            filed = f"images/{seed.SOURCE_BUCKET}/{key}"
            places = [self.read(key, seed.SOURCE_BUCKET)] if key in inbox else []
            places += [self.read(filed)] if filed in final else []
            if places != [body]:
                wrong[key] = f"lies in {len(places)} places, or changed"
            elif not (announced or key in pending or key in done):
                wrong[key] = "is neither announced, nor pending, nor done"
        return wrong

    def audit(self) -> Audit:
        return audit(self.s3, self.sqs, self.rekognition, self.parsed, now=datetime.now(UTC))

    def _model_runs(self) -> list[dict[str, Any]]:
        models = self.aws.meter()["models"]
        return [run for model in models if model["project_version_arn"] == self.version_arn for run in model["runs"]]
