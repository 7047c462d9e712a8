"""A budget, a cap, a hold, somebody else's model: the real Dags say what they do about it, and people are told."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk.bases.notifier import BaseNotifier

from include import cli
from include.model_state import Hold
from tests.integration.in_process import DagRunner
from tests.integration.situations import assert_all_labelled, assert_safe
from tests.integration.world import World

TOLD: list[str] = []


class ToldHere(BaseNotifier):
    """What a user plugs in: a notifier, made by a function of the line."""

    def __init__(self, line: str) -> None:
        super().__init__()
        self.line = line

    def notify(self, context: Any) -> None:
        TOLD.append(self.line)


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("LABELS_ALERTS", f"{__name__}.ToldHere")
    TOLD.clear()
    return TOLD


@pytest.fixture
def topic(world: World) -> tuple[str, str]:
    """An SNS topic, and the queue that its messages reach."""
    sns, name = world.aws.client("sns"), "alerts"
    queue = world.sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = world.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = sns.create_topic(Name=name)["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    return topic, queue


def hold(world: World, *, minutes: float) -> None:
    world.state.set_hold(Hold("ann", datetime.now(UTC) + timedelta(minutes=minutes)))


def test_past_the_budget_the_model_stays_off_the_run_is_green_and_people_are_told(
    dags: DagRunner, world: World, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    world.upload(6)
    assert dags.run().state == "success"  # a minute: $0.07
    monkeypatch.setenv("LABELS_MONTHLY_BUDGET_USD", "0.10")
    world.upload(6, folder="later")
    ended = dags.run()
    assert ended.state == "success"
    assert ended.of("start_model") == {"skipped"}
    assert "Refused: the model has cost $0.07 this month" in ended.log
    assert [line.partition(":")[0] for line in told] == ["Refused"]
    assert world.times_run() == 1
    assert_safe(world)

    monkeypatch.setenv("LABELS_MONTHLY_BUDGET_USD", "10")
    assert dags.run().state == "success"
    assert_all_labelled(world)


def test_near_the_cap_no_new_image_is_taken_and_the_next_run_goes_on(
    dags: DagRunner, world: World, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    monkeypatch.setenv("LABELS_MAX_MODEL_MINUTES", "1")
    # Of the minute ten seconds are kept for the end: so many images, one at a time, take longer than what is left.
    monkeypatch.setattr("labelling.tasks.LAST_SECONDS", timedelta(seconds=57))
    monkeypatch.setenv("LABELS_INFERENCE_THREADS", "1")
    monkeypatch.setenv("LABELS_BATCH_SIZE", "12")
    world.aws.settings(inference_latency=0.5)
    world.upload(24)
    ended = dags.run()
    assert ended.state == "success", "that some are left is no failure"
    assert "the model's time is up" in ended.log
    assert [line.partition(":")[0] for line in told] == [f"{24 - world.paid_calls()} images stay pending"]
    paid = world.paid_calls()
    assert 0 < paid < 24
    assert len(world.batches("pending")) >= 1
    assert_safe(world)

    world.aws.settings(inference_latency=0)
    monkeypatch.delenv("LABELS_MAX_MODEL_MINUTES")
    assert dags.run().state == "success"
    assert_all_labelled(world)
    assert world.paid_calls() == 24, "what was checkpointed is not paid for again"


def test_a_held_model_goes_on_running_after_the_run_and_everyone_says_so(dags: DagRunner, world: World) -> None:
    world.upload(3)
    hold(world, minutes=30)
    ended = dags.run()
    assert ended.state == "success"
    assert "The model is left running, and bills: ann holds it until" in ended.log
    assert "The model goes on running, and bills: ann holds it until" in ended.log
    assert world.status() == "RUNNING"
    assert world.lease() is None
    watchdog = dags.run("stop_idle_model")
    assert watchdog.state == "success"
    assert "The model is RUNNING, and bills: ann holds it until" in watchdog.log

    world.state.end_hold(now=datetime.now(UTC))
    watchdog = dags.run("stop_idle_model")
    assert watchdog.state == "success", "a hold that ends is no accident"
    assert "The hold of ann has ended" in watchdog.log
    assert_safe(world)
    assert world.state.read().hold is None


def test_a_hold_that_ended_long_ago_says_nothing_of_who_starts_the_model_now(dags: DagRunner, world: World) -> None:
    hold(world, minutes=-5)
    assert dags.run("stop_idle_model").state == "success"
    assert world.state.read().hold is None
    world.aws.set_model(world.version_arn, status="RUNNING")
    assert dags.run("stop_idle_model").state == "failed"
    assert_safe(world)


@pytest.mark.parametrize(("setting", "status"), [("stop", "STOPPED"), ("warn", "RUNNING")])
def test_a_model_that_somebody_else_has_started_is_stopped_or_warned_of(
    dags: DagRunner, world: World, monkeypatch: pytest.MonkeyPatch, told: list[str], setting: str, status: str
) -> None:
    monkeypatch.setenv("LABELS_FOREIGN_MODEL", setting)
    world.aws.set_model(world.version_arn, status="RUNNING")
    assert dags.run("stop_idle_model").state == "failed"
    assert world.status() == status
    (line,) = told
    assert line.startswith("stop_idle_model: stop_if_idle failed. The model ")
    assert ("no run of this deployment has started it" in line) == (setting == "warn")


def test_what_a_crashed_run_left_is_stopped_whatever_is_done_about_others_models(
    dags: DagRunner, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABELS_FOREIGN_MODEL", "warn")
    world.give_lease_to("label_images/crashed")
    world.let_lease_run_out()
    world.aws.set_model(world.version_arn, status="RUNNING")
    assert dags.run("stop_idle_model").state == "failed"
    assert_safe(world)


def test_a_watchdog_that_cannot_look_tells_people(dags: DagRunner, world: World, told: list[str]) -> None:
    world.network.refuse("^DescribeProjectVersions")
    assert dags.run("stop_idle_model").state == "failed"
    assert len(told) == 1
    assert "AccessDenied" in told[0]


def test_a_failed_run_is_told_to_a_topic_and_to_what_a_user_plugs_in(
    dags: DagRunner, world: World, monkeypatch: pytest.MonkeyPatch, topic: tuple[str, str], told: list[str]
) -> None:
    monkeypatch.setenv("LABELS_ALERTS", f"no.such.module, {topic[0]}, {__name__}.ToldHere")
    world.upload(3)
    world.network.refuse("^DetectCustomLabels", times=1)
    ended = dags.run()
    assert ended.state == "failed"
    assert "no.such.module could not be told" in ended.log
    [message] = world.sqs.receive_message(QueueUrl=topic[1], WaitTimeSeconds=5)["Messages"]
    assert json.loads(message["Body"])["Message"] == told[0]
    assert told[0].startswith(f"label_images: run {ended.run_id} failed. No image is lost")


def test_quarantine_and_dead_letters_are_told_although_the_run_is_green(
    dags: DagRunner, world: World, told: list[str]
) -> None:
    key = "{{ 7 * 7 }}.jpg"  # a stranger may name images: nothing of that is rendered
    world.s3.put_object(Bucket=world.settings["LABELS_SOURCE_BUCKET"], Key=key, Body=b"no image")
    world.announce(["nonsense"])
    assert dags.run().state == "success"
    assert len(told) == 2
    assert told[0].startswith("1 images could not be labelled")
    assert told[1].startswith("1 messages lie in the dead-letter queue")


def test_a_batch_that_fails_again_and_again_ends_in_quarantine_and_redrive_brings_it_back(
    dags: DagRunner, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LABELS_BATCH_ATTEMPTS", "2")
    world.upload(3)
    for _ in range(2):
        world.network.refuse("^DetectCustomLabels", times=1)
        assert dags.run().state == "failed"
    assert world.times_run() == 2
    ended = dags.run()
    assert ended.state == "failed"
    assert "1 batches were given up" in ended.log
    assert world.times_run() == 2, "it starts the model no more"
    assert world.status() == "STOPPED"
    quarantined = [key for key in world.keys(prefix="quarantine/") if not key.endswith(".error.json")]
    assert len(quarantined) == 3
    assert dags.run().state == "success"

    for name, value in world.aws.environment().items():
        monkeypatch.setenv(name, value)
    assert cli.main(["--json", "redrive", "--code", "GivenUp"]) == 0
    assert json.loads(capsys.readouterr().out)["queued"] == 3
    assert dags.run().state == "success"
    assert_safe(world)
    assert_all_labelled(world)
    assert world.keys(prefix="quarantine/") == {}


def test_the_command_line_holds_the_model_and_lets_go(
    dags: DagRunner, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in world.aws.environment().items():
        monkeypatch.setenv(name, value)
    assert cli.main(["model", "hold", "--minutes", "30", "--by", "ann"]) == 0
    assert "ann holds it until" in capsys.readouterr().out
    assert cli.main(["--json", "model", "status"]) == 0
    assert "ann holds it until" in json.loads(capsys.readouterr().out)["hold"]
    assert cli.main(["--json", "model", "release"]) == 0
    assert json.loads(capsys.readouterr().out)["hold"] is None
