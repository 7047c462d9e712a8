"""Whole runs of ``label_images`` on local AWS: what a run does, what it leaves alone, and what it says when it cannot."""

from __future__ import annotations

import json
from typing import Any

import pytest

from local_stack import seed
from tests.integration.deployment import Deployment
from tests.integration.in_process import DagRunner
from tests.integration.world import World

RESULTS = ("labels/", "results/image_labels/analysis=")


def results(world: World) -> dict[str, str]:
    """Published documents and Parquet files with their content's digest."""
    return {key: etag for prefix in RESULTS for key, etag in world.keys(prefix=prefix).items()}


def everything(world: World) -> tuple[Any, ...]:
    return (
        world.keys(seed.SOURCE_BUCKET),
        world.keys(),
        world.waiting_messages(),
        world.waiting_messages(seed.DEAD_LETTER_QUEUE),
    )


def assert_all_labelled_and_stopped(world: World) -> None:
    assert world.labelled() == set(world.uploads)
    assert world.batches("pending") == {}
    assert world.lost() == {}
    assert world.status() == "STOPPED"
    assert world.lease() is None


def assert_nothing_began(world: World) -> None:
    assert world.network.count("^StartProjectVersion") == 0
    assert world.labelled() == set()
    assert world.lost() == {}


# What a run does


def test_an_hour_of_uploads_on_the_real_scheduler(deployment: Deployment, world: World) -> None:
    world.upload(18)
    run_id = deployment.trigger()
    assert deployment.wait(run_id) == "success"
    assert_all_labelled_and_stopped(world)
    assert world.paid_calls() == 18
    assert world.waiting_messages() == 0
    report = deployment.airflow.xcom("label_images", run_id, "report")
    assert report["labelled"] == 18
    assert report["model_final_status"] == "STOPPED"
    states = deployment.states(run_id)
    assert states.pop("next_run") == {"skipped"}, "no archive goes on"
    assert set().union(*states.values()) == {"success"}


def test_no_log_of_a_whole_run_holds_a_secret_a_signed_address_or_a_message(
    deployment: Deployment, world: World
) -> None:
    world.upload(6)
    [announced, *_] = world.announcements()
    world.announce(["for the dead-letter queue, and not for a log"])
    run_id = deployment.trigger()
    assert deployment.wait(run_id) == "success"
    assert world.waiting_messages(seed.DEAD_LETTER_QUEUE) == 1
    event = json.loads(announced)["Records"][0]
    never = {
        "the secret key": deployment.site.secret(),
        "a signed address": "X-Amz-Signature",
        "an authorization": "AWS4-HMAC-SHA256",
        "an event": event["responseElements"]["x-amz-request-id"],
        "an event's sequencer": event["s3"]["object"]["sequencer"],
        "a message that is no event": "and not for a log",
    }
    logs = [file for folder in ("logs", "airflow/logs") for file in (deployment.site.home / folder).rglob("*.log")]
    texts = {file.name: file.read_text(errors="replace") for file in logs}
    assert any("Drained" in text for text in texts.values()), "the tasks' own logs are among them"
    assert [(name, what) for name, text in texts.items() for what, words in never.items() if words in text] == []


def test_uploads_are_labelled_once_and_announced_again_change_nothing(dags: DagRunner, world: World) -> None:
    world.upload(6)
    announcements = world.announcements()
    assert dags.run().state == "success"
    assert_all_labelled_and_stopped(world)
    first, paid = results(world), world.paid_calls()
    assert paid == 6

    world.announce(announcements)
    assert dags.run().state == "success"
    assert results(world) == first
    assert world.paid_calls() == paid
    assert_all_labelled_and_stopped(world)


def test_a_dry_run_says_what_it_would_do_and_changes_nothing(dags: DagRunner, world: World) -> None:
    world.upload(6)
    before = everything(world)
    ended = dags.run(dry_run=True)
    assert ended.state == "success"
    assert "Dry run, nothing was changed. Start: 6 images" in ended.log
    assert everything(world) == before
    assert_nothing_began(world)


