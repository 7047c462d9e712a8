from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.session
import pytest

from include.cli import model_by_hand
from include.model_state import Hold
from local_stack.seed import FINAL_BUCKET
from tests.include.cli.conftest import Account, document, typed

# All that AWS knows.
STATUSES: list[str] = (
    botocore.session.get_session().get_service_model("rekognition").shape_for("ProjectVersionStatus").enum
)
STATE = "state/model/products/products-v1.json"


def held_by(account: Account) -> str | None:
    known = account.state.read()
    return known.hold.holder if known.hold and known.is_held(datetime.now(UTC)) else None


def test_the_model_alone_is_its_status(account: Account) -> None:
    found = document("model")
    assert found == document("model", "status")
    assert (found["status"], found["hold"], found["used_by"], found["usd_per_hour"]) == ("STOPPED", None, None, 0.0)


def test_its_status_says_who_uses_it_who_holds_it_and_what_that_costs(account: Account) -> None:
    account.rekognition.start_project_version(
        ProjectVersionArn=account.values["LABELS_PROJECT_VERSION_ARN"], MinInferenceUnits=3
    )
    account.set_model("RUNNING")
    account.take_lease("label_images/manual__3")
    typed("model", "hold", "--minutes", "5", "--by", "ann")
    found = document("model")
    assert (found["inference_units"], found["usd_per_hour"]) == (3, 12.0)
    assert found["used_by"].startswith("label_images/manual__3 until")
    assert found["hold"].startswith("ann holds it until")


@pytest.mark.parametrize("status", STATUSES)
def test_each_state_has_its_meaning(account: Account, status: str) -> None:
    account.set_model(status)
    said = typed("model")
    assert said.status == 0
    assert model_by_hand.STATES[status] in said.out


def test_a_damaged_state_does_not_hide_the_model(account: Account) -> None:
    account.s3.put_object(Bucket=FINAL_BUCKET, Key=STATE, Body=b"{")
    account.set_model("RUNNING")
    said = typed("--json", "model")
    assert (said.status, said.document["status"]) == (0, "RUNNING")
    assert "is damaged" in said.err


@pytest.mark.parametrize("status", ["STOPPED", "TRAINING_COMPLETED", "COPYING_COMPLETED"])
def test_a_model_that_is_off_is_held_and_started(account: Account, status: str) -> None:
    account.set_model(status)
    said = typed("model", "start", "--minutes", "30", "--units", "2", "--by", "ann")
    assert said.status == 0
    assert account.status() == "STARTING"
    assert held_by(account) == "ann"
    assert "$8.00 an hour" in said.out
    assert "stop_idle_model" in said.out
    hold = account.state.read().hold
    assert hold
    assert timedelta(minutes=29) < hold.expires_at - datetime.now(UTC) <= timedelta(minutes=30)


def test_a_failed_start_is_tried_once_more_and_aws_has_the_last_word(account: Account) -> None:
    account.set_model("FAILED")
    said = typed("model", "start", "--minutes", "30")
    assert said.status == 1
    assert "AWS starts none that is FAILED" in said.err
    assert held_by(account) is None


def test_the_hold_is_there_before_the_start(account: Account) -> None:
    """Else the watchdog may stop it again at once."""
    account.aws.add_fault(service="s3", operation="PutObject", error="AccessDenied")
    assert typed("model", "start", "--minutes", "30").status == 1
    assert account.status() == "STOPPED"


@pytest.mark.parametrize("status", ["STARTING", "RUNNING"])
def test_a_model_that_is_on_is_only_held(account: Account, status: str) -> None:
    account.set_model(status)
    account.take_lease("label_images/manual__3")
    said = typed("model", "start", "--minutes", "30", "--by", "ann")
    assert said.status == 0
    assert f"The model is {status} already" in said.out
    assert "label_images/manual__3 uses it as well" in said.out
    assert (account.status(), held_by(account)) == (status, "ann")


@pytest.mark.parametrize(
    "status", sorted(set(STATUSES) - {*model_by_hand.STARTABLE, *model_by_hand.ON}) or ["none is left"]
)
def test_a_model_that_cannot_be_started_is_not_held(account: Account, status: str) -> None:
    account.set_model(status)
    said = typed("model", "start", "--minutes", "30")
    assert said.status == 1
    assert f"The model is {status} and was not started" in said.err
    assert model_by_hand.STATES[status] in said.err
    assert (account.status(), held_by(account)) == (status, None)


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("LimitExceededException", "a quota of AWS is used up"),
        ("ResourceInUseException", "somebody starts or stops it"),
        ("AccessDeniedException", "AccessDenied"),
    ],
)
def test_a_refused_start_leaves_the_hold_as_it_was(account: Account, code: str, advice: str) -> None:
    account.aws.add_fault(service="rekognition", operation="StartProjectVersion", error=code)
    said = typed("model", "start", "--minutes", "30", "--by", "ann")
    assert said.status == 1
    assert "was not started, and is not held" in said.err
    assert advice in said.err
    assert held_by(account) is None
    typed("model", "hold", "--minutes", "5", "--by", "bob")
    typed("model", "start", "--minutes", "30", "--by", "ann")
    assert held_by(account) == "bob"


