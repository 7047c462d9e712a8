"""Archives: an inventory of 1,000,000 images, a selection against 10,000,000 published rows, a listing; and five at once.

Each runs in a process of its own, and memory is what it takes beyond its imports. The inventory and the published results
are files in a folder, served by a stand-in for S3 that costs next to nothing; the listing is local AWS's, over HTTP, and
as fast as that answers. So are five archives that are queued side by side, and a run's slice of them. Goals: the inventory
planned within 60 s and 400 MB, the selection within 60 s and 1 GB; a run has fewer than 1,000 tasks, and each archive its turn.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from botocore.config import Config

from benchmarks.folder_s3 import FolderS3
from include import layout
from include.archive.archives import Archive, queue_archive
from include.archive.listing import list_prefix
from include.archive.plan import in_words, plan_archive
from include.archive.published import read_published
from include.archive.request import archive_id, parse_request
from include.archive.slices import next_slice, pending_archives
from include.decide import MAX_BATCHES_A_RUN, batch_size, count_backlog
from include.images import ImageRef
from include.model_state import ModelState
from include.parallel import in_parallel
from include.schema import ANALYSIS, IMAGE_LABELS
from include.settings import Settings
from local_aws.process import REGION, LocalAws

INVENTORY_ROWS: Final = 1_000_000
PUBLISHED_ROWS: Final = 10_000_000
LISTED_KEYS: Final = 20_000
ROWS_A_DATA_FILE: Final = 250_000
# As a batch has, and so one Parquet file of results.
ROWS_A_RESULT: Final = 10_000
THREADS: Final = 16
MB: Final = 1024**2
NOW: Final = datetime(2026, 11, 21, tzinfo=UTC)
ARN: Final = "arn:aws:rekognition:us-east-1:123456789012:project/shop"
VERSION_ARN: Final = f"{ARN}/version/shop.v1/1700000000001"
MANIFEST: Final = "reports/2026-11-21T01-00Z/manifest.json"
BUCKET: Final = "archive"

ARCHIVES: Final = 5
IMAGES_AN_ARCHIVE: Final = 20_000
MOST_TASKS: Final = 1_000
# drain, decide, start_model, wait_until_running, stop_model, next_run, report; and three for each batch.
TASKS_A_RUN: Final = 7
TASKS_A_BATCH: Final = 3

# Seconds and MB that a cell may take; the listing is as slow as the stand-in.
GOALS: Final[dict[str, tuple[float, float]]] = {"inventory": (60.0, 400.0), "selection": (60.0, 1_024.0)}


@dataclass(frozen=True, slots=True)
class Cost:
    """``peak_mb``: resident memory at its highest, above that before. ``images``: how many were handled; ``chosen``: left."""

    images: int
    chosen: int
    seconds: float
    peak_mb: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inventory", type=int, default=INVENTORY_ROWS, help="images of the inventory")
    parser.add_argument("--published", type=int, default=PUBLISHED_ROWS, help="rows that are published already")
    parser.add_argument("--listed", type=int, default=LISTED_KEYS, help="keys of the bucket to list")
    sizes = parser.parse_args()
    figures: dict[str, Any] = {"name": "archive", "published_rows": sizes.published}
    missed = []
    say(f"{'':<12}{'images':>12}{'chosen':>12}{'seconds':>10}{'a second':>12}{'peak MB':>10}")
    with tempfile.TemporaryDirectory(prefix="bench-archive-") as folder:
        write_inventory(Path(folder), sizes.inventory)
        costs = {"inventory": in_own_process(plan_inventory, folder, "all")}
        write_results(Path(folder), sizes.published)
        costs["selection"] = in_own_process(plan_inventory, folder, "new")
        costs["published"] = in_own_process(only_read_published, folder)
    costs["listing"] = list_local_aws(sizes.listed)
    costs["queue"], costs["slice"], batches = five_on_local_aws()
    for name, cost in costs.items():
        rate = cost.images / cost.seconds
        say(f"{name:<12}{cost.images:>12,}{cost.chosen:>12,}{cost.seconds:>10.1f}{rate:>12,.0f}{cost.peak_mb:>10.0f}")
        figures[name] = {"images": cost.images, "chosen": cost.chosen, "seconds": round(cost.seconds, 2)}
        figures[name] |= {"images_per_second": round(rate), "peak_mb": round(cost.peak_mb, 1)}
        seconds, peak_mb = GOALS.get(name, (float("inf"), float("inf")))
        missed += [f"{name} seconds"] * (cost.seconds > seconds) + [f"{name} memory"] * (cost.peak_mb > peak_mb)
    tasks = TASKS_A_RUN + TASKS_A_BATCH * sum(batches.values())
    figures["slice"] |= {"archives": ARCHIVES, "batches_of_each": sorted(batches.values()), "tasks": tasks}
    say(f"A run's slice of {ARCHIVES} archives: {sum(batches.values())} batches, {tasks} tasks.")
    missed += ["tasks"] * (tasks >= MOST_TASKS) + ["turns"] * (len(batches) < ARCHIVES)
    sys.stdout.write(json.dumps(figures | {"missed": missed}) + "\n")
    return 1 if missed else 0


def key(number: int) -> str:
    return f"stock/{number % 1_000:03d}/series {number // 1_000:05d}+/image-{number:09d}.jpg"


def etags(first: int, count: int) -> list[str]:
    """Different ones, as long as S3's."""
    return [f"{number * 0x9E3779B97F4A7C15 % 2**128:032x}" for number in range(first + 1, first + count + 1)]


