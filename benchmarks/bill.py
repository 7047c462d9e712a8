"""What a run costs: ours, the AWS sample for the same job, and a model left on. Dollars by local AWS's own meter.

- *ours* is the real Dag in the real Airflow, at real time, except that the model takes 30 seconds to start instead of ten
  minutes (starting bills nothing), and that 10,000 images are served ten times as fast and billed ten times as long (so
  ten times the overhead is counted). Of the day's 24 trickling hours, all alike, six are run.
- *sample* is https://github.com/aws-samples/amazon-rekognition-custom-labels-batch-image-processing on the same emulated
  model, at sixty times the speed: it starts the model, looks every 15 minutes whether it runs, works off its queue
  while it waits for 59 minutes, and stops the model if the queue is empty then. That is its documented schedule.
- *left on* is an hour of a running model for each hourly run.

What the model bills while STOPPING, AWS does not say: it is counted for nobody. Goals: sixty times cheaper than the sample at
100 images, fifteen times at 1,000, never dearer.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

import httpx
from botocore.exceptions import ClientError

from include.model import ModelName, parse_project_version_arn
from include.model_state import ModelStateStore
from include.parallel import in_parallel
from local_aws.process import LocalAws
from local_stack import seed
from local_stack.environment import Site, free_port
from local_stack.scenes import HELD_OUT_SEEDS, draw_scene, encode
from local_stack.stack import Airflow, Stack

START_SECONDS: Final = 600.0
IMAGES_PER_SECOND: Final = 5.0
USD_PER_HOUR: Final = 4.0
OURS_START_SCALE: Final = 0.05
SAMPLE_SPEED: Final = 60.0
SAMPLE_POLL_SECONDS: Final = 900.0
SAMPLE_WAIT_SECONDS: Final = 3_540.0
# One non-empty hour in two, since every run of the sample takes more than one.
SAMPLE_RUNS_A_DAY: Final = 12
TRICKLE_IMAGES: Final = 20
TRICKLE_HOURS_RUN: Final = 6
GOALS: Final = {10: 1.0, 100: 60.0, 1_000: 15.0, 10_000: 1.0}
SETTINGS: Final = {"LABELS_SCHEDULE": "", "LABELS_ORIGINALS": "leave", "LABELS_INFERENCE_UNITS_MAX": "1"}
RUN_SECONDS: Final = 1_800.0


@dataclass(frozen=True)
class Bill:
    """Seconds RUNNING, as they would be at real time, and what the run says of itself."""

    images: int
    seconds: float
    report: dict[str, Any]

    @property
    def usd(self) -> float:
        """To the second: billing by the begun minute is the same for everybody, and would hide what is compared."""
        return self.seconds / 3600 * USD_PER_HOUR


def main() -> int:
    with ThreadPoolExecutor(len(GOALS)) as pool:
        print("The sample, sixty times as fast ...", file=sys.stderr)
        sample = dict(zip(GOALS, pool.map(sample_seconds, GOALS), strict=True))
    ours, trickle = our_bills()
    rows = []
    for images, goal in GOALS.items():
        sample_usd = sample[images] / 3600 * USD_PER_HOUR
        factor = sample_usd / ours[images].usd
        rows.append(
            {
                "images": images,
                "ours_seconds": round(ours[images].seconds, 1),
                "ours_usd": round(ours[images].usd, 4),
                "sample_usd": round(sample_usd, 2),
                "left_on_usd": USD_PER_HOUR,
                "factor": round(factor, 1),
                "goal": goal,
                "overhead_seconds": round(ours[images].seconds - images / IMAGES_PER_SECOND, 1),
            }
            | {name: ours[images].report[name] for name in ITEMS}
        )
    day = sum(bill.seconds for bill in trickle) / len(trickle) * 24
    sample_day = sample[100] * SAMPLE_RUNS_A_DAY
    figures = {
        "name": "bill",
        "runs": rows,
        "trickle_images_an_hour": TRICKLE_IMAGES,
        "trickle_day_ours_usd": round(day / 3600 * USD_PER_HOUR, 2),
        "trickle_day_sample_usd": round(sample_day / 3600 * USD_PER_HOUR, 2),
        "trickle_day_left_on_usd": 24 * USD_PER_HOUR,
        "trickle_overhead_seconds_a_run": round(day / 24 - TRICKLE_IMAGES / IMAGES_PER_SECOND, 1),
    }
    print_table(figures)
    print(json.dumps(figures))
    return 0 if all(row["factor"] >= row["goal"] for row in rows) and day <= sample_day else 1


ITEMS: Final = (
    "idle_before_first_call_seconds",
    "ramp_seconds",
    "tail_seconds",
    "idle_after_last_call_seconds",
    "throttled_calls",
    "utilisation",
)


def print_table(figures: dict[str, Any]) -> None:
    print(f"{'images':>8} {'ours':>9} {'sample':>9} {'left on':>9} {'cheaper':>8}   RUNNING beyond images / rate")
    for row in figures["runs"]:
        print(
            f"{row['images']:>8,} {row['ours_usd']:>8.3f}$ {row['sample_usd']:>8.2f}$ {row['left_on_usd']:>8.2f}$ "
            f"{row['factor']:>7.1f}x   {row['overhead_seconds']:.1f} s"
        )
    print(
        f"{'a day':>8} {figures['trickle_day_ours_usd']:>8.2f}$ {figures['trickle_day_sample_usd']:>8.2f}$ "
        f"{figures['trickle_day_left_on_usd']:>8.2f}$   of {TRICKLE_IMAGES} images every hour"
    )


def our_bills() -> tuple[dict[int, Bill], list[Bill]]:
    """Every size through the real Dag, and hours of a trickle."""
    site = Site("benchmark-bill", free_port(), free_port())
    shutil.rmtree(site.home, ignore_errors=True)
    stack = Stack(site)
    try:
        stack.start_local_aws("--stop-seconds", "0", "--time-scale", str(OURS_START_SCALE), *model_flags(1.0))
        seed.create_buckets_and_queues(stack.client("s3"), stack.client("sqs"))
        project_arn, version_arn = seed.train_model(stack.client("s3"), stack.client("rekognition"))
        seed.wait_until_trained(stack.client("rekognition"), project_arn)
        stack.prepare_airflow()
        stack.start_airflow(SETTINGS | seed.pipeline_settings(site, project_arn, version_arn))
        airflow = stack.wait_for_airflow("label_images")
        trickle = [our_bill(stack, airflow, TRICKLE_IMAGES) for _ in range(TRICKLE_HOURS_RUN)]
        bills = {images: our_bill(stack, airflow, images) for images in GOALS if images < 10_000}
        # The faster model is known as well as the slower one was.
        store = ModelStateStore.of(stack.client("s3"), seed.FINAL_BUCKET, model_name(version_arn))
        store.update(lambda state: replace(state, images_per_second=10 * IMAGES_PER_SECOND))
        bills[10_000] = our_bill(stack, airflow, 10_000, speed=10.0)
        return bills, trickle
    finally:
        stack.stop(patience_seconds=1.0)


def model_name(version_arn: str) -> ModelName:
    name = parse_project_version_arn(version_arn)
    assert name is not None
    return name


def our_bill(stack: Stack, airflow: Airflow, images: int, *, speed: float = 1.0) -> Bill:
    print(f"Ours, {images:,} images ...", file=sys.stderr)
    admin(stack, "settings", tps_per_unit=IMAGES_PER_SECOND * speed, account_tps=1e4)
    upload(stack.client("s3"), images)
    before = running_seconds(admin(stack, "meter"))
    run_id = airflow.trigger("label_images")
    state = airflow.wait("label_images", run_id, seconds=RUN_SECONDS)
    report = airflow.xcom("label_images", run_id, "report") if state == "success" else {}
    if report.get("labelled") != images or report.get("model_final_status") != "STOPPED":
        raise SystemExit(f"{images} images: the run {run_id} is {state}, its report {report}")
    return Bill(images, (running_seconds(admin(stack, "meter")) - before) * speed, report)


def sample_seconds(images: int) -> float:
    """RUNNING seconds of the sample's one cycle over so many images, as they would be at real time."""
    with LocalAws("--stop-seconds", "0", "--time-scale", str(1 / SAMPLE_SPEED), *model_flags(SAMPLE_SPEED)) as aws:
        s3, sqs = aws.client("s3", max_pool_connections=32), aws.client("sqs")
        rekognition = aws.client("rekognition", max_pool_connections=32, retries={"mode": "adaptive"})
        seed.create_buckets_and_queues(s3, sqs)
        project_arn, version_arn = seed.train_model(s3, rekognition)
        seed.wait_until_trained(rekognition, project_arn)
        keys = upload(s3, images)
        rekognition.start_project_version(ProjectVersionArn=version_arn, MinInferenceUnits=1)
        status = ""
        while status != "RUNNING":
            time.sleep(SAMPLE_POLL_SECONDS / SAMPLE_SPEED)
            described = rekognition.describe_project_versions(ProjectArn=project_arn)
            status = described["ProjectVersionDescriptions"][0]["Status"]
        left = set(keys)
        while left:
            until = time.monotonic() + SAMPLE_WAIT_SECONDS / SAMPLE_SPEED
            work_off(rekognition, version_arn, left, until)
            time.sleep(max(0.0, until - time.monotonic()))
        rekognition.stop_project_version(ProjectVersionArn=version_arn)
        time.sleep(0.5)
        return running_seconds(aws.meter()) * SAMPLE_SPEED


