"""The clients that `benchmarks.pacing` compares, each a process of its own: boto3 as it comes, its adaptive mode, ours."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from typing import Any, Final, Literal

from botocore.exceptions import BotoCoreError, ClientError

from include.images import ImageRef
from include.infer import infer, not_inferred, note_inferred
from include.outcomes import Checked, ImageFacts, read_outcomes, write_preflight
from include.settings import Settings
from local_aws.process import LocalAws
from local_stack import seed

Kind = Literal["default", "adaptive", "ours"]

SCENES: Final = 10
# Processes are ready in a few seconds; one that never is must not be waited for for ever.
GATE_SECONDS: Final = 120.0
RETRIES: Final[dict[Kind, dict[str, Any]]] = {
    "default": {},
    "adaptive": {"retries": {"mode": "adaptive"}},
    "ours": {"retries": {"total_max_attempts": 1}},
}


@dataclass(frozen=True)
class Client:
    """What a calling process is told; ``images`` is its part, ``seconds`` how long botocore may go on beginning calls.

    ``s3_url`` is another server than ``rekognition_url``: checkpoints take no time from the model.
    """

    kind: Kind
    threads: int
    rekognition_url: str
    s3_url: str
    version_arn: str
    run_id: str
    batches: tuple[str, ...]
    batch_id: str
    images: int
    seconds: float


@dataclass(frozen=True)
class Called:
    """How it went: the epoch seconds at which images got their answer, images tried, CPU seconds of the process."""

    answered_at: tuple[float, ...]
    tried: int
    cpu_seconds: float


def scene(number: int) -> str:
    """The key of an image, in the bucket of results."""
    return f"scenes/{number % SCENES}.jpg"


def server(url: str) -> LocalAws:
    """A server that runs already."""
    aws = LocalAws()
    aws.endpoint_url = url
    return aws


def run(client: Client, gate: Barrier, answer: Connection) -> None:
    """Get ready, wait for the others, call for all images, and send a ``Called``."""
    connections = client.threads or Settings.model_fields["inference_threads"].default
    rekognition = server(client.rekognition_url).client(
        "rekognition", max_pool_connections=connections, **RETRIES[client.kind]
    )
    s3 = server(client.s3_url).client("s3")
    work: Callable[[], tuple[tuple[float, ...], int]]
    if client.kind == "ours":
        _checked(client, s3)

        def work() -> tuple[tuple[float, ...], int]:
            return _ours(client, rekognition, s3)
    else:

        def work() -> tuple[tuple[float, ...], int]:
            return _botocore(client, rekognition)

    gate.wait(GATE_SECONDS)
    before = _cpu_seconds()
    answered_at, tried = work()
    used = _cpu_seconds() - before
    if client.kind == "ours":
        # What counts is what is kept: read after the clock has stopped.
        kept = read_outcomes(s3, seed.FINAL_BUCKET, client.batch_id).values()
        answered_at = tuple(sorted(each.processed_at.timestamp() for each in kept if each.status == "LABELLED"))
    answer.send(Called(answered_at, tried, used))


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _botocore(client: Client, rekognition: Any) -> tuple[tuple[float, ...], int]:
    numbers: Iterator[int] = iter(range(client.images))
    lock = threading.Lock()
    until = time.monotonic() + client.seconds
    answered_at: list[float] = []
    tried: list[int] = []

    def label() -> None:
        while time.monotonic() < until:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            tried.append(number)
            where = {"Bucket": seed.FINAL_BUCKET, "Name": scene(number)}
            try:
                rekognition.detect_custom_labels(
                    ProjectVersionArn=client.version_arn, Image={"S3Object": where}, MinConfidence=0
                )
            except (ClientError, BotoCoreError):
                continue
            answered_at.append(time.time())

    with ThreadPoolExecutor(client.threads) as pool:
        for future in [pool.submit(label) for _ in range(client.threads)]:
            future.result()
    return tuple(sorted(answered_at)), len(tried)


def _checked(client: Client, s3: Any) -> None:
    """What preflight would have written."""
    now = datetime.now(UTC)
    entries = [
        Checked(
            ImageRef(seed.SOURCE_BUCKET, f"{number}.jpg", f"{number:032x}", now),
            ImageFacts(1_000, 320, 320, "JPEG", staged_key=scene(number)),
        )
        for number in range(client.images)
    ]
    write_preflight(s3, seed.FINAL_BUCKET, client.batch_id, entries)


def _ours(client: Client, rekognition: Any, s3: Any) -> tuple[tuple[float, ...], int]:
    arn = client.version_arn
    settings = Settings(
        source_bucket=seed.SOURCE_BUCKET,
        final_bucket=seed.FINAL_BUCKET,
        queue_url="http://queue",
        region="us-east-1",
        project_arn=arn.partition("/version/")[0] + "/1",
        project_version_arn=arn,
    )

    def left() -> set[str]:
        return not_inferred(s3, seed.FINAL_BUCKET, client.run_id, client.batches)

    infer(
        rekognition,
        s3,
        settings,
        client.batch_id,
        run_id=client.run_id,
        first_rate=None,
        now=lambda: datetime.now(UTC),
        monotonic=time.monotonic,
        renew_lease=lambda: None,
        describe_model=lambda: {"Status": "RUNNING"},
        callers=lambda: len(left() | {client.batch_id}),
    )
    note_inferred(s3, seed.FINAL_BUCKET, client.run_id, client.batch_id)
    return (), client.images