def test_too_few_uploads_are_postponed_and_stay_pending(
    dags: DagRunner, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABELS_MINIMUM_BACKLOG", "100")
    world.upload(3)
    ended = dags.run_scheduled(monkeypatch)
    assert ended.state == "success"
    assert "Postponed: 3 images pending, fewer than the minimum of 100" in ended.log
    assert len(world.batches("pending")) == 1
    assert_nothing_began(world)


def test_a_run_waits_its_turn_while_another_holds_the_lease(dags: DagRunner, world: World) -> None:
    world.upload(3)
    world.give_lease_to("label_images/somebody")
    ended = dags.run()
    assert ended.state == "success"
    assert "Postponed: label_images/somebody uses the model" in ended.log
    assert_nothing_began(world)
    lease = world.lease()
    assert lease
    assert lease.holder == "label_images/somebody"


# What a person asks for


def test_a_prefix_labels_what_lies_below_it_and_nothing_else(dags: DagRunner, world: World) -> None:
    wanted = world.upload(4, folder="summer sale")
    world.upload(4, folder="winter sale")
    ended = dags.run(what="a prefix", prefix=f"s3://{seed.SOURCE_BUCKET}/summer sale/")
    assert ended.state == "success"
    assert world.labelled() == set(wanted)
    assert world.paid_calls() == 4
    assert world.lost() == {}
    assert world.status() == "STOPPED"


def test_listed_images_are_labelled_again_only_by_force(
    dags: DagRunner, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABELS_ORIGINALS", "leave")
    keys = world.upload(4)
    uris = [f"s3://{seed.SOURCE_BUCKET}/{key}" for key in keys[:2]]
    for force, paid in ((False, 2), (False, 2), (True, 4)):
        ended = dags.run(what="a list of S3 URIs", uris=uris, force=force)
        assert ended.state == "success"
        assert world.paid_calls() == paid
    assert world.labelled() == set(keys[:2])
    assert set(world.keys(seed.SOURCE_BUCKET)) == set(keys)


def test_a_bucket_that_is_not_allowed_is_named_and_nothing_begins(dags: DagRunner, world: World) -> None:
    world.upload(1)
    ended = dags.run(what="a prefix", prefix="s3://somebody-elses/images/")
    assert ended.state == "failed"
    assert "Not allowed: bucket somebody-elses" in ended.log
    assert "LABELS_ALLOWED_BUCKETS adds more" in ended.log
    assert_nothing_began(world)


# When it cannot


def test_missing_and_wrong_settings_are_listed_together_before_anything_begins(
    dags: DagRunner, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.upload(1)
    monkeypatch.delenv("LABELS_FINAL_BUCKET")
    monkeypatch.delenv("LABELS_QUEUE_URL")
    monkeypatch.setenv("LABELS_BATCH_SIZE", "many")
    ended = dags.run()
    assert ended.state == "failed"
    assert ended.of("drain") == {"failed"}
    for text in ("3 setting(s) to mend", "LABELS_FINAL_BUCKET is not set", "LABELS_QUEUE_URL is not set", "'many'"):
        assert text in ended.log
    assert_nothing_began(world)


def test_a_model_that_cannot_run_is_named_with_the_services_reason(dags: DagRunner, world: World) -> None:
    world.upload(2)
    world.aws.set_model(world.version_arn, status="EXPIRED", status_message="The reason of the service.")
    ended = dags.run()
    assert ended.state == "failed"
    assert "is EXPIRED and will not become RUNNING: The reason of the service." in ended.log
    assert_nothing_began(world)
    assert len(world.batches("pending")) == 1


@pytest.mark.parametrize(
    ("setting", "value", "named"),
    [
        ("LABELS_QUEUE_URL", "no-such-queue", "no-such-queue: it does not exist"),
        ("LABELS_FINAL_BUCKET", "no-such-bucket", "LABELS_FINAL_BUCKET=no-such-bucket: it does not exist"),
    ],
)
def test_a_queue_or_bucket_that_does_not_exist_is_said_so_and_nothing_is_lost(
    dags: DagRunner, world: World, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, named: str
) -> None:
    world.upload(2)
    monkeypatch.setenv(
        setting, world.settings[setting].replace("uploads", value) if "/" in world.settings[setting] else value
    )
    ended = dags.run()
    assert ended.state == "failed"
    assert named in ended.log
    assert_nothing_began(world)


def test_a_model_that_may_not_be_called_keeps_the_images_pending(dags: DagRunner, world: World) -> None:
    world.upload(3)
    world.network.refuse("^DetectCustomLabels")
    ended = dags.run()
    assert ended.state == "failed"
    assert "DetectCustomLabels cannot succeed (AccessDeniedException" in ended.log
    assert "Check the role's permissions" in ended.log
    assert len(world.batches("pending")) == 1
    assert world.lost() == {}
    assert world.status() == "STOPPED"

    world.network.mend()
    assert dags.run().state == "success"
    assert_all_labelled_and_stopped(world)


# Broken off and run again


@pytest.mark.parametrize(
    "cut",
    [
        pytest.param("^DeleteMessageBatch", id="messages not deleted"),
        pytest.param("^PUT .*/batches/outcomes/.*/preflight", id="preflight not written"),
        pytest.param("^PUT .*/results/image_labels/", id="parquet not written"),
        pytest.param("^DELETE .*/batches/pending/", id="done and pending still"),
    ],
)
def test_a_run_broken_off_and_run_again_ends_as_if_nothing_had_happened(
    dags: DagRunner, world: World, cut: str
) -> None:
    world.upload(6)
    world.network.refuse(cut, "AccessDenied", status=403)
    broken_off = dags.run()
    assert world.status() == "STOPPED"
    assert world.lease() is None
    assert world.lost() == {}
    assert world.paid_calls() in (0, 6)

    world.network.mend()
    again = dags.run() if broken_off.state == "failed" else broken_off
    assert again.state == "success"
    assert_all_labelled_and_stopped(world)
    assert world.paid_calls() == 6, "no image is paid for twice"
    assert len(world.batches("done")) == 1
    assert len(results(world)) == 7
