from __future__ import annotations

import contextlib
import itertools
import re
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError
from botocore.session import get_session

from include import calling, layout
from include import infer as infer_module
from include.calling import KINDS, kind_of
from include.errors import LeaseLostError, ModelNotRunningError, TerminalError, TransientError
from include.infer import CHECKPOINT_IMAGES, InferReport, forget_inferred, infer, not_inferred, note_inferred
from include.outcomes import Checked, Outcome, read_outcomes, write_part, write_preflight
from include.pacing import Pacer
from include.settings import Settings
from tests.include.conftest import BuildSettings
from tests.include.memory_s3 import Killed, MemoryS3, failure
from tests.include.samples import FINAL, INBOX, MODEL_ARN, NOW, custom_label, facts, image, images, outcome, ready
from tests.include.scripted_model import ScriptedModel, labelled, refusal


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backing off and pacing take no time: their lengths are not what is tested here."""
    monkeypatch.setattr(calling, "FIRST_BACKOFF_SECONDS", 0.0)
    monkeypatch.setattr(infer_module, "LAST_CALLS_SECONDS", 0.2)
    monkeypatch.setattr(calling, "TRY_SECONDS", 0.0)
    monkeypatch.setattr(infer_module, "LOOK_SECONDS", 0.002)


@pytest.fixture
def model() -> ScriptedModel:
    return ScriptedModel()


class Stage:
    """A batch that preflight has let through, and the stage run on it."""

    def __init__(self, s3: MemoryS3, settings: Settings, model: ScriptedModel) -> None:
        self.s3, self.settings, self.model = s3, settings, model
        self.seconds: Callable[[], float] = itertools.count(step=0.0001).__next__
        self.renew: Callable[[], object] = lambda: None
        self.status: Callable[[], str] = lambda: "RUNNING"
        self.wait_seconds = 0.0
        self.callers: Callable[[], int] = lambda: 1
        self.call_until: Callable[[datetime | None], datetime | None] = lambda first_call: None

    def checked(self, *entries: Checked) -> Stage:
        write_preflight(self.s3, FINAL, "b", entries)
        self.s3.calls.clear()
        return self

    def ready(self, count: int) -> Stage:
        return self.checked(*map(ready, images(count)))

    def run(self) -> InferReport:
        return infer(
            self.model,
            self.s3,
            self.settings,
            "b",
            run_id="manual__1",
            first_rate=1e6,
            now=lambda: NOW,
            monotonic=self.seconds,
            renew_lease=self.renew,
            describe_model=lambda: {"Status": self.status(), "StatusMessage": "for a reason"},
            wait_seconds=self.wait_seconds,
            callers=self.callers,
            call_until=self.call_until,
        )

    @property
    def outcomes(self) -> dict[str, Outcome]:
        return {key: found for (_, key, _), found in read_outcomes(self.s3, FINAL, "b").items()}


@pytest.fixture
def stage(s3: MemoryS3, build_settings: BuildSettings, model: ScriptedModel) -> Stage:
    return Stage(s3, build_settings(inference_threads=4), model)


class TestBlame:
    def test_images_are_not_blamed_for_permissions_that_the_model_lacks(self, stage: Stage) -> None:
        stage.model.always = refusal("InvalidS3ObjectException")
        with pytest.raises(TerminalError, match="could not be read by the model"):
            stage.ready(200).run()
        assert read_outcomes(stage.s3, FINAL, "b") == {}

    @pytest.mark.parametrize("count", [2, 24])
    def test_nor_where_there_are_only_a_few(self, stage: Stage, count: int) -> None:
        stage.model.always = refusal("InvalidS3ObjectException")
        with pytest.raises(TerminalError, match="could not be read by the model"):
            stage.ready(count).run()
        assert read_outcomes(stage.s3, FINAL, "b") == {}

    def test_a_single_unreadable_image_is_to_blame(self, stage: Stage) -> None:
        stage.model.always = refusal("InvalidS3ObjectException")
        assert stage.ready(1).run().failed == 1
        assert len(read_outcomes(stage.s3, FINAL, "b")) == 1

    def test_a_service_that_refuses_every_call_for_ten_minutes_ends_in_an_error(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stage.model.always = refusal("ThrottlingException")
        stage.seconds = itertools.count(step=1.0).__next__
        monkeypatch.setattr(Pacer, "wait", lambda self: 0.0)
        with pytest.raises(TransientError, match="refused every call"):
            stage.ready(4).run()


class TestCalls:
    def test_one_paid_call_an_image_and_nothing_else_but_checkpoints(self, stage: Stage) -> None:
        report = stage.ready(250).run()
        assert report == InferReport(250, 250, 0, 250, 0, None, NOW, NOW, NOW, NOW, report.latency_seconds)
        assert set(stage.model.served.values()) == {1}
        operations = [operation for operation, _, _ in stage.s3.calls]
        assert operations[:2] == ["get_object", "list_objects_v2"]
        assert set(operations[2:]) == {"put_object"}
        assert INBOX not in {bucket for _, bucket, _ in stage.s3.calls}

    def test_every_label_is_asked_for_whatever_its_confidence(self, stage: Stage) -> None:
        stage.checked(ready(image("a b+é🦊.jpg"))).run()
        assert stage.model.requests == [
            {
                "ProjectVersionArn": MODEL_ARN,
                "Image": {"S3Object": {"Bucket": INBOX, "Name": "a b+é🦊.jpg"}},
                "MinConfidence": 0,
            }
        ]

    def test_a_version_is_asked_for_exactly(self, stage: Stage) -> None:
        stage.checked(ready(image("a", version_id="v7"))).run()
        assert stage.model.requests[0]["Image"] == {"S3Object": {"Bucket": INBOX, "Name": "a", "Version": "v7"}}

    def test_a_converted_image_is_read_where_it_was_staged(self, stage: Stage) -> None:
        stage.checked(Checked(image("a", version_id="v7"), facts(staged_key="staged/b/1.jpg"))).run()
        assert stage.model.requests[0]["Image"] == {"S3Object": {"Bucket": FINAL, "Name": "staged/b/1.jpg"}}
        assert list(stage.outcomes) == ["a"]

    def test_what_preflight_ended_is_not_sent(self, stage: Stage) -> None:
        ended = Checked(image("bad"), facts(), outcome(image("bad"), "REJECTED"))
        before = Checked(image("known"), already_labelled=True)
        assert stage.checked(ended, ready(image("good")), before).run().calls == 1

    def test_nothing_to_do_makes_no_call(self, stage: Stage) -> None:
        assert stage.checked(Checked(image("known"), already_labelled=True)).run() == InferReport()

    def test_without_preflight_nothing_is_paid(self, stage: Stage) -> None:
        with pytest.raises(TerminalError, match="Batch b has no preflight.*Clear preflight"):
            stage.run()
        assert stage.model.requests == []


class TestOutcomes:
    def test_the_answer_is_kept_word_for_word(self, stage: Stage) -> None:
        labels = (custom_label("CAP", 98.123456, (0.1, -0.01, 0.5, 1.2)), custom_label("WATCH", 0.0001))
        stage.model.answers("a", labelled(*labels))
        stage.checked(ready(image("a"))).run()
        assert stage.outcomes["a"] == Outcome(
            image("a"), "LABELLED", NOW, "manual__1", facts(), custom_labels=labels, request_id="r-1"
        )

    def test_nothing_found_is_labelled_with_nothing(self, stage: Stage) -> None:
        stage.model.answers("a", {"CustomLabels": [], "ResponseMetadata": {}})
        assert stage.checked(ready(image("a"))).run().labelled == 1
        assert stage.outcomes["a"].custom_labels == ()

    @pytest.mark.parametrize("code", [code for code, kind in KINDS.items() if kind == "image"])
    def test_a_bad_image_is_an_outcome_and_the_others_go_on(self, stage: Stage, code: str) -> None:
        stage.ready(10)
        stage.model.answers(images(10)[3].key, refusal(code))
        report = stage.run()
        assert (report.labelled, report.failed, report.calls) == (9, 1, 10)
        bad = stage.outcomes[images(10)[3].key]
        assert (bad.status, bad.error_code, bad.error_message) == ("FAILED", code, "told so")

    @pytest.mark.parametrize("code", ["ProvisionedThroughputExceededException", "ThrottlingException"])
    def test_throttling_never_loses_an_image(self, stage: Stage, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Pacer, "wait", lambda self: 0.0)
        stage.ready(30)
        for each in images(30)[::3]:
            stage.model.answers(each.key, *[refusal(code)] * 20)
        report = stage.run()
        assert (report.labelled, report.failed, report.throttled_calls, report.calls) == (30, 0, 200, 230)

    @pytest.mark.parametrize(
        "passing",
        [
            refusal("InternalServerError", 500),
            refusal("ServiceUnavailableException", 503),
            refusal("SomethingNew", 502),
            ReadTimeoutError(endpoint_url="https://x"),
            ConnectTimeoutError(endpoint_url="https://x"),
            EndpointConnectionError(endpoint_url="https://x"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_what_passes_is_tried_again(self, stage: Stage, passing: Exception) -> None:
        stage.ready(3)
        stage.model.answers(images(3)[1].key, *[passing] * (calling.ATTEMPTS - 1))
        assert stage.run().labelled == 3

    def test_an_image_that_always_fails_while_others_succeed_is_to_blame(self, stage: Stage) -> None:
        stage.ready(20)
        stage.model.answers(images(20)[0].key, *[refusal("InternalServerError", 500)] * 100_000)
        assert (stage.run().labelled, len(stage.outcomes)) == (19, 20)
        bad = stage.outcomes[images(20)[0].key]
        assert (bad.status, bad.error_code) == ("FAILED", "InternalServerError")
        assert re.fullmatch(r"told so \(\d+ attempts\)", bad.error_message)


class TestTheRunIsOver:
    def test_an_outage_blames_no_image_and_ends_in_a_retry(self, stage: Stage) -> None:
        stage.model.always = refusal("InternalServerError", 500)
        stage.seconds = itertools.count(step=calling.OUTAGE_SECONDS / 3).__next__
        with pytest.raises(TransientError, match="has failed for .* s without a success"):
            stage.ready(10).run()
        assert stage.outcomes == {}

    @pytest.mark.parametrize("refusals", [20, 50, 100])
    def test_an_outage_that_passes_blames_no_image(self, stage: Stage, refusals: int) -> None:
        stage.seconds = itertools.count(step=0.01).__next__
        calls = itertools.count()

        def down(key: str) -> None:
            if next(calls) < refusals:
                raise refusal("InternalServerError", 500)

        stage.model.before_each = down
        report = stage.ready(30).run()
        assert (report.labelled, report.failed, report.calls) == (30, 0, 30 + refusals)

    def test_an_image_that_fails_all_alone_is_to_blame_in_the_end(self, stage: Stage) -> None:
        stage.seconds = itertools.count(step=1.0).__next__
        stage.model.always = refusal("InternalServerError", 500)
        report = stage.ready(1).run()
        assert (report.labelled, report.failed) == (0, 1)

    def test_a_model_that_is_not_running_says_what_to_do(self, stage: Stage) -> None:
        stage.model.always = refusal("ResourceNotReadyException")
        stage.status = lambda: "STOPPED"
        with pytest.raises(ModelNotRunningError, match=r"is STOPPED .*clear start_model \(not only failed tasks\)"):
            stage.ready(100).run()
        assert len(stage.model.requests) <= stage.settings.inference_threads
        assert stage.outcomes == {}

    @pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceNotFoundException", "LimitExceededException"])
    def test_what_no_retry_can_mend_stops_the_batch_at_once(self, stage: Stage, code: str) -> None:
        stage.model.always = refusal(code)
        with pytest.raises(TerminalError, match=rf"{code}.*Nothing is lost.*LABELS_PROJECT_VERSION_ARN"):
            stage.ready(100).run()
        assert len(stage.model.requests) <= stage.settings.inference_threads
        assert stage.outcomes == {}

    @pytest.mark.parametrize("code", ["AccessDeniedException", None])
    def test_that_the_model_ran_is_known_of_a_batch_that_was_over_in_no_time(
        self, stage: Stage, code: str | None
    ) -> None:
        stage.model.always = refusal(code) if code else None
        first_calls: list[datetime | None] = []
        stage.call_until = first_calls.append  # type: ignore[assignment]
        with pytest.raises(TerminalError) if code else contextlib.nullcontext():
            stage.ready(1).run()
        assert first_calls[-1] == NOW

    def test_what_was_labelled_before_the_model_went_is_kept(self, stage: Stage) -> None:
        stage.ready(100)
        stage.model.answers(images(100)[60].key, refusal("ResourceNotReadyException"))
        with pytest.raises(ModelNotRunningError):
            stage.run()
        assert set(stage.outcomes) == set(stage.model.served)
        assert len(stage.outcomes) >= 57

    def test_where_no_image_can_be_read_it_is_the_permissions(self, stage: Stage) -> None:
        stage.model.always = refusal("InvalidS3ObjectException")
        with pytest.raises(TerminalError, match="could be read by the model.*|could not be read.*s3:GetObject"):
            stage.ready(200).run()
        assert len(stage.model.requests) < 40

    def test_a_few_images_that_cannot_be_read_are_only_that(self, stage: Stage) -> None:
        stage.ready(60)
        for each in images(60)[1:60:2]:
            stage.model.answers(each.key, refusal("InvalidS3ObjectException"))
        report = stage.run()
        assert (report.labelled, report.failed) == (30, 30)

    def test_a_lost_lease_stops_the_batch_and_keeps_what_was_paid(self, stage: Stage) -> None:
        is_lost = threading.Event()

        def lost() -> None:
            is_lost.set()
            raise LeaseLostError("taken")

        stage.model.before_each = lambda key: is_lost.wait(5) if len(stage.model.requests) >= 250 else None
        stage.renew = lost
        stage.seconds = itertools.count(step=0.02).__next__
        with pytest.raises(LeaseLostError):
            stage.ready(3_000).run()
        assert 250 <= len(stage.outcomes) < 3_000
        assert set(stage.outcomes) == set(stage.model.served)


class TestCheckpoints:
    def test_they_are_at_most_a_hundred_images_apart(self, stage: Stage) -> None:
        stage.ready(1_050).run()
        parts = stage.s3.contents(FINAL, "batches/outcomes/b/part-")
        sizes = [body.count(b"\n") for body in parts.values()]
        assert sum(sizes) == 1_050
        assert max(sizes) <= CHECKPOINT_IMAGES

    def test_a_slow_model_is_checkpointed_by_time(self, stage: Stage) -> None:
        stage.seconds = itertools.count(step=0.5).__next__
        stage.model.before_each = lambda key: time.sleep(0.01)
        stage.ready(40).run()
        assert len(stage.s3.keys(FINAL, "batches/outcomes/b/part-")) > 1

    @pytest.mark.parametrize("dies_at", range(3, 8))
    def test_a_crash_pays_again_only_for_what_was_not_checkpointed(self, stage: Stage, dies_at: int) -> None:
        """Killed at each checkpoint: a resumed batch asks for no image that a checkpoint holds."""
        stage.ready(500)
        stage.s3.dies_at = dies_at
        with pytest.raises(Killed):
            stage.run()
        stage.s3.dies_at = None
        kept = set(stage.outcomes)
        assert len(kept) == (dies_at - 3) * CHECKPOINT_IMAGES
        stage.model.served.clear()
        report = stage.run()
        assert set(stage.model.served) == {each.key for each in images(500)} - kept
        assert report.images == 500 - len(kept)
        assert len(stage.outcomes) == 500
        assert stage.run() == InferReport()

    def test_an_interrupted_task_writes_what_is_paid_for_first(self, stage: Stage) -> None:
        """Airflow ends a task by an exception in its main thread."""

        def interrupt() -> None:
            raise SystemExit(143)

        stage.renew = interrupt
        stage.seconds = itertools.count(step=0.05).__next__
        with pytest.raises(SystemExit):
            stage.ready(3_000).run()
        assert set(stage.outcomes) == set(stage.model.served)
        stage.renew = lambda: None
        stage.run()
        assert set(stage.model.served.values()) == {1}
        assert len(stage.outcomes) == 3_000

    def test_calls_under_way_when_interrupted_are_waited_for(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(infer_module, "LAST_CALLS_SECONDS", 10.0)
        under_way, interrupted = threading.Barrier(5), threading.Event()

        def hold(key: str) -> None:
            # The first image is called for alone.
            if len(stage.model.requests) and not interrupted.is_set():
                under_way.wait(5)
                interrupted.wait(5)

        def interrupt() -> None:
            under_way.wait(5)
            interrupted.set()
            raise SystemExit(143)

        stage.model.before_each, stage.renew = hold, interrupt
        stage.seconds = itertools.count(step=5.0).__next__
        with pytest.raises(SystemExit):
            stage.ready(50).run()
        assert set(stage.outcomes) == set(stage.model.served)
        assert len(stage.outcomes) == 5

    def test_a_checkpoint_that_fails_is_an_error_and_not_a_loss(self, stage: Stage) -> None:
        stage.ready(150)
        stage.s3.refuse["put_object", "batches/outcomes/b/part-00001.jsonl"] = failure("SlowDown", "PutObject", 503)
        with pytest.raises(Exception, match="SlowDown"):
            stage.run()
        stage.s3.refuse.clear()
        stage.run()
        assert len(stage.outcomes) == 150

    def test_another_attempts_parts_are_never_written_over(self, stage: Stage) -> None:
        stage.ready(150)
        write_part(stage.s3, FINAL, "b", [outcome(images(150)[7], request_id="earlier")], number=0)
        stage.run()
        assert stage.outcomes[images(150)[7].key].request_id == "earlier"
        assert images(150)[7].key not in stage.model.served
        assert len(stage.outcomes) == 150

    def test_the_pacer_hears_how_many_call_from_the_start_and_every_other_second(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        heard: list[int] = []
        monkeypatch.setattr(Pacer, "share", lambda self, callers: heard.append(callers))
        stage.callers = itertools.count(start=5, step=-1).__next__
        stage.seconds = itertools.count(step=0.5).__next__
        stage.model.before_each = lambda key: time.sleep(0.01)
        stage.ready(100).run()
        assert heard[:3] == [4, 3, 2]

    def test_the_lease_is_renewed_while_it_works(self, stage: Stage) -> None:
        renewed: list[int] = []
        stage.renew = lambda: renewed.append(1)
        stage.seconds = itertools.count(step=0.5).__next__
        stage.ready(300).run()
        assert renewed


class TestWaiting:
    """Workers are ready before the model is RUNNING, so that it never bills while one starts."""

    @pytest.fixture
    def starting(self, stage: Stage) -> Stage:
        stage.status = lambda: "STARTING"
        stage.wait_seconds = 1e9
        return stage

    def test_a_starting_model_is_tried_with_one_image_until_it_lets_it_in(self, starting: Stage) -> None:
        starting.model.answers("photos/00000.jpg", *[refusal("ResourceNotReadyException")] * 5)
        report = starting.ready(20).run()
        assert (report.labelled, report.calls) == (20, 20)
        assert len(starting.model.requests) == 25
        assert {request["Image"]["S3Object"]["Name"] for request in starting.model.requests[:6]} == {"photos/00000.jpg"}

    def test_when_it_was_last_seen_not_running_is_told_apart_from_the_first_call(self, starting: Stage) -> None:
        starting.model.answers("photos/00000.jpg", *[refusal("ResourceNotReadyException")] * 3)
        assert starting.ready(1).run().not_running_at == NOW

    def test_it_is_waited_for_no_longer_than_a_start_may_take(self, starting: Stage) -> None:
        starting.model.always = refusal("ResourceNotReadyException")
        starting.wait_seconds = 30.0
        starting.seconds = itertools.count(step=1.0).__next__
        with pytest.raises(ModelNotRunningError):
            starting.ready(3).run()

    @pytest.mark.parametrize("status", ["STOPPED", "STOPPING", "FAILED", "TRAINING_COMPLETED"])
    def test_a_model_that_nobody_has_started_is_not_waited_for(self, starting: Stage, status: str) -> None:
        starting.model.always = refusal("ResourceNotReadyException")
        starting.status = lambda: status
        with pytest.raises(ModelNotRunningError, match=rf"{status} \(for a reason\).*clear start_model"):
            starting.ready(3).run()
        assert len(starting.model.requests) == 1

    def test_nor_is_one_that_runs_but_does_not_answer_for_long(self, starting: Stage) -> None:
        starting.model.always = refusal("ResourceNotReadyException")
        starting.status = lambda: "RUNNING"
        starting.seconds = itertools.count(step=1.0).__next__
        with pytest.raises(ModelNotRunningError, match="RUNNING, and has not answered for 6. s"):
            starting.ready(3).run()

    def test_a_start_that_fails_meanwhile_ends_the_wait(self, starting: Stage) -> None:
        starting.model.always = refusal("ResourceNotReadyException")
        starting.seconds = itertools.count(step=1.0).__next__
        statuses = iter(["STARTING", "STARTING", "FAILED"])
        starting.status = lambda: next(statuses)
        with pytest.raises(ModelNotRunningError):
            starting.ready(3).run()

    def test_a_model_that_runs_already_was_never_seen_not_running(self, stage: Stage) -> None:
        assert stage.ready(1).run().not_running_at is None

    def test_the_lease_is_renewed_meanwhile(self, starting: Stage) -> None:
        renewed = threading.Event()
        starting.model.always = refusal("ResourceNotReadyException")
        starting.seconds = itertools.count(step=0.5).__next__

        def renew() -> None:
            renewed.set()
            starting.model.always = None

        starting.renew = renew
        assert starting.ready(3).run().labelled == 3
        assert renewed.is_set()


class TestReport:
    def test_first_and_last_call(self, stage: Stage) -> None:
        moments = itertools.count()
        lock = threading.Lock()

        def now() -> Any:
            with lock:
                return NOW + timedelta(seconds=next(moments))

        stage.ready(5)
        report = infer(
            stage.model,
            stage.s3,
            stage.settings,
            "b",
            run_id="r",
            first_rate=1e6,
            now=now,
            monotonic=stage.seconds,
            renew_lease=stage.renew,
            describe_model=lambda: {"Status": "RUNNING"},
        )
        assert report.first_call_at == NOW
        assert report.last_call_at is not None
        assert report.last_call_at > NOW


class TestTheLastOfTheRun:
    """Whoever returns last asks for the stop: so every task must be able to tell, and none too early."""

    BATCHES = tuple(layout.pending_batch(priority="0", created=NOW, batch_id=name) for name in ("aa", "bb", "cc"))

    def is_last(self, s3: MemoryS3, batch_id: str, run_id: str = "r") -> bool:
        note_inferred(s3, FINAL, run_id, batch_id)
        return not not_inferred(s3, FINAL, run_id, self.BATCHES)

    def test_it_is_when_all_others_have_called_for_theirs(self, s3: MemoryS3) -> None:
        assert [self.is_last(s3, batch_id) for batch_id in ("bb", "aa", "cc")] == [False, False, True]

    def test_repeating_a_batch_does_not_count_for_another(self, s3: MemoryS3) -> None:
        assert not any(self.is_last(s3, batch_id) for batch_id in ("aa", "bb", "aa", "bb"))

    def test_batches_that_the_run_no_longer_has_do_not_count(self, s3: MemoryS3) -> None:
        for batch_id in ("xx", "yy", "zz"):
            self.is_last(s3, batch_id)
        assert not self.is_last(s3, "aa")

    def test_other_runs_do_not_count(self, s3: MemoryS3) -> None:
        for batch_id in ("aa", "bb"):
            self.is_last(s3, batch_id, run_id="another")
        assert not self.is_last(s3, "cc")

    def test_nothing_of_it_stays(self, s3: MemoryS3) -> None:
        before = s3.contents(FINAL)
        self.is_last(s3, "aa")
        forget_inferred(s3, FINAL, "r")
        assert s3.contents(FINAL) == before


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [(code, 400, kind) for code, kind in KINDS.items()]
    + [("AccessDeniedException", 400, "run"), ("Unheard", 400, "run"), ("Unheard", 500, "transient")],
)
def test_every_error_is_sorted(code: str, status: int, kind: str) -> None:
    assert kind_of(failure(code, "DetectCustomLabels", status)) == kind


def test_every_error_that_the_service_documents_is_known() -> None:
    service = get_session().get_service_model("rekognition")
    documented = {shape.name for shape in service.operation_model("DetectCustomLabels").error_shapes}
    stops_the_run = {"AccessDeniedException", "ResourceNotFoundException", "LimitExceededException"}
    assert documented <= set(KINDS) | stops_the_run
