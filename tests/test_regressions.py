"""What the reference implementation of this pipeline gets wrong, defect by defect, and that this one does not.

The sample is aws-samples/amazon-rekognition-custom-labels-batch-processing: a state machine around six functions. Each
test is named after one of its defects.
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from botocore.exceptions import ClientError

from include.batches import Batch, list_pending, read_batch
from include.decide import Decision, count_backlog, decide
from include.drain import DrainReport, drain
from include.errors import LeaseHeldError, TerminalError
from include.infer import infer
from include.model_state import ModelState, ModelStateStore
from include.outcomes import read_outcomes
from include.preflight import preflight
from include.publish import publish
from include.selection import find_images
from include.settings import Settings, load_settings
from rekognition.operators import RekognitionStartProjectVersionOperator, RekognitionStopProjectVersionOperator
from tests.include.memory_queue import MemoryQueue
from tests.include.memory_s3 import Killed, MemoryS3, failure
from tests.include.samples import FINAL, INBOX, MODEL_ARN, NOW, VALUES, custom_label, picture
from tests.include.scripted_model import ScriptedModel, labelled, refusal
from tests.include.test_events import body, record
from tests.plugins import conftest as scripted

# A Rekognition whose life cycle is scripted, as the operators' own tests have it.
service, sleeps, context = scripted.service, scripted.sleeps, scripted.context
Scripted = scripted.ScriptedService

HOUR = timedelta(hours=1)


class Pipeline:
    """The stages in a row over a queue, two buckets and a scripted model; `hour` is what a run does."""

    def __init__(self) -> None:
        self.s3, self.queue, self.model = MemoryS3(INBOX, FINAL), MemoryQueue(), ScriptedModel()
        self.settings: Settings = load_settings(**VALUES)
        self.thresholds: dict[str, float] = {}
        self.starts = 0

    def upload(self, *keys: str, data: bytes | None = None) -> None:
        for key in keys:
            content = data if data is not None else picture(seed=len(key))
            etag = self.s3.put_object(Bucket=INBOX, Key=key, Body=content)["ETag"]
            self.queue.send([body(record(key, eTag=etag.strip('"'), size=len(content)))])

    def drain(self) -> DrainReport:
        return drain(self.queue, self.s3, self.settings, monotonic=lambda: 0.0)

    def decide(self) -> Decision:
        backlog = count_backlog(self.s3, self.settings, list_pending(self.s3, FINAL), now=NOW, run_id="r")
        return decide(backlog, ModelState(), self.settings, now=NOW)

    def label(self, key: str, *, run_id: str = "r") -> None:
        batch = self.batch(key)
        preflight(self.s3, self.settings, batch, run_id=run_id, now=lambda: NOW)
        infer(
            self.model,
            self.s3,
            self.settings,
            batch.batch_id,
            run_id="r",
            first_rate=1e6,
            now=lambda: NOW,
            monotonic=lambda: 0.0,
            renew_lease=lambda: None,
            describe_model=lambda: {"Status": "RUNNING"},
        )

    def publish(self, key: str) -> None:
        publish(self.s3, self.settings, self.batch(key), thresholds=self.thresholds)

    def batch(self, key: str) -> Batch:
        found = read_batch(self.s3, FINAL, key)
        assert found is not None
        return found

    def hour(self) -> Decision:
        self.drain()
        decision = self.decide()
        self.starts += decision.start
        for key in decision.batches:
            self.label(key)
            self.publish(key)
        return decision

    def documents(self) -> dict[str, dict[str, Any]]:
        return {key: json.loads(found) for key, found in self.s3.contents(FINAL, "labels/").items()}

    @property
    def reasons(self) -> dict[str, str]:
        found = self.s3.contents(FINAL, "quarantine/")
        return {key: json.loads(text)["status"] for key, text in found.items() if key.endswith(".error.json")}


@pytest.fixture
def pipeline() -> Pipeline:
    return Pipeline()


class TestTheQueue:
    def test_counter_is_never_trusted(self, pipeline: Pipeline) -> None:
        """The sample asks for ApproximateNumberOfMessages and takes the first character of the answer."""
        pipeline.upload("a.jpg")
        pipeline.drain()  # the queue in memory fails whoever asks for a counter
        assert set(pipeline.queue.calls) == {"receive_message", "delete_message_batch"}

    def test_every_record_is_read(self, pipeline: Pipeline) -> None:
        """The sample reads Records[0]."""
        pipeline.queue.send([body(*(record(f"{number}.jpg") for number in range(3)))])
        assert pipeline.drain().images == 3

    @pytest.mark.parametrize(
        "key", ["photo (1).jpg", "R&D, a=b 'c' +d.jpg", "é.jpg", "100%25.jpg", "🦊.jpg", "a b.jpg"]
    )
    def test_key_is_fully_decoded(self, pipeline: Pipeline, key: str) -> None:
        """The sample turns plus into space and decodes nothing else: such an image is retried for four days."""
        pipeline.upload(key)
        pipeline.hour()
        assert list(pipeline.documents()) == [f"labels/inbox/{key}.json"]

    @pytest.mark.parametrize("key", ["a.jpeg", "a.JPG", "a.PNG", "a.JPEG", "no-extension"])
    def test_no_extension_is_ignored(self, pipeline: Pipeline, key: str) -> None:
        """The sample hears of .jpg and .png only, in lower case."""
        pipeline.upload(key)
        assert pipeline.hour().images == 1
        if "." in key:
            pipeline.upload(f"by hand/{key}")
            assert len(list(find_images(pipeline.s3, pipeline.settings, prefix="s3://inbox/by hand/"))) == 1

    def test_an_unparseable_message_ends_in_the_dead_letter_queue(self, pipeline: Pipeline) -> None:
        """The sample has no dead-letter queue: what it cannot handle comes back until it expires."""
        pipeline.queue.send(["no JSON"])
        pipeline.hour()
        assert (pipeline.queue.left, [letter["body"] for letter in pipeline.queue.dead]) == ([], ["no JSON"])

    def test_a_test_event_is_no_work(self, pipeline: Pipeline) -> None:
        pipeline.queue.send([json.dumps({"Event": "s3:TestEvent", "Bucket": INBOX})])
        assert not pipeline.hour().start

    def test_an_empty_queue_starts_no_model(self, pipeline: Pipeline) -> None:
        assert not pipeline.hour().start

    def test_messages_in_flight_are_not_mistaken_for_none(self, pipeline: Pipeline) -> None:
        """The sample counts visible messages only, and stops the model under calls that are being made."""
        pipeline.upload("a.jpg", "b.jpg")
        pipeline.queue.dies_at_delete = True
        with pytest.raises(Killed):
            pipeline.drain()
        pipeline.queue.dies_at_delete = False
        assert len(pipeline.queue.left) == 2  # hidden, not gone
        assert pipeline.hour().images == 2
        pipeline.queue.come_back()
        pipeline.hour()
        assert pipeline.queue.left == []
        assert set(pipeline.model.served.values()) == {1}


class TestTheImages:
    @pytest.mark.parametrize(
        "data", [b"not an image", b"", picture(size=(10, 10)), picture("WEBP"), picture("PNG", (5000, 300))]
    )
    def test_an_image_that_cannot_be_labelled_does_not_start_the_model_again(
        self, pipeline: Pipeline, data: bytes
    ) -> None:
        """The sample retries it every minute for four days, and each hour starts the model for it."""
        pipeline.upload("bad.jpg", data=data)
        for _ in range(3):
            pipeline.hour()
        assert pipeline.starts == 1
        assert pipeline.reasons == {"quarantine/inbox/bad.jpg.error.json": "REJECTED"}
        assert pipeline.s3.keys(INBOX) == []
        assert pipeline.model.requests == []

    def test_an_image_that_the_service_refuses_does_not_either(self, pipeline: Pipeline) -> None:
        pipeline.upload("bad.jpg")
        pipeline.model.answers("bad.jpg", *[refusal("InvalidImageFormatException")] * 9)
        for _ in range(3):
            pipeline.hour()
        assert (pipeline.starts, len(pipeline.model.requests)) == (1, 1)
        assert pipeline.reasons == {"quarantine/inbox/bad.jpg.error.json": "FAILED"}

    def test_an_image_deleted_after_its_upload_is_missing_and_no_poison(self, pipeline: Pipeline) -> None:
        pipeline.upload("gone.jpg", "here.jpg")
        pipeline.s3.delete_object(Bucket=INBOX, Key="gone.jpg")
        for _ in range(2):
            pipeline.hour()
        assert pipeline.reasons == {"quarantine/inbox/gone.jpg.error.json": "MISSING"}
        assert pipeline.starts == 1

    def test_a_key_uploaded_twice_is_no_poison(self, pipeline: Pipeline) -> None:
        """In the sample the first message removes the image and the second never succeeds."""
        pipeline.upload("a.jpg", data=picture(seed=1))
        pipeline.upload("a.jpg", data=picture(seed=2))
        for _ in range(2):
            pipeline.hour()
        assert (pipeline.starts, pipeline.model.served["a.jpg"], pipeline.queue.dead) == (1, 1, [])
        assert pipeline.s3.contents(FINAL, "images/") == {"images/inbox/a.jpg": picture(seed=2)}

    def test_a_message_delivered_twice_is_paid_once(self, pipeline: Pipeline) -> None:
        pipeline.upload("a.jpg")
        pipeline.queue.send(pipeline.queue.left)
        pipeline.hour()
        pipeline.queue.send([body(record("a.jpg", eTag=next(iter(pipeline.documents().values()))["etag"]))])
        pipeline.hour()
        assert pipeline.model.served["a.jpg"] == 1


class TestTheResults:
    def test_no_confidence_is_hard_coded(self, pipeline: Pipeline) -> None:
        """The sample asks for labels of 70 and more, whatever the thresholds that training found."""
        pipeline.thresholds = {"CAP": 98.8, "WATCH": 1.4}
        pipeline.upload("a.jpg")
        pipeline.model.answers("a.jpg", labelled(custom_label("CAP", 75.0), custom_label("WATCH", 2.0)))
        pipeline.hour()
        assert [request["MinConfidence"] for request in pipeline.model.requests] == [0]
        (document,) = pipeline.documents().values()
        assert {each["name"]: each["passes"] for each in document["labels"]} == {"CAP": False, "WATCH": True}

    def test_result_key_is_deterministic(self) -> None:
        """The sample puts ten random letters before the key."""
        listings = []
        for _ in range(2):
            pipeline = Pipeline()
            pipeline.upload("folder/a.jpg", "b é.png")
            pipeline.upload("bad.jpg", data=b"hello")
            pipeline.hour()
            listings.append(pipeline.s3.contents(FINAL))
        assert listings[0] == listings[1]
        assert {"labels/inbox/folder/a.jpg.json", "images/inbox/folder/a.jpg"} <= set(listings[0])

    def test_a_document_says_what_was_labelled_by_what_and_when(self, pipeline: Pipeline) -> None:
        """The sample keeps the list of labels and nothing else."""
        pipeline.upload("a.jpg")
        pipeline.hour()
        (document,) = pipeline.documents().values()
        assert document["source_bucket"] == INBOX
        assert document["source_key"] == "a.jpg"
        assert document["etag"]
        assert document["model_arn"] == MODEL_ARN
        assert document["processed_at"] == NOW.isoformat()
        assert (document["width_px"], document["height_px"]) == (100, 80)
        assert document["response"]["RequestId"]
        assert all("threshold" in label for label in document["labels"])

    def test_a_crash_between_copy_and_deletion_makes_no_second_copy(self, pipeline: Pipeline) -> None:
        pipeline.upload("a.jpg", "b.jpg")
        pipeline.drain()
        (key,) = pipeline.decide().batches
        pipeline.label(key)
        calls = len(pipeline.s3.calls)
        for later in range(1, 12):
            pipeline.s3.dies_at = len(pipeline.s3.calls) + later
            with pytest.raises(Killed):
                pipeline.publish(key)
            pipeline.s3.dies_at = None
        pipeline.publish(key)
        assert len(pipeline.s3.calls) > calls
        assert pipeline.s3.keys(FINAL, "images/") == ["images/inbox/a.jpg", "images/inbox/b.jpg"]
        assert pipeline.s3.keys(FINAL, "labels/") == ["labels/inbox/a.jpg.json", "labels/inbox/b.jpg.json"]
        assert pipeline.s3.keys(INBOX) == []
        assert len(pipeline.s3.keys(FINAL, "results/image_labels/analysis=")) == 1

    def test_throttling_fails_no_image(self, pipeline: Pipeline) -> None:
        """The sample lets any number of functions loose on one inference unit, and has no limiter."""
        pipeline.upload(*(f"{number}.jpg" for number in range(20)))
        pipeline.drain()
        (key,) = pipeline.decide().batches
        for number in range(0, 20, 2):
            throttled = refusal("ProvisionedThroughputExceededException")
            pipeline.model.answers(f"{number}.jpg", *[throttled] * 8)
        pipeline.label(key)
        outcomes = read_outcomes(pipeline.s3, FINAL, pipeline.batch(key).batch_id)
        assert [each.status for each in outcomes.values()] == ["LABELLED"] * 20


class TestTheModel:
    @pytest.fixture
    def start(self, service: Scripted) -> RekognitionStartProjectVersionOperator:
        return RekognitionStartProjectVersionOperator(
            task_id="start",
            project_arn=service.project_arn,
            project_version_arn=service.project_version_arn,
            min_inference_units=3,
        )

    @pytest.fixture
    def stop(self, service: Scripted) -> RekognitionStopProjectVersionOperator:
        return RekognitionStopProjectVersionOperator(
            task_id="stop", project_arn=service.project_arn, project_version_arn=service.project_version_arn
        )

    @pytest.mark.parametrize("status", ["FAILED", "TRAINING_FAILED", "EXPIRED", "DEPRECATED", "DELETING"])
    def test_a_start_that_cannot_succeed_is_no_endless_loop(
        self, start: Any, service: Scripted, context: Any, status: str
    ) -> None:
        """The sample tries again every 15 minutes, for ever, and one more such loop begins each hour."""
        service.describes(status, StatusMessage="The reason that the service gives.")
        with pytest.raises(AirflowFailException, match="The reason that the service gives"):
            start.execute(context)

    @pytest.mark.parametrize("code", ["LimitExceededException", "AccessDeniedException", "ResourceNotFoundException"])
    def test_a_start_that_fails_is_not_silent(self, start: Any, service: Scripted, context: Any, code: str) -> None:
        """The sample prints the exception and goes on."""
        service.describes("STOPPED")
        service.refuses("start_project_version", code)
        with pytest.raises((AirflowException, ClientError), match=code):
            start.execute(context)

    def test_inference_units_are_not_always_one(self, start: Any, service: Scripted, context: Any) -> None:
        service.describes("STOPPED")
        service.starts(min_units=3)
        service.describes("STARTING", "RUNNING")
        assert start.execute(context) == "RUNNING"

    def test_running_is_seen_within_half_a_minute(
        self, start: Any, service: Scripted, context: Any, sleeps: list[float]
    ) -> None:
        """The sample looks every 15 minutes, while the model bills."""
        service.describes("STARTING", "STARTING", "STARTING", "RUNNING")
        start.execute(context)
        assert 0 < max(sleeps) <= 30

    def test_a_wait_for_the_model_ends(self, start: Any, service: Scripted, context: Any, sleeps: list[float]) -> None:
        start.waiter_max_attempts = 5
        service.describes(*["STARTING"] * 8)
        with pytest.raises(AirflowException, match="was not RUNNING within"):
            start.execute(context)

    @pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceNotFoundException"])
    def test_a_stop_that_fails_is_not_a_success(self, stop: Any, service: Scripted, context: Any, code: str) -> None:
        """The sample swallows it: the state machine succeeds, and the model bills on."""
        service.describes("RUNNING")
        service.refuses("stop_project_version", code)
        with pytest.raises(ClientError, match=code):
            stop.execute(context)

    def test_a_stop_is_seen_through(self, stop: Any, service: Scripted, context: Any) -> None:
        """The sample never looks whether the model has stopped."""
        service.describes("RUNNING")
        service.stops()
        service.describes("STOPPING", "STOPPING", "STOPPED", "STOPPED")
        assert stop.execute(context) == "STOPPED"

    def test_a_model_that_does_not_stop_is_an_error(self, stop: Any, service: Scripted, context: Any) -> None:
        stop.waiter_max_attempts = 3
        service.describes("STOPPING", "STOPPING", "STOPPING", "STOPPING", "STOPPING")
        with pytest.raises(AirflowException, match="is still STOPPING"):
            stop.execute(context)

    def test_the_model_is_not_held_for_59_minutes(self, pipeline: Pipeline) -> None:
        """The sample holds the model for an hour whatever there is to do: $4 for one image."""
        dag = DagBag(Path(__file__).parent.parent / "dags").dags["label_images"]
        stop = dag.task_dict["stop_model"]
        assert stop.is_teardown
        assert stop.upstream_task_ids == {"start_model", "wait_until_running", "infer"}
        pipeline.upload("a.jpg")
        pipeline.drain()
        assert pipeline.decide().predicted_cost_usd < 0.10

    def test_two_runs_at_a_time_do_not_share_the_model(self, pipeline: Pipeline) -> None:
        """The sample's only lock is whether a trigger is enabled."""
        store = ModelStateStore.of(pipeline.s3, FINAL, pipeline.settings.model)
        store.acquire("label_images/one", minutes=10, now=NOW)
        with pytest.raises(LeaseHeldError):
            store.acquire("label_images/two", minutes=10, now=NOW)

    def test_a_run_that_died_does_not_keep_the_model(self, pipeline: Pipeline) -> None:
        """In the sample nothing ever stops a model whose execution died: its lock is never given back."""
        store = ModelStateStore.of(pipeline.s3, FINAL, pipeline.settings.model)
        store.acquire("label_images/dead", minutes=10, now=NOW)
        assert store.acquire("label_images/next", minutes=10, now=NOW + HOUR).holder == "label_images/next"


