"""One cell of `benchmarks.pacing`'s table: a model of local AWS with a hidden rate, and the processes that call it."""

from __future__ import annotations

import math
import multiprocessing
import shutil
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.pacing_clients import GATE_SECONDS, SCENES, Called, Client, Kind, run, scene
from include import layout
from local_aws.process import LocalAws
from local_stack import seed
from local_stack.scenes import HELD_OUT_SEEDS, draw_scene, encode

# Log-normal: of a thousand answers, 30 take less than 0.15 s and 3 more than 1.2 s.
LATENCY: Final = (0.35, 0.45)
SAMPLE_SECONDS: Final = 0.5
TRACE_SECONDS: Final = 4.0
NO_LIMIT: Final = 1e6


@dataclass(frozen=True)
class Scenario:
    """A hidden rate, another one from some second on, and how many processes call.

    ``botocore_seconds``: how long botocore goes on at most, where not for as long as the images take.
    """

    name: str
    images: int
    rate: float
    then: float | None = None
    at_seconds: float = 0.0
    processes: int = 1
    goal: float = 0.98
    latency: tuple[float, float] = LATENCY
    botocore_seconds: float = math.inf

    @property
    def seconds(self) -> float:
        """How long the images take at the hidden rate."""
        if self.then is None:
            return self.images / self.rate
        return self.at_seconds + (self.images - self.rate * self.at_seconds) / self.then

    def flowed(self, first: float, last: float, changed: float | None) -> float:
        """Calls that the bucket let through between two moments at most, its first burst included."""
        if self.then is None or changed is None or changed >= last:
            return self.rate * (1 + last - first)
        # A bucket that grows keeps what it holds, one that shrinks loses it: neither is counted as given.
        return self.rate * (1 + changed - first) + self.then * (last - changed)


@dataclass(frozen=True)
class Cell:
    """One way of calling on one scenario. ``trace`` is [seconds, served a second, throttled a second], as the server saw it.

    ``fairness`` is Jain's index of what the processes were served until the first of them had finished.
    """

    utilisation: float
    throttled: float
    lost: int
    cpu_ms: float
    fairness: float
    seconds: float
    served: int
    trace: list[list[float]] = field(repr=False)


@dataclass(frozen=True)
class Sample:
    """The meter's count at a moment."""

    at: float
    served: int
    throttled: int


def prepare(state: Path) -> str:
    """A server's kept state: a trained model and a few images. The model's ARN."""
    with LocalAws(state_dir=state) as aws:
        s3, rekognition = aws.client("s3"), aws.client("rekognition")
        seed.create_buckets_and_queues(s3, aws.client("sqs"))
        project_arn, version_arn = seed.train_model(s3, rekognition)
        seed.wait_until_trained(rekognition, project_arn)
        for number in range(SCENES):
            body = encode(draw_scene(HELD_OUT_SEEDS[number]).image, "JPEG")
            s3.put_object(Bucket=seed.FINAL_BUCKET, Key=scene(number), Body=body)
    return version_arn


@contextmanager
def model_server(trained: Path, state: Path, version_arn: str) -> Iterator[LocalAws]:
    """A server with the model, which has seen every image once: from then on it answers at once."""
    shutil.copytree(trained, state)
    limits = ("account-tps", "control-tps", "tps-per-unit")
    flags = [text for limit in limits for text in (f"--{limit}", str(NO_LIMIT))]
    with LocalAws("--start-seconds", "0", *flags, state_dir=state) as aws:
        aws.set_model(version_arn, status="RUNNING")
        rekognition = aws.client("rekognition")
        for number in range(SCENES):
            image = {"S3Object": {"Bucket": seed.FINAL_BUCKET, "Name": scene(number)}}
            rekognition.detect_custom_labels(ProjectVersionArn=version_arn, Image=image)
        yield aws


