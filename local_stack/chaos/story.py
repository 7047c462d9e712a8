"""A story from a seed: what is uploaded, which faults local AWS has, where processes are killed. And how it ended."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from local_stack.chaos.nursery import Kill, Nursery
from local_stack.chaos.runs import Run, compact, finish, watch
from local_stack.chaos.world import Theatre, Verdict, World

# How many calls a stage makes, about: so that most kills strike.
CALLS: Final = {
    "drain": 12,
    "decide": 10,
    "start_model": 5,
    "preflight": 14,
    "wait_until_running": 5,
    "infer": 12,
    "stop_model": 5,
    "publish": 18,
    "report": 10,
}
CALLS_OF_COMPACT: Final = 16
# Every third one has an archive, which is labelled from run to run.
AN_ARCHIVE_EVERY: Final = 3
Faults = Mapping[str, Any]
# Each draws one fault of its kind.
MENU: Final[Mapping[str, Callable[[random.Random], Faults]]] = {
    "S3 is slow down": lambda rng: {"service": "s3", "error": "SlowDown", "rate": 0.1, "times": rng.randint(1, 8)},
    "S3 fails to write": lambda rng: {
        "service": "s3",
        "operation": "PutObject",
        "error": "ServiceUnavailable",
        "skip": rng.randint(0, 8),
        "times": rng.randint(1, 12),
    },
    "S3's answer is lost": lambda rng: {
        "service": "s3",
        "operation": rng.choice(("PutObject", "CopyObject", "DeleteObject", "GetObject", "ListObjectsV2")),
        "drop": rng.choice(("before", "after")),
        "skip": rng.randint(0, 6),
        "times": rng.randint(1, 3),
    },
    "a message's receipt is lost": lambda rng: {
        "service": "sqs",
        "operation": rng.choice(("ReceiveMessage", "DeleteMessageBatch")),
        "drop": rng.choice(("before", "after")),
        "times": rng.randint(1, 2),
    },
    "half a batch of messages stays": lambda rng: {
        "service": "sqs",
        "operation": "DeleteMessageBatch",
        "failed_entries": rng.randint(1, 10),
        "times": rng.randint(1, 4),
    },
    "messages come again": lambda rng: {
        "service": "sqs",
        "operation": "ReceiveMessage",
        "redelivered_after_seconds": rng.choice((0.1, 0.5, 1.5)),
        "rate": 0.5,
    },
    "calls are throttled": lambda rng: {
        "service": "rekognition",
        "operation": "DetectCustomLabels",
        "error": rng.choice(("ProvisionedThroughputExceededException", "ThrottlingException")),
        "skip": rng.randint(0, 4),
        "lasts_seconds": 0.5,
    },
    "calls fail": lambda rng: {
        "service": "rekognition",
        "operation": "DetectCustomLabels",
        "error": "InternalServerError",
        "rate": 0.5,
        "times": rng.randint(1, 3),
    },
    "a paid answer is lost": lambda rng: {
        "service": "rekognition",
        "operation": "DetectCustomLabels",
        "drop": rng.choice(("before", "after")),
        "skip": rng.randint(0, 4),
        "times": rng.randint(1, 2),
    },
    "the model's switch is not heard": lambda rng: {
        "service": "rekognition",
        "operation": rng.choice(("StartProjectVersion", "StopProjectVersion")),
        "drop": rng.choice(("before", "after")),
        "times": rng.randint(1, 3),
    },
    "the stop is throttled": lambda rng: {
        "service": "rekognition",
        "operation": "StopProjectVersion",
        "error": "ThrottlingException",
        "times": rng.randint(1, 30),
    },
}


@dataclass(frozen=True, slots=True)
class Told:
    """How a story went: kills and faults that struck, the verdict, and what the runs logged."""

    seed: int
    runs: int
    faults: int
    verdict: Verdict
    log: tuple[str, ...]

    def __str__(self) -> str:
        return f"seed {self.seed}: {self.verdict}. To replay: python -m local_stack.chaos --seed-start {self.seed} --seeds 1 -v"


def tell(theatre: Theatre, nursery: Nursery, seed: int) -> Told:
    """Play a seed's story to its end."""
    rng = random.Random(seed)
    world = theatre.world()
    log = _trouble(world, rng, seed)
    of_compact = random.Random(f"compact {seed}")  # of its own, so that it changes no other draw
    world.upload(rng.randint(4, 9), bad=rng.randint(0, 2), doubles=rng.randint(0, 2))
    if seed % AN_ARCHIVE_EVERY == 0:
        world.queue_archive(2)
    runs = []
    for number in range(rng.randint(1, 2)):
        if number and rng.random() < 0.5:
            world.upload(rng.randint(1, 4), bad=rng.randint(0, 1), doubles=rng.randint(0, 1))
        run = Run(world, nursery, f"seed-{seed}-{number}", [_kill(rng) for _ in range(rng.randint(1, 3))]).play()
        log += [f"run {number}: {line}" for line in run.log]
        runs.append(run)
        # Its lease has run out by the next run; the watchdog may have come before that.
        world.let_lease_run_out()
        if rng.random() < 0.5:
            watch(world, nursery, f"seed-{seed}-{number}")
        if rng.random() < 0.5:
            world.let_messages_come()
        kill = Kill("compact", of_compact.choice(("before", "after")), nth=of_compact.randint(1, CALLS_OF_COMPACT))
        ended = compact(world, nursery, f"seed-{seed}-{number}", kill)
        log += [
            f"compact {line}"
            for line in (*ended.log, ended.error, f"killed: {kill}" if ended.was_killed else "")
            if line
        ]
    struck = theatre.aws.faults()
    # Paid and answered, but the answer was lost: nobody can know that it was paid for.
    world.paid_again += sum(
        fault["struck"]
        for fault in struck
        if fault.get("operation") == "DetectCustomLabels" and fault.get("drop") == "after"
    )
    theatre.aws.clear_faults()
    theatre.aws.settings(describe_lag=0)
    last = finish(world, nursery, f"seed-{seed}")
    log += [f"last: {line}" for run in last for line in run.log]
    if of_compact.random() < 0.5:
        log += [f"last: compact {line}" for line in compact(world, nursery, f"seed-{seed}").log]
    faults = sum(fault["struck"] for fault in struck) + sum(len(run.struck) for run in runs)
    return Told(seed, len(runs) + len(last), faults, world.verdict(), tuple(log))


