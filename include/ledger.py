"""What the model has cost so far: the rows of ``runs`` are the ledger.

A run writes its row when it ends; what crashed runs, holds and people in the console spent beside them stands in no row.
"""

from __future__ import annotations

import io
from datetime import datetime
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from include import layout, objects
from include.parallel import in_parallel


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
