"""
### Make one file of a finished day's many

Every night (LABELS_COMPACT_SCHEDULE): each hour, and each slice of an archive, leaves its own Parquet files. A day that is over
becomes one sorted file, which Athena reads faster and for less. Queries go on meanwhile and see each row exactly once: the
files of a day stand in a list, which is swapped in one write; the small files are deleted by the next run that comes at least
six hours later.

**When it is red**: a file of results cannot be read; the log names it and says what to do. Everything else is merged, and
nothing is lost. Any run may be killed, cleared or repeated.

**By hand**: *Trigger* compacts every finished day that has several files, or the one day that you name.

**What it costs**: reads and writes a day's results once: a few requests and some seconds for a hundred thousand images.
"""

from __future__ import annotations

import pendulum
from airflow.sdk import Param, dag

from labelling.compact_tasks import compact, find_days, remove_replaced
from labelling.defaults import COMPACT_SCHEDULE, DEFAULT_ARGS


@dag(
    schedule=COMPACT_SCHEDULE,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    params={"day": Param(None, type=["null", "string"], format="date", title="Only this day")},
    tags=["labels", "results"],
    doc_md=__doc__,
)
def compact_labels() -> None:
    days = find_days()
    remove_replaced() >> days
    compact.expand(day=days)


compact_labels()
