"""
### Bring the label index up to the results

After each run of label_images: reads the files of results that are not in the index yet, and publishes a new index file with
one write of `index/latest.json` in the final bucket. Whoever searches (`python -m include.cli search`) fetches it from there and
needs nothing else. The index that readers have is never touched; the one before is deleted hours later.

**When it is red**: the log says what failed and what to do. A file of results that cannot be read is named: delete it and put its
batch back (`docs/runbook.md`). An index that does not add up is not published: *Trigger* with *rebuild*. Meanwhile people search
in the index before; nothing is lost, and the next run takes up everything. Any run may be killed, cleared or repeated.

**By hand**: *Trigger* does the same; with *rebuild* it reads all results again, and counts the new index against them.

**What it costs**: seconds and one upload of the index, some 50 MB for a million labels. Building takes half a minute for ten
million labels, less than 1 GB of memory, and up to three times the size of the index on the worker's disk.
"""

from __future__ import annotations

import pendulum
from airflow.sdk import Param, dag

from labelling.defaults import DEFAULT_ARGS, LABELLED_IMAGES
from labelling.index_tasks import refresh


@dag(
    schedule=[LABELLED_IMAGES],
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    params={
        "rebuild": Param(
            False,
            type="boolean",
            title="Rebuild",
            description="Read all results again, instead of what is new, and count the index against them.",
        )
    },
    tags=["labels", "results"],
    doc_md=__doc__,
)
def index_labels() -> None:
    refresh()


index_labels()