def write_inventory(folder: Path, rows: int) -> None:
    """As S3 writes it, in Parquet with Snappy; one object in fifty is no image."""
    files = []
    for number, start in enumerate(range(0, rows, ROWS_A_DATA_FILE)):
        numbers = range(start, min(rows, start + ROWS_A_DATA_FILE))
        count = len(numbers)
        table = pa.table(
            {
                "bucket": pa.repeat(BUCKET, count),
                "key": [key(each) if each % 50 else f"stock/notes-{each:09d}.txt" for each in numbers],
                "size": np.random.default_rng(number).integers(20_000, 9_000_000, count),
                "last_modified_date": pa.repeat(pa.scalar(NOW, pa.timestamp("ms")), count),
                "e_tag": etags(start, count),
                "storage_class": pa.repeat("STANDARD", count),
            }
        )
        path = folder / "reports" / f"data/{number}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, compression="snappy")
        md5 = hashlib.md5(path.read_bytes()).hexdigest()
        files.append({"key": f"data/{number}.parquet", "size": path.stat().st_size, "MD5checksum": md5})
    manifest = {"sourceBucket": BUCKET, "destinationBucket": "arn:aws:s3:::reports", "fileFormat": "Parquet"}
    body = json.dumps(manifest | {"fileSchema": "message s3.inventory {}", "files": files}).encode()
    path = folder / MANIFEST
    path.parent.mkdir(parents=True)
    path.write_bytes(body)
    path.with_suffix(".checksum").write_text(hashlib.md5(body).hexdigest())


def write_results(folder: Path, rows: int) -> None:
    """Every other image of the inventory, and so many others, labelled by batches of 10,000."""
    label = {"name": "label", "confidence": 88.8, "threshold": 50.0, "passes": True, "left": 0.1, "top": 0.2}
    label |= {"width": 0.3, "height": 0.4, "parents": [], "attributes": []}
    row = {"source_bucket": BUCKET, "event_time": NOW, "processed_at": NOW, "origin": "archive", "format": "JPEG"}
    row |= {"model_arn": VERSION_ARN, "model_version": "shop.v1", "status": "LABELLED", "label_count": 3}
    row |= {"run_id": "scheduled", "batch_id": "0123456789abcdef", "labels": [label] * 3}
    plain = pa.Table.from_pylist([row] * min(rows, ROWS_A_RESULT), schema=IMAGE_LABELS)
    key_place, etag_place = IMAGE_LABELS.get_field_index("source_key"), IMAGE_LABELS.get_field_index("etag")
    for start in range(0, rows, ROWS_A_RESULT):
        count = min(ROWS_A_RESULT, rows - start)
        table = plain.slice(0, count)
        # Of twice as many numbers, the even ones: an image of the inventory wherever there is one.
        every = etags(2 * start, 2 * count)[::2]
        keys = [key(number) for number in range(2 * start, 2 * (start + count), 2)]
        table = table.set_column(key_place, IMAGE_LABELS.field(key_place), pa.array(keys))
        table = table.set_column(etag_place, IMAGE_LABELS.field(etag_place), pa.array(every))
        name = layout.image_labels(analysis=ANALYSIS, day=f"2026-11-{start % 20 + 1:02d}", batch_id=f"{start:016x}")
        path = folder / "final" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, compression="zstd")


def settings() -> Settings:
    return Settings(
        source_bucket="inbox",
        final_bucket="final",
        allowed_buckets=(BUCKET,),
        queue_url="http://queue",
        region=REGION,
        project_arn=f"{ARN}/1700000000000",
        project_version_arn=VERSION_ARN,
        threads=THREADS,
    )


