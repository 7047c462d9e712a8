"""Athena: start a query, wait for it, read its rows with their types, stop it.

Athena bills the bytes that a query reads, 10 MB at least, $5 for a terabyte; statements that only touch the catalog, and queries
that fail, are free (https://aws.amazon.com/athena/pricing/).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from include import layout
from include.errors import TransientError, error_message
from include.queries import QueryError
from include.settings import PREFIX, Settings

log = logging.getLogger(__name__)

USD_PER_BYTE: Final = 5 / 1e12
LEAST_BYTES: Final = 10_000_000
POLL_SECONDS: Final = (0.2, 0.3, 0.5, 1.0, 2.0)  # the last one from then on
SETUP: Final = "`python -m include.cli query --setup`"

_ARROW: Final = {
    "boolean": pa.bool_(),
    "tinyint": pa.int8(),
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "float": pa.float32(),
    "real": pa.float32(),
    "double": pa.float64(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
}
# What Athena says, and what to do about it; the first that fits.
_ADVICE: Final = (
    (
        r"(TABLE|SCHEMA)_NOT_FOUND|is stale;|(?i:(table|database|schema) .*does not exist|prepared ?statement .*not found)",
        f"Make tables and views: {SETUP}.",
    ),
    (
        r"[Bb]ytes scanned limit",
        f"Ask for fewer days (since, until), or raise {PREFIX}QUERY_SCAN_LIMIT_GB and make it known: {SETUP}.",
    ),
    (
        r"HIVE_BAD_DATA|HIVE_CANNOT_OPEN_SPLIT|HIVE_FILESYSTEM_ERROR|HIVE_CURSOR_ERROR",
        "The file that is named is damaged, gone, or written by something else: `python -m include.cli audit` says which results "
        "are affected; until it is restored or taken off its day's file list, ask for other days.",
    ),
    (
        r"COLUMN_NOT_FOUND|TYPE_MISMATCH|SYNTAX_ERROR|FUNCTION_NOT_FOUND",
        "Mend the SQL; docs/queries.md has every column.",
    ),
    (
        r"[Aa]ccess ?[Dd]enied|PERMISSION_DENIED|not authorized|Insufficient",
        "The role lacks a permission on Athena, Glue or the final bucket: docs/queries.md lists them.",
    ),
    (r"WorkGroup.*not found", f"Make the workgroup: {SETUP}."),
)


@dataclass(frozen=True, slots=True)
class Done:
    """A query that succeeded.

    :param location: where Athena has left its result, ``s3://...``.
    """

    query_id: str
    name: str
    scanned_bytes: int
    milliseconds: int
    location: str
    is_billed: bool

    @property
    def cost_usd(self) -> float:
        return max(self.scanned_bytes, LEAST_BYTES) * USD_PER_BYTE if self.is_billed else 0.0


def results_location(settings: Settings) -> str:
    """Where Athena leaves what it answers."""
    return f"s3://{settings.final_bucket}/{layout.QUERIES}results/"


def run(
    athena: Any,
    settings: Settings,
    sql: str,
    literals: Sequence[str] = (),
    *,
    name: str,
    sleep: Callable[[float], None],
) -> Done:
    """Run a statement to its end; whatever interrupts the wait stops it.

    :param literals: a SQL literal for each ``?``.
    :raises QueryError: naming the query, what Athena said, and what to do.
    :raises TransientError: where Athena itself failed.
    """
    query_id = start(athena, settings, sql, literals, name=name)
    try:
        return wait(athena, query_id, name=name, sleep=sleep)
    except (KeyboardInterrupt, SystemExit):
        athena.stop_query_execution(QueryExecutionId=query_id)
        log.warning("%s was interrupted: its query %s is stopped.", name, query_id)
        raise


def start(athena: Any, settings: Settings, sql: str, literals: Sequence[str] = (), *, name: str) -> str:
    """Start a statement; the query's id. botocore's own repetitions carry one token, so that it is started once."""
    request: dict[str, Any] = {
        "QueryString": sql,
        "WorkGroup": settings.workgroup,
        "QueryExecutionContext": {"Catalog": "AwsDataCatalog", "Database": settings.database},
        # Of no account where the workgroup enforces its own, as ours does.
        "ResultConfiguration": {"OutputLocation": results_location(settings)},
    }
    if literals:
        request["ExecutionParameters"] = list(literals)
    try:
        return str(athena.start_query_execution(**request)["QueryExecutionId"])
    except athena.exceptions.InvalidRequestException as err:
        raise QueryError(_in_words(name, error_message(err))) from err


def wait(athena: Any, query_id: str, *, name: str, sleep: Callable[[float], None]) -> Done:
    """Look until the query has ended.

    :raises QueryError: where it failed or was cancelled.
    """
    looks = 0
    while True:
        found = athena.get_query_execution(QueryExecutionId=query_id)["QueryExecution"]
        if found["Status"]["State"] not in ("QUEUED", "RUNNING"):
            return judged(found, name=name)
        sleep(POLL_SECONDS[min(looks, len(POLL_SECONDS) - 1)])
        looks += 1


def judged(execution: dict[str, Any], *, name: str) -> Done:
    """An execution that has ended, as ``GetQueryExecution`` describes it.

    :raises QueryError: where it did not succeed, with what Athena said and what to do.
    """
    status = execution["Status"]
    if status["State"] != "SUCCEEDED":
        said = status.get("StateChangeReason") or status.get("AthenaError", {}).get("ErrorMessage") or "no reason given"
        message = _in_words(name, f"{said} ({status['State']}, query {execution['QueryExecutionId']})")
        if status.get("AthenaError", {}).get("Retryable"):
            raise TransientError(f"{message} Athena says that the same query may succeed later.")
        raise QueryError(message)
    statistics = execution.get("Statistics", {})
    return Done(
        query_id=execution["QueryExecutionId"],
        name=name,
        scanned_bytes=statistics.get("DataScannedInBytes", 0),
        milliseconds=statistics.get("TotalExecutionTimeInMillis", statistics.get("EngineExecutionTimeInMillis", 0)),
        location=execution.get("ResultConfiguration", {}).get("OutputLocation", ""),
        is_billed=execution.get("StatementType") == "DML",
    )


def batches(athena: Any, query_id: str) -> Iterator[pa.RecordBatch]:
    """The rows, up to 1,000 in a batch, typed as Athena says; there is one batch at least.

    Arrays, maps and rows are text, as Athena writes them.
    """
    schema = None
    for page in athena.get_paginator("get_query_results").paginate(QueryExecutionId=query_id):
        rows = [[cell.get("VarCharValue") for cell in row.get("Data", [])] for row in page["ResultSet"]["Rows"]]
        if schema is None:
            schema = _schema(page["ResultSet"].get("ResultSetMetadata", {}).get("ColumnInfo", []))
            if rows and rows[0] == schema.names:  # a SELECT's first row is its header, other statements have none
                del rows[0]
        yield _batch(rows, schema)


def _schema(columns: Sequence[dict[str, Any]]) -> pa.Schema:
    return pa.schema([pa.field(column["Name"], _arrow(column)) for column in columns])


def _arrow(column: dict[str, Any]) -> pa.DataType:
    if column["Type"] == "decimal":
        return pa.decimal128(column["Precision"], column["Scale"])
    return _ARROW.get(column["Type"], pa.string())


def _batch(rows: Sequence[list[str | None]], schema: pa.Schema) -> pa.RecordBatch:
    # What SHOW and DESCRIBE answer is a line of text; trailing nulls of a row may be left out.
    columns = [[row[at] if at < len(row) else None for row in rows] for at in range(len(schema))]
    arrays = [pa.array(column, pa.string()).cast(field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _in_words(name: str, said: str) -> str:
    advice = next((advice for pattern, advice in _ADVICE if re.search(pattern, said)), "")
    return f"{name}: Athena says: {said.strip()}{'' if said.strip().endswith('.') else '.'}" + (
        f" {advice}" if advice else ""
    )
