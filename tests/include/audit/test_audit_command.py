"""The audit as a command, for people and for scripts."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from include import audit as audit_module
from include.audit import main, to_json
from tests.include.audit.audited_world import LATER, World
from tests.include.memory_s3 import MemoryS3, failure
from tests.include.samples import INBOX, VALUES, picture


def test_json_has_every_finding_and_the_verdict(world: World) -> None:
    world.delete("images/inbox/plain.jpg")
    read = json.loads(to_json(world.audit()))
    assert read["is_clean"] is False
    assert read["findings"]["lost"]["count"] == 1
    assert read["findings"]["row_twice"] == {"kind": "row_twice", "count": 0, "examples": []}
    assert read["audited_at"] == "2026-03-01T14:00:00+00:00"


@pytest.fixture
def command(world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command line, on this world, at LATER."""

    class Clock(datetime):
        @classmethod
        def now(cls, zone: Any = None) -> Any:
            return LATER

    clients = {"s3": world.s3, "sqs": world.queue, "rekognition": world.model}
    monkeypatch.setattr("boto3.client", lambda name, *_, **__: clients[name])
    monkeypatch.setattr(audit_module, "datetime", Clock)
    for name, value in VALUES.items():
        monkeypatch.setenv(f"LABELS_{name.upper()}", str(value))
    return lambda *arguments: main(arguments)


def test_all_well(command: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert command() == 0
    assert "All of it adds up" in capsys.readouterr().out


def test_something_is_wrong(world: World, command: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    world.delete("images/inbox/plain.jpg")
    assert command("--json") == 1
    assert json.loads(capsys.readouterr().out)["findings"]["lost"]["count"] == 1


def test_it_could_not_be_audited(
    world: World, command: Callable[..., int], s3: MemoryS3, capsys: pytest.CaptureFixture[str]
) -> None:
    s3.refuse["list_objects_v2", ""] = failure("AccessDenied", "ListObjectsV2", 403)
    assert command() == 2
    assert "nothing is known" in capsys.readouterr().err


def test_settings_are_missing(
    command: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("LABELS_QUEUE_URL")
    assert command() == 2
    assert "LABELS_QUEUE_URL is not set" in capsys.readouterr().err


def test_what_is_unprocessed_is_queued_only_when_asked_to(
    world: World, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    world.s3.put_object(Bucket=INBOX, Key="unheard.jpg", Body=picture())
    assert command("--grace-minutes", "30") == 1
    assert world.keys("batches/pending/") == []
    assert command("--queue-unprocessed") == 1
    assert len(world.keys("batches/pending/")) == 1
    assert "Queued 1 images in 1 batches" in capsys.readouterr().err
    assert command() == 0
