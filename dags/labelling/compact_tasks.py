"""Days of results, compacted one by one.

XCom carries days and counts.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any, Final

from airflow.sdk import get_current_context, task

from include import compact as compaction
from include.errors import ResultsError
from include.schema import ANALYSIS
from include.settings import load_settings
from labelling.clients import client
from labelling.tasks import now_utc

log = logging.getLogger(__name__)

# The oldest ones first; a deployment that never compacted catches up in some nights.
MAX_DAYS_A_RUN: Final = 100


@task
def remove_replaced() -> int:
    """Delete files whose rows a merged file has shown for hours; how many."""
    settings = load_settings()
    removed = compaction.remove_replaced(
        client("s3", settings), settings.final_bucket, analysis=ANALYSIS, now=now_utc(), threads=settings.threads
    )
    log.info("Removed %s files whose rows are in a merged one.", f"{removed:,}")
    return removed


@task
def find_days() -> list[str]:
    """Days that are over and have several files; or the one that was asked for."""
    context, settings = get_current_context(), load_settings()
    if day := context["params"]["day"]:
        return [day]
    days = compaction.days_to_compact(
        client("s3", settings), settings.final_bucket, analysis=ANALYSIS, now=now_utc(), threads=settings.threads
    )
    if len(days) > MAX_DAYS_A_RUN:
        log.info("%s days are to be compacted; this run takes the oldest %s.", f"{len(days):,}", MAX_DAYS_A_RUN)
    return days[:MAX_DAYS_A_RUN]


@task(max_active_tis_per_dagrun=2, multiple_outputs=False)
def compact(day: str) -> dict[str, Any]:
    """One day's files into one.

    :raises ResultsError: naming files that could not be read, once all others are merged.
    """
    settings = load_settings()
    done = compaction.compact_day(
        client("s3", settings), settings.final_bucket, analysis=ANALYSIS, day=day, threads=settings.threads
    )
    log.info(
        "%s: %s rows; %s files are %s now, %s bytes of them %s.",
        day,
        f"{done.rows:,}",
        f"{done.files_before:,}",
        f"{done.files_after:,}",
        f"{done.bytes_before:,}",
        f"{done.bytes_after:,}",
    )
    if done.unreadable:
        raise ResultsError(
            f"{len(done.unreadable)} files of {day} were left as they are, and queries of that day fail: "
            f"{', '.join(done.unreadable[:5])}. Delete each and put its batch back, as docs/runbook.md says; the rest is merged."
        )
    return asdict(done)
