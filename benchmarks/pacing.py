"""How much of a model's capacity is used: botocore's retries, its adaptive mode, and ours, on the same hidden rates.

Each scenario is a model of local AWS that lets so many calls a second through (a token bucket that holds a second's worth)
and answers after 0.15 to 1.2 seconds (log-normal, median 0.35). Nobody is told the rate. *Utilisation* is what was served of
what the bucket gave from the first call to the last one served, its first burst included; *lost* are images that had no
answer in the end; *fair* is Jain's index over the processes. The columns:

- *default*: boto3 as it comes, 16 threads a process.
- *adaptive*: boto3's adaptive retry mode with 16, 32 or 64 threads a process, whichever used most.
- *ours*: `include.infer`, checkpoints to S3 included, one process or several that share the model.

Goals, for ours: utilisation 0.98, 0.95 where the rate changes or is shared; 3 % throttled at most; nothing lost; never below
the best of the others that lost nothing either. What a server sees of ours over time is printed where a goal is missed.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

from benchmarks.pacing_cells import Cell, Scenario, model_server, prepare, run_cell
from benchmarks.pacing_clients import Kind
from local_aws.process import LocalAws
from local_stack import seed

MOVING: Final = 0.95
THROTTLED: Final = 0.03
NOISE: Final = 0.005
# At a time: models, and calls a second on all of them; two cores serve and make three times as many.
SERVERS: Final = 14
CALLS_A_SECOND: Final = 210.0
COLUMNS: Final[tuple[tuple[Kind, int], ...]] = (
    ("default", 16),
    ("adaptive", 16),
    ("adaptive", 32),
    ("adaptive", 64),
    ("ours", 0),
)

# Long enough that what counts is how the rate is kept, not how it is found: the hourly run of a few images is in `bill`.
SCENARIOS: Final = (
    Scenario("2.8 a second", 560, 2.8),
    Scenario("5 a second", 750, 5.0),
    Scenario("25 a second", 2_000, 25.0),
    Scenario("50 a second", 6_000, 50.0),
    # Here it is botocore's threads that limit it, from the first second on: it need not go on for as long.
    Scenario("250 a second", 25_000, 250.0, botocore_seconds=40.0),
    Scenario("10, then 30 a second", 2_400, 10.0, then=30.0, at_seconds=60.0, goal=MOVING),
    Scenario("25, then 8 a second", 1_980, 25.0, then=8.0, at_seconds=60.0, goal=MOVING),
    Scenario("25 a second, 2 processes", 3_000, 25.0, processes=2, goal=MOVING),
    Scenario("25 a second, 4 processes", 3_000, 25.0, processes=4, goal=MOVING),
)
# What one process can drive: the model would serve more.
DRIVEN: Final = Scenario("450 a second", 12_000, 450.0, latency=(0.2, 0.0))


@dataclass(frozen=True)
class Task:
    """A cell that is to be run."""

    scenario: Scenario
    kind: Kind
    threads: int

    @property
    def calls_a_second(self) -> float:
        """At most, by the rate, or by threads that wait for answers."""
        rate = max(self.scenario.rate, self.scenario.then or 0.0)
        threads = self.threads * self.scenario.processes
        median, spread = self.scenario.latency
        return min(rate, threads / (median * math.exp(spread**2 / 2))) if threads else rate


def main() -> int:
    began = time.monotonic()
    tasks = [Task(scenario, kind, threads) for scenario in SCENARIOS for kind, threads in COLUMNS]
    tasks.sort(key=lambda task: task.scenario.seconds, reverse=True)
    fast = [task for task in tasks if task.scenario.rate > CALLS_A_SECOND]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        trained = Path(folder) / "trained"
        version_arn = prepare(trained)
        storage = stack.enter_context(LocalAws())
        storage.client("s3").create_bucket(Bucket=seed.FINAL_BUCKET)
        servers: SimpleQueue[LocalAws] = SimpleQueue()
        for number in range(SERVERS):
            state = Path(folder) / f"state-{number}"
            servers.put(stack.enter_context(model_server(trained, state, version_arn)))
        bench = Bench(servers, storage.endpoint_url, version_arn)
        cells = bench.run([task for task in tasks if task not in fast])
        # These have the machine for themselves, and ours is alone on it.
        cells |= bench.run([task for task in fast if task.kind != "ours"])
        cells |= bench.run([task for task in fast if task.kind == "ours"])
        driven = bench.run_one(Task(DRIVEN, "ours", 0))
    rows = [row_of(scenario, cells) for scenario in SCENARIOS]
    print_table(rows)
    driven_rate = round(driven.served / driven.seconds, 1)
    print(f"\nOne process at 0.2 s latency and a limit of 450 a second: {driven_rate} images a second.")
    failed = [problem for row in rows for problem in row["missed"]]
    for problem in failed:
        print(f"missed: {problem}")
    for row in rows:
        if row["missed"]:
            print(f"\n{row['scenario']}, as the server saw ours: second, served a second, throttled a second")
            print("  ".join(f"{at:.0f}: {served:g}, {throttled:g}" for at, served, throttled in row["ours"]["trace"]))
    figures = {
        "name": "pacing",
        "scenarios": [without_traces(row) for row in rows],
        "one_process_images_per_second_at_0.2_s": driven_rate,
        "one_process_cpu_ms_a_call": driven.cpu_ms,
        "seconds": round(time.monotonic() - began),
        "missed": failed,
    }
    print(json.dumps(figures))
    return 1 if failed else 0


class Bench:
    """Runs cells, as many at a time as there are servers, and as the machine has calls a second."""

    def __init__(self, servers: SimpleQueue[LocalAws], s3_url: str, version_arn: str) -> None:
        self._servers, self._s3_url, self._version_arn = servers, s3_url, version_arn
        self._changed = threading.Condition()
        self._calls_a_second = 0.0

    def run(self, tasks: Sequence[Task]) -> dict[Task, Cell]:
        with ThreadPoolExecutor(SERVERS) as pool:
            return dict(zip(tasks, pool.map(self.run_one, tasks), strict=True))

    def run_one(self, task: Task) -> Cell:
        with self._share(min(task.calls_a_second, CALLS_A_SECOND)):
            aws = self._servers.get()
            cell = run_cell(task.scenario, task.kind, task.threads, aws, self._s3_url, self._version_arn)
            self._servers.put(aws)
        print(f"{task.scenario.name}, {task.kind} {task.threads or ''}: {cell}", file=sys.stderr, flush=True)
        return cell

    @contextmanager
    def _share(self, calls_a_second: float) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._calls_a_second + calls_a_second <= CALLS_A_SECOND)
            self._calls_a_second += calls_a_second
        try:
            yield
        finally:
            with self._changed:
                self._calls_a_second -= calls_a_second
                self._changed.notify_all()


def row_of(scenario: Scenario, cells: dict[Task, Cell]) -> dict[str, Any]:
    """A line of the table, and which goals ours missed."""
    default, ours = (cells[Task(scenario, kind, threads)] for kind, threads in (COLUMNS[0], COLUMNS[-1]))
    tried = {threads: cells[Task(scenario, kind, threads)] for kind, threads in COLUMNS if kind == "adaptive"}
    threads, adaptive = max(tried.items(), key=lambda item: item[1].utilisation)
    best = max((cell.utilisation for cell in (default, *tried.values()) if not cell.lost), default=0.0)
    missed = [
        f"{scenario.name}: {what}"
        for what, wrong in (
            (f"utilisation {ours.utilisation:.3f} < {scenario.goal}", ours.utilisation < scenario.goal),
            (f"throttled {ours.throttled:.1%} > {THROTTLED:.0%}", ours.throttled > THROTTLED),
            (f"{ours.lost} images lost", ours.lost > 0),
            (f"utilisation {ours.utilisation:.3f} < botocore's {best:.3f}", ours.utilisation < best - NOISE),
        )
        if wrong
    ]
    return {
        "scenario": scenario.name,
        "default": asdict(default),
        "adaptive": asdict(adaptive)
        | {"threads": threads, "tried": {number: cell.utilisation for number, cell in tried.items()}},
        "ours": asdict(ours),
        "missed": missed,
    }


def without_traces(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {key: value for key, value in cell.items() if key != "trace"} if isinstance(cell, dict) else cell
        for name, cell in row.items()
    }


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    columns = ("default", "adaptive", "ours")
    print(f"{'':25}" + "".join(f"{column:^42}" for column in columns))
    print(f"{'':25}" + f"{'used':>8}{'thrott.':>9}{'lost':>6}{'CPU ms':>8}{'fair':>7}{'':4}" * len(columns))
    for row in rows:
        line = f"{row['scenario']:25}"
        for column in columns:
            cell = row[column]
            line += f"{cell['utilisation']:>8.3f}{cell['throttled']:>9.1%}{cell['lost']:>6}{cell['cpu_ms']:>8.2f}"
            line += f"{cell['fairness']:>7.3f}{'':4}"
        print(line)


if __name__ == "__main__":
    sys.exit(main())
