"""Asking the results: the label index, the compaction of a day, and what Athena would bill for each saved query.

The index and the compaction work on files in a folder, in processes of their own; memory is what they take beyond their imports.
The saved queries run on local AWS over a month of hourly runs, before and after each day was compacted; it counts the bytes of
the columns and row groups that a query reads, as Athena does.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from benchmarks import index
from benchmarks.archive import in_own_process, say
from benchmarks.folder_s3 import FolderS3
from benchmarks.label_rows import BUCKET, LABELS_AN_IMAGE, LAST_DAY, label_name, write_results
from include import layout
from include.compact import compact_day
from include.file_lists import ensure_file_lists, visible_files
from include.parallel import in_parallel
from include.queries import athena, saved
from include.queries.athena import LEAST_BYTES, USD_PER_BYTE
from include.queries.setup import set_up
from include.report import write_report
from include.schema import ANALYSIS, RunReport
from include.settings import Settings
from local_aws.process import REGION, LocalAws

LABEL_ROWS: Final = 10_000_000
IMAGES_A_BATCH: Final = 10_000
# MB that compaction may take, however large the day is.
MOST_COMPACTION_MB: Final = 1_200.0
# A month of hourly runs.
DAYS: Final = 30
RUNS_A_DAY: Final = 24
IMAGES_A_RUN: Final = 140
THREADS: Final = 8
NEEDED: Final[dict[str, str]] = {"label": label_name(3), "before": "shop.v1", "after": "shop.v2"}
PROJECT: Final = f"arn:aws:rekognition:{REGION}:123456789012:project/shop"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rows", type=int, default=LABEL_ROWS, help="label rows of the index, and of the day to compact"
    )
    parser.add_argument("--days", type=int, default=DAYS, help="days of hourly runs that the saved queries look at")
    sizes = parser.parse_args()
    figures: dict[str, Any] = {"name": "queries", "label_rows": sizes.rows}
    images = sizes.rows // LABELS_AN_IMAGE
    with tempfile.TemporaryDirectory(prefix="bench-queries-") as folder:
        figures["index"], missed = index.measure(Path(folder), images)
    with tempfile.TemporaryDirectory(prefix="bench-queries-") as folder:
        figures["compaction"] = compaction(Path(folder), images)
    missed += ["compaction memory"] * (figures["compaction"]["peak_mb"] > MOST_COMPACTION_MB)
    with tempfile.TemporaryDirectory(prefix="bench-queries-") as folder:
        figures["scanned"] = scanned(Path(folder), sizes.days)
    sys.stdout.write(json.dumps(figures | {"missed": missed}) + "\n")
    return 1 if missed else 0


def compaction(folder: Path, images: int) -> dict[str, Any]:
    """One day's batches into one file."""
    write_results(folder, images=images, images_a_file=IMAGES_A_BATCH, days=1)
    cost = in_own_process(_compact, str(folder))
    [file] = visible_files(FolderS3(folder), BUCKET, analysis=ANALYSIS, threads=1)
    groups = pq.read_metadata(folder / BUCKET / file.key).num_row_groups
    rate = cost.images / cost.seconds
    say(
        f"Compaction: {cost.images:,} images ({cost.images * LABELS_AN_IMAGE:,} labels) of {cost.chosen:,} files in "
        f"{cost.seconds:.1f} s, {rate:,.0f} images a second, {cost.peak_mb:.0f} MB; {groups} row groups."
    )
    figures = {"images": cost.images, "files": cost.chosen, "seconds": round(cost.seconds, 1)}
    return figures | {"images_per_second": round(rate), "peak_mb": round(cost.peak_mb, 1), "row_groups": groups}


def _compact(folder: str) -> tuple[int, int]:
    done = compact_day(FolderS3(Path(folder)), BUCKET, analysis=ANALYSIS, day=f"{LAST_DAY:%Y-%m-%d}", threads=THREADS)
    return done.rows, done.files_before


def scanned(folder: Path, days: int) -> dict[str, dict[str, float]]:
    """Bytes that each saved query reads, of days as runs leave them and of compacted ones."""
    keys = write_results(folder, images=days * RUNS_A_DAY * IMAGES_A_RUN, images_a_file=IMAGES_A_RUN, days=days)
    with LocalAws() as aws:
        s3, settings = aws.client("s3", max_pool_connections=THREADS), _settings(aws.endpoint_url)
        s3.create_bucket(Bucket=BUCKET)
        in_parallel(
            lambda key: s3.put_object(Bucket=BUCKET, Key=key, Body=(folder / BUCKET / key).read_bytes()),
            keys,
            threads=THREADS,
        )
        ensure_file_lists(s3, BUCKET, analysis=ANALYSIS, threads=THREADS)
        for number in range(days * RUNS_A_DAY):
            _write_run(s3, settings, number, days)
        asked, glue = aws.client("athena"), aws.client("glue")
        set_up(asked, glue, s3, settings, sleep=time.sleep)
        before = _ask_all(asked, settings)
        for day in sorted({layout.day_of(key) for key in keys}):
            compact_day(s3, BUCKET, analysis=ANALYSIS, day=day, threads=THREADS)
        after = _ask_all(asked, settings)
    say(f"\n{'MB read by':<28}{'as runs leave them':>20}{'compacted':>12}{'billed':>10}{'seconds':>18}")
    figures = {}
    for name, (size, seconds) in before.items():
        compact, less_seconds = after[name]
        cost = max(compact, LEAST_BYTES) * USD_PER_BYTE
        times = f"{seconds:.2f} -> {less_seconds:.2f}"
        say(f"{name:<28}{size / 1e6:>20.2f}{compact / 1e6:>12.2f}{cost:>10.5f}{times:>18}")
        figures[name] = {
            "bytes": size,
            "bytes_compacted": compact,
            "seconds": seconds,
            "seconds_compacted": less_seconds,
        }
    return figures


def _ask_all(client: Any, settings: Settings) -> dict[str, tuple[int, float]]:
    answers = {}
    for name in saved.names():
        query = saved.find(name)
        values = {name: value for name, value in NEEDED.items() if name in query.names}
        bound = query.bind(values, today=LAST_DAY.date())
        began = time.perf_counter()
        done = athena.run(client, settings, bound.sql, bound.literals, name=name, sleep=time.sleep)
        answers[name] = done.scanned_bytes, round(time.perf_counter() - began, 2)
    return answers


def _write_run(s3: Any, settings: Settings, number: int, days: int) -> None:
    began = LAST_DAY - timedelta(days=days - 1) + timedelta(hours=number * 24 / RUNS_A_DAY)
    row = RunReport(
        run_id=f"scheduled__{began:%Y-%m-%dT%H}",
        started_at=began,
        ended_at=began + timedelta(minutes=5),
        trigger="scheduled",
        decision="Start with 1 inference unit.",
        images=IMAGES_A_RUN,
        labelled=IMAGES_A_RUN,
        calls=IMAGES_A_RUN + number % 7,
        throttled_calls=number % 7,
        inference_units=1,
        model_running_seconds=28.0 + number % 5,
        utilisation=0.99,
        cost_usd=0.07,
        model_final_status="STOPPED",
    )
    write_report(s3, settings, row)


def _settings(endpoint_url: str) -> Settings:
    return Settings(
        source_bucket="uploads",
        final_bucket=BUCKET,
        queue_url=f"{endpoint_url}/123456789012/uploads",
        region=REGION,
        project_arn=f"{PROJECT}/1700000000000",
        project_version_arn=f"{PROJECT}/version/shop.v1/1700000000001",
    )


if __name__ == "__main__":
    sys.exit(main())
