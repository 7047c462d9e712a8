"""What the model has cost so far: the rows of ``runs`` are the ledger.

A run writes its row when it ends; what crashed runs, holds and people in the console spent beside them stands in no row.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from include import layout, objects
from include.parallel import in_parallel
from include.schema import RunReport


def month_cost_usd(s3: Any, bucket: str, *, now: datetime, threads: int) -> float:
    """Dollars of the runs that began in this calendar month (UTC)."""

    def cost_usd(key: str) -> float:
        found = objects.read(s3, bucket, key)
        if found is None:
            return 0.0
        column = pq.read_table(io.BytesIO(found[0]), columns=["cost_usd"])["cost_usd"]
        return float(pc.sum(column).as_py() or 0.0)

    keys = objects.list_keys(s3, bucket, f"{layout.RUNS}dt={now:%Y-%m}-")
    return round(sum(in_parallel(cost_usd, keys, threads=threads)), 4)


@dataclass(frozen=True, slots=True)
class Ledger:
    """Rows of ``runs``, the oldest first, and the keys of files that are none."""

    runs: tuple[RunReport, ...] = ()
    unreadable: tuple[str, ...] = ()


def read_runs(
    s3: Any, bucket: str, *, last: int | None = None, since: str = "", month: str = "", threads: int
) -> Ledger:
    """The rows of runs, by the day on which they began (UTC).

    Of a ledger of years only the days that are asked for are read.

    :param last: the newest so many; all where None.
    :param since: from this day on, ``YYYY-MM-DD``.
    :param month: of this month, ``YYYY-MM``.
    """
    prefix = f"{layout.RUNS}dt={month}"
    keys = [key for key in objects.list_keys(s3, bucket, prefix) if key >= f"{layout.RUNS}dt={since}"]
    found = _read(s3, bucket, _whole_days(keys, last), threads=threads)
    runs = sorted((run for run in found.values() if run), key=lambda run: (run.started_at, run.run_id))
    unreadable = tuple(key for key, run in found.items() if run is None)
    return Ledger(tuple(runs[-last:] if last else runs), unreadable)


def _whole_days(keys: Sequence[str], last: int | None) -> list[str]:
    """The last so many keys, and the others of the first one's day: within a day they are sorted by name, not by time."""
    if last is None or len(keys) <= last:
        return list(keys)
    day = keys[-last].rpartition("/")[0]
    return [key for key in keys if key.rpartition("/")[0] >= day]


def _read(s3: Any, bucket: str, keys: Iterable[str], *, threads: int) -> dict[str, RunReport | None]:
    """Runs by key; None for a file that is no row of ``runs``."""
    names = {field.name for field in fields(RunReport)}

    def read(key: str) -> tuple[str, RunReport | None] | None:
        found = objects.read(s3, bucket, key)
        if found is None:
            return None
        try:
            row = pq.read_table(io.BytesIO(found[0])).to_pylist()[0]
            return key, RunReport(**{name: row[name] for name in names & row.keys() if row[name] is not None})
        except (pa.ArrowException, OSError, TypeError, IndexError):
            return key, None

    return dict(filter(None, in_parallel(read, keys, threads=threads)))
