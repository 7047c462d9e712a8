from __future__ import annotations

import asyncio

import pytest
from airflow.triggers.base import TriggerEvent
from botocore.exceptions import ClientError

from rekognition.triggers import (
    ON_KILL_ATTEMPTS,
    RekognitionProjectVersionRunningTrigger,
    RekognitionProjectVersionStoppedTrigger,
)

PROJECT_ARN = "arn:aws:rekognition:eu-west-1:123456789012:project/shop/1700000000000"
PROJECT_VERSION_ARN = "arn:aws:rekognition:eu-west-1:123456789012:project/shop/version/shop.v7/1700000000001"


class TriggerCase:
    """What both triggers do; subclasses say what they wait for."""

    TRIGGER: type[RekognitionProjectVersionRunningTrigger] | type[RekognitionProjectVersionStoppedTrigger]
    ON_THE_WAY: str
    WANTED: str

    def trigger(self, **kwargs):
        return self.TRIGGER(project_arn=PROJECT_ARN, project_version_arn=PROJECT_VERSION_ARN, **kwargs)

    @pytest.mark.parametrize(
        "given",
        [
            {"aws_conn_id": None},
            {
                "stop_on_kill": True,
                "waiter_delay": 3,
                "waiter_max_attempts": 4,
                "aws_conn_id": "my_conn",
                "region_name": "eu-west-1",
                "verify": False,
                "botocore_config": {"read_timeout": 42},
            },
        ],
    )
    def test_serialization(self, given):
        classpath, kwargs = self.trigger(**given).serialize()
        assert classpath == f"rekognition.triggers.{self.TRIGGER.__name__}"
        assert kwargs["project_arn"] == PROJECT_ARN
        assert kwargs["project_version_arn"] == PROJECT_VERSION_ARN
        assert given.items() <= kwargs.items()
        assert self.TRIGGER(**kwargs).serialize() == (classpath, kwargs)

    def run(self, async_service, expect, **kwargs):
        async def first_event():
            async with async_service() as service:
                expect(service)
                return await anext(self.trigger(**kwargs).run())

        return asyncio.run(first_event())

    def test_run_success(self, async_service, sleeps):
        def expect(service):
            service.describes(self.ON_THE_WAY, self.ON_THE_WAY, self.WANTED)

        event = self.run(async_service, expect, waiter_delay=7)
        assert event == TriggerEvent({"status": "success", "project_version_arn": PROJECT_VERSION_ARN})
        assert sleeps == [7, 7]

    def test_run_through_throttling(self, async_service):
        def expect(service):
            service.refuses("describe_project_versions", "ThrottlingException")
            service.describes(self.WANTED)

        assert self.run(async_service, expect).payload["status"] == "success"

    def test_run_ends_when_throttled_for_ever(self, async_service):
        def expect(service):
            for _ in range(3):
                service.refuses("describe_project_versions", "ThrottlingException")

        event = self.run(async_service, expect, waiter_max_attempts=3)
        assert event.payload["status"] == "error"

    def test_run_max_attempts(self, async_service):
        def expect(service):
            service.describes(*[self.ON_THE_WAY] * 3)

        event = self.run(async_service, expect, waiter_max_attempts=3)
        assert event.payload == {
            "status": "error",
            "message": "Waiter error: max attempts reached",
            "project_version_arn": PROJECT_VERSION_ARN,
        }

    def test_log_names_version_and_status(self, async_service, monkeypatch):
        lines = []
        monkeypatch.setattr(
            "airflow.providers.amazon.aws.utils.waiter_with_logging.logging.Logger.info",
            lambda _, message, *args: lines.append(message % args),
        )
        self.run(async_service, lambda service: service.describes(self.ON_THE_WAY, self.WANTED))
        assert f"Status of project version shop.v7 is: {self.ON_THE_WAY}" in lines

    def test_on_kill_leaves_the_version_alone_by_default(self, async_service):
        self.kill(async_service, lambda service: None)

    def test_on_kill_stops(self, async_service):
        self.kill(async_service, lambda service: service.stops(), stop_on_kill=True)

    def test_on_kill_stops_through_throttling(self, async_service):
        def expect(service):
            service.refuses("stop_project_version", "ThrottlingException")
            service.refuses("stop_project_version", "InternalServerError", http_status=500)
            service.stops()

        self.kill(async_service, expect, stop_on_kill=True)

    def test_on_kill_ends_before_the_triggerer_ends_it(self, async_service):
        def expect(service):
            for _ in range(ON_KILL_ATTEMPTS):
                service.refuses("stop_project_version", "ThrottlingException")

        with pytest.raises(ClientError, match="ThrottlingException"):
            self.kill(async_service, expect, stop_on_kill=True)

    def test_on_kill_tolerates_a_version_that_cannot_be_stopped_now(self, async_service):
        def expect(service):
            service.refuses("stop_project_version", "ResourceInUseException")

        self.kill(async_service, expect, stop_on_kill=True)

    def test_on_kill_does_not_hide_other_errors(self, async_service):
        def expect(service):
            service.refuses("stop_project_version", "AccessDeniedException")

        with pytest.raises(ClientError, match="AccessDeniedException"):
            self.kill(async_service, expect, stop_on_kill=True)

    def kill(self, async_service, expect, **kwargs):
        async def kill():
            async with async_service() as service:
                expect(service)
                await self.trigger(**kwargs).on_kill()

        asyncio.run(kill())


class TestRekognitionProjectVersionRunningTrigger(TriggerCase):
    TRIGGER = RekognitionProjectVersionRunningTrigger
    ON_THE_WAY = "STARTING"
    WANTED = "RUNNING"

    def test_run_failure_carries_status_and_reason(self, async_service):
        def expect(service):
            service.describes("STARTING")
            service.describes("FAILED", StatusMessage="No capacity")

        event = self.run(async_service, expect)
        assert event.payload["status"] == "error"
        assert event.payload["message"].startswith(
            "Project version shop.v7 did not become RUNNING: FAILED - No capacity"
        )

    def test_waits_for_forty_minutes_unless_told_otherwise(self):
        trigger = self.trigger()
        assert trigger.waiter_delay * trigger.attempts == 40 * 60


class TestRekognitionProjectVersionStoppedTrigger(TriggerCase):
    TRIGGER = RekognitionProjectVersionStoppedTrigger
    ON_THE_WAY = "STOPPING"
    WANTED = "STOPPED"

    def test_run_failure_when_the_version_is_gone(self, async_service):
        event = self.run(async_service, lambda service: service.describes_nothing())
        assert event.payload["status"] == "error"
