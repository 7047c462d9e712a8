from __future__ import annotations

from datetime import timedelta
from typing import Any

import tenacity
from airflow.providers.amazon.aws.triggers.base import AwsBaseWaiterTrigger
from botocore.exceptions import ClientError

from rekognition.hooks import RekognitionHook, build_transient_retry_args

# A trigger counts its own attempts; the timeout that tasks give Airflow for it only catches a triggerer that lost count.
DEFERRAL_MARGIN = timedelta(minutes=5)
# The triggerer gives on_kill 30 seconds ([triggerer] on_kill_timeout).
ON_KILL_ATTEMPTS = 4


class _RekognitionProjectVersionTrigger(AwsBaseWaiterTrigger):
    """Wait for one version; asked for by name, since the waiters look at every version that is returned."""

    aws_hook_class = RekognitionHook

    def __init__(
        self,
        *,
        project_arn: str,
        project_version_arn: str,
        stop_on_kill: bool,
        waiter_name: str,
        wanted: str,
        **kwargs: Any,
    ) -> None:
        version_name = RekognitionHook.parse_project_version_arn(project_version_arn).version_name
        super().__init__(
            serialized_fields={
                "project_arn": project_arn,
                "project_version_arn": project_version_arn,
                "stop_on_kill": stop_on_kill,
            },
            waiter_name=waiter_name,
            waiter_args={"ProjectArn": project_arn, "VersionNames": [version_name]},
            failure_message=f"Project version {version_name} did not become {wanted}",
            status_message=f"Status of project version {version_name} is",
            status_queries=["ProjectVersionDescriptions[0].Status", "ProjectVersionDescriptions[0].StatusMessage"],
            return_key="project_version_arn",
            return_value=project_version_arn,
            **kwargs,
        )
        self.project_version_arn = project_version_arn
        self.stop_on_kill = stop_on_kill

    async def on_kill(self) -> None:
        """Request the stop when a user marks or clears the deferred task, if ``stop_on_kill``."""
        if not self.stop_on_kill:
            return
        async with await self.hook().get_async_conn() as client:  # type: ignore[no-untyped-call]
            try:
                async for attempt in tenacity.AsyncRetrying(**build_transient_retry_args(self.log, ON_KILL_ATTEMPTS)):
                    with attempt:
                        await client.stop_project_version(ProjectVersionArn=self.project_version_arn)
            except ClientError as error:
                if error.response["Error"]["Code"] != "ResourceInUseException":
                    raise
                self.log.warning(
                    "Project version %s could not be stopped on kill: %s. If it is STARTING it will bill once it is "
                    "RUNNING: make sure that it is stopped then.",
                    self.project_version_arn,
                    error,
                )
            else:
                self.log.info("Stop of project version %s requested on kill.", self.project_version_arn)


class RekognitionProjectVersionRunningTrigger(_RekognitionProjectVersionTrigger):
    """
    Trigger when a Rekognition Custom Labels project version is RUNNING.

    :param project_arn: The ARN of the project.
    :param project_version_arn: The ARN of the project version.
    :param stop_on_kill: Whether to stop the project version when a user ends the deferred task. (default: False)
    :param waiter_delay: The amount of time in seconds to wait between attempts. (default: 30)
    :param waiter_max_attempts: The maximum number of attempts to be made. (default: 80)
    :param aws_conn_id: The Airflow connection used for AWS credentials.
    :param region_name: The AWS region where the resources to watch are.
    :param verify: Whether or not to verify SSL certificates.
        See: https://boto3.amazonaws.com/v1/documentation/api/latest/reference/core/session.html
    :param botocore_config: Configuration dictionary (key-values) for botocore client. See:
        https://botocore.amazonaws.com/v1/documentation/api/latest/reference/config.html
    """

    def __init__(
        self,
        *,
        project_arn: str,
        project_version_arn: str,
        stop_on_kill: bool = False,
        waiter_delay: int = 30,
        waiter_max_attempts: int = 80,
        aws_conn_id: str | None = None,
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            project_arn=project_arn,
            project_version_arn=project_version_arn,
            stop_on_kill=stop_on_kill,
            waiter_name="project_version_running",
            wanted="RUNNING",
            waiter_delay=waiter_delay,
            waiter_max_attempts=waiter_max_attempts,
            aws_conn_id=aws_conn_id,
            region_name=region_name,
            verify=verify,
            botocore_config=botocore_config,
        )


class RekognitionProjectVersionStoppedTrigger(_RekognitionProjectVersionTrigger):
    """
    Trigger when nothing of a Rekognition Custom Labels project version runs: STOPPED, FAILED, or never started.

    :param project_arn: The ARN of the project.
    :param project_version_arn: The ARN of the project version.
    :param stop_on_kill: Whether to stop the project version when a user ends the deferred task. (default: False)
    :param waiter_delay: The amount of time in seconds to wait between attempts. (default: 15)
    :param waiter_max_attempts: The maximum number of attempts to be made. (default: 120)
    :param aws_conn_id: The Airflow connection used for AWS credentials.
    :param region_name: The AWS region where the resources to watch are.
    :param verify: Whether or not to verify SSL certificates.
        See: https://boto3.amazonaws.com/v1/documentation/api/latest/reference/core/session.html
    :param botocore_config: Configuration dictionary (key-values) for botocore client. See:
        https://botocore.amazonaws.com/v1/documentation/api/latest/reference/config.html
    """

    def __init__(
        self,
        *,
        project_arn: str,
        project_version_arn: str,
        stop_on_kill: bool = False,
        waiter_delay: int = 15,
        waiter_max_attempts: int = 120,
        aws_conn_id: str | None = None,
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            project_arn=project_arn,
            project_version_arn=project_version_arn,
            stop_on_kill=stop_on_kill,
            waiter_name="project_version_stopped",
            wanted="STOPPED",
            waiter_delay=waiter_delay,
            waiter_max_attempts=waiter_max_attempts,
            aws_conn_id=aws_conn_id,
            region_name=region_name,
            verify=verify,
            botocore_config=botocore_config,
        )
