from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import tenacity
from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as BotocoreConnectionError

from rekognition.exceptions import (
    RekognitionProjectVersionNotFound,
    RekognitionProjectVersionStateError,
)

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

# Errors after which the same request may succeed, by the "OK to retry?" column of
# https://docs.aws.amazon.com/rekognition/latest/dg/error-handling.html. LimitExceededException is not among them.
TRANSIENT_ERROR_CODES = frozenset(
    {"InternalServerError", "ProvisionedThroughputExceededException", "ThrottlingException"}
)
# The account shares 5 calls a second per control plane operation
# (https://docs.aws.amazon.com/general/latest/gr/rekognition.html), and botocore gives up after 3 attempts in a few
# seconds. Ten attempts with these waits ride out about two and a half minutes of throttling.
TRANSIENT_ERROR_ATTEMPTS = 10
TRANSIENT_ERROR_MAX_WAIT = 30
# DescribeProjectVersions may not show a start at once. No page says how long it lags: a minute is generous.
START_VISIBLE_ATTEMPTS = 12
START_VISIBLE_DELAY = 5

# https://docs.aws.amazon.com/rekognition/latest/APIReference/API_StartProjectVersion.html (pattern of ProjectVersionArn)
_PROJECT_VERSION_ARN = re.compile(
    r"arn:[a-z\d-]+:rekognition:[a-z\d-]+:\d{12}:project/"
    r"(?P<project_name>[\w.\-]{1,255})/version/(?P<version_name>[\w.\-]{1,255})/\d+",
    re.ASCII,
)

_ADVICE = {
    "TRAINING_IN_PROGRESS": "Training takes up to a day; run this again when it is TRAINING_COMPLETED.",
    "TRAINING_COMPLETED": "It has not been asked to start: start it, then wait.",
    "TRAINING_FAILED": "It was never usable: correct what the message names and train a new version.",
    "FAILED": "Start it in the console, since no task starts a failed version; if it fails again, ask AWS Support "
    "or train a new one.",
    "STOPPING": "Somebody asked it to stop: find out who, then start it again.",
    "STOPPED": "It was not started, or somebody stopped it: start it again.",
    "DELETING": "It is going away: use another version.",
    "COPYING_IN_PROGRESS": "Run this again when the copy is COPYING_COMPLETED.",
    "COPYING_COMPLETED": "It has not been asked to start: start it, then wait.",
    "COPYING_FAILED": "Copy the version once more, or use the one it was copied from.",
    "DEPRECATED": "No documented way leads from here to RUNNING: train a new version and use that one.",
    "EXPIRED": "It can no longer be used: train a new version and use that one.",
}


def is_transient_error(exception: BaseException) -> bool:
    """Return True if the same request may succeed later: throttling, a fault of the service, or of the network."""
    if isinstance(exception, ClientError):
        return (
            exception.response["Error"]["Code"] in TRANSIENT_ERROR_CODES
            or exception.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500
        )
    return isinstance(exception, (BotocoreConnectionError, HTTPClientError))


def build_transient_retry_args(
    logger: Logger | logging.Logger, max_attempts: int = TRANSIENT_ERROR_ATTEMPTS
) -> dict[str, Any]:
    """
    Build tenacity arguments for retrying a call that fails with :func:`is_transient_error`.

    Shared by the hook (``tenacity.Retrying``) and the triggers (``tenacity.AsyncRetrying``). The last error is
    raised as it is when the attempts are used up.
    """
    return {
        "retry": tenacity.retry_if_exception(is_transient_error),
        "wait": tenacity.wait_random_exponential(multiplier=1, max=TRANSIENT_ERROR_MAX_WAIT),
        "stop": tenacity.stop_after_attempt(max_attempts),
        "before_sleep": tenacity.before_sleep_log(logger, logging.WARNING),  # type: ignore[arg-type]
        "reraise": True,
    }


class ProjectVersionName(NamedTuple):
    """The two names inside a project version ARN."""

    project_name: str
    version_name: str


