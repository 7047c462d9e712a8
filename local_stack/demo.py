"""``make demo``: an hour of uploads through the real Dag in the real Airflow, against local AWS; then it checks itself."""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from include.settings import PREFIX, Settings
from local_stack import seed
from local_stack.demo_checks import Findings, check
from local_stack.demo_summary import print_summary
from local_stack.environment import ROOT, Site, free_port
from local_stack.stack import COMPONENTS, Airflow, Stack, StackError
from local_stack.uploads import Upload, an_hour_of_uploads

# A model that starts in seconds; on AWS it takes 5 to 30 minutes, which bill nothing.
MODEL: Final = ("--start-seconds", "6", "--stop-seconds", "1", "--tps-per-unit", "12")
SETTINGS: Final = {
    "LABELS_SCHEDULE": "",  # by hand only, so that the full hour does not run into the demo
    "LABELS_AUDIT_SCHEDULE": "",
    "LABELS_COMPACT_SCHEDULE": "",
    "LABELS_BATCH_SIZE": "32",
    "LABELS_POLL_SECONDS": "1",
    "LABELS_INFERENCE_UNITS_MAX": "2",
}
RUN_SECONDS: Final = 180.0
STAGES: Final = (
    ("drain", "Drain the queue"),
    ("decide", "Decide"),
    ("start_model", "Request the model's start"),
    ("preflight", "Check images while it starts"),
    ("wait_until_running", "Wait until the model is RUNNING"),
    ("infer", "Label"),
    ("stop_model", "Stop the model"),
    ("publish", "Publish JSON and Parquet"),
    ("report", "Report"),
)
console = Console(highlight=False)


def main() -> int:
    """Run the demo; the exit status is 0 only if every check holds."""
    began = time.monotonic()
    site = Site("demo", free_port(), free_port())
    stack = Stack(site)
    console.print("\n[bold]An hour of uploads, labelled[/] on this machine, by Airflow and a stand-in for AWS\n")
    try:
        findings = _run(stack)
    except StackError as err:
        console.print(str(err), style="red", markup=False)
        return 1
    finally:
        stack.stop(patience_seconds=1.0)  # nothing runs any more
    print_summary(console, findings, seconds=time.monotonic() - began)
    return 1 if findings.broken else 0


def _run(stack: Stack) -> Findings:
    shutil.rmtree(stack.site.home / "final-bucket", ignore_errors=True)
    with _doing("Start local AWS: buckets, queue, notification"):
        api_server = _in_background(lambda: _start_api_server(stack))
        stack.start_local_aws(*MODEL)
        s3, sqs, rekognition = (stack.client(service) for service in ("s3", "sqs", "rekognition"))
        seed.create_buckets_and_queues(s3, sqs)
    with _doing(f"Draw {seed.TRAINING_IMAGES + seed.TEST_IMAGES} scenes and begin to train a model on them"):
        project_arn, version_arn = seed.train_model(s3, rekognition)
    # Training and Airflow's start take a few seconds each: side by side.
    with _doing("Start Airflow; meanwhile upload, and end the training"):
        api_server()
        settings = SETTINGS | seed.pipeline_settings(stack.site, project_arn, version_arn)
        stack.start_airflow(settings, COMPONENTS[1:])
        uploads = list(an_hour_of_uploads())
        _upload(s3, sqs, stack.site, uploads)
        trained = seed.wait_until_trained(rekognition, project_arn)
        airflow = stack.wait_for_airflow("label_images")
    console.print(
        f"  [dim]{len(uploads)} files uploaded; {seed.VERSION} has F1 {trained['EvaluationResult']['F1Score']:.2f};\n"
        f"  Airflow is at {stack.site.airflow_url}[/]"
    )
    run_id = airflow.trigger("label_images")
    state = _watch(airflow, run_id, stack)
    report = airflow.xcom("label_images", run_id, "report") if state == "success" else {}
    (ROOT / ".local" / "last-run.json").write_text(json.dumps(report, indent=1))
    with _doing("Check the result"):
        fields: dict[str, Any] = {name.removeprefix(PREFIX).lower(): value for name, value in settings.items()}
        return check(stack, uploads, run_state=state, report=report, settings=Settings(**fields))


def _start_api_server(stack: Stack) -> None:
    """The slowest component, which needs none of the pipeline's settings, goes ahead of the others."""
    stack.prepare_airflow()
    stack.start_airflow({}, COMPONENTS[:1])


def _upload(s3: Any, sqs: Any, site: Site, uploads: list[Upload]) -> None:
    def put(upload: Upload) -> None:
        for _ in range(upload.times):
            s3.put_object(Bucket=seed.SOURCE_BUCKET, Key=upload.key, Body=upload.body)
        if upload.deleted_before_run:
            s3.delete_object(Bucket=seed.SOURCE_BUCKET, Key=upload.key)

    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(put, uploads))
    # Somebody's script talks to the wrong queue.
    sqs.send_message(QueueUrl=seed.queue_url(site, seed.QUEUE), MessageBody="hello?")


def _watch(airflow: Airflow, run_id: str, stack: Stack) -> str:
    """Show each stage until the run has ended; returns its state."""
    columns = (
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description:<36}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, refresh_per_second=8) as progress:
        bars = {name: progress.add_task(title, total=1, start=False, note="") for name, title in STAGES}
        deadline = time.monotonic() + RUN_SECONDS
        while True:
            state = airflow.run("label_images", run_id)["state"]
            instances = airflow.tasks("label_images", run_id)
            for name, _ in STAGES:
                _show(progress, bars[name], [task for task in instances if task["task_id"] == name])
            if state in ("success", "failed"):
                return str(state)
            if time.monotonic() > deadline:
                raise StackError(f"The run has not ended after {RUN_SECONDS:.0f} s; see {stack.site.logs}")
            time.sleep(0.4)


def _show(progress: Progress, bar: Any, instances: list[dict[str, Any]]) -> None:
    states = [task["state"] for task in instances]
    if any(state not in (None, "scheduled", "queued") for state in states) and not progress.tasks[bar].started:
        progress.start_task(bar)
    done = sum(state in ("success", "failed", "skipped", "upstream_failed") for state in states)
    bad = [state for state in states if state in ("failed", "upstream_failed")]
    note = f"[red]{len(bad)} failed" if bad else "[dim]deferred" if "deferred" in states else ""
    progress.update(bar, total=max(1, len(states)), completed=done, note=note)


@contextmanager
def _doing(what: str) -> Iterator[None]:
    began = time.monotonic()
    with console.status(what):
        yield
    console.print(f"[green]✓[/] {what} [dim]{time.monotonic() - began:.1f} s[/]")


def _in_background(work: Any) -> Any:
    """Start work; the returned function waits for it and raises what it raised."""
    errors: list[Exception] = []

    def run() -> None:
        try:
            work()
        except StackError as err:
            errors.append(err)

    thread = threading.Thread(target=run)
    thread.start()

    def join() -> None:
        thread.join()
        if errors:
            raise errors[0]

    return join


if __name__ == "__main__":
    sys.exit(main())
