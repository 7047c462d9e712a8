"""Athena's operations that run queries and tell of them. https://docs.aws.amazon.com/athena/latest/APIReference/"""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from local_aws import moto_services
from local_aws.athena import descriptions
from local_aws.athena.account import PRIMARY, AthenaAccount, QueryExecution, WorkGroup, invalid
from local_aws.athena.executions import Executions
from local_aws.athena.resources import Resources
from local_aws.athena.results import csv_rows, text_rows
from local_aws.json_service import JsonService, Operation, Problem, validation_message
from local_aws.moto_services import MotoServices
from local_aws.wire import AwsError, Request

Arguments = dict[str, Any]

_MAX_ROWS = 1000


def athena_service(account: AthenaAccount, executions: Executions, moto: MotoServices) -> JsonService:
    """Athena over this account."""
    operations = {**_Queries(account, executions, moto).by_name(), **Resources(account, moto).by_name()}
    return JsonService("athena", operations, invalid=_invalid)


def _invalid(problems: list[Problem]) -> AwsError:
    return AwsError("InvalidRequestException", validation_message(problems))


class _Queries:
    def __init__(self, account: AthenaAccount, executions: Executions, moto: MotoServices) -> None:
        self._account = account
        self._executions = executions
        self._moto = moto

    def by_name(self) -> dict[str, Operation]:
        return {
            "BatchGetQueryExecution": self.batch_get_query_execution,
            "GetQueryExecution": self.get_query_execution,
            "GetQueryResults": self.get_query_results,
            "GetQueryRuntimeStatistics": self.get_query_runtime_statistics,
            "ListQueryExecutions": self.list_query_executions,
            "StartQueryExecution": self.start_query_execution,
            "StopQueryExecution": self.stop_query_execution,
        }

    async def start_query_execution(self, arguments: Arguments, request: Request) -> Arguments:
        group = self._account.workgroup(request.region, arguments.get("WorkGroup", PRIMARY))
        if group.state != "ENABLED":
            raise invalid(f"WorkGroup {group.name} is disabled.")
        sql, token = arguments["QueryString"], arguments.get("ClientRequestToken", "")
        known = self._by_token(token, request.region)
        if known is not None:
            if known.sql != sql:
                raise invalid("Idempotent parameters do not match")
            return {"QueryExecutionId": known.id}
        folder = self._folder(arguments, group)
        bucket = folder.removeprefix("s3://").partition("/")[0]
        if not await self._moto.run(lambda: moto_services.bucket_exists(bucket)):
            raise invalid(f"Unable to verify/create output bucket {bucket}")
        kind = await asyncio.to_thread(_checked, sql, arguments.get("ExecutionParameters") or [])
        context = arguments.get("QueryExecutionContext") or {}
        query = QueryExecution(
            id=str(uuid.uuid4()),
            sql=sql,
            region=request.region,
            workgroup=group.name,
            database=context.get("Database", "").strip("`").lower() or "default",
            catalog=context.get("Catalog", "").lower(),
            output_folder=folder,
            parameters=arguments.get("ExecutionParameters") or [],
            token=token,
            type=kind[0],
            substatement=kind[1],
            submitted_at=self._account.clock(),
        )
        query.output = f"{folder}{query.id}.{'csv' if kind == ('DML', 'SELECT') else 'txt'}"
        self._account.queries[query.id] = query
        self._executions.start(query)
        return {"QueryExecutionId": query.id}

    def _by_token(self, token: str, region: str) -> QueryExecution | None:
        found = (each for each in self._account.queries.values() if each.token == token and each.region == region)
        return next(found, None) if token else None

    def _folder(self, arguments: Arguments, group: WorkGroup) -> str:
        given = (arguments.get("ResultConfiguration") or {}).get("OutputLocation", "")
        chosen = group.output or given if group.enforces else given or group.output
        if not chosen.startswith("s3://"):
            raise invalid(
                "No output location provided. An output location is required either through the Workgroup result "
                "configuration setting or as an API input."
            )
        return chosen.rstrip("/") + "/"

    async def stop_query_execution(self, arguments: Arguments, request: Request) -> Arguments:
        query = self._account.query(arguments.get("QueryExecutionId", ""))
        await asyncio.to_thread(self._executions.stop, query)
        return {}

    async def get_query_execution(self, arguments: Arguments, request: Request) -> Arguments:
        query = self._account.query(arguments["QueryExecutionId"])
        return {"QueryExecution": descriptions.query_execution(query, self._account.clock())}

    async def batch_get_query_execution(self, arguments: Arguments, request: Request) -> Arguments:
        found, missing = [], []
        for each in arguments["QueryExecutionIds"]:
            if each in self._account.queries:
                found.append(descriptions.query_execution(self._account.queries[each], self._account.clock()))
            else:
                reason = f"QueryExecution {each} was not found"
                missing.append({"QueryExecutionId": each, "ErrorCode": "INVALID_INPUT", "ErrorMessage": reason})
        return {"QueryExecutions": found, "UnprocessedQueryExecutionIds": missing}

    async def list_query_executions(self, arguments: Arguments, request: Request) -> Arguments:
        group = self._account.workgroup(request.region, arguments.get("WorkGroup", PRIMARY))
        mine = [
            each
            for each in self._account.queries.values()
            if each.region == request.region and each.workgroup == group.name
        ]
        newest = sorted(mine, key=lambda each: each.submitted_at, reverse=True)
        return descriptions.paged([each.id for each in newest], "QueryExecutionIds", arguments, 50)

    async def get_query_runtime_statistics(self, arguments: Arguments, request: Request) -> Arguments:
        query = self._account.query(arguments["QueryExecutionId"])
        if not query.is_over:
            raise invalid(f"Query has not yet finished. Current state: {query.state}")
        told = descriptions.query_execution(query, self._account.clock())["Statistics"]
        names = (
            "QueryQueueTimeInMillis",
            "QueryPlanningTimeInMillis",
            "EngineExecutionTimeInMillis",
            "TotalExecutionTimeInMillis",
        )
        rows = {"InputBytes": query.bytes, "OutputRows": query.rows}
        return {"QueryRuntimeStatistics": {"Timeline": {name: told.get(name, 0) for name in names}, "Rows": rows}}

    async def get_query_results(self, arguments: Arguments, request: Request) -> Arguments:
        query = self._account.query(arguments["QueryExecutionId"])
        if query.state != "SUCCEEDED":
            if not query.is_over:
                raise invalid(f"Query has not yet finished. Current state: {query.state}")
            raise invalid(f"Query did not finish successfully. Final query state: {query.state}")
        most = arguments.get("MaxResults", _MAX_ROWS)
        if most > _MAX_ROWS:
            raise invalid(f"MaxResults is more than maximum allowed length {_MAX_ROWS}.")
        answer: Arguments = {"ResultSet": {"Rows": [], "ResultSetMetadata": {"ColumnInfo": query.columns}}}
        if query.update_count is not None or query.substatement in ("SELECT", "EXECUTE"):
            answer["UpdateCount"] = query.update_count or 0
        if query.manifest:
            return answer
        bucket, _, key = query.output.removeprefix("s3://").partition("/")
        stored = await self._moto.run(lambda: moto_services.read_object(bucket, key))
        if stored is None:
            raise invalid(f"Could not find results: {query.output}")
        rows, token = await asyncio.to_thread(_page, stored[0], query, arguments.get("NextToken", "0"), most)
        answer["ResultSet"]["Rows"] = rows
        if token:
            answer["NextToken"] = token
        return answer


def _page(data: bytes, query: QueryExecution, token: str, most: int) -> tuple[list[Arguments], str]:
    """A page of a result file; the token is where in the file the next begins."""
    if not token.isdigit() or int(token) > len(data):
        raise invalid("Invalid NextToken")
    read = csv_rows if query.output.endswith(".csv") else text_rows
    rows: list[Arguments] = []
    at = int(token)
    for fields, end in read(data, at):
        rows.append({"Data": [{} if each is None else {"VarCharValue": each} for each in fields]})
        at = end
        if len(rows) == most:
            break
    return rows, str(at) if at < len(data) else ""


def _checked(sql: str, parameters: list[str]) -> tuple[str, str]:
    """StatementType and SubstatementType; what cannot be read is refused at once, as Athena does."""
    from local_aws.athena.errors import QueryError
    from local_aws.athena.statements import kind_of, with_parameters

    kind = kind_of(sql)
    if kind is None:
        raise invalid("Queries of this type are not supported")
    if kind.sub == "SELECT":
        from local_aws.athena.parsing import parse

        try:
            parse(with_parameters(sql, parameters))
        except QueryError as error:
            raise invalid(str(error).removeprefix("SYNTAX_ERROR: ")) from None
    return kind.type, kind.sub