def _trouble(world: World, rng: random.Random, seed: int) -> list[str]:
    """Set a few of the menu's faults; what they are, in words."""
    aws, told = world.theatre.aws, []
    aws.clear_faults(seed=seed)
    for name in rng.sample(list(MENU), rng.randint(1, 4)):
        fault = {"operation": "*"} | dict(MENU[name](rng))
        aws.add_fault(**fault)
        told.append(f"fault: {name}: {fault}")
    if rng.random() < 0.3:
        aws.add_fault(service="sqs", operation="SendMessage", visible_after_seconds=1, rate=0.5)
        told.append("fault: messages are late")
    if rng.random() < 0.25:
        calls = rng.randint(1, 5)
        aws.set_model(world.settings.project_version_arn, stops_after_calls=calls)
        told.append(f"fault: the model stops by itself after {calls} calls")
    if rng.random() < 0.25:
        aws.settings(describe_lag=0.2)
        told.append("fault: DescribeProjectVersions lags by 0.2 s")
    return told


def _kill(rng: random.Random) -> Kill:
    stage = rng.choice(list(CALLS))
    return Kill(
        stage,
        when=rng.choice(("before", "after")),
        nth=rng.randint(1, CALLS[stage]),
        takes_all=rng.random() < 0.35,
    )
