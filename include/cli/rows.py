"""The rows that a query answers, as a table for people, and as CSV or JSON for everything else."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final, TextIO

import pyarrow as pa
from rich.table import Table

from include.cli.output import Answer, Cleaned, line, table
from include.queries import QueryError
from include.queries.athena import Done
from include.schema import writable

MOST_SHOWN: Final = 1_000
FORMULAS: Final = ("=", "+", "-", "@", "\t", "\r")


def show(done: Done, batches: Iterable[pa.RecordBatch], *, form: str, out: Path | None) -> Answer:
    """What was asked for.

    :param form: ``table``, ``csv`` or ``json``.
    :param out: where CSV and JSON go; None: standard output.
    """
    each = iter(batches)
    first = next(each)
    rows = rows_of([first], each)
    scanned = (
        f"{done.scanned_bytes / 1e6:,.1f} MB" if done.scanned_bytes >= 1e6 else f"{done.scanned_bytes / 1e3:.1f} kB"
    )
    spent = f"{done.milliseconds / 1e3:.1f} s, {scanned} read: ${done.cost_usd:.5f}"
    facts = {
        "query": done.name,
        "query_id": done.query_id,
        "seconds": done.milliseconds / 1e3,
        "scanned_bytes": done.scanned_bytes,
        "cost_usd": done.cost_usd,
    }
    if form == "table":
        return _for_people(first.schema, rows, spent)
    if form == "json":
        return _json(first.schema, rows, facts, out)
    with _target(out) as target:
        count, formulas = _write_csv(target, first.schema, rows)
    said = [f"{_counted(count)}; {spent}."]
    if formulas:
        said.append(f"{formulas:,} texts begin as formulas do: a spreadsheet is to import these columns as text.")
    if out is None:
        sys.stderr.write("".join(f"{sentence}\n" for sentence in said))
        return Answer({}, [])
    return Answer({}, [line(sentence) for sentence in said])


def rows_of(*batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[Any, ...]]:
    """By position: two columns may have one name."""
    for some in batches:
        for batch in some:
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def as_table(schema: pa.Schema, rows: Iterable[Sequence[Any]]) -> Table:
    """Rows as people read them, numbers to the right."""
    numbers = [field.name for field in schema if _is_number(field.type)]
    cells = [[None if value is None else _plain(value, " ") for value in row] for row in rows]
    return table(*schema.names, rows=cells, right=numbers)


def _for_people(schema: pa.Schema, rows: Iterator[tuple[Any, ...]], spent: str) -> Answer:
    shown = list(islice(rows, MOST_SHOWN))
    has_more = next(rows, None) is not None
    count = f"The first {MOST_SHOWN:,} rows; --format csv has all" if has_more else _counted(len(shown))
    return Answer({}, [as_table(schema, shown), line(""), line(f"{count}; {spent}.")])


def _counted(rows: int) -> str:
    return "1 row" if rows == 1 else f"{rows:,} rows"


def _is_number(arrow: pa.DataType) -> bool:
    return bool(pa.types.is_integer(arrow) or pa.types.is_floating(arrow) or pa.types.is_decimal(arrow))


def _json(schema: pa.Schema, rows: Iterator[tuple[Any, ...]], facts: dict[str, Any], out: Path | None) -> Answer:
    if twice := [name for name, count in Counter(schema.names).items() if count > 1]:
        raise QueryError(
            f"Two columns are called {twice[0]}: JSON takes one of them. Give each a name of its own (AS ...)."
        )
    columns = [{"name": field.name, "type": str(field.type)} for field in schema]
    # JSON has no word for what is no number.
    found = [dict(zip(schema.names, map(writable, row), strict=True)) for row in rows]
    document = {"columns": columns, "rows": found}
    if out is None:
        return Answer({**facts, **document}, [])
    with _target(out) as target:
        json.dump({**facts, **document}, target, default=_written, indent=1)
    return Answer({**facts, "columns": columns, "count": len(found)}, [])


def _write_csv(target: TextIO, schema: pa.Schema, rows: Iterable[tuple[Any, ...]]) -> tuple[int, int]:
    """As Athena writes it: text in quotes, null as nothing. How many rows, and how many texts look like formulas."""
    count = formulas = 0
    target.write(_csv_line(schema.names))
    for row in rows:
        count += 1
        formulas += sum(isinstance(value, str) and value.startswith(FORMULAS) for value in row)
        target.write(_csv_line(row))
    return count, formulas


def _csv_line(row: Sequence[Any]) -> str:
    cells = ('"' + value.replace('"', '""') + '"' if isinstance(value, str) else _plain(value, " ") for value in row)
    return ",".join(cells) + "\n"


def _plain(value: Any, between: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.isoformat(between, "milliseconds")
    return _written(value)


def _written(value: date | object) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)


@contextmanager
def _target(out: Path | None) -> Iterator[TextIO]:
    """The file, or standard output; on a terminal nothing in a text is acted on."""
    if out is None:
        yield Cleaned(sys.stdout) if sys.stdout.isatty() else sys.stdout  # type: ignore[misc]
        return
    try:
        # What is there stays until the new answer is complete; what is no file (a pipe, a terminal) is written to as it is.
        part = out.with_name(f"{out.name}.part") if out.is_file() or not out.exists() else out
        try:
            with part.open("w", encoding="utf-8", errors="surrogatepass", newline="") as file:
                yield file
            if part != out:
                part.replace(out)
        finally:
            if part != out:
                part.unlink(missing_ok=True)
    except OSError as err:
        raise QueryError(f"{out} cannot be written: {err}.") from err
