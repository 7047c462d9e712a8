"""Draining 10,000 messages against a bare boto3 loop (receive, delete) with as many threads, on the same server.

Goal: at least 80 % of the bare loop's rate, though the drain also parses, sorts, and makes batches durable before it
deletes. The two take turns, and the medians are compared: machines are noisy.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from include.drain import EMPTY_RECEIVES, LONG_POLL_SECONDS, VISIBILITY_SECONDS, drain
from include.parallel import in_parallel, in_slices
from include.settings import Settings
from local_aws.process import LocalAws

MESSAGES: Final = 10_000
THREADS: Final = 8
ROUNDS: Final = 3
GOAL: Final = 0.8
ARN: Final = "arn:aws:rekognition:us-east-1:123456789012:project/products"


def main() -> int:
    with LocalAws() as aws:
        s3 = aws.client("s3", max_pool_connections=THREADS)
        sqs = aws.client("sqs", max_pool_connections=THREADS)
        for bucket in ("uploads", "labelled"):
            s3.create_bucket(Bucket=bucket)
        queue = sqs.create_queue(QueueName="uploads")["QueueUrl"]
        settings = Settings(
            source_bucket="uploads",
            final_bucket="labelled",
            queue_url=queue,
            region="us-east-1",
            project_arn=f"{ARN}/1",
            project_version_arn=f"{ARN}/version/v1/2",
            threads=THREADS,
        )
        bare, ours = [], []
        for round_number in range(ROUNDS):
            fill(sqs, queue, round_number)
            bare.append(timed(lambda: bare_loop(sqs, queue)))
            fill(sqs, queue, round_number)
            ours.append(timed(lambda: drain(sqs, s3, settings, monotonic=time.monotonic)))
    # Both end with the same empty long polls; what is compared is the work before them.
    tail = EMPTY_RECEIVES * LONG_POLL_SECONDS
    rate_bare = MESSAGES / (statistics.median(bare) - tail)
    rate_ours = MESSAGES / (statistics.median(ours) - tail)
    ratio = rate_ours / rate_bare
    figures = {
        "name": "drain",
        "messages": MESSAGES,
        "threads": THREADS,
        "bare_messages_per_second": round(rate_bare),
        "drain_messages_per_second": round(rate_ours),
        "ratio": round(ratio, 3),
        "goal": GOAL,
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0 if ratio >= GOAL else 1


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def bare_loop(sqs: Any, queue: str) -> None:
    """What one writes in ten lines: no parsing, no durability."""

    def loop() -> None:
        empty = 0
        while empty < EMPTY_RECEIVES:
            messages = sqs.receive_message(
                QueueUrl=queue,
                MaxNumberOfMessages=10,
                WaitTimeSeconds=LONG_POLL_SECONDS,
                VisibilityTimeout=VISIBILITY_SECONDS,
            ).get("Messages", [])
            empty = 0 if messages else empty + 1
            if messages:
                entries = [{"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(messages)]
                sqs.delete_message_batch(QueueUrl=queue, Entries=entries)

    with ThreadPoolExecutor(max_workers=THREADS) as pool:
        for future in [pool.submit(loop) for _ in range(THREADS)]:
            future.result()


def fill(sqs: Any, queue: str, round_number: int) -> None:
    def send(numbers: tuple[int, ...]) -> None:
        entries = [{"Id": str(n), "MessageBody": json.dumps(notification(round_number, n))} for n in numbers]
        sqs.send_message_batch(QueueUrl=queue, Entries=entries)

    in_parallel(send, in_slices(range(MESSAGES), 10), threads=THREADS)


def notification(round_number: int, number: int) -> dict[str, Any]:
    """An upload's announcement, as long as S3's own."""
    return {
        "Records": [
            {
                "eventVersion": "2.1",
                "eventSource": "aws:s3",
                "awsRegion": "us-east-1",
                "eventTime": f"2026-11-21T0{round_number}:{number // 60 % 60:02d}:{number % 60:02d}.000Z",
                "eventName": "ObjectCreated:Put",
                "userIdentity": {"principalId": "AWS:AIDAEXAMPLE"},
                "requestParameters": {"sourceIPAddress": "203.0.113.10"},
                "responseElements": {
                    "x-amz-request-id": "C3D13FE58DE4C810",
                    "x-amz-id-2": "FMyUVURIY8/IgAtTv8xRjskZQpcIZ9KG",
                },
                "s3": {
                    "s3SchemaVersion": "1.0",
                    "configurationId": "uploads",
                    "bucket": {"name": "uploads", "arn": "arn:aws:s3:::uploads"},
                    "object": {
                        "key": f"hour-{round_number}/shop+window/image+%28{number}%29.jpg",
                        "size": 102_400 + number,
                        "eTag": f"{number:032x}",
                        "sequencer": f"{number:016X}",
                    },
                },
            }
        ]
    }


if __name__ == "__main__":
    sys.exit(main())