def test_an_answer_that_never_came_holds_nothing(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start may have been heard: without a hold the watchdog stops it."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    account.aws.add_fault(service="rekognition", operation="StartProjectVersion", drop="after")
    said = typed("model", "start", "--minutes", "30")
    assert said.status == 1
    assert "not known" in said.err
    assert held_by(account) is None


def test_more_units_than_the_settings_allow_are_refused(account: Account) -> None:
    said = typed("model", "start", "--minutes", "30", "--units", "6")
    assert said.status == 2
    assert "LABELS_INFERENCE_UNITS_MAX is 5" in said.err
    assert account.status() == "STOPPED"


def test_stopping_ends_the_hold(account: Account) -> None:
    account.set_model("RUNNING")
    typed("model", "hold", "--minutes", "30", "--by", "ann")
    said = typed("model", "stop")
    assert said.status == 0
    assert "The hold of ann has ended" in said.out
    assert (account.status(), held_by(account)) == ("STOPPING", None)


@pytest.mark.parametrize("status", sorted(set(STATUSES) - {"RUNNING", "STARTING"}))
def test_stopping_what_is_not_on_is_no_error(account: Account, status: str) -> None:
    account.set_model(status)
    said = typed("model", "stop")
    assert said.status == 0
    assert f"The model is {status}: there is nothing to stop" in said.out
    assert account.status() == status


def test_a_model_that_a_run_uses_is_stopped_only_by_force(account: Account) -> None:
    account.set_model("RUNNING")
    account.take_lease("label_images/manual__3")
    typed("model", "hold", "--minutes", "30", "--by", "ann")
    said = typed("model", "stop")
    assert said.status == 1
    assert "label_images/manual__3 uses the model" in said.err
    assert (account.status(), held_by(account)) == ("RUNNING", "ann")
    assert typed("model", "stop", "--force").status == 0
    assert (account.status(), held_by(account)) == ("STOPPING", None)


def test_a_lease_that_ran_out_protects_nobody(account: Account) -> None:
    account.set_model("RUNNING")
    account.state.acquire("label_images/old", minutes=10, now=datetime.now(UTC) - timedelta(hours=1))
    assert typed("model", "stop").status == 0
    assert account.status() == "STOPPING"


@pytest.mark.parametrize("operation", ["GetObject", "PutObject"])
def test_a_state_that_cannot_be_read_or_written_does_not_keep_it_on(account: Account, operation: str) -> None:
    account.set_model("RUNNING")
    account.state.set_hold(Hold("ann", datetime.now(UTC) + timedelta(hours=1)))
    account.aws.add_fault(service="s3", operation=operation, key="state/", error="AccessDenied")
    assert typed("model", "stop").status == 0
    assert account.status() == "STOPPING"


def test_a_start_that_cannot_be_stopped_yet_is_said(account: Account) -> None:
    account.aws.settings(stop_while_starting="refuse")
    try:
        typed("model", "start", "--minutes", "30")
        said = typed("model", "stop")
        assert said.status == 1
        assert "Type this again in a minute" in said.err
        assert (account.status(), held_by(account)) == ("STARTING", None)
    finally:
        account.aws.settings(stop_while_starting="accept")


def test_a_hold_that_somebody_has_for_longer_stays(account: Account) -> None:
    typed("model", "hold", "--minutes", "60", "--by", "ann")
    said = typed("model", "hold", "--minutes", "30", "--by", "bob")
    assert said.status == 0
    assert "ann holds it until" in said.out
    assert "which is longer" in said.out
    assert held_by(account) == "ann"
    typed("model", "hold", "--minutes", "90", "--by", "bob")
    assert held_by(account) == "bob"


def test_ones_own_hold_may_be_made_shorter(account: Account) -> None:
    typed("model", "hold", "--minutes", "60", "--by", "ann")
    typed("hold", "--minutes", "5", "--by", "ann")
    hold = account.state.read().hold
    assert hold
    assert hold.expires_at - datetime.now(UTC) <= timedelta(minutes=5)


@pytest.mark.parametrize("words", [("release",), ("model", "release")], ids=" ".join)
def test_a_hold_is_released_by_anybody(account: Account, words: tuple[str, ...]) -> None:
    typed("model", "hold", "--minutes", "60", "--by", "ann")
    found: Any = document(*words)
    assert found["hold"] is None
    assert held_by(account) is None
