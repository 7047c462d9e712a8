"""The state machine, the limits and the meter by themselves, at times that are set."""

from __future__ import annotations

import dataclasses

import pytest

from local_aws.rekognition.account import STATUSES, Account
from local_aws.rekognition.resources import ProjectVersion, S3Location, TrainedModel
from local_aws.settings import Settings
from local_aws.wire import AwsError

OUTPUT = S3Location("bucket", "output")
TRAINED = TrainedModel(b"", "detection", {"a": 0.5}, 1.0, 1, OUTPUT, {})


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def account(clock: Clock) -> Account:
    return Account("123456789012", Settings(), clock)


def new_version(account: Account, name: str = "v1") -> ProjectVersion:
    """A trained version of a project of its own."""
    project = account.create_project("us-east-1", name, feature="CUSTOM_LABELS", auto_update="DISABLED", tags={})
    version = account.create_version(project, name, OUTPUT)
    account.training_completed(version, TRAINED)
    return version


def refusal_of(account: Account, version: ProjectVersion) -> str | None:
    """How a call is turned away, None when it is served."""
    try:
        account.admit(version.arn)
    except AwsError as error:
        return f"{error.code}: {error.message}"
    return None


def refusal(error: pytest.ExceptionInfo[AwsError]) -> str:
    return error.value.code


def test_a_version_passes_through_its_life_at_the_documented_pace(account: Account, clock: Clock) -> None:
    version = new_version(account)
    seen = [version.status]
    account.start(version.arn, 1, None)
    for seconds in (0, 599, 1, 3600):
        clock.now += seconds
        seen.append(account.version(version.arn).status)
    account.stop(version.arn)
    for seconds in (0, 59, 1):
        clock.now += seconds
        seen.append(account.version(version.arn).status)
    assert seen == [
        "TRAINING_COMPLETED",
        *("STARTING", "STARTING", "RUNNING", "RUNNING"),
        *("STOPPING", "STOPPING", "STOPPED"),
    ]


def test_time_scale_shortens_both_durations(account: Account, clock: Clock) -> None:
    account.settings = dataclasses.replace(account.settings, time_scale=0.01)
    version = new_version(account)
    account.start(version.arn, 1, None)
    clock.now += 6
    assert account.version(version.arn).status == "RUNNING"
    account.stop(version.arn)
    clock.now += 0.6
    assert account.version(version.arn).status == "STOPPED"


@pytest.mark.parametrize(
    "status", [each for each in STATUSES if each not in ("TRAINING_COMPLETED", "STOPPED", "COPYING_COMPLETED")]
)
def test_only_a_trained_or_stopped_version_starts(account: Account, status: str) -> None:
    version = new_version(account)
    account.override(version.arn, status=status, status_message="", next_start_fails=None)
    with pytest.raises(AwsError, match=status) as error:
        account.start(version.arn, 1, None)
    assert refusal(error) == "ResourceInUseException"


@pytest.mark.parametrize("status", [each for each in STATUSES if each not in ("RUNNING", "STARTING")])
def test_only_a_running_or_starting_version_stops(account: Account, status: str) -> None:
    version = new_version(account)
    account.override(version.arn, status=status, status_message="", next_start_fails=None)
    with pytest.raises(AwsError, match=status) as error:
        account.stop(version.arn)
    assert refusal(error) == "ResourceInUseException"


@pytest.mark.parametrize("status", [each for each in STATUSES if each != "RUNNING"])
def test_only_a_running_version_detects(account: Account, status: str) -> None:
    version = new_version(account)
    account.override(version.arn, status=status, status_message="", next_start_fails=None)
    with pytest.raises(AwsError, match=status) as error:
        account.admit(version.arn)
    assert refusal(error) == "ResourceNotReadyException"


def test_stopping_while_starting_is_accepted_or_refused_as_set(account: Account, clock: Clock) -> None:
    version = new_version(account)
    account.settings = dataclasses.replace(account.settings, stop_while_starting="refuse")
    account.start(version.arn, 1, None)
    with pytest.raises(AwsError, match="STARTING"):
        account.stop(version.arn)
    account.settings = dataclasses.replace(account.settings, stop_while_starting="accept")
    assert account.stop(version.arn).status == "STOPPING"
    clock.now += 60
    assert account.version(version.arn).status == "STOPPED"
    assert account.bill()["models"] == []


def test_a_start_can_be_made_to_fail_once(account: Account, clock: Clock) -> None:
    version = new_version(account)
    account.override(version.arn, status=None, status_message="", next_start_fails="no capacity")
    account.start(version.arn, 1, None)
    clock.now += 600
    assert (account.version(version.arn).status, version.status_message) == ("FAILED", "no capacity")
    assert account.bill()["cost_usd"] == 0
    account.override(version.arn, status="STOPPED", status_message="", next_start_fails=None)
    account.start(version.arn, 1, None)
    clock.now += 600
    assert account.version(version.arn).status == "RUNNING"


@pytest.mark.parametrize(
    ("least", "most", "expected"),
    [(6, None, "LimitExceededException"), (1, 6, "LimitExceededException"), (3, 2, "InvalidParameterException")],
)
def test_inference_units_have_a_limit_and_an_order(
    account: Account, least: int, most: int | None, expected: str
) -> None:
    version = new_version(account)
    with pytest.raises(AwsError) as error:
        account.start(version.arn, least, most)
    assert refusal(error) == expected
    assert version.status == "TRAINING_COMPLETED"


