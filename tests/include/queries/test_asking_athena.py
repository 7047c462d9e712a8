from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from include.errors import TransientError
from include.queries import QueryError, athena
from include.settings import Settings

ID = "7a1c2d3e-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def made() -> Any:
    return boto3.client("athena", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")


@pytest.fixture
def answers(made: Any) -> Iterator[Stubber]:
    """Answers that Athena gives, in order; all of them are to be asked for."""
    with Stubber(made) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def execution(state: str, **fields: Any) -> dict[str, Any]:
    status = {"State": state} | fields.pop("Status", {})
    return {"QueryExecution": {"QueryExecutionId": ID, "StatementType": "DML", "Status": status} | fields}


def ended(reason: str, state: str = "FAILED", **error: Any) -> dict[str, Any]:
    return execution(state, Status={"StateChangeReason": reason} | ({"AthenaError": error} if error else {}))


def test_a_query_is_started_in_its_workgroup_and_waited_for(answers: Stubber, settings: Settings) -> None:
    waits: list[float] = []
    answers.add_response(
        "start_query_execution",
        {"QueryExecutionId": ID},
        {
            "QueryString": "SELECT ? ",
            "ExecutionParameters": ["'mug'"],
            "WorkGroup": "labels",
            "QueryExecutionContext": {"Catalog": "AwsDataCatalog", "Database": "labels"},
            "ResultConfiguration": {"OutputLocation": "s3://final/queries/results/"},
        },
    )
    statistics = {"DataScannedInBytes": 3_000_000_000, "TotalExecutionTimeInMillis": 1_500}
    location = {"OutputLocation": "s3://final/queries/results/x.csv"}
    for answer in [
        *map(execution, ["QUEUED", *["RUNNING"] * 6]),
        execution("SUCCEEDED", Statistics=statistics, ResultConfiguration=location),
    ]:
        answers.add_response("get_query_execution", answer, {"QueryExecutionId": ID})
    done = athena.run(answers.client, settings, "SELECT ? ", ["'mug'"], name="q", sleep=waits.append)
    assert waits == [0.2, 0.3, 0.5, 1.0, 2.0, 2.0, 2.0]
    assert (done.query_id, done.milliseconds, done.location) == (ID, 1_500, location["OutputLocation"])
    assert done.cost_usd == pytest.approx(0.015)


@pytest.mark.parametrize(("type_", "scanned", "cost"), [("DML", 1, 0.00005), ("DML", 0, 0.00005), ("DDL", 0, 0)])
def test_ten_megabytes_are_billed_at_least_but_not_for_the_catalog(type_: str, scanned: int, cost: float) -> None:
    found = execution("SUCCEEDED", StatementType=type_, Statistics={"DataScannedInBytes": scanned})
    assert athena.judged(found["QueryExecution"], name="q").cost_usd == pytest.approx(cost)


@pytest.mark.parametrize(
    ("reason", "state", "advice"),
    [
        ("TABLE_NOT_FOUND: line 1:15: Table 'awsdatacatalog.labels.runs' does not exist", "FAILED", "query --setup"),
        ("SCHEMA_NOT_FOUND: line 1:15: Schema 'labels' does not exist", "FAILED", "query --setup"),
        ("SYNTAX_ERROR: View 'labels.problems' is stale; it must be re-created", "FAILED", "query --setup"),
        ("PreparedStatement slow_hours was not found in workGroup labels", "FAILED", "query --setup"),
        ("Bytes scanned limit was exceeded", "CANCELLED", "LABELS_QUERY_SCAN_LIMIT_GB"),
        ("HIVE_BAD_DATA: Not valid Parquet file: s3://final/results/x.parquet", "FAILED", "damaged, gone"),
        ("HIVE_CANNOT_OPEN_SPLIT: Error opening Hive split s3://final/x.parquet", "FAILED", "damaged, gone"),
        ("COLUMN_NOT_FOUND: line 1:8: Column 'x' cannot be resolved", "FAILED", "Mend the SQL"),
        ("Access Denied (Service: Amazon S3; Status Code: 403)", "FAILED", "permission"),
        ("GENERIC_INTERNAL_ERROR: something odd", "FAILED", ""),
    ],
)
def test_a_failure_names_the_query_athenas_words_and_what_to_do(reason: str, state: str, advice: str) -> None:
    with pytest.raises(QueryError) as raised:
        athena.judged(ended(reason, state)["QueryExecution"], name="slow_hours")
    said = str(raised.value)
    assert said.startswith(f"slow_hours: Athena says: {reason} ({state}, query {ID}).")
    assert advice in said


def test_what_athena_calls_retryable_is_worth_another_try() -> None:
    failed = ended("Query exhausted resources at this scale factor", ErrorCategory=1, Retryable=True)
    with pytest.raises(TransientError, match="may succeed later"):
        athena.judged(failed["QueryExecution"], name="slow_hours")


def test_a_query_that_athena_does_not_take_is_an_error_with_advice(answers: Stubber, settings: Settings) -> None:
    answers.add_client_error("start_query_execution", "InvalidRequestException", "WorkGroup labels is not found.")
    with pytest.raises(
        QueryError, match="q: Athena says: WorkGroup labels is not found. Make the workgroup: .*--setup"
    ):
        athena.run(answers.client, settings, "SELECT 1", name="q", sleep=lambda _: None)


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_whoever_stops_waiting_stops_the_query(
    answers: Stubber, settings: Settings, interrupt: type[BaseException]
) -> None:
    answers.add_response("start_query_execution", {"QueryExecutionId": ID})
    answers.add_response("get_query_execution", execution("RUNNING"))
    answers.add_response("stop_query_execution", {}, {"QueryExecutionId": ID})

    def sleep(_: float) -> None:
        raise interrupt

    with pytest.raises(interrupt):
        athena.run(answers.client, settings, "SELECT 1", name="q", sleep=sleep)


def column(name: str, type_: str, **more: int) -> dict[str, Any]:
    return {"Name": name, "Type": type_} | more


def page(columns: list[dict[str, Any]], *rows: tuple[str | None, ...], token: str = "") -> dict[str, Any]:
    data = [{"Data": [{} if cell is None else {"VarCharValue": cell} for cell in row]} for row in rows]
    result = {"ResultSet": {"Rows": data, "ResultSetMetadata": {"ColumnInfo": columns}}}
    return result | ({"NextToken": token} if token else {})


TYPES = [
    ("varchar", "text", "text"),
    ("varchar", "", ""),
    ("boolean", "true", True),
    ("integer", "-7", -7),
    ("bigint", "9223372036854775807", 2**63 - 1),
    ("double", "1.0E-5", 1e-5),
    ("double", "Infinity", float("inf")),
    ("date", "2026-03-01", date(2026, 3, 1)),
    ("timestamp", "2026-03-01 12:00:00.123", datetime(2026, 3, 1, 12, 0, 0, 123_000)),  # noqa: DTZ001 - as Athena's type
    ("timestamp with time zone", "2026-03-01 12:00:00.123 UTC", "2026-03-01 12:00:00.123 UTC"),
    ("array", "[a, b]", "[a, b]"),
]


@pytest.mark.parametrize(("type_", "said", "value"), TYPES)
def test_values_have_their_columns_type(answers: Stubber, type_: str, said: str, value: Any) -> None:
    answers.add_response("get_query_results", page([column("a", type_)], ("a",), (said,), (None,)))
    (batch,) = athena.batches(answers.client, ID)
    assert batch.to_pylist() == [{"a": value}, {"a": None}]


def test_decimals_keep_their_scale(answers: Stubber) -> None:
    columns = [column("a", "decimal", Precision=5, Scale=2)]
    answers.add_response("get_query_results", page(columns, ("a",), ("12.30",)))
    assert next(athena.batches(answers.client, ID)).to_pylist() == [{"a": Decimal("12.30")}]


def test_only_the_first_row_of_a_select_is_a_header(answers: Stubber) -> None:
    columns = [column("a", "varchar"), column("a", "bigint")]
    answers.add_response("get_query_results", page(columns, ("a", "a"), ("x", "1"), token="more"))
    answers.add_response("get_query_results", page(columns, ("a", "2"), ("y", None)))
    found = list(athena.batches(answers.client, ID))
    assert [[each.to_pylist() for each in batch.columns] for batch in found] == [[["x"], [1]], [["a", "y"], [2, None]]]


def test_show_has_no_header_and_an_empty_answer_has_columns(answers: Stubber) -> None:
    answers.add_response("get_query_results", page([column("tab_name", "string")], ("runs",)))
    assert next(athena.batches(answers.client, ID)).to_pylist() == [{"tab_name": "runs"}]
    answers.add_response("get_query_results", page([column("a", "bigint")], ("a",)))
    (batch,) = athena.batches(answers.client, ID)
    assert (batch.num_rows, batch.schema.names) == (0, ["a"])