def run_cell(scenario: Scenario, kind: Kind, threads: int, aws: LocalAws, s3_url: str, version_arn: str) -> Cell:
    """The model starts anew, with a full bucket; the processes begin together, ready to call.

    botocore stops beginning calls once the images should be done, which ours never does: what is used of the model is
    compared, not who sits it out.
    """
    aws.set_model(version_arn, status="STOPPED")
    latency, spread = scenario.latency
    botocore_seconds = min(scenario.seconds, scenario.botocore_seconds)
    aws.settings(tps_per_unit=scenario.rate, inference_latency=latency, inference_latency_spread=spread)
    aws.client("rekognition").start_project_version(ProjectVersionArn=version_arn, MinInferenceUnits=1)
    # As the product names them: so that each process finds the notes that the others leave when they end.
    name = "".join(filter(str.isalnum, scenario.name))
    now = datetime.now(UTC)
    batches = tuple(
        layout.pending_batch(priority=0, created=now, batch_id=f"{name}{number}")
        for number in range(scenario.processes)
    )
    clients = [
        Client(
            kind=kind,
            threads=threads,
            rekognition_url=aws.endpoint_url,
            s3_url=s3_url,
            version_arn=version_arn,
            run_id=name,
            batches=batches,
            batch_id=layout.batch_id_of(batch),
            images=scenario.images // scenario.processes,
            seconds=botocore_seconds,
        )
        for batch in batches
    ]
    with _Watch(aws, scenario) as watch:
        called = _called(clients, watch)
    line = _line(aws)
    first, last = line["first_call_at"], line["last_call_at"]
    served = line["calls_served"]
    limit = watch.began + botocore_seconds
    counted, end = served, last
    if kind != "ours" and last > limit:
        # What was still being repeated after the end is no idle time of the model.
        sample = max((each for each in watch.samples if each.at <= limit), key=lambda each: each.at)
        counted, end = sample.served, sample.at
    return Cell(
        utilisation=round(counted / scenario.flowed(first, end, watch.changed_at), 4),
        throttled=round(line["calls_throttled"] / (served + line["calls_throttled"]), 4),
        lost=sum(each.tried - len(each.answered_at) for each in called),
        cpu_ms=round(sum(each.cpu_seconds for each in called) / served * 1000, 2),
        fairness=_fairness(called),
        seconds=round(end - first, 1),
        served=served,
        trace=_trace(watch.samples, first),
    )


def _called(clients: Sequence[Client], watch: _Watch) -> list[Called]:
    context = multiprocessing.get_context("spawn")
    gate = context.Barrier(len(clients) + 1)
    running = []
    for client in clients:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=run, args=(client, gate, theirs))
        process.start()
        theirs.close()
        running.append((process, ours))
    gate.wait(GATE_SECONDS)
    watch.begin()
    # EOFError where a process ended before it had an answer; it has said why.
    called = [answer.recv() for _, answer in running]
    for process, _ in running:
        process.join()
    return called


class _Watch:
    """Samples the server's meter, and changes the rate where the scenario has it."""

    def __init__(self, aws: LocalAws, scenario: Scenario) -> None:
        self._aws, self._scenario = aws, scenario
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._sample)]
        if scenario.then is not None:
            self._threads.append(threading.Thread(target=self._change))
        self.samples: list[Sample] = []
        self.began = 0.0
        self.changed_at: float | None = None

    def begin(self) -> None:
        self.began = time.time()
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> _Watch:
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        if self.began:
            for thread in self._threads:
                thread.join()

    def _sample(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            line = _line(self._aws)
            self.samples.append(Sample(time.time(), line["calls_served"], line["calls_throttled"]))

    def _change(self) -> None:
        if not self._over.wait(self._scenario.at_seconds):
            self._aws.settings(tps_per_unit=self._scenario.then)
            self.changed_at = time.time()


def _line(aws: LocalAws) -> dict[str, Any]:
    line: dict[str, Any] = aws.meter()["models"][0]["runs"][-1]
    return line


def _fairness(called: Sequence[Called]) -> float:
    """(sum x)² / (n · sum x²): Jain, Chiu and Hawe, DEC-TR-301, 1984. 1 is equal, 1/n is one process having all."""
    until = min(each.answered_at[-1] if each.answered_at else 0.0 for each in called)
    parts = [bisect_right(each.answered_at, until) for each in called]
    squares = sum(part**2 for part in parts)
    return round(sum(parts) ** 2 / (len(parts) * squares), 3) if squares else 0.0


def _trace(samples: Sequence[Sample], first: float) -> list[list[float]]:
    each = samples[:: round(TRACE_SECONDS / SAMPLE_SECONDS)]
    return [
        [
            round(after.at - first, 1),
            round((after.served - before.served) / (after.at - before.at), 1),
            round((after.throttled - before.throttled) / (after.at - before.at), 1),
        ]
        for before, after in zip(each, each[1:], strict=False)
    ]
