"""``python -m local_stack up | down | status``: the whole stack on this machine, for playing with it."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
from rich.console import Console

from local_stack import seed
from local_stack.environment import PASSWORD, REGION, ROOT, USER, Site, free_port
from local_stack.stack import Stack, StackError

NAME: Final = "up"
AIRFLOW_PORT: Final = 8080
AWS_PORT: Final = 4599
DAGS: Final = (
    "label_images",
    "stop_idle_model",
    "audit_images",
    "compact_labels",
    "index_labels",
    "query_labels",
)
console = Console(highlight=False)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m local_stack", description=__doc__)
    parser.add_argument("command", choices=["up", "down", "status"])
    parser.add_argument(
        "--start-seconds", default="20", help="how long the model takes to start (AWS: 5 to 30 minutes)"
    )
    parser.add_argument("--stop-seconds", default="5", help="how long it takes to stop")
    parser.add_argument("--tps-per-unit", default="5", help="images a second that an inference unit serves")
    options = parser.parse_args()
    try:
        if options.command == "up":
            flags = ("start_seconds", "stop_seconds", "tps_per_unit")
            return up(*(part for name in flags for part in (f"--{name.replace('_', '-')}", getattr(options, name))))
        return down() if options.command == "down" else status()
    except StackError as err:
        console.print(str(err), style="red", markup=False)
        return 1


def up(*flags: str) -> int:
    """Start everything, and say where it is once it is really ready."""
    site = _known_site() or _new_site()
    stack = Stack(site)
    if stack.is_running():
        console.print("It is up already.")
        _say_where(site)
        return 0
    _site_file().write_text(json.dumps({"airflow_port": site.airflow_port, "aws_port": site.aws_port}))
    try:
        with console.status("Starting local AWS ..."):
            stack.start_local_aws("--state-dir", str(site.home / "aws"), *flags)
        with console.status("Buckets, queue, notification, model ..."):
            settings = _seed(stack)
            (site.home / "aws.env").write_text(_environment(site, settings))
        with console.status("Starting Airflow ..."):
            stack.prepare_airflow()
            stack.start_airflow(settings)
            stack.wait_for_airflow(*DAGS)
    except BaseException:
        stack.stop()
        raise
    _say_where(site)
    return 0


def down() -> int:
    site = _known_site()
    if site is None or not Stack(site).is_running():
        console.print("Nothing is up.")
        return 0
    with console.status("Stopping (tasks that run may finish) ..."):
        Stack(site).stop()
    console.print("Stopped. Buckets, queue and model are kept in .local/up for the next `make up`.")
    return 0


def status() -> int:
    site = _known_site()
    if site is None or not Stack(site).is_running():
        console.print("Nothing is up. `make up` starts it.")
        return 1
    _say_where(site)
    try:
        bill: dict[str, Any] = httpx.get(f"{site.aws_url}/_local_aws/meter").json()
    except httpx.HTTPError as err:
        raise StackError(f"Local AWS does not answer: {err}") from err
    console.print_json(data=bill)
    return 0


def _seed(stack: Stack) -> dict[str, str]:
    s3, rekognition = stack.client("s3"), stack.client("rekognition")
    seed.create_buckets_and_queues(s3, stack.client("sqs"))
    project_arn, version_arn = seed.train_model(s3, rekognition)
    seed.wait_until_trained(rekognition, project_arn)
    return seed.pipeline_settings(stack.site, project_arn, version_arn)


def _site_file() -> Path:
    file = ROOT / ".local" / NAME / "site.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def _known_site() -> Site | None:
    return Site(NAME, **json.loads(_site_file().read_text())) if _site_file().exists() else None


def _new_site() -> Site:
    return Site(NAME, free_port(AIRFLOW_PORT), free_port(AWS_PORT))


def _environment(site: Site, settings: dict[str, str]) -> str:
    """For a shell: any AWS client reaches local AWS, and the pipeline's own commands know its settings."""
    variables = settings | {
        "AWS_ENDPOINT_URL": site.aws_url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": REGION,
    }
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


def _say_where(site: Site) -> None:
    next_hour = f"{(datetime.now(UTC).hour + 1) % 24:02d}:00 UTC"
    console.print(
        f"\n[green]✓[/] Airflow    [bold]{site.airflow_url}[/]   user [bold]{USER}[/]  password [bold]{PASSWORD}[/]"
    )
    console.print(
        f"[green]✓[/] local AWS  [bold]{site.aws_url}[/]   buckets {seed.SOURCE_BUCKET}, {seed.FINAL_BUCKET}\n"
    )
    console.print(
        "Upload something and press Trigger on label_images (or wait for the hourly run at " + next_hour + "):\n"
    )
    console.print(f"  . .local/{NAME}/aws.env", markup=False)
    console.print(f"  .venv/bin/aws s3 cp photo.jpg s3://{seed.SOURCE_BUCKET}/", markup=False)
    console.print(f"  .venv/bin/aws s3 ls --recursive s3://{seed.FINAL_BUCKET}/labels/", markup=False)
    console.print("\nStop it all with [bold]make down[/].\n")


if __name__ == "__main__":
    sys.exit(main())