def work_off(rekognition: Any, version_arn: str, left: set[str], until: float) -> None:
    lock = threading.Lock()

    def label(key: str) -> None:
        while time.monotonic() < until:
            try:
                rekognition.detect_custom_labels(
                    ProjectVersionArn=version_arn, Image={"S3Object": {"Bucket": seed.SOURCE_BUCKET, "Name": key}}
                )
            except ClientError:
                continue
            with lock:
                left.discard(key)
            return

    in_parallel(label, sorted(left), threads=16)


def model_flags(speed: float) -> tuple[str, ...]:
    rate = IMAGES_PER_SECOND * speed
    return ("--start-seconds", str(START_SECONDS), "--tps-per-unit", str(rate), "--account-tps", str(10 * rate))


def upload(s3: Any, images: int) -> list[str]:
    """A few scenes under many names."""
    bodies = [encode(draw_scene(number).image, "JPEG") for number in HELD_OUT_SEEDS[:10]]
    stamp = time.monotonic_ns()
    keys = [f"{stamp}/{number:05d}.jpg" for number in range(images)]
    in_parallel(
        lambda number: s3.put_object(Bucket=seed.SOURCE_BUCKET, Key=keys[number], Body=bodies[number % len(bodies)]),
        range(images),
        threads=16,
    )
    return keys


def running_seconds(meter: dict[str, Any]) -> float:
    return math.fsum(model["unit_seconds"] for model in meter["models"])


def admin(stack: Stack, name: str, **changes: float) -> dict[str, Any]:
    """Local AWS's own endpoint: its settings, its meter."""
    url = f"{stack.site.aws_url}/_local_aws/{name}"
    answer = httpx.post(url, json=changes) if changes else httpx.get(url)
    return dict(answer.raise_for_status().json())


if __name__ == "__main__":
    sys.exit(main())
