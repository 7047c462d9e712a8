"""A deployment that the real stages have worked in, for the auditor to look at."""

from __future__ import annotations

import itertools
import json
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote_plus

from include import audit_places
from include.audit import Audit, audit
from include.batches import list_pending, read_batch
from include.decide import count_backlog
from include.drain import drain
from include.infer import infer
from include.preflight import preflight
from include.publish import publish
from include.selection import find_images, queue_images
from include.settings import Settings
from tests.include.memory_queue import DEAD_LETTERS, MemoryQueue
from tests.include.samples import NOW, PROJECT_ARN
from tests.include.scripted_model import ScriptedModel

LATER = NOW + timedelta(hours=2)
# Filed, it is too long; the other one looks as if it had made way for a newer image.
LONG_KEY = "long/" + "é" * 507 + ".jpg"
TILDE_KEY = f"a~{'0' * 32}"
STATE = "state/model/shop/shop.v7.json"


class CountedQueue(MemoryQueue):
    """A queue that also counts, which draining never asks for."""

    def get_queue_attributes(self, *, QueueUrl: str, AttributeNames: list[str]) -> dict[str, Any]:
        if AttributeNames != ["All"]:
            return super().get_queue_attributes(QueueUrl=QueueUrl, AttributeNames=AttributeNames)
        if QueueUrl == DEAD_LETTERS:
            return {"Attributes": {"ApproximateNumberOfMessages": str(len(self.dead))}}
        policy = super().get_queue_attributes(QueueUrl=QueueUrl, AttributeNames=["RedrivePolicy"])
        return {"Attributes": policy.get("Attributes", {}) | {"ApproximateNumberOfMessages": str(len(self.left))}}


class Model(ScriptedModel):
    """A scripted model that also says what state it is in."""

    status = "STOPPED"

    def describe_project_versions(self, *, ProjectArn: str, VersionNames: list[str]) -> dict[str, Any]:
        assert (ProjectArn, VersionNames) == (PROJECT_ARN, ["shop.v7"])
        return {"ProjectVersionDescriptions": [{"Status": self.status}] if self.status else []}


class World:
    """A deployment: uploads announce themselves, runs are the real stages."""

    def __init__(self, s3: Any, settings: Settings) -> None:
        self.s3, self.settings = s3, settings
        self.queue, self.model = CountedQueue(), Model()
        self.runs = itertools.count(1)

    def upload(self, key: str, body: bytes, *, minutes: float = -60, sequencer: str = "01") -> None:
        answer = self.s3.put_object(Bucket=self.settings.source_bucket, Key=key, Body=body)
        self.announce(key, answer, size=len(body), minutes=minutes, sequencer=sequencer)

    def announce(self, key: str, put: dict[str, Any], *, size: int, minutes: float, sequencer: str = "01") -> None:
        about = {"key": quote_plus(key), "size": size, "eTag": put["ETag"].strip('"'), "sequencer": sequencer}
        if "VersionId" in put:
            about["versionId"] = put["VersionId"]
        record = {
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "eventName": "ObjectCreated:Put",
            "eventTime": (NOW + timedelta(minutes=minutes)).isoformat(),
            "s3": {"bucket": {"name": self.settings.source_bucket}, "object": about},
        }
        self.queue.send([json.dumps({"Records": [record]})])

    def drain(self) -> None:
        drain(self.queue, self.s3, self.settings, monotonic=itertools.count(step=0.001).__next__)

    def label(self, *, publishing: bool = True) -> None:
        """A run, after draining."""
        number = next(self.runs)
        run_id, now = f"manual__{number}", NOW + timedelta(seconds=number)
        keys = list_pending(self.s3, self.settings.final_bucket)
        backlog = count_backlog(self.s3, self.settings, keys, now=now, run_id=run_id)
        for key in backlog.batches:
            batch = read_batch(self.s3, self.settings.final_bucket, key)
            assert batch
            preflight(self.s3, self.settings, batch, run_id=run_id, now=lambda: now)
            infer(
                self.model,
                self.s3,
                self.settings,
                batch.batch_id,
                run_id=run_id,
                first_rate=1e6,
                now=lambda: now,
                monotonic=itertools.count(step=0.0001).__next__,
                renew_lease=lambda: None,
                describe_model=lambda: {"Status": "RUNNING"},
            )
            if publishing:
                publish(self.s3, self.settings, batch, thresholds={})

    def run(self) -> None:
        self.drain()
        self.label()

    def again(self, uri: str) -> None:
        """Somebody asks for an image by hand, and has it labelled again."""
        found = find_images(self.s3, self.settings, uris=[uri], force=True)
        queue_images(self.s3, self.settings, found, request_id=f"request {next(self.runs)}")
        self.label()

    def audit(self, *, now: datetime = LATER, **options: Any) -> Audit:
        return audit(self.s3, self.queue, self.model, self.settings, now=now, **options)

    def put(self, key: str, body: bytes = b"") -> None:
        self.s3.put_object(Bucket=self.settings.final_bucket, Key=key, Body=body)

    def delete(self, key: str) -> None:
        assert key in self.keys(key)
        self.s3.delete_object(Bucket=self.settings.final_bucket, Key=key)

    def keys(self, prefix: str) -> list[str]:
        return [item.key for item in audit_places.listed(self.s3, self.settings.final_bucket, prefix)]

    def copy(self, key: str, target: str) -> None:
        bucket = self.settings.final_bucket
        self.s3.copy_object(Bucket=bucket, Key=target, CopySource={"Bucket": bucket, "Key": key})

    @property
    def done(self) -> str:
        """Key of the largest batch that was finished."""
        listed = audit_places.listed(self.s3, self.settings.final_bucket, "batches/done/")
        return max(listed, key=lambda item: item.size_bytes).key

    @property
    def batch_id(self) -> str:
        return self.done.rpartition("/")[2].partition(".")[0]


def found(what: Audit) -> dict[str, int]:
    return {finding.kind: finding.count for finding in what.findings if finding.count}


def examples(what: Audit, kind: str) -> list[str]:
    return [example for finding in what.findings if finding.kind == kind for example in finding.examples]
