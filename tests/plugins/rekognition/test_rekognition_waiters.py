from __future__ import annotations

import json
from pathlib import Path

import pytest
from botocore.exceptions import WaiterError

from rekognition.hooks import TRANSIENT_ERROR_CODES, RekognitionHook

ACTIVE = {"STARTING", "RUNNING", "STOPPING"}


def waiter_names() -> set[str]:
    waiters = Path(RekognitionHook(aws_conn_id=None).waiter_path)
    return {*json.loads(waiters.read_text())["waiters"]}


def test_every_waiter_is_tested_here():
    assert {case.WAITER_NAME for case in WaiterCase.__subclasses__()} == waiter_names()


class WaiterCase:
    """What each waiter must do; subclasses say which states end it."""

    WAITER_NAME: str
    SUCCESS: set[str]
    RETRY: set[str]

    @pytest.fixture
    def wait(self, service):
        def wait(max_attempts=1):
            RekognitionHook(aws_conn_id=None).get_waiter(self.WAITER_NAME).wait(
                ProjectArn=service.project_arn,
                VersionNames=[service.version_name],
                WaiterConfig={"Delay": 1, "MaxAttempts": max_attempts},
            )

        return wait

    @pytest.mark.parametrize("status", RekognitionHook.STATES)
    def test_every_state_has_its_answer(self, service, wait, status):
        if status in self.RETRY:
            service.describes(status, sorted(self.SUCCESS)[0])
            wait(max_attempts=2)
        elif status in self.SUCCESS:
            service.describes(status)
            wait()
        else:
            service.describes(status)
            with pytest.raises(WaiterError, match="terminal failure state"):
                wait(max_attempts=2)

    def test_attempts_end(self, service, wait):
        service.describes(*[sorted(self.RETRY)[0]] * 3)
        with pytest.raises(WaiterError, match="Max attempts exceeded"):
            wait(max_attempts=3)

    @pytest.mark.parametrize("code", sorted(TRANSIENT_ERROR_CODES))
    def test_a_transient_error_costs_one_attempt(self, service, wait, code):
        service.refuses("describe_project_versions", code)
        service.describes(sorted(self.SUCCESS)[0])
        wait(max_attempts=2)

    def test_other_errors_end_it(self, service, wait):
        service.refuses("describe_project_versions", "AccessDeniedException")
        with pytest.raises(WaiterError, match="An error occurred \\(AccessDeniedException\\)"):
            wait(max_attempts=2)

    def test_no_version_is_a_failure(self, service, wait):
        service.describes_nothing()
        with pytest.raises(WaiterError, match="terminal failure state"):
            wait(max_attempts=2)


class TestProjectVersionRunningWaiter(WaiterCase):
    WAITER_NAME = "project_version_running"
    SUCCESS = {"RUNNING"}
    RETRY = {"STARTING"}


class TestProjectVersionStoppedWaiter(WaiterCase):
    """Success is that nothing runs, whatever the reason."""

    WAITER_NAME = "project_version_stopped"
    SUCCESS = {*RekognitionHook.STATES} - ACTIVE
    RETRY = ACTIVE
