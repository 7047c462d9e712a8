from __future__ import annotations

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException


class RekognitionProjectVersionError(AirflowException):
    """A project version could not be started, stopped or waited for; trying the task again may help."""


class RekognitionProjectVersionNotFound(RekognitionProjectVersionError):
    """The project has no version of this name."""


class RekognitionProjectVersionStateError(RekognitionProjectVersionError, AirflowFailException):
    """The project version is in a state that it does not leave by itself: the task fails without a retry."""
