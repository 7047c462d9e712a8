"""What holds for every command: usage, settings, errors, `--json`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from include.cli import runs
from include.settings import PREFIX
from tests.include.cli.conftest import Account, document, typed

ROOT = Path(__file__).parents[3]
COMMANDS = (
    ("backlog",),
    ("model",),
    ("model", "status"),
    ("model", "start"),
    ("model", "stop"),
    ("model", "hold"),
    ("model", "release"),
    ("hold",),
    ("release",),
    ("runs",),
    ("redrive",),
    ("audit",),
    ("reconcile",),
    ("doctor",),
    ("query",),
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_each_command_says_what_it_does(command: tuple[str, ...]) -> None:
    said = typed(*command, "--help")
    assert said.status == 0
    assert said.out.startswith("usage: ")
    assert len(said.out.split()) > 30


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("nonsense",),
        ("backlog", "--nonsense"),
        ("backlog", "more"),
        ("model", "start"),
        ("model", "start", "--minutes", "0"),
        ("model", "hold", "--minutes", "nan"),
        ("hold", "--minutes", "60000"),
        ("model", "start", "--minutes", "10", "--units", "0"),
        ("model", "start", "--minutes", "10", "--units", "six"),
        ("runs", "--last", "-1"),
        ("runs", "--month", "March"),
        ("runs", "--since", "2026-02-30"),
        ("runs", "--since", "2026-02-03", "--month", "2026-02"),
        ("redrive", "--limit", "0"),
        ("redrive", "--dead-letters", "--code", "GivenUp"),
        ("redrive", "--dead-letters", "--run", "manual__1", "--bucket", "b"),
    ],
    ids=" ".join,
)
def test_a_wrong_usage_is_told_apart_and_nothing_is_done(words: tuple[str, ...]) -> None:
    """There are no settings: a command that went on would fail otherwise, with 1."""
    said = typed(*words)
    assert said.status == 2
    assert "error: " in said.err
    assert said.out == ""


@pytest.mark.parametrize("command", [("backlog",), ("model", "stop"), ("runs",), ("redrive",)], ids=" ".join)
def test_missing_settings_are_told_all_at_once(command: tuple[str, ...]) -> None:
    said = typed(*command)
    assert said.status == 1
    for name in ("SOURCE_BUCKET", "FINAL_BUCKET", "QUEUE_URL", "REGION", "PROJECT_ARN", "PROJECT_VERSION_ARN"):
        assert f"{PREFIX}{name} is not set" in said.err


@pytest.mark.parametrize("words", [("--json", "backlog"), ("backlog", "--json")], ids=" ".join)
def test_a_script_gets_a_document_of_an_error_as_well(words: tuple[str, ...]) -> None:
    said = typed(*words)
    assert said.status == 1
    assert "6 setting(s) to mend" in said.document["error"]


def test_an_aws_that_does_not_answer_is_one_sentence(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    said = typed("runs")
    assert said.status == 1
    assert said.err.count("\n") == 1
    assert "http://127.0.0.1:9" in said.err


def test_what_may_not_be_done_is_one_sentence(account: Account) -> None:
    account.aws.add_fault(service="s3", operation="ListObjectsV2", error="AccessDenied")
    said = typed("runs")
    assert (said.status, said.err.count("\n")) == (1, 1)
    assert "AccessDenied" in said.err


def test_an_interrupted_command_says_that_it_may_be_typed_again(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "read_runs", interrupted)
    said = typed("runs")
    assert (said.status, said.out) == (130, "")
    assert said.err.startswith("Interrupted.")


def test_the_audit_is_passed_on_to(account: Account) -> None:
    key = "never \x1b[2J announced.jpg"
    account.s3.put_object(Bucket=account.settings.source_bucket, Key=key, Body=b"x")
    account.sqs.purge_queue(QueueUrl=account.queue)
    for name in ("audit", "reconcile"):
        said = typed(name, "--grace-minutes", "0")
        assert said.status == 1
        assert "unprocessed" in said.out
        assert "never \\x1b[2J announced.jpg" in said.out
    found = typed("--json", "audit", "--grace-minutes", "0", "--queue-unprocessed")
    assert found.document["findings"]["unprocessed"]["count"] == 1
    assert document("backlog")["images"] == 1


@pytest.mark.parametrize("words", [("--help",), ("doctor",)], ids=" ".join)
def test_a_terminal_that_knows_only_ascii_is_no_reason_to_fail(account: Account, words: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "include.cli", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "40"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()


def test_the_readme_names_every_command_there_is() -> None:
    day = (ROOT / "README.md").read_text().partition("## Every day")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", day, flags=re.MULTILINE)
    named = {word for row in rows for span in re.findall(r"`([^`]+)`", row) for word in span.split()}
    assert {word for command in COMMANDS for word in command} - named == set()
