"""A Rekognition whose answers are scripted: botocore checks every request and every answer against the service model."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from unittest import mock

# Airflow writes its configuration into AIRFLOW_HOME when it is imported.
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow-home-"))

import boto3
import pytest
from aiobotocore.session import get_session
from botocore.stub import Stubber

from rekognition.hooks import RekognitionHook

PROJECT_ARN = "arn:aws:rekognition:eu-west-1:123456789012:project/shop/1700000000000"
PROJECT_VERSION_ARN = "arn:aws:rekognition:eu-west-1:123456789012:project/shop/version/shop.v7/1700000000001"
CREDENTIALS = {"region_name": "eu-west-1", "aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
AIO_SESSION = get_session()  # one, since each reads the service model anew

Sleeps = list[float]


class ScriptedService:
    """The calls that are expected of the code under test, in order, each with its answer."""

    project_arn = PROJECT_ARN
    project_version_arn = PROJECT_VERSION_ARN
    version_name = "shop.v7"

    def __init__(self, stubber: Stubber) -> None:
        self._stubber = stubber

    def describes(self, *statuses: str, **fields: Any) -> None:
        for status in statuses:
            description = {"ProjectVersionArn": PROJECT_VERSION_ARN, "Status": status, **fields}
            self._describe([description])

    def describes_nothing(self) -> None:
        self._describe([])

    def _describe(self, descriptions: list[dict[str, Any]]) -> None:
        self._stubber.add_response(
            "describe_project_versions",
            {"ProjectVersionDescriptions": descriptions},
            {"ProjectArn": PROJECT_ARN, "VersionNames": [self.version_name]},
        )

    def starts(self, min_units: int = 1, max_units: int | None = None) -> None:
        expected = {"ProjectVersionArn": PROJECT_VERSION_ARN, "MinInferenceUnits": min_units}
        if max_units is not None:
            expected["MaxInferenceUnits"] = max_units
        self._stubber.add_response("start_project_version", {"Status": "STARTING"}, expected)

    def stops(self) -> None:
        self._stubber.add_response(
            "stop_project_version", {"Status": "STOPPING"}, {"ProjectVersionArn": PROJECT_VERSION_ARN}
        )

    def refuses(self, operation: str, code: str, message: str = "told so", http_status: int = 400) -> None:
        self._stubber.add_client_error(operation, code, message, http_status)


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> Sleeps:
    """Seconds that were slept, by anything; no time passes."""
    slept: Sleeps = []

    async def sleep_async(seconds: float, result: Any = None) -> Any:
        slept.append(seconds)
        return result

    monkeypatch.setattr("time.sleep", slept.append)
    monkeypatch.setattr("asyncio.sleep", sleep_async)
    return slept


@pytest.fixture
def service(sleeps: Sleeps) -> Iterator[ScriptedService]:
    """What the hook talks to; the test fails if an expected call was not made."""
    client = boto3.client("rekognition", **CREDENTIALS)
    with Stubber(client) as stubber, mock.patch.object(RekognitionHook, "conn", client):
        yield ScriptedService(stubber)
        stubber.assert_no_pending_responses()


@pytest.fixture
def async_service(sleeps: Sleeps) -> Callable[[], AbstractAsyncContextManager[ScriptedService]]:
    """The same for triggers, to be entered inside the event loop."""

    @asynccontextmanager
    async def enter() -> AsyncIterator[ScriptedService]:
        async with AIO_SESSION.create_client("rekognition", **CREDENTIALS) as client:
            connection = mock.AsyncMock(return_value=mock.MagicMock())
            connection.return_value.__aenter__.return_value = client
            with Stubber(client) as stubber, mock.patch.object(RekognitionHook, "get_async_conn", connection):
                yield ScriptedService(stubber)
                stubber.assert_no_pending_responses()

    return enter


@pytest.fixture
def context() -> dict[str, Any]:
    return {"ti": mock.MagicMock(spec=["xcom_push"])}