def plan_inventory(folder: str, select: str) -> tuple[int, int]:
    """Plan the inventory; how many objects it names, and how many of them are chosen."""
    request = parse_request(source="inventory", uri=f"s3://{MANIFEST}", select=select, include=("*.jpg",))
    plan = plan_archive(
        FolderS3(Path(folder)),
        settings(),
        request,
        archive_id=f"20261121T000000Z.{select}",
        now=NOW,
        model_state=ModelState(),
        month_cost_usd=0.0,
    )
    say(in_words(plan))
    return plan.found, plan.images


def only_read_published(folder: str) -> tuple[int, int]:
    known = read_published(FolderS3(Path(folder)), "final", model_arn=VERSION_ARN, select="new", threads=THREADS)
    return len(known), len(known)


def list_local_aws(count: int) -> Cost:
    with LocalAws() as aws:
        s3 = aws.client("s3", max_pool_connections=THREADS)
        s3.create_bucket(Bucket=BUCKET)
        in_parallel(lambda number: s3.put_object(Bucket=BUCKET, Key=key(number), Body=b"x"), range(count), threads=8)
        os.environ.update(aws.environment())
        cost = in_own_process(list_all)
    if cost.images != count:
        raise RuntimeError(f"{cost.images:,} of {count:,} keys were listed.")
    return cost


def list_all() -> tuple[int, int]:
    s3 = boto3.client("s3", config=Config(max_pool_connections=THREADS))
    found: set[str] = set()
    for table in list_prefix(s3, f"s3://{BUCKET}/", THREADS, Counter()):
        found.update(table["key"].to_pylist())
    return len(found), len(found)


def five_on_local_aws() -> tuple[Cost, Cost, Counter[str | None]]:
    """Queue five archives, and decide on a run; the batches that each of them has in it."""
    with LocalAws() as aws:
        aws.client("s3").create_bucket(Bucket="final")
        os.environ.update(aws.environment())
        queued, sliced = in_own_process(queue_five), in_own_process(decide_on_five)
        s3 = aws.client("s3", max_pool_connections=THREADS)
        taken = next_slice(
            s3, settings(), ModelState(), pending_archives(s3, settings()), most_batches=MAX_BATCHES_A_RUN
        )
        return queued, sliced, Counter(map(layout.archive_of, taken.batches))


def queue_five() -> tuple[int, int]:
    s3 = boto3.client("s3", config=Config(max_pool_connections=THREADS))
    for number in range(ARCHIVES):
        first = number * IMAGES_AN_ARCHIVE
        found = zip(range(first, first + IMAGES_AN_ARCHIVE), etags(first, IMAGES_AN_ARCHIVE), strict=True)
        images = [ImageRef(BUCKET, key(each), etag, NOW, size_bytes=1, origin="archive") for each, etag in found]
        size = batch_size(1_000_000, ModelState(), settings())
        known = Archive(archive_id(f"stock {number}", now=NOW), f"s3://{BUCKET}/", NOW, len(images), 1, batch_size=size)
        queue_archive(s3, settings(), known, [partial(list, images)])
    return ARCHIVES * IMAGES_AN_ARCHIVE, ARCHIVES * IMAGES_AN_ARCHIVE


def decide_on_five() -> tuple[int, int]:
    """What ``decide`` does of a run: how many images wait, and how many of them are the run's."""
    s3 = boto3.client("s3", config=Config(max_pool_connections=THREADS))
    archives = pending_archives(s3, settings())
    taken = next_slice(s3, settings(), ModelState(), archives, most_batches=MAX_BATCHES_A_RUN)
    backlog = count_backlog(s3, settings(), taken.batches, now=NOW, run_id="benchmark")
    return ARCHIVES * IMAGES_AN_ARCHIVE, backlog.images


def in_own_process(work: Callable[..., tuple[int, int]], *arguments: str) -> Cost:
    """Measure where nothing else has left its memory."""
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measured, work, arguments).result()


def measured(work: Callable[..., tuple[int, int]], arguments: tuple[str, ...]) -> Cost:
    before, began = memory_mb("VmRSS"), time.perf_counter()
    images, chosen = work(*arguments)
    return Cost(images, chosen, time.perf_counter() - began, memory_mb("VmHWM") - before)


def memory_mb(name: str) -> float:
    """``VmRSS`` (now) or ``VmHWM`` (at its highest) of this process: https://man7.org/linux/man-pages/man5/proc.5.html"""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024 / MB


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
