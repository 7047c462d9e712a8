"""The operations: states, pages, workgroups, limits, restarts; and the clients that people use."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from airflow.providers.amazon.aws.hooks.athena import AthenaHook
from airflow.providers.amazon.aws.operators.athena import AthenaOperator
from airflow.providers.amazon.aws.triggers.athena import AthenaTrigger
from botocore.exceptions import ClientError
from pyathena import connect
from pyathena.error import OperationalError

from local_aws.process import LocalAws
from tests.local_aws.athena.client import RESULTS, Athena
from tests.local_aws.models import wait_for

_numbers = itertools.count(1)
ENDLESS = "SELECT count(*) FROM UNNEST(sequence(1, 200000)) a(x) CROSS JOIN UNNEST(sequence(1, 200000)) b(y) WHERE x * y % 7 = 3"


@pytest.fixture(scope="module")
def athena(server: LocalAws) -> Athena:
    server.clear_faults()
    return Athena(server, f"athena-api-{next(_numbers)}")


def refusal(call: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as refused:
        call(**arguments)
    return f"{refused.value.response['Error']['Code']}: {refused.value.response['Error']['Message']}"


def test_a_query_tells_what_became_of_it(athena: Athena) -> None:
    query = athena.ended("SELECT 1 AS x")
    assert (query["StatementType"], query["SubstatementType"]) == ("DML", "SELECT")
    assert query["EngineVersion"]["EffectiveEngineVersion"] == "Athena engine version 3"
    assert query["Status"]["CompletionDateTime"] >= query["Status"]["SubmissionDateTime"]
    assert query["Statistics"]["TotalExecutionTimeInMillis"] >= query["Statistics"]["EngineExecutionTimeInMillis"]
    location = query["ResultConfiguration"]["OutputLocation"]
    assert location == f"s3://{RESULTS}/{query['QueryExecutionId']}.csv"
    key = location.removeprefix(f"s3://{RESULTS}/")
    assert athena.s3.get_object(Bucket=RESULTS, Key=key)["Body"].read() == b'"x"\n"1"\n'
    assert athena.s3.head_object(Bucket=RESULTS, Key=f"{key}.metadata")["ContentLength"] > 0
    found = athena.api.batch_get_query_execution(QueryExecutionIds=[query["QueryExecutionId"], "none"])
    assert [each["QueryExecutionId"] for each in found["QueryExecutions"]] == [query["QueryExecutionId"]]
    assert [each["QueryExecutionId"] for each in found["UnprocessedQueryExecutionIds"]] == ["none"]
    assert athena.api.list_query_executions(MaxResults=5)["QueryExecutionIds"][0] == query["QueryExecutionId"]


def test_results_come_in_pages_with_the_header_in_the_first(athena: Athena) -> None:
    query = athena.ended("SELECT x, IF(x = 2, NULL, 'v') AS v FROM UNNEST(sequence(1, 2500)) t(x) ORDER BY x")
    pages = athena.api.get_paginator("get_query_results").paginate(QueryExecutionId=query["QueryExecutionId"])
    rows = [page["ResultSet"]["Rows"] for page in pages]
    assert [len(each) for each in rows] == [1000, 1000, 501]
    assert rows[0][0]["Data"] == [{"VarCharValue": "x"}, {"VarCharValue": "v"}]
    assert rows[0][2]["Data"] == [{"VarCharValue": "2"}, {}]


def test_a_token_starts_one_query(athena: Athena) -> None:
    token = "t" * 40
    first = athena.start("SELECT 1", ClientRequestToken=token)
    assert athena.start("SELECT 1", ClientRequestToken=token) == first
    assert refusal(athena.start, sql="SELECT 2", ClientRequestToken=token) == (
        "InvalidRequestException: Idempotent parameters do not match"
    )


def test_what_cannot_be_read_is_refused_at_the_start(athena: Athena) -> None:
    assert "line 1:13: mismatched input 'WHERE'" in refusal(athena.start, sql="SELECT FROM WHERE")
    assert "Queries of this type are not supported" in refusal(athena.start, sql="HELLO")
    assert "No output location provided" in refusal(athena.start, sql="SELECT 1", ResultConfiguration={})
    assert "output bucket" in refusal(
        athena.start, sql="SELECT 1", ResultConfiguration={"OutputLocation": "s3://no-such-bucket/"}
    )


def test_a_running_query_is_stopped(athena: Athena) -> None:
    query = athena.start(ENDLESS)
    wait_for(lambda: athena.described(query)["Status"]["State"] == "RUNNING")
    assert "Query has not yet finished" in refusal(athena.api.get_query_results, QueryExecutionId=query)
    athena.api.stop_query_execution(QueryExecutionId=query)
    assert athena.described(query)["Status"]["State"] == "CANCELLED"
    # The thread is free again: four more than there are threads would wait for ever.
    for _ in range(4):
        assert athena.run("SELECT 1") == [["_col0"], ["1"]]


def test_a_workgroup_s_limit_and_place_for_results_hold(athena: Athena) -> None:
    settings = {
        "EnforceWorkGroupConfiguration": True,
        "BytesScannedCutoffPerQuery": 10_000_000,
        "ResultConfiguration": {"OutputLocation": f"s3://{RESULTS}/group/"},
    }
    athena.api.create_work_group(Name="small", Configuration=settings)
    noise = [f"{n * 2654435761 % 2**64:020d}{n * 40503 % 2**32}" for n in range(500_000)]
    athena.put_parquet("big/x.parquet", pa.table({"x": noise}), compression="none", use_dictionary=False)
    athena.run(f"CREATE EXTERNAL TABLE big (x string) STORED AS PARQUET LOCATION 's3://{athena.name}/big/'")
    query = athena.ended("SELECT max(x) FROM big", WorkGroup="small")
    assert query["Status"]["State"] == "CANCELLED"
    assert query["Status"]["StateChangeReason"] == "Bytes scanned limit was exceeded"
    assert query["ResultConfiguration"]["OutputLocation"].startswith(f"s3://{RESULTS}/group/")
    athena.api.update_work_group(
        WorkGroup="small", ConfigurationUpdates={"RemoveBytesScannedCutoffPerQuery": True}, State="ENABLED"
    )
    assert athena.ended("SELECT max(x) FROM big", WorkGroup="small")["Status"]["State"] == "SUCCEEDED"
    assert "not empty" in refusal(athena.api.delete_work_group, WorkGroup="small")
    athena.api.delete_work_group(WorkGroup="small", RecursiveDeleteOption=True)
    assert "WorkGroup is not found" in refusal(athena.api.get_work_group, WorkGroup="small")


def test_named_queries_and_prepared_statements(athena: Athena) -> None:
    named = athena.api.create_named_query(Name="one", Database=athena.database, QueryString="SELECT 1")["NamedQueryId"]
    athena.api.update_named_query(NamedQueryId=named, Name="two", QueryString="SELECT 2")
    assert athena.api.get_named_query(NamedQueryId=named)["NamedQuery"]["QueryString"] == "SELECT 2"
    assert named in athena.api.list_named_queries()["NamedQueryIds"]
    athena.api.delete_named_query(NamedQueryId=named)
    athena.api.create_prepared_statement(StatementName="by_x", WorkGroup="primary", QueryStatement="SELECT ? AS x")
    assert athena.run("EXECUTE by_x USING 'it''s'") == [["x"], ["it's"]]
    athena.run("DEALLOCATE PREPARE by_x")
    assert "was not found" in athena.failure("EXECUTE by_x USING 1")


def test_the_catalog_is_told_through_athena_too(athena: Athena) -> None:
    where = {"CatalogName": "AwsDataCatalog", "DatabaseName": athena.database}
    athena.run(
        f"CREATE EXTERNAL TABLE told (a int) PARTITIONED BY (dt string) STORED AS PARQUET LOCATION 's3://{athena.name}/t/'"
    )
    table = athena.api.get_table_metadata(TableName="told", **where)["TableMetadata"]
    assert (table["Columns"], table["PartitionKeys"]) == (
        [{"Name": "a", "Type": "int"}],
        [{"Name": "dt", "Type": "string"}],
    )
    assert "told" in [each["Name"] for each in athena.api.list_table_metadata(**where)["TableMetadataList"]]
    databases = athena.api.list_databases(CatalogName="AwsDataCatalog")["DatabaseList"]
    assert athena.database in [each["Name"] for each in databases]
    assert "MetadataException" in refusal(athena.api.get_table_metadata, TableName="none", **where)


def test_faults_strike_athena_too(athena: Athena) -> None:
    athena.aws.add_fault(service="athena", operation="StartQueryExecution", error="TooManyRequestsException", times=1)
    try:
        once = athena.aws.client("athena", retries={"total_max_attempts": 1})
        given = {"QueryString": "SELECT 1", "ResultConfiguration": {"OutputLocation": f"s3://{RESULTS}/"}}
        assert refusal(once.start_query_execution, **given).startswith("TooManyRequestsException")
    finally:
        athena.aws.clear_faults()


def test_queries_outlive_a_restart_and_reset_forgets_them(tmp_path: Path) -> None:
    with LocalAws(state_dir=tmp_path) as aws:
        athena = Athena(aws, "kept")
        athena.api.create_work_group(
            Name="g", Configuration={"ResultConfiguration": {"OutputLocation": "s3://kept/r/"}}
        )
        query = athena.ended("SELECT 7 AS x", WorkGroup="g")["QueryExecutionId"]
        running = athena.start(ENDLESS)
    with LocalAws(state_dir=tmp_path) as aws:
        api = aws.client("athena")
        rows = api.get_query_results(QueryExecutionId=query)["ResultSet"]["Rows"]
        assert rows[1]["Data"] == [{"VarCharValue": "7"}]
        assert api.get_query_execution(QueryExecutionId=running)["QueryExecution"]["Status"]["State"] in (
            "FAILED",
            "CANCELLED",
        )
        assert "g" in [each["Name"] for each in api.list_work_groups()["WorkGroups"]]
        aws.reset()
        assert api.list_query_executions()["QueryExecutionIds"] == []


# --- clients ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def environment(athena: Athena, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    found = athena.aws.environment()
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    return found


def test_the_aws_command_line_runs_queries(athena: Athena, environment: dict[str, str], tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("aws")

    def run(*arguments: str) -> Any:
        done = subprocess.run(
            [command, "athena", *arguments],
            env={**environment, "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return json.loads(done.stdout)

    started = run(
        *("start-query-execution", "--query-string", "SELECT 41 + 1 AS x"),
        *("--result-configuration", f"OutputLocation=s3://{RESULTS}/"),
    )
    query = started["QueryExecutionId"]
    wait_for(lambda: athena.described(query)["Status"]["State"] == "SUCCEEDED")
    rows = run("get-query-results", "--query-execution-id", query)["ResultSet"]["Rows"]
    assert rows[1]["Data"] == [{"VarCharValue": "42"}]


def test_airflow_s_operator_hook_and_trigger_run_queries(athena: Athena, environment: dict[str, str]) -> None:
    operator = AthenaOperator(
        task_id="query",
        query="SELECT 'a' AS x",
        database=athena.database,
        output_location=f"s3://{RESULTS}/airflow/",
        aws_conn_id=None,
        sleep_time=1,
    )
    query = operator.execute({})
    hook = AthenaHook(aws_conn_id=None)
    assert hook.get_query_results(query)["ResultSet"]["Rows"][1]["Data"] == [{"VarCharValue": "a"}]
    assert hook.get_output_location(query) == f"s3://{RESULTS}/airflow/{query}.csv"
    trigger = AthenaTrigger(query_execution_id=query, waiter_delay=1, waiter_max_attempts=5, aws_conn_id=None)

    async def first_event() -> Any:
        return await anext(trigger.run())

    assert asyncio.run(first_event()).payload["status"] == "success"
    operator = AthenaOperator(
        task_id="bad",
        query="SELECT nope FROM (VALUES 1) t(a)",
        database=athena.database,
        output_location=f"s3://{RESULTS}/airflow/",
        aws_conn_id=None,
        sleep_time=1,
    )
    with pytest.raises(Exception, match="Column 'nope' cannot be resolved"):
        operator.execute({})


def test_pyathena_reads_typed_rows(athena: Athena, environment: dict[str, str]) -> None:
    connection = connect(
        s3_staging_dir=f"s3://{RESULTS}/pyathena/", region_name="us-east-1", schema_name=athena.database
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 AS i, 1.5e0 AS d, true AS b, timestamp '2026-11-21 10:00:00' AS t, NULL AS n, x FROM (VALUES %(x)s) v(x)",
            {"x": "it's"},
        )
        [row] = cursor.fetchall()
        assert row[:3] == (1, 1.5, True)
        assert (row[3].isoformat(), row[4], row[5]) == ("2026-11-21T10:00:00", None, "it's")
        with pytest.raises(OperationalError, match="DIVISION_BY_ZERO"):
            cursor.execute("SELECT 1 / 0")
