"""
### Label a stock archive

Images that were there before anybody listened: below a prefix, in an S3 Inventory, or in a list. They are found, selected
and counted here, and labelled by `label_images`: after uploads, in slices of `LABELS_ARCHIVE_MINUTES`. Originals stay where
they are.

**By hand**: press *Trigger* and fill in the form. The first run is a **dry run**: its log says how many images and bytes
there are, what is left out and why, and what the rest takes in inference-unit hours, dollars and days. Nothing is queued.
Then trigger it again, with *Dry run* off and the dry run's id as *Plan*: exactly those images are queued. (With *Dry run* off
and no plan, both happen at once.)

**By dates**, for archives organised by day: the Backfill button, or `airflow backfill create --dag-id backfill_archive
--from-date 2024-01-01 --to-date 2024-12-31 --dag-run-conf '{"uri": "s3://stock/{date:%Y/%m/%d}/", "dry_run": false}'`. Each
interval's run takes the images modified in it; `{date:...}` becomes its first day.

**Pause, go on, cancel**: `python -m include.cli archives pause ID`, `resume ID`, `cancel ID`; `archives` alone says how far each
one is, what it has cost and when it will end. So does the log of `report` in every run of `label_images`.

**Safe to run again**: always. A plan once made stays; batches once written are written again as they are; an image that has a
result of this model is not paid for again (unless *all* were asked for).

**When it is red**: `plan` says what is wrong with the source, and nothing was queued.

**What it costs**: the listing, about a cent for each million images; labelling is what `plan` says.
"""

from __future__ import annotations

from typing import Any

import pendulum
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Param, dag

from backfill_only import BackfillOnlyTimetable
from labelling.alerts import alert_of_failed_run
from labelling.archive_tasks import plan, queue
from labelling.defaults import DEFAULT_ARGS

GLOBS: dict[str, Any] = {"type": ["null", "array"], "items": {"type": "string", "minLength": 1}}

PARAMS = {
    "name": Param(
        "", type=["null", "string"], title="Name", description="What the archive is called; empty: after its source."
    ),
    "source": Param(
        "prefix",
        type="string",
        enum=["prefix", "inventory", "list"],
        title="Source",
        description="A prefix, an S3 Inventory's manifest.json, or a file with a URI (or bucket,key) a line.",
    ),
    "uri": Param(
        None,
        type=["null", "string"],
        pattern="^s3://[^/]+/.*$",
        title="S3 URI",
        description="s3://bucket/prefix/, s3://.../manifest.json or s3://.../list.csv. In a backfill {date:%Y/%m/%d} is its day.",
    ),
    "url_encoded": Param(
        None,
        type=["null", "boolean"],
        title="Keys are URL-encoded",
        description="Of a list. Empty: bucket,key lines are, as S3 Batch Operations has them; URIs are not.",
    ),
    "skip_broken_lines": Param(
        False,
        type="boolean",
        title="Skip broken lines",
        description="Of a list: go on with the good ones; the broken ones are kept in a file beside the plan.",
    ),
    "include": Param([], **GLOBS, title="Include", description="Globs over keys, one a line; empty: image extensions."),
    "exclude": Param([], **GLOBS, title="Exclude", description="Globs over keys, one a line."),
    "modified_from": Param(None, type=["null", "string"], format="date-time", title="Modified from"),
    "modified_until": Param(None, type=["null", "string"], format="date-time", title="Modified before"),
    "min_bytes": Param(None, type=["null", "integer"], minimum=0, title="Smallest size in bytes"),
    "max_bytes": Param(None, type=["null", "integer"], minimum=0, title="Largest size in bytes"),
    "sample_percent": Param(
        None,
        type=["null", "number"],
        exclusiveMinimum=0,
        maximum=100,
        title="Sample in percent",
        description="Always the same images: 20 % holds the 10 %.",
    ),
    "limit": Param(None, type=["null", "integer"], minimum=1, title="At most so many images"),
    "select": Param(
        "new",
        type="string",
        enum=["new", "failed", "older_model", "all"],
        title="Which of them",
        description="new: no result of this model. failed: only failures. older_model: labelled by another one. all: pay again.",
    ),
    "plan": Param(
        None,
        type=["null", "string"],
        title="Plan",
        description="The id of a dry run, whose images are to be queued; everything above is then of no account.",
    ),
    "dry_run": Param(
        True, type="boolean", title="Dry run", description="Say what there is and what it takes; queue nothing."
    ),
}


@dag(
    schedule=BackfillOnlyTimetable("@daily", timezone="UTC"),
    start_date=pendulum.datetime(2006, 3, 14, tz="UTC"),  # the day that S3 opened
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    params=PARAMS,
    on_failure_callback=alert_of_failed_run,
    tags=["labels", "archive"],
    doc_md=__doc__,
)
def backfill_archive() -> None:
    queued = queue(plan())  # type: ignore[arg-type]
    queued >> TriggerDagRunOperator(task_id="label_images", trigger_dag_id="label_images")


backfill_archive()