def test_two_models_run_at_a_time_and_stopping_ones_count(account: Account, clock: Clock) -> None:
    first, second, third = (new_version(account, name) for name in ("a", "b", "c"))
    account.start(first.arn, 1, None)
    account.start(second.arn, 1, None)
    clock.now += 600
    account.stop(first.arn)
    with pytest.raises(AwsError, match="a, b") as error:
        account.start(third.arn, 1, None)
    assert refusal(error) == "LimitExceededException"
    clock.now += 60
    assert account.start(third.arn, 1, None).status == "STARTING"


def test_throughput_is_what_the_units_give_after_a_burst_of_a_second(account: Account, clock: Clock) -> None:
    version = new_version(account)
    account.start(version.arn, 3, None)
    clock.now += 600

    def flood() -> int:
        """How many of a hundred calls at once are served."""
        return sum(refusal_of(account, version) is None for _ in range(100))

    assert flood() == 15
    assert refusal_of(account, version) == "ProvisionedThroughputExceededException: Provisioned Rate exceeded."
    clock.now += 0.25
    assert flood() == 3
    clock.now += 100
    assert flood() == 15
    [bill] = account.bill()["models"]
    assert (bill["calls_served"], bill["calls_throttled"]) == (33, 268)


def test_the_account_has_a_rate_of_its_own(account: Account, clock: Clock) -> None:
    account.settings = dataclasses.replace(account.settings, tps_per_unit=40)
    versions = [new_version(account, name) for name in ("a", "b")]
    for version in versions:
        account.start(version.arn, 1, None)
    clock.now += 600
    assert sum(refusal_of(account, version) is None for version in versions * 40) == 50


def test_control_operations_are_limited_each(account: Account, clock: Clock) -> None:
    for _ in range(5):
        account.admit_control("StartProjectVersion")
    with pytest.raises(AwsError, match="Slow down") as error:
        account.admit_control("StartProjectVersion")
    assert refusal(error) == "ThrottlingException"
    account.admit_control("StopProjectVersion")
    clock.now += 0.25
    account.admit_control("StartProjectVersion")


def test_the_meter_runs_from_running_until_stopped(account: Account, clock: Clock) -> None:
    version = new_version(account)
    account.start(version.arn, 5, None)
    clock.now += 600 + 1200
    account.admit(version.arn)
    account.stop(version.arn)
    clock.now += 10_000
    bill = account.bill()
    [model] = bill["models"]
    assert model["running_seconds"] == 1260
    assert model["unit_seconds"] == 6300
    assert bill["cost_usd"] == pytest.approx(7.0)  # 5 units for 21 minutes at 4 dollars an hour
    [run] = model["runs"]
    assert run["first_call_at"] - run["running_at"] == 1200
    account.delete_version(version.arn)
    assert account.bill() == bill


def test_a_model_going_on_is_billed_up_to_now(account: Account, clock: Clock) -> None:
    version = new_version(account)
    account.start(version.arn, 1, None)
    clock.now += 600 + 900
    assert account.bill()["cost_usd"] == pytest.approx(1.0)
    assert account.bill()["models"][0]["runs"][0]["stopped_at"] is None


def test_a_version_in_training_when_the_server_ended_has_failed(account: Account, clock: Clock) -> None:
    version = new_version(account)
    account.override(version.arn, status="TRAINING_IN_PROGRESS", status_message="", next_start_fails=None)
    later = Account("123456789012", Settings(), clock)
    later.restore(account.kept())
    assert later.version(version.arn).status == "TRAINING_FAILED"
    assert "interrupted" in version.status_message


def test_what_is_used_cannot_be_deleted(account: Account, clock: Clock) -> None:
    version = new_version(account)
    account.start(version.arn, 1, None)
    with pytest.raises(AwsError, match="STARTING"):
        account.delete_version(version.arn)
    with pytest.raises(AwsError, match="versions"):
        account.delete_project(version.project_arn)


def test_a_describe_may_lag_by_seconds(account: Account, clock: Clock) -> None:
    version = new_version(account)
    clock.now += 100
    account.settings = dataclasses.replace(account.settings, describe_lag=30.0)

    def told() -> str:
        return account.described(version.project_arn)[0].status

    account.start(version.arn, 1, None)
    seen = [(0, told())]
    for seconds in (29, 30, 600, 629, 630):
        clock.now = 1_000_100.0 + seconds
        seen.append((seconds, told()))
    assert seen == [
        (0, "TRAINING_COMPLETED"),
        (29, "TRAINING_COMPLETED"),
        (30, "STARTING"),
        (600, "STARTING"),
        (629, "STARTING"),
        (630, "RUNNING"),
    ]
    # What happens does not lag.
    assert account.version(version.arn).status == "RUNNING"
    assert refusal_of(account, version) is None


def test_a_version_stops_by_itself_and_bills_until_it_has(account: Account, clock: Clock) -> None:
    version = new_version(account)
    account.start(version.arn, 1, None)
    clock.now += 600
    account.override(version.arn, status=None, status_message="", next_start_fails=None, stops_after_calls=2)
    assert [refusal_of(account, version) for _ in range(2)] == [None, None]
    assert account.version(version.arn).status == "STOPPING"
    clock.now += 60
    assert account.version(version.arn).status == "STOPPED"
    [model] = account.bill()["models"]
    assert (model["running_seconds"], model["calls_served"]) == (60, 2)
