"""
### Label what has been uploaded

Every hour: empties the queue of uploads, starts the Custom Labels model if there is work worth it, labels the images,
stops the model, and writes JSON and Parquet to the final bucket. An hour without uploads costs nothing.

**By hand**: press *Trigger* and fill in the form. *Everything pending* does what the hourly run does, at once.
*A prefix* or *a list of S3 URIs* labels those images only (again, with *force*). *Dry run* says what would happen and
what it would cost, and changes nothing.

**Safe to run again**: always. Messages are deleted only when their images are in a pending batch; a batch is done only
when each of its images has an outcome; what was paid for is never paid for twice.

**When it is red**: the `report` task says what is incomplete, and which task to look at. The next run takes up what is
left. To repeat a run yourself, clear `start_model` with its downstream tasks, *without* "only failed": Airflow does not
start the model again for failed tasks alone.

**What it costs**: inference units x minutes RUNNING x $4 an hour. `decide` predicts it, `report` says what it was; both
stand in the run's row under `results/runs/` of the final bucket.

The model stops when `infer` ends, however it ends: by the teardown `stop_model`, else by the failure callback, else by
the Dag `stop_idle_model`. Never give this Dag a `dagrun_timeout`: Airflow then skips teardowns.
"""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.sdk import Param, TriggerRule, dag, task_group

from include.decide import INFER_TASKS
from include.settings import load_settings
from labelling.alerts import alert_of_failed_run
from labelling.closing_tasks import report
from labelling.defaults import DEFAULT_ARGS, LABELLED_IMAGES, SCHEDULE
from labelling.model_session import NextRun, StartModel, StopModel, WaitUntilRunning, stop_model_of_failed_run
from labelling.tasks import A_LIST, A_PREFIX, EVERYTHING_PENDING, decide, drain, infer, preflight, publish

PARAMS = {
    "what": Param(
        EVERYTHING_PENDING,
        type="string",
        enum=[EVERYTHING_PENDING, A_PREFIX, A_LIST],
        title="What to label",
        description="Everything pending is the queue and all batches that wait.",
    ),
    "prefix": Param(
        None,
        type=["null", "string"],
        pattern="^s3://[^/]+/.*$",
        title="Prefix",
        description="For a prefix: s3://bucket/folder/. The bucket must be the source bucket or an allowed one.",
    ),
    "uris": Param(
        [],
        type=["null", "array"],
        items={"type": "string", "pattern": "^s3://[^/]+/.+$"},
        title="S3 URIs",
        description="For a list of S3 URIs: one a line, keys as they are, not URL-encoded.",
    ),
    "inference_units": Param(
        None,
        type=["null", "integer"],
        minimum=1,
        maximum=100,
        title="Inference units",
        description="Empty: the fewest that meet the deadline.",
    ),
    "force": Param(
        False, type="boolean", title="Force", description="Label again what this model has labelled already."
    ),
    "dry_run": Param(
        False, type="boolean", title="Dry run", description="Say what would happen and cost; change nothing."
    ),
}


@dag(
    schedule=SCHEDULE,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    params=PARAMS,
    on_failure_callback=[stop_model_of_failed_run, alert_of_failed_run],
    user_defined_macros={"settings": load_settings},
    tags=["labels", "rekognition"],
    doc_md=__doc__,
)
def label_images() -> None:
    batches = decide(drain())

    # What the model waits for, or bills for, goes before everything else that wants a worker. The stop is retried whatever
    # went wrong, for longer than any throttling lasts.
    first = {"weight_rule": "absolute", "priority_weight": 100}
    start = StartModel(task_id="start_model", retry_delay=timedelta(seconds=10), **first).as_setup()
    running = WaitUntilRunning(task_id="wait_until_running", **first).as_setup()
    stop = StopModel(
        task_id="stop_model", retries=10, retry_delay=timedelta(seconds=10), retry_policy=None, **first
    ).as_teardown(setups=[start, running], on_failure_fail_dagrun=True)

    # What is finished is published, whatever became of other batches: beside the stop, and in a long run (archives) beside
    # the batches that are still being labelled, which go first where workers are few.
    @task_group(prefix_group_id=False)
    def label(batch: str) -> None:
        # A few at a time: what infer waits for is the first ones, not all.
        checked = preflight.override(weight_rule="absolute", max_active_tis_per_dagrun=2 * INFER_TASKS)(batch)
        labelled = infer.override(weight_rule="absolute", priority_weight=50, max_active_tis_per_dagrun=INFER_TASKS)(
            batch
        )
        published = publish.override(weight_rule="absolute", trigger_rule=TriggerRule.ALL_DONE)(batch)
        checked >> labelled >> published
        running >> labelled
        labelled >> stop
        published >> following

    following = NextRun(task_id="next_run", trigger_rule=TriggerRule.ALL_DONE)
    reported = report.override(outlets=[LABELLED_IMAGES])().as_teardown(on_failure_fail_dagrun=True)
    label.expand(batch=batches)
    batches >> start >> running
    stop >> following >> reported


label_images()
