"""How many DetectCustomLabels local AWS answers a second, served and throttled, and what a call costs it.

The images have been seen before, as in `benchmarks.pacing`: what is measured is the answering, not the looking. The
callers send ready-made requests from a process of their own, so that the server is what is busy. Goal: three times the
450 a second that `benchmarks.pacing` asks for at most, so that what it measures is the client.
"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psutil

from benchmarks.pacing_cells import NO_LIMIT, model_server, prepare
from benchmarks.pacing_clients import SCENES, scene
from local_aws.process import LocalAws
from local_stack import seed

CALLS: Final = 12_000
CONNECTIONS: Final = 8
GOAL: Final = 3 * 450.0
# Routing reads the service and the Region from it; nothing checks the signature.
SCOPE: Final = "AWS4-HMAC-SHA256 Credential=testing/20261121/us-east-1/rekognition/aws4_request"


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        trained, state = Path(folder) / "trained", Path(folder) / "state"
        version_arn = prepare(trained)
        with model_server(trained, state, version_arn) as aws:
            served = measured(aws, version_arn, expected=200)
            # One call in a thousand seconds is let in.
            aws.settings(tps_per_unit=0.001)
            flood(aws.endpoint_url, version_arn, 1)
            throttled = measured(aws, version_arn, expected=400)
            aws.settings(tps_per_unit=NO_LIMIT)
    figures: dict[str, Any] = {"name": "stand_in", "calls": CALLS, "goal": GOAL}
    print(f"{'':12}{'calls a second':>16}{'CPU ms a call':>16}")
    for name, (rate, cpu_ms) in (("served", served), ("throttled", throttled)):
        print(f"{name:12}{rate:>16,.0f}{cpu_ms:>16.3f}")
        figures |= {f"{name}_a_second": round(rate), f"{name}_cpu_ms": round(cpu_ms, 3)}
    print(json.dumps(figures))
    return 0 if min(served[0], throttled[0]) >= GOAL else 1


def measured(aws: LocalAws, version_arn: str, *, expected: int) -> tuple[float, float]:
    """Calls a second, and the server's CPU milliseconds for one."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        pool.apply(flood, (aws.endpoint_url, version_arn, CONNECTIONS))
        before, began = cpu_seconds(aws.pid), time.perf_counter()
        statuses = pool.apply(flood, (aws.endpoint_url, version_arn, CALLS))
        seconds, used = time.perf_counter() - began, cpu_seconds(aws.pid) - before
    if statuses != {expected}:
        raise RuntimeError(f"Answers with {statuses} instead of {expected} alone: this measures something else.")
    return CALLS / seconds, used / CALLS * 1000


def cpu_seconds(pid: int) -> float:
    used = psutil.Process(pid).cpu_times()
    return float(used.user + used.system)


def flood(url: str, version_arn: str, calls: int) -> set[int]:
    """Make so many calls as fast as they are answered; the HTTP statuses that came."""
    headers = {
        "X-Amz-Target": "RekognitionService.DetectCustomLabels",
        "Content-Type": "application/x-amz-json-1.1",
        "Authorization": SCOPE,
    }

    def body(number: int) -> str:
        image = {"S3Object": {"Bucket": seed.FINAL_BUCKET, "Name": scene(number)}}
        return json.dumps({"ProjectVersionArn": version_arn, "Image": image, "MinConfidence": 0})

    bodies = [body(number) for number in range(SCENES)]

    def call(numbers: range) -> set[int]:
        connection = http.client.HTTPConnection(urlsplit(url).netloc)
        statuses = set()
        for number in numbers:
            connection.request("POST", "/", bodies[number % SCENES], headers)
            answer = connection.getresponse()
            answer.read()
            statuses.add(answer.status)
        connection.close()
        return statuses

    connections = min(CONNECTIONS, calls)
    with ThreadPoolExecutor(connections) as pool:
        parts = [range(number, calls, connections) for number in range(connections)]
        return set().union(*pool.map(call, parts))


if __name__ == "__main__":
    sys.exit(main())
