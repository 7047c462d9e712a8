"""
### Reconcile what was uploaded with what was published

Once a day (LABELS_AUDIT_SCHEDULE; or after each run): looks at both buckets, the queue and the model, and shares no code
with the stages that it judges. It is green where every upload is waiting, or has exactly one result and lies in exactly one
place, and the model is off.

**When it is red**: the log names each finding with examples; `docs/runbook.md` says what to do about each. *Unprocessed*
uploads never got an event: `python -m include.audit --queue-unprocessed` hands them to the pipeline. Nothing is changed
here.

**What it costs**: listings of both buckets, a request for each thousand objects.
"""

from __future__ import annotations

import pendulum
from airflow.sdk import dag

from labelling.closing_tasks import audit
from labelling.defaults import AUDIT_SCHEDULE, DEFAULT_ARGS


@dag(
    schedule=AUDIT_SCHEDULE,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    tags=["labels"],
    doc_md=__doc__,
)
def audit_images() -> None:
    audit()


audit_images()