class TestTwiceAndForEver:
    """What a second delivery, a second upload and a second try must not do."""

    def test_an_image_paid_for_in_one_batch_is_not_paid_again_in_an_earlier_one(self) -> None:
        pipeline = Pipeline()
        pipeline.upload("x.jpg", "y.jpg")
        messages = pipeline.queue.left
        pipeline.drain()
        (paid,) = pipeline.decide().batches
        pipeline.label(paid)  # and the run dies before it publishes
        etag = pipeline.s3.put_object(Bucket=INBOX, Key="w.jpg", Body=picture(seed=77))["ETag"].strip('"')
        earlier = body(record("w.jpg", eventTime="2026-03-01T11:00:00Z", eTag=etag))
        pipeline.queue.send([messages[0], earlier])
        pipeline.hour()
        assert pipeline.model.served == {"w.jpg": 1, "x.jpg": 1, "y.jpg": 1}

    def test_an_old_message_that_comes_again_alone_changes_nothing(self) -> None:
        pipeline = Pipeline()
        pipeline.upload("a.jpg", data=picture(seed=1))
        old = pipeline.queue.left
        pipeline.hour()
        pipeline.upload("a.jpg", data=picture(seed=2))
        pipeline.hour()
        before = pipeline.s3.contents(FINAL)
        pipeline.queue.send(old)
        assert pipeline.hour().reason == "Nothing is pending: the model stays off."
        assert pipeline.s3.contents(FINAL) == before
        assert pipeline.starts == 2

    def test_one_bad_batch_does_not_start_the_model_for_ever(self) -> None:
        pipeline = Pipeline()
        pipeline.upload("a.jpg")
        pipeline.s3.refuse["get_object", "a.jpg"] = failure("AccessDenied", "GetObject", 403)
        pipeline.drain()
        starts = 0
        for hour in range(pipeline.settings.batch_attempts):
            decision = pipeline.decide()
            starts += decision.start
            for key in decision.batches:
                with pytest.raises(TerminalError, match=r"May not read"):
                    pipeline.label(key, run_id=f"run {hour}")
        decision = pipeline.hour()
        assert "1 batch given up" in decision.reason
        assert starts == pipeline.settings.batch_attempts
        assert not decision.start
        assert pipeline.reasons == {"quarantine/inbox/a.jpg.error.json": "FAILED"}
        assert pipeline.s3.keys(FINAL, "quarantine/") == ["quarantine/inbox/a.jpg", "quarantine/inbox/a.jpg.error.json"]
        assert pipeline.hour().reason == "Nothing is pending: the model stays off."

    def test_a_second_upload_of_a_key_does_not_destroy_the_first_original(self) -> None:
        pipeline = Pipeline()
        pipeline.upload("IMG_0001.jpg", data=picture(seed=1))
        pipeline.hour()
        pipeline.upload("IMG_0001.jpg", data=picture(seed=2))
        pipeline.hour()
        assert sorted(pipeline.s3.contents(FINAL, "images/").values()) == sorted([picture(seed=1), picture(seed=2)])
        assert pipeline.s3.contents(FINAL, "images/")["images/inbox/IMG_0001.jpg"] == picture(seed=2)
