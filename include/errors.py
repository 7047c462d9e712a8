"""What can go wrong, split by what to do about it: try again, or stop and tell someone.

A message says what failed, on which thing, and what happens next or what to do.
"""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError


class LabellingError(Exception):
    """Root of the errors that the stages raise on purpose."""


class TransientError(LabellingError):
    """Raised when the same call may succeed later: the task should be retried."""


class TerminalError(LabellingError):
    """Raised when trying again changes nothing until somebody acts."""


class SettingsError(TerminalError):
    """Raised when settings are missing or wrong; the message lists every problem."""


class AccessError(TerminalError):
    """Raised when a bucket or the queue is missing or may not be used; the message lists every problem."""


class SelectionError(TerminalError):
    """Raised when a manual run asks for images that it may not have or that are not there."""


class ResultsError(TerminalError):
    """Raised when published results are not what they should be: a file is damaged, or one that is listed is gone."""


class ModelNotRunningError(TerminalError):
    """Raised when inference finds the model not RUNNING."""


class LeaseHeldError(TransientError):
    """Raised when another run may use the model at the moment."""


class LeaseLostError(TerminalError):
    """Raised when this run's lease ran out and somebody else took the model."""


class IncompleteRunError(TerminalError):
    """Raised by the report when tasks failed, so that the run does not pass for a success."""


class AuditError(TerminalError):
    """Raised by the audit Dag where uploads and results do not agree."""


def error_code(error: ClientError) -> str:
    """The service's own code, such as ``NoSuchKey`` or ``ThrottlingException``; HEAD answers carry only ``404``."""
    response: dict[str, Any] = error.response
    return str(response.get("Error", {}).get("Code", ""))


def error_message(error: ClientError) -> str:
    """The service's own words."""
    response: dict[str, Any] = error.response
    return str(response.get("Error", {}).get("Message", ""))
