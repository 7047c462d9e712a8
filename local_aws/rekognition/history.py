"""What a version's status was a while ago, for a Describe that lags behind."""

from __future__ import annotations

import dataclasses
from collections import deque

from local_aws.rekognition.resources import ProjectVersion

# A run of a model changes its status four times; a lag spans a run or two at most.
_MOST = 50


class StatusHistory:
    """The latest statuses of every version, by ARN, each with when it began (epoch seconds)."""

    def __init__(self) -> None:
        self._statuses: dict[str, deque[tuple[float, str, str]]] = {}

    def change(self, version: ProjectVersion, status: str, message: str, at: float) -> None:
        """Set a version's status and message, and remember what they were."""
        past = self._statuses.setdefault(
            version.arn, deque([(0.0, version.status, version.status_message)], maxlen=_MOST)
        )
        past.append((at, status, message))
        version.status, version.status_message = status, message

    def as_of(self, version: ProjectVersion, at: float) -> ProjectVersion:
        """The version with the status and message that it had then."""
        past = [(status, message) for began, status, message in self._statuses.get(version.arn, ()) if began <= at]
        if not past:
            return version
        status, message = past[-1]
        return dataclasses.replace(version, status=status, status_message=message)
