"""Defaults of every Dag here: retries, tags, and the schedules, the settings that are read at parse time."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any, Final

from airflow.sdk import Asset, ExceptionRetryPolicy, RetryAction, RetryRule

AWS_CONN_ID: Final = "aws_default"
TAGS: Final = frozenset({"labels", "rekognition", "cost", "archive", "results"})

# Parsed with the Dag file, so it must not fail for lack of the other settings: those are checked by the first task.
SCHEDULE: Final = os.environ.get("LABELS_SCHEDULE", "@hourly") or None

# Updated by every run of label_images that ends well: what comes after a run is scheduled on it.
LABELLED_IMAGES: Final = Asset("labelled_images")
AFTER_EACH_RUN: Final = "after each run"
_audit: Final = os.environ.get("LABELS_AUDIT_SCHEDULE", "@daily")
AUDIT_SCHEDULE: Final = [LABELLED_IMAGES] if _audit == AFTER_EACH_RUN else _audit or None
COMPACT_SCHEDULE: Final = os.environ.get("LABELS_COMPACT_SCHEDULE", "30 2 * * *") or None

QUERY_SCHEDULE: Final = os.environ.get("LABELS_QUERY_SCHEDULE", "") or None

# The library says which errors pass; Airflow only has to be told once.
RETRY_POLICY: Final = ExceptionRetryPolicy(
    rules=[
        RetryRule(
            exception="include.errors.TerminalError",
            action=RetryAction.FAIL,
            reason="Trying again changes nothing until somebody acts",
        ),
    ]
)

DEFAULT_ARGS: Final[dict[str, Any]] = {
    "retries": 3,
    "retry_delay": timedelta(seconds=20),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=5),
    "retry_policy": RETRY_POLICY,
}
