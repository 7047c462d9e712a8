from __future__ import annotations

import math
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.sensors.base_aws import AwsBaseSensor
from airflow.providers.amazon.aws.utils import validate_execute_complete_event
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, conf

from rekognition.hooks import RekognitionHook
from rekognition.mixins import RekognitionProjectVersionMixin
from rekognition.triggers import (
    DEFERRAL_MARGIN,
    RekognitionProjectVersionRunningTrigger,
    RekognitionProjectVersionStoppedTrigger,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

# States from which a wanted state is not reached unless somebody asks for it. A version that was asked to start may be
# shown in its old state for a moment: RekognitionHook.describe_started_project_version sits that out first.
FAILURE_STATES = {
    "RUNNING": tuple(state for state in RekognitionHook.STATES if state not in ("STARTING", "RUNNING")),
    "STOPPED": tuple(
        state for state in RekognitionHook.STATES if state not in ("STARTING", "RUNNING", "STOPPING", "STOPPED")
    ),
}
DEAD_STATES = ("TRAINING_FAILED", "FAILED", "DELETING", "COPYING_FAILED", "DEPRECATED", "EXPIRED")
TRIGGERS = {
    "RUNNING": RekognitionProjectVersionRunningTrigger,
    "STOPPED": RekognitionProjectVersionStoppedTrigger,
}


class RekognitionProjectVersionSensor(RekognitionProjectVersionMixin, AwsBaseSensor[RekognitionHook]):
    """
    Wait until an Amazon Rekognition Custom Labels model is in one of the target states.

    Fails at once, without a retry, in a state from which the target is not reached. A version that has just been asked
    to start and is still shown as STOPPED gets a minute of grace.

    .. seealso::
        - :external+boto3:py:meth:`Rekognition.Client.describe_project_versions`

    :param project_arn: The ARN of the project. (templated)
    :param project_version_arn: The ARN of the project version. (templated)
    :param target_states: The states to wait for. Deferrable mode can wait for RUNNING or for STOPPED.
        (default: RUNNING)
    :param failure_states: The states to fail on, not with deferrable mode. (default: those from which the target
        states are not reached)
    :param stop_on_kill: Whether to stop the version when the task is killed, or when a user marks or clears the
        deferred task: for a sensor that waits for what its own Dag has started. (default: False)

    :param deferrable: If True, the sensor will operate in deferrable mode. This mode requires aiobotocore
        module to be installed.
        (default: False, but can be overridden in config file by setting default_deferrable to True)
    :param poke_interval: Polling period in whole seconds to check for the status of the version. (default: 30)
    :param timeout: Time in seconds after which the sensor fails. (default: 2400, 40 minutes: starts of up to 30
        minutes are reported)
    :param aws_conn_id: The Airflow connection used for AWS credentials.
        If this is ``None`` or empty then the default boto3 behaviour is used. If
        running Airflow in a distributed manner and aws_conn_id is None or
        empty, then default boto3 configuration would be used (and must be
        maintained on each worker node).
    :param region_name: AWS region_name. If not specified then the default boto3 behaviour is used.
    :param verify: Whether or not to verify SSL certificates. See:
        https://boto3.amazonaws.com/v1/documentation/api/latest/reference/core/session.html
    :param botocore_config: Configuration dictionary (key-values) for botocore client. See:
        https://botocore.amazonaws.com/v1/documentation/api/latest/reference/config.html
    """

    template_fields: Sequence[str] = aws_template_fields("project_arn", "project_version_arn")

    def __init__(
        self,
        *,
        project_arn: str,
        project_version_arn: str,
        target_states: Sequence[str] = ("RUNNING",),
        failure_states: Sequence[str] | None = None,
        stop_on_kill: bool = False,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poke_interval: timedelta | float = 30,
        timeout: timedelta | float = 2400,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, timeout=timeout, **kwargs)
        self.project_arn = project_arn
        self.project_version_arn = project_version_arn
        self.target_states = tuple(target_states)
        self.failure_states = self._default_failure_states if failure_states is None else tuple(failure_states)
        self.stop_on_kill = stop_on_kill
        self.deferrable = deferrable
        if self.poke_interval < 1 or self.poke_interval % 1:
            raise ValueError(f"poke_interval must be a whole number of seconds of 1 or more, not {poke_interval!r}.")
        if unknown := {*self.target_states, *self.failure_states} - {*RekognitionHook.STATES}:
            raise ValueError(f"Not the states of a project version: {', '.join(sorted(unknown))}.")
        if deferrable and (failure_states is not None or self._wanted not in TRIGGERS):
            raise ValueError(
                f"Deferrable mode waits for RUNNING or for STOPPED, and knows on which states to fail: with "
                f"target_states={self.target_states} and failure_states={failure_states} set deferrable=False."
            )

    @property
    def _wanted(self) -> str:
        return " or ".join(self.target_states)

    @property
    def _default_failure_states(self) -> tuple[str, ...]:
        dead = tuple(state for state in DEAD_STATES if state not in self.target_states)
        return FAILURE_STATES.get(self._wanted, dead)

    def execute(self, context: Context) -> None:
        self._persist_link(context)
        if self._wanted == "RUNNING":
            self.hook.describe_started_project_version(self.project_arn, self._version_name)
        if not self.deferrable:
            try:
                super().execute(context)
            except AirflowSensorTimeout as error:
                raise self._timeout_error(str(error)) from error
        elif not self.poke(context):
            self._defer()

    def poke(self, context: Context) -> bool:
        description = self._describe()
        status = description["Status"]
        self.log.info("Status of project version %s is: %s", self._version_name, status)
        if status in self.failure_states:
            raise self.hook.state_error(description, self._wanted)
        return status in self.target_states

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None, started_at: float = 0.0) -> None:
        validated_event = validate_execute_complete_event(event)
        if validated_event["status"] != "success":
            self.log.warning("%s", validated_event["message"])
        if not self.poke(context) and validated_event["status"] != "success":
            waited = f"{time.time() - started_at:.0f} seconds, timeout {self.timeout:.0f}"
            raise self._timeout_error(f"{validated_event['message']} ({waited}).")

    def on_kill(self) -> None:
        if self.stop_on_kill:
            self.hook.stop_project_version_on_kill(self.project_version_arn)

    def _defer(self) -> None:
        self.log.info("Deferring until project version %s is %s.", self.project_version_arn, self._wanted)
        self.defer(
            trigger=TRIGGERS[self._wanted](
                **self._trigger_parameters,
                stop_on_kill=self.stop_on_kill,
                waiter_delay=int(self.poke_interval),
                waiter_max_attempts=1 + math.ceil(self.timeout / self.poke_interval),
            ),
            method_name="execute_complete",
            kwargs={"started_at": time.time()},
            timeout=timedelta(seconds=self.timeout) + DEFERRAL_MARGIN,
        )

    def _timeout_error(self, reason: str) -> AirflowSensorTimeout:
        status = self._describe()["Status"]
        return AirflowSensorTimeout(
            f"Project version {self.project_version_arn} did not become {self._wanted}, its last status is {status}. "
            f"{reason} It bills while it is RUNNING: stop it, or give the sensor more time."
        )
