from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.exceptions import WaiterMaxAttemptsError
from airflow.providers.amazon.aws.operators.base_aws import AwsBaseOperator
from airflow.providers.amazon.aws.utils import validate_execute_complete_event
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields
from airflow.providers.amazon.aws.utils.waiter_with_logging import wait
from airflow.providers.common.compat.sdk import AirflowException, conf
from botocore.exceptions import ClientError

from rekognition.exceptions import RekognitionProjectVersionError
from rekognition.hooks import RekognitionHook
from rekognition.mixins import RekognitionProjectVersionMixin
from rekognition.triggers import (
    DEFERRAL_MARGIN,
    RekognitionProjectVersionRunningTrigger,
    RekognitionProjectVersionStoppedTrigger,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

# A start that is refused because the version is changing looks again this often before it gives up.
START_DECISIONS = 6
START_DECISION_DELAY = 5
# A start that meets a version that is still STOPPING waits for it with polls of its own, up to half an hour: no page
# says how long a stop takes (https://docs.aws.amazon.com/rekognition/latest/customlabels-dg/rm-stop.html).
STOPPING_DELAY = 10
STOPPING_MAX_ATTEMPTS = 180
# A version that is not yet STOPPING this long after the request is asked to stop again: every minute of it bills.
STOP_AGAIN_SECONDS = 60


class _RekognitionProjectVersionOperator(RekognitionProjectVersionMixin, AwsBaseOperator[RekognitionHook]):
    """What starting and stopping share."""

    def __init__(self, *, project_arn: str, project_version_arn: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.project_arn = project_arn
        self.project_version_arn = project_version_arn

    def _wait(self, waiter_name: str, wanted: str, delay: int, max_attempts: int) -> None:
        wait(
            waiter=self.hook.get_waiter(waiter_name),
            waiter_delay=delay,
            waiter_max_attempts=max_attempts,
            args={"ProjectArn": self.project_arn, "VersionNames": [self._version_name]},
            failure_message=f"Project version {self._version_name} did not become {wanted}",
            status_message=f"Status of project version {self._version_name} is",
            status_args=["ProjectVersionDescriptions[0].Status", "ProjectVersionDescriptions[0].StatusMessage"],
        )


class RekognitionStartProjectVersionOperator(_RekognitionProjectVersionOperator):
    """
    Start an Amazon Rekognition Custom Labels model.

    A version that is RUNNING or STARTING is left as it is, one that is STOPPING is started once it has stopped, and
    one that cannot be started fails the task at once, without a retry, with the reason that the service gives.

    A running version bills by the minute. To be sure that it is stopped whatever fails, make the request and the wait
    two setup tasks, this operator with ``wait_for_completion=False`` and a
    :class:`~rekognition.sensors.RekognitionProjectVersionSensor`, and
    :class:`~rekognition.operators.RekognitionStopProjectVersionOperator` the teardown of both: a teardown does not
    run when its only setup has failed.

    .. seealso::
        - :external+boto3:py:meth:`Rekognition.Client.start_project_version`

    :param project_arn: The ARN of the project. (templated)
    :param project_version_arn: The ARN of the project version. (templated)
    :param min_inference_units: The inference units to start with, 1 or more. (templated, default: 1)
    :param max_inference_units: The inference units up to which the service may scale the version by itself.
        (templated, default: None, does not scale)
    :param stop_on_kill: Whether to stop the version when the task is killed after it has requested the start.
        (default: True)

    :param wait_for_completion: Whether to wait until the version is RUNNING. (default: True)
    :param waiter_delay: Time in seconds to wait between status checks. (default: 30)
    :param waiter_max_attempts: Maximum number of attempts to check for RUNNING. (default: 80, 40 minutes: starts
        of up to 30 minutes are reported, and the waiter that botocore brings gives up after 20)
    :param deferrable: If True, the operator will wait asynchronously wherever it has to wait: until RUNNING, unless
        ``wait_for_completion=False``, and until STOPPED for a version that is found STOPPING.
        This mode requires aiobotocore module to be installed.
        (default: False, but can be overridden in config file by setting default_deferrable to True)
    :param aws_conn_id: The Airflow connection used for AWS credentials.
        If this is ``None`` or empty then the default boto3 behaviour is used. If
        running Airflow in a distributed manner and aws_conn_id is None or
        empty, then default boto3 configuration would be used (and must be
        maintained on each worker node).
    :param region_name: AWS region_name. If not specified then the default boto3 behaviour is used.
    :param verify: Whether to verify SSL certificates. See:
        https://boto3.amazonaws.com/v1/documentation/api/latest/reference/core/session.html
    :param botocore_config: Configuration dictionary (key-values) for botocore client. See:
        https://botocore.amazonaws.com/v1/documentation/api/latest/reference/config.html
    :return: The status of the version: RUNNING, or STARTING if not waited for.
    """

    template_fields: Sequence[str] = aws_template_fields(
        "project_arn", "project_version_arn", "min_inference_units", "max_inference_units"
    )

    def __init__(
        self,
        *,
        project_arn: str,
        project_version_arn: str,
        min_inference_units: int | str = 1,
        max_inference_units: int | str | None = None,
        stop_on_kill: bool = True,
        wait_for_completion: bool = True,
        waiter_delay: int = 30,
        waiter_max_attempts: int = 80,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(project_arn=project_arn, project_version_arn=project_version_arn, **kwargs)
        self.min_inference_units = min_inference_units
        self.max_inference_units = max_inference_units
        self.stop_on_kill = stop_on_kill
        self.wait_for_completion = wait_for_completion
        self.waiter_delay = waiter_delay
        self.waiter_max_attempts = waiter_max_attempts
        self.deferrable = deferrable
        self._start_requested = False
        self._killed = False

    def execute(self, context: Context, event: dict[str, Any] | None = None) -> str:
        if event is not None and event["status"] != "success":
            raise self._not_stopped(event["message"])
        self._persist_link(context)
        min_units = _inference_units("min_inference_units", self.min_inference_units)
        max_units = (
            None
            if self.max_inference_units is None
            else _inference_units("max_inference_units", self.max_inference_units)
        )
        for _ in range(START_DECISIONS):
            description = self._describe()
            status: str = description["Status"]
            if status == "RUNNING":
                self.log.info(
                    "Project version %s is RUNNING already, with %s inference unit(s).",
                    self.project_version_arn,
                    description.get("MinInferenceUnits", "an unknown number of"),
                )
                return status
            if status == "STARTING":
                self.log.info("Project version %s is STARTING already.", self.project_version_arn)
                return self._wait_until_running()
            if status == "STOPPING":
                self._wait_until_stopped()
            elif status not in self.hook.STARTABLE_STATES:
                raise self.hook.state_error(description, "RUNNING")
            elif self._request_start(min_units, max_units):
                return self._wait_until_running()
            else:
                time.sleep(START_DECISION_DELAY)
        raise RekognitionProjectVersionError(
            f"Project version {self.project_version_arn} kept refusing to start, last from {status}: something else "
            f"starts and stops it at the same time."
        )

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> str:
        validated_event = validate_execute_complete_event(event)
        if validated_event["status"] != "success":
            raise self._not_running(validated_event["message"])
        self.log.info("Project version %s is RUNNING.", self.project_version_arn)
        return "RUNNING"

    def on_kill(self) -> None:
        # Airflow runs this in a signal handler and lets execute() go on for the 5 seconds until SIGKILL, so execute()
        # looks at the flag before and after its request.
        self._killed = True
        if self._start_requested and self.stop_on_kill:
            self.hook.stop_project_version_on_kill(self.project_version_arn)

    def _request_start(self, min_units: int, max_units: int | None) -> bool:
        """Request the start; False if the version is changing and has to be looked at again."""
        if self._killed:
            raise RekognitionProjectVersionError(
                f"Killed before the start of project version {self.project_version_arn} was requested."
            )
        self.log.info(
            "Starting project version %s with %s inference unit(s), up to %s.",
            self.project_version_arn,
            min_units,
            max_units or min_units,
        )
        self._start_requested = True
        try:
            status = self.hook.start_project_version(self.project_version_arn, min_units, max_units)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "ResourceInUseException":
                self.log.info("Project version %s is changing: %s", self.project_version_arn, error)
                return False
            if code == "LimitExceededException":
                raise RekognitionProjectVersionError(
                    f"Project version {self.project_version_arn} cannot start with {min_units} inference unit(s): a "
                    f"quota is used up ({error}). The defaults are 5 inference units for a model and 2 running models "
                    f"for an account and region: ask for fewer units, stop another model, or request an increase."
                ) from error
            raise
        if self._killed and self.stop_on_kill:
            self.hook.stop_project_version_on_kill(self.project_version_arn)
        self.log.info("Project version %s is %s.", self.project_version_arn, status)
        return True

    def _wait_until_running(self) -> str:
        if not self.wait_for_completion:
            return "STARTING"
        description = self.hook.describe_started_project_version(self.project_arn, self._version_name)
        if description["Status"] == "RUNNING":
            return "RUNNING"
        if description["Status"] != "STARTING":
            raise self.hook.state_error(description, "RUNNING")
        if self.deferrable:
            self.log.info("Deferring until project version %s is RUNNING.", self.project_version_arn)
            self.defer(
                trigger=RekognitionProjectVersionRunningTrigger(
                    **self._trigger_parameters,
                    stop_on_kill=self.stop_on_kill and self._start_requested,
                    waiter_delay=self.waiter_delay,
                    waiter_max_attempts=self.waiter_max_attempts,
                ),
                method_name="execute_complete",
                timeout=timedelta(seconds=self.waiter_delay * self.waiter_max_attempts) + DEFERRAL_MARGIN,
            )
        self.log.info("Waiting until project version %s is RUNNING.", self.project_version_arn)
        try:
            self._wait("project_version_running", "RUNNING", self.waiter_delay, self.waiter_max_attempts)
        except AirflowException as error:
            raise self._not_running(str(error)) from error
        return "RUNNING"

    def _not_running(self, reason: str) -> AirflowException:
        description = self._describe()
        if description["Status"] not in ("STARTING", "RUNNING"):
            return self.hook.state_error(description, "RUNNING")
        return RekognitionProjectVersionError(
            f"Project version {self.project_version_arn} was not RUNNING within "
            f"{self.waiter_delay * self.waiter_max_attempts} seconds and is {description['Status']} now: {reason}. "
            f"It bills while it is RUNNING: stop it, or give it more waiter_max_attempts."
        )

    def _wait_until_stopped(self) -> None:
        self.log.info("Project version %s is STOPPING: it is started once it has stopped.", self.project_version_arn)
        if self.deferrable:
            self.defer(
                trigger=RekognitionProjectVersionStoppedTrigger(
                    **self._trigger_parameters,
                    waiter_delay=STOPPING_DELAY,
                    waiter_max_attempts=STOPPING_MAX_ATTEMPTS,
                ),
                method_name="execute",
                timeout=timedelta(seconds=STOPPING_DELAY * STOPPING_MAX_ATTEMPTS) + DEFERRAL_MARGIN,
            )
        try:
            self._wait("project_version_stopped", "STOPPED", STOPPING_DELAY, STOPPING_MAX_ATTEMPTS)
        except AirflowException as error:
            raise self._not_stopped(str(error)) from error

    def _not_stopped(self, reason: str) -> RekognitionProjectVersionError:
        return RekognitionProjectVersionError(
            f"Project version {self.project_version_arn} was not started: it was STOPPING and did not stop within "
            f"{STOPPING_DELAY * STOPPING_MAX_ATTEMPTS} seconds ({reason}). Run this task again once it is STOPPED."
        )


class RekognitionStopProjectVersionOperator(_RekognitionProjectVersionOperator):
    """
    Stop an Amazon Rekognition Custom Labels model, and make sure that it has stopped.

    A version of which nothing runs (STOPPED, never started, FAILED) is left as it is. The request is repeated through
    throttling, when it is refused because the version is still STARTING, and when the version has not begun to stop a
    minute later.

    .. seealso::
        - :external+boto3:py:meth:`Rekognition.Client.stop_project_version`

    :param project_arn: The ARN of the project. (templated)
    :param project_version_arn: The ARN of the project version. (templated)

    :param wait_for_completion: Whether to wait until the version has stopped; if not, the task ends once the request
        has been accepted. (default: True)
    :param waiter_delay: Time in seconds to wait between status checks. (default: 15)
    :param waiter_max_attempts: Maximum number of attempts to check that it has stopped. (default: 120, 30 minutes)
    :param deferrable: If True, the operator will wait asynchronously for the version to stop.
        This mode requires aiobotocore module to be installed.
        (default: False, but can be overridden in config file by setting default_deferrable to True)
    :param aws_conn_id: The Airflow connection used for AWS credentials.
        If this is ``None`` or empty then the default boto3 behaviour is used. If
        running Airflow in a distributed manner and aws_conn_id is None or
        empty, then default boto3 configuration would be used (and must be
        maintained on each worker node).
    :param region_name: AWS region_name. If not specified then the default boto3 behaviour is used.
    :param verify: Whether to verify SSL certificates. See:
        https://boto3.amazonaws.com/v1/documentation/api/latest/reference/core/session.html
    :param botocore_config: Configuration dictionary (key-values) for botocore client. See:
        https://botocore.amazonaws.com/v1/documentation/api/latest/reference/config.html
    :return: The final status of the version, or STOPPING if not waited for.
    """

    template_fields: Sequence[str] = aws_template_fields("project_arn", "project_version_arn")

    def __init__(
        self,
        *,
        project_arn: str,
        project_version_arn: str,
        wait_for_completion: bool = True,
        waiter_delay: int = 15,
        waiter_max_attempts: int = 120,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(project_arn=project_arn, project_version_arn=project_version_arn, **kwargs)
        self.wait_for_completion = wait_for_completion
        self.waiter_delay = waiter_delay
        self.waiter_max_attempts = waiter_max_attempts
        self.deferrable = deferrable

    def execute(self, context: Context) -> str:
        self._persist_link(context)
        return self._stop(self.waiter_max_attempts)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None, attempts_left: int = 0) -> str:
        validated_event = validate_execute_complete_event(event)
        if validated_event["status"] != "success":
            self.log.info("%s", validated_event["message"])
        return self._stop(attempts_left)

    def _stop(self, attempts_left: int) -> str:
        """Look, ask, wait a while, and look again, until nothing runs or no attempts are left."""
        while True:
            description = self._describe()
            status: str = description["Status"]
            if status not in self.hook.ACTIVE_STATES:
                self.log.info(
                    "Nothing of project version %s runs, it is %s: %s",
                    self.project_version_arn,
                    status,
                    description.get("StatusMessage") or "the service gives no reason.",
                )
                return status
            if attempts_left <= 0:
                raise RekognitionProjectVersionError(
                    f"Project version {self.project_version_arn} is still {status} after {self.waiter_max_attempts} "
                    f"checks, {self.waiter_delay} seconds apart, and bills until it is STOPPED: run this task again "
                    f"or stop the version in the console."
                )
            stopping = status == "STOPPING"
            accepted = stopping or self._request_stop(status)
            if accepted and not self.wait_for_completion:
                return "STOPPING"
            attempts = attempts_left if stopping else min(attempts_left, self._attempts_before_asking_again)
            attempts_left -= attempts
            if self.deferrable:
                self.defer(
                    trigger=RekognitionProjectVersionStoppedTrigger(
                        **self._trigger_parameters,
                        stop_on_kill=True,
                        waiter_delay=self.waiter_delay,
                        waiter_max_attempts=attempts,
                    ),
                    method_name="execute_complete",
                    kwargs={"attempts_left": attempts_left},
                    timeout=timedelta(seconds=self.waiter_delay * attempts) + DEFERRAL_MARGIN,
                )
            try:
                self._wait("project_version_stopped", "STOPPED", self.waiter_delay, attempts)
            except WaiterMaxAttemptsError:
                self.log.info("Project version %s has not stopped yet.", self.project_version_arn)

    @property
    def _attempts_before_asking_again(self) -> int:
        # One more than fits, since the first attempt comes without a delay; two at least, or there is no delay at all.
        return max(2, 1 + STOP_AGAIN_SECONDS // max(1, self.waiter_delay))

    def _request_stop(self, status: str) -> bool:
        """Request the stop; False if the version refuses because it is changing."""
        self.log.info("Stopping project version %s, which is %s.", self.project_version_arn, status)
        try:
            self.hook.stop_project_version(self.project_version_arn)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceInUseException":
                raise
            self.log.warning("Project version %s does not stop yet: %s", self.project_version_arn, error)
            return False
        return True


def _inference_units(name: str, value: int | str) -> int:
    """Return a templated number of inference units as the number that it must be."""
    try:
        units = int(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a whole number of 1 or more, not {value!r}.") from error
    if units < 1:
        raise ValueError(f"{name} must be a whole number of 1 or more, not {value!r}.")
    return units