class RekognitionHook(AwsBaseHook):
    """
    Interact with Amazon Rekognition Custom Labels.

    Provide thin wrapper around :external+boto3:py:class:`boto3.client("rekognition") <Rekognition.Client>`.

    Additional arguments (such as ``aws_conn_id``) may be specified and
    are passed down to the underlying AwsBaseHook.

    .. seealso::
        - :class:`airflow.providers.amazon.aws.hooks.base_aws.AwsBaseHook`
    """

    #: https://docs.aws.amazon.com/rekognition/latest/APIReference/API_ProjectVersionDescription.html
    STATES = (
        "TRAINING_IN_PROGRESS",
        "TRAINING_COMPLETED",
        "TRAINING_FAILED",
        "STARTING",
        "RUNNING",
        "FAILED",
        "STOPPING",
        "STOPPED",
        "DELETING",
        "COPYING_IN_PROGRESS",
        "COPYING_COMPLETED",
        "COPYING_FAILED",
        "DEPRECATED",
        "EXPIRED",
    )
    #: States in which a start or a stop has a meaning; in every other state nothing runs and nothing bills.
    ACTIVE_STATES = ("STARTING", "RUNNING", "STOPPING")
    #: States from which StartProjectVersion is accepted.
    STARTABLE_STATES = ("TRAINING_COMPLETED", "COPYING_COMPLETED", "STOPPED")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["client_type"] = "rekognition"
        super().__init__(*args, **kwargs)

    @cached_property
    def waiter_path(self) -> os.PathLike[str]:
        """The waiters beside this module; the inherited path only looks inside the provider package."""
        return Path(__file__).parent / "waiters" / "rekognition.json"

    @staticmethod
    def parse_project_version_arn(project_version_arn: str) -> ProjectVersionName:
        """
        Return the project and version names in a project version ARN.

        The ARN of the project cannot be derived: it ends in a timestamp of its own.

        :param project_version_arn: ``arn:aws:rekognition:REGION:ACCOUNT:project/NAME/version/VERSION/TIMESTAMP``
        :raises ValueError: if it is not the ARN of a project version.
        """
        match = _PROJECT_VERSION_ARN.fullmatch(project_version_arn)
        if match is None:
            raise ValueError(
                f"{project_version_arn!r} is not the ARN of a Rekognition project version: expected "
                f"arn:aws:rekognition:REGION:ACCOUNT:project/NAME/version/VERSION/TIMESTAMP."
            )
        return ProjectVersionName(**match.groupdict())

    @staticmethod
    def state_error(description: dict[str, Any], wanted: str) -> RekognitionProjectVersionStateError:
        """Return the error for a version that will not reach the wanted state, with the reason and what to do."""
        status = description["Status"]
        reason = description.get("StatusMessage") or "the service gives no reason"
        return RekognitionProjectVersionStateError(
            f"Project version {description['ProjectVersionArn']} is {status} and will not become {wanted}: "
            f"{reason.rstrip('.')}. {_ADVICE.get(status, '')}".rstrip()
        )

    def describe_project_version(self, project_arn: str, version_name: str) -> dict[str, Any]:
        """
        Return the description of one project version.

        .. seealso::
            - :external+boto3:py:meth:`Rekognition.Client.describe_project_versions`

        :param project_arn: The ARN of the project.
        :param version_name: The name of the version, as in its ARN.
        :return: one of ``ProjectVersionDescriptions``.
        :raises RekognitionProjectVersionNotFound: if the project has no such version.
        """
        response = self._retrying(
            self.conn.describe_project_versions, ProjectArn=project_arn, VersionNames=[version_name]
        )
        descriptions: list[dict[str, Any]] = response["ProjectVersionDescriptions"]
        if not descriptions:
            raise RekognitionProjectVersionNotFound(
                f"Project {project_arn} has no version {version_name!r}: check that project and version belong "
                f"together and that the version has not been deleted."
            )
        return descriptions[0]

    def describe_started_project_version(self, project_arn: str, version_name: str) -> dict[str, Any]:
        """Describe a version that was asked to start, and give a description that lags behind a minute to catch up."""
        description = self.describe_project_version(project_arn, version_name)
        for _ in range(START_VISIBLE_ATTEMPTS):
            if description["Status"] not in self.STARTABLE_STATES:
                break
            self.log.info("Project version %s is still shown as %s.", version_name, description["Status"])
            time.sleep(START_VISIBLE_DELAY)
            description = self.describe_project_version(project_arn, version_name)
        return description

    def start_project_version(
        self, project_version_arn: str, min_inference_units: int, max_inference_units: int | None = None
    ) -> str:
        """Request the start of a project version, through throttling, and return its status."""
        parameters: dict[str, Any] = {
            "ProjectVersionArn": project_version_arn,
            "MinInferenceUnits": min_inference_units,
        }
        if max_inference_units is not None:
            parameters["MaxInferenceUnits"] = max_inference_units
        status: str = self._retrying(self.conn.start_project_version, **parameters)["Status"]
        return status

    def stop_project_version(self, project_version_arn: str) -> str:
        """Request the stop of a project version, through throttling, and return its status."""
        status: str = self._retrying(self.conn.stop_project_version, ProjectVersionArn=project_version_arn)["Status"]
        return status

    def stop_project_version_on_kill(self, project_version_arn: str) -> None:
        """Request the stop once, in the five seconds that Airflow gives a killed task; what goes wrong is logged."""
        try:
            status = self.conn.stop_project_version(ProjectVersionArn=project_version_arn)["Status"]
        except (ClientError, BotoCoreError) as error:
            self.log.error(
                "Project version %s could not be stopped when its task was killed: %s. If it is STARTING it bills once "
                "it is RUNNING: make sure that it is stopped then.",
                project_version_arn,
                error,
            )
        else:
            self.log.info("Stop of project version %s requested on kill: %s.", project_version_arn, status)

    def _retrying(self, operation: Callable[..., dict[str, Any]], **parameters: Any) -> dict[str, Any]:
        return tenacity.Retrying(**build_transient_retry_args(self.log))(operation, **parameters)
