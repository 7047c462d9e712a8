"""1,000, 10,000 and 100,000 images through every stage, over HTTP: what one image costs, and whether that stays so.

Each stage runs in a process of its own, batch after batch, as mapped tasks would. Goals, from 10,000 to 100,000 images:
client CPU for an image grows by no more than 15 % (wall time, printed beside it, is mostly the stand-in's, which answers
one request at a time). A busy machine makes all CPU time longer, so a yardstick, always the same work, is measured before
every batch, and growth is that of the ratio to it. Peak memory above the process's start grows by no more than 15 % and a
fixed 8 MB: threads have their own heaps, which the allocator fills and trims when it likes, and ``decide`` keeps eight
bytes an image by design.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import boto3
from botocore.config import Config

from include.batches import Batch, list_pending, read_batch
from include.decide import count_backlog
from include.drain import drain
from include.infer import infer
from include.parallel import in_parallel
from include.preflight import preflight
from include.publish import publish
from include.schema import image_labels_table
from include.settings import Settings
from local_aws.process import REGION, LocalAws
from local_stack.scenes import draw_scene, encode
from local_stack.seed import TRAINING_BUCKET, train_model, wait_until_trained

SIZES: Final = (1_000, 10_000, 100_000)
BATCH_SIZE: Final = 1_000
THREADS: Final = 16
# So many different pictures, of nought to 24 labels: the stand-in looks at each once.
SCENES: Final = 8
GROWTH: Final = 1.15
# So often before and after a stage, besides.
YARDSTICKS: Final = 10
NOISE_MB: Final = 8.0
MB: Final = 1024**2
RUN_ID: Final = "scale"
COLUMNS: Final = (
    "images",
    "wall_seconds",
    "cpu_seconds",
    "peak_mb",
    "image_wall_ms",
    "image_cpu_ms",
    "image_requests",
    "yardstick_ms",
)
YARDSTICK: Final = [{"number": number, "text": "x" * 40, "list": list(range(20))} for number in range(400)]
# So fast that the model never refuses: what is measured is what the stage costs, not what the model takes.
MODEL_FLAGS: Final = (
    "--start-seconds",
    "0",
    "--tps-per-unit",
    "2000",
    "--account-tps",
    "100000",
    "--control-tps",
    "1000",
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a stage took of its process. ``peak_mb``: resident memory at its highest, above that before the stage."""

    stage: str
    images: int
    wall_seconds: float
    cpu_seconds: float
    peak_mb: float
    requests: int
    yardstick_ms: float

    @property
    def cpu_ms(self) -> float:
        """Of one image."""
        return self.cpu_seconds / self.images * 1_000

    @property
    def cpu_in_yardsticks(self) -> float:
        """Of one image: what a busy machine does to both cancels out."""
        return self.cpu_ms / self.yardstick_ms

    def figures(self) -> dict[str, float]:
        """The stage's, and one image's."""
        wall_ms, requests = self.wall_seconds / self.images * 1_000, self.requests / self.images
        per_image = (wall_ms, self.cpu_ms, requests, self.yardstick_ms)
        values = (self.images, self.wall_seconds, self.cpu_seconds, self.peak_mb, *per_image)
        return {name: round(value, 3) for name, value in zip(COLUMNS, values, strict=True)}


