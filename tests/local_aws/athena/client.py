"""Athena as a client of the server uses it."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from local_aws.process import LocalAws
from tests.local_aws.models import wait_for

RESULTS = "athena-results"


class Athena:
    """Runs statements in a database, and puts files into a bucket of the same name."""

    def __init__(self, aws: LocalAws, name: str) -> None:
        self.aws, self.name, self.database = aws, name, name.replace("-", "_")
        self.s3, self.api, self.glue = aws.client("s3"), aws.client("athena"), aws.client("glue")
        for bucket in (name, RESULTS):
            self.s3.create_bucket(Bucket=bucket)
        self.glue.create_database(DatabaseInput={"Name": self.database})

    def start(self, sql: str, **arguments: Any) -> str:
        """A new query's id."""
        arguments.setdefault("ResultConfiguration", {"OutputLocation": f"s3://{RESULTS}/"})
        context = {"Database": self.database}
        found = self.api.start_query_execution(QueryString=sql, QueryExecutionContext=context, **arguments)
        return str(found["QueryExecutionId"])

    def described(self, query_id: str) -> dict[str, Any]:
        """A query as it is now."""
        found: dict[str, Any] = self.api.get_query_execution(QueryExecutionId=query_id)["QueryExecution"]
        return found

    def ended(self, sql: str, **arguments: Any) -> dict[str, Any]:
        """A query that has ended."""
        query_id = self.start(sql, **arguments)
        wait_for(lambda: self.described(query_id)["Status"]["State"] not in ("QUEUED", "RUNNING"), seconds=30)
        return self.described(query_id)

    def run(self, sql: str, **arguments: Any) -> list[list[str | None]]:
        """The rows of a query, with the header where it has one."""
        query = self.ended(sql, **arguments)
        assert query["Status"]["State"] == "SUCCEEDED", query["Status"]
        found = self.api.get_query_results(QueryExecutionId=query["QueryExecutionId"])
        return [[each.get("VarCharValue") for each in row["Data"]] for row in found["ResultSet"]["Rows"]]

    def failure(self, sql: str, **arguments: Any) -> str:
        """Why a query fails."""
        status = self.ended(sql, **arguments)["Status"]
        assert status["State"] == "FAILED", status
        assert status["AthenaError"]["ErrorMessage"] == status["StateChangeReason"]
        return str(status["StateChangeReason"])

    def scanned(self, sql: str) -> int:
        """DataScannedInBytes of a query that succeeds."""
        query = self.ended(sql)
        assert query["Status"]["State"] == "SUCCEEDED", query["Status"]
        return int(query["Statistics"]["DataScannedInBytes"])

    def put_parquet(self, key: str, table: pa.Table, **options: Any) -> Any:
        """Write a table; the file's metadata."""
        buffer = io.BytesIO()
        pq.write_table(table, buffer, **options)
        self.s3.put_object(Bucket=self.name, Key=key, Body=buffer.getvalue())
        return pq.read_metadata(buffer)

    def put(self, key: str, text: str) -> None:
        """Write text."""
        self.s3.put_object(Bucket=self.name, Key=key, Body=text.encode())
