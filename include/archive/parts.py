"""The parts of a plan: Parquet files of images, written as soon as they are full. Where all of a plan lies."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from include import objects
from include.errors import TransientError

log = logging.getLogger(__name__)

ARCHIVES: Final = "archives/"
ROWS_A_PART: Final = 100_000
SECONDS_BETWEEN_WORDS: Final = 10.0


def plan_key(archive_id: str) -> str:
    return f"{ARCHIVES}{archive_id}/plan.json"


def part_key(archive_id: str, number: int) -> str:
    return f"{ARCHIVES}{archive_id}/plan/part-{number:05d}.parquet"


def broken_lines_key(archive_id: str) -> str:
    return f"{ARCHIVES}{archive_id}/broken_lines.csv"


class Progress:
    """A word in the log every ten seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic, self._last = monotonic, monotonic()

    def say(self, text: str, *counts: int) -> None:
        if self._monotonic() - self._last >= SECONDS_BETWEEN_WORDS:
            self._last = self._monotonic()
            log.info(text, *(f"{count:,}" for count in counts))


class Parts:
    """Writes images as Parquet, a part as soon as it is full."""

    def __init__(self, s3: Any, bucket: str, archive_id: str) -> None:
        self._s3, self._bucket, self._archive_id = s3, bucket, archive_id
        self._waiting: list[pa.Table] = []
        self._rows = 0
        self.keys: list[str] = []
        self.images = self.size_bytes = 0

    def add(self, table: pa.Table) -> None:
        self.images += table.num_rows
        self.size_bytes += pc.sum(table["size_bytes"]).as_py() or 0
        while self._rows + table.num_rows >= ROWS_A_PART:
            room = ROWS_A_PART - self._rows
            self._waiting.append(table.slice(0, room))
            self._write()
            table = table.slice(room)
        if table.num_rows:
            self._waiting.append(table)
            self._rows += table.num_rows

    def close(self) -> None:
        if self._rows:
            self._write()

    def _write(self) -> None:
        body = io.BytesIO()
        pq.write_table(pa.concat_tables(self._waiting), body, compression="zstd")
        key = part_key(self._archive_id, len(self.keys))
        # An attempt that was given up may still be at work: it must not write over the parts of a plan that is there.
        if objects.head(self._s3, self._bucket, plan_key(self._archive_id)):
            raise TransientError(f"Archive {self._archive_id} has been planned by somebody else meanwhile: ask again.")
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=body.getvalue())
        self.keys.append(key)
        self._waiting, self._rows = [], 0