class Stages:
    """The stages as their tasks run them; each returns how many images it has handled."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.requests = 0
        self.s3, self.sqs = self._client("s3"), self._client("sqs")
        self.rekognition = self._client("rekognition", retries={"total_max_attempts": 1})
        # What a process makes once (endpoint rules, parsers; Arrow imports pandas for its first table) is no image's.
        image_labels_table([])
        self.s3.list_objects_v2(Bucket=settings.final_bucket, MaxKeys=1)
        self.sqs.get_queue_attributes(QueueUrl=settings.queue_url)
        self.rekognition.describe_projects()
        self.requests = 0
        self.yardsticks: list[float] = []

    def drain(self) -> int:
        return drain(self.sqs, self.s3, self.settings, monotonic=time.monotonic).images

    def decide(self) -> int:
        return count_backlog(
            self.s3,
            self.settings,
            list_pending(self.s3, self.settings.final_bucket),
            now=datetime.now(UTC),
            run_id="r",
        ).images

    def preflight(self) -> int:
        return self._each(lambda batch: len(preflight(self.s3, self.settings, batch, run_id=RUN_ID, now=_now)))

    def infer(self) -> int:
        keys = list_pending(self.s3, self.settings.final_bucket)
        images = 0
        for key in keys:
            self.measure_yardstick()
            images += self._infer(Batch(key, ()).batch_id)
        return images

    def publish(self) -> int:
        return self._each(lambda batch: publish(self.s3, self.settings, batch, thresholds={}).labelled)

    def _infer(self, batch_id: str) -> int:
        return infer(
            self.rekognition,
            self.s3,
            self.settings,
            batch_id,
            run_id=RUN_ID,
            first_rate=2_000.0,
            now=_now,
            monotonic=time.monotonic,
            renew_lease=lambda: None,
            describe_model=lambda: {"Status": "RUNNING"},
        ).labelled

    def measure_yardstick(self) -> None:
        """CPU seconds of the same work as always: JSON there and back."""
        began = time.process_time()
        json.loads(json.dumps(YARDSTICK))
        self.yardsticks.append(time.process_time() - began)

    def _each(self, work: Callable[[Batch], int]) -> int:
        images = 0
        for key in list_pending(self.s3, self.settings.final_bucket):
            batch = read_batch(self.s3, self.settings.final_bucket, key)
            assert batch is not None
            self.measure_yardstick()
            images += work(batch)
        return images

    def _client(self, service: str, **config: Any) -> Any:
        client = boto3.client(service, config=Config(max_pool_connections=THREADS + 4, **config))
        client.meta.events.register(f"before-send.{service}", self._count)
        return client

    def _count(self, **_request: object) -> None:
        self.requests += 1


STAGES: Final[dict[str, Callable[[Stages], int]]] = {
    "drain": Stages.drain,
    "decide": Stages.decide,
    "preflight": Stages.preflight,
    "infer": Stages.infer,
    "publish": Stages.publish,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=SIZES, help="sizes; the goals compare the last two")
    sizes = sorted(parser.parse_args().images)
    began = time.perf_counter()
    costs: dict[tuple[str, int], Cost] = {}
    with LocalAws(*MODEL_FLAGS) as aws:
        os.environ.update(aws.environment())
        bodies = [encode(draw_scene(seed, size=(96, 96)).image, "JPEG") for seed in range(SCENES)]
        project_arn, version_arn = start_model(aws)
        for size in sizes:
            settings = set_up(aws, size, bodies, project_arn, version_arn)
            for stage in STAGES:
                cost = costs[stage, size] = in_own_process(stage, settings)
                if cost.images != size:
                    raise RuntimeError(f"{stage} handled {cost.images:,} of {size:,} images.")
                say(f"{stage:<10}" + "".join(f"{value:>15,}" for value in cost.figures().values()))
    return report(costs, sizes, time.perf_counter() - began)


def start_model(aws: LocalAws) -> tuple[str, str]:
    """Train a model and start it; ARNs of project and version."""
    s3, rekognition = aws.client("s3", max_pool_connections=THREADS), aws.client("rekognition")
    s3.create_bucket(Bucket=TRAINING_BUCKET)
    project_arn, version_arn = train_model(s3, rekognition)
    wait_until_trained(rekognition, project_arn)
    rekognition.start_project_version(ProjectVersionArn=version_arn, MinInferenceUnits=5)
    return project_arn, version_arn


def set_up(aws: LocalAws, images: int, bodies: list[bytes], project_arn: str, version_arn: str) -> Settings:
    """Buckets and a queue of their own, and so many uploads that S3 announces itself."""
    s3, sqs = aws.client("s3", max_pool_connections=THREADS), aws.client("sqs")
    source, final = f"uploads-{images}", f"labelled-{images}"
    for bucket in (source, final):
        s3.create_bucket(Bucket=bucket)
    queue = sqs.create_queue(QueueName=source)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    announced = {"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}
    s3.put_bucket_notification_configuration(
        Bucket=source, NotificationConfiguration={"QueueConfigurations": [announced]}
    )

    def upload(number: int) -> None:
        key = f"shop/{number % 100:02d}/image {number:06d}.jpg"
        s3.put_object(Bucket=source, Key=key, Body=bodies[number % SCENES])

    began = time.perf_counter()
    in_parallel(upload, range(images), threads=8)
    seconds = time.perf_counter() - began
    say(f"\n{images:,} images uploaded; the stand-in took {images / seconds:.0f} a second.")
    say(f"{'stage':<10}" + "".join(f"{name:>15}" for name in COLUMNS))
    return Settings(
        source_bucket=source,
        final_bucket=final,
        queue_url=queue,
        region=REGION,
        project_arn=project_arn,
        project_version_arn=version_arn,
        batch_size=BATCH_SIZE,
        threads=THREADS,
        inference_threads=THREADS,
    )


def in_own_process(stage: str, settings: Settings) -> Cost:
    """Measure a stage where no other has left its memory."""
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measured, stage, settings).result()


def measured(stage: str, settings: Settings) -> Cost:
    stages = Stages(settings)
    before = memory_mb("VmRSS")
    for _ in range(YARDSTICKS):
        stages.measure_yardstick()
    cpu, wall = time.process_time(), time.perf_counter()
    images = STAGES[stage](stages)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    cpu -= sum(stages.yardsticks[YARDSTICKS:])
    for _ in range(YARDSTICKS):
        stages.measure_yardstick()
    yardstick_ms = statistics.mean(stages.yardsticks) * 1_000
    return Cost(stage, images, wall, cpu, memory_mb("VmHWM") - before, stages.requests, yardstick_ms)


def memory_mb(name: str) -> float:
    """``VmRSS`` (now) or ``VmHWM`` (at its highest) of this process: https://man7.org/linux/man-pages/man5/proc.5.html"""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024 / MB


def report(costs: dict[tuple[str, int], Cost], sizes: list[int], seconds: float) -> int:
    """Compare the last two sizes, and print the line of JSON; the exit code."""
    say("")
    figures: dict[str, Any] = {"name": "scale", "seconds": round(seconds), "goal_growth": GROWTH, "noise_mb": NOISE_MB}
    missed = []
    for stage in STAGES:
        of_stage = [costs[stage, size] for size in sizes]
        few, many = of_stage[-2:] if len(of_stage) > 1 else of_stage * 2
        growth, room_mb = many.cpu_in_yardsticks / few.cpu_in_yardsticks, few.peak_mb * GROWTH + NOISE_MB
        figures[stage] = {
            "cpu_growth": round(growth, 3),
            "sizes": [cost.figures() for cost in of_stage],
        }
        say(
            f"{stage:<10} an image: {many.cpu_ms:.3f} ms CPU, {growth:.2f} times that of {few.images:,} images; "
            f"peak {many.peak_mb:.1f} MB, {few.peak_mb:.1f} MB before."
        )
        missed += [f"{stage} CPU"] * (growth > GROWTH) + [f"{stage} memory"] * (many.peak_mb > room_mb)
    sys.stdout.write(json.dumps(figures | {"missed": missed}) + "\n")
    return 1 if missed else 0


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    sys.exit(main())
