"""Queries and workgroups as the API tells of them."""

from __future__ import annotations

from typing import Any

from local_aws.athena.account import ENGINE, QueryExecution, WorkGroup, invalid


def query_execution(query: QueryExecution, now: float) -> dict[str, Any]:
    """https://docs.aws.amazon.com/athena/latest/APIReference/API_QueryExecution.html; times in milliseconds."""
    context = {"Database": query.database, **({"Catalog": query.catalog} if query.catalog else {})}
    status: dict[str, Any] = {"State": query.state, "SubmissionDateTime": query.submitted_at}
    if query.is_over:
        status["CompletionDateTime"] = query.completed_at
    if query.reason:
        status["StateChangeReason"] = query.reason
    if query.error:
        status["AthenaError"] = query.error
    told = {
        "QueryExecutionId": query.id,
        "Query": query.sql,
        "StatementType": query.type,
        "SubstatementType": query.substatement,
        "ResultConfiguration": {"OutputLocation": query.output},
        "ResultReuseConfiguration": {"ResultReuseByAgeConfiguration": {"Enabled": False}},
        "QueryExecutionContext": context,
        "Status": status,
        "Statistics": _statistics(query, now),
        "WorkGroup": query.workgroup,
        "EngineVersion": ENGINE,
    }
    return {**told, "ExecutionParameters": query.parameters} if query.parameters else told


def _statistics(query: QueryExecution, now: float) -> dict[str, Any]:
    end = query.completed_at or now
    started = query.started_at or end
    found: dict[str, Any] = {
        "EngineExecutionTimeInMillis": _millis(end - started),
        "DataScannedInBytes": query.bytes,
        "TotalExecutionTimeInMillis": _millis(end - query.submitted_at),
        "QueryQueueTimeInMillis": _millis(started - query.submitted_at),
        "ServicePreProcessingTimeInMillis": 0,
        "QueryPlanningTimeInMillis": 0,
        "ServiceProcessingTimeInMillis": 0,
        "ResultReuseInformation": {"ReusedPreviousResult": False},
    }
    if query.manifest:
        found["DataManifestLocation"] = query.manifest
    return found


def _millis(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def workgroup(group: WorkGroup) -> dict[str, Any]:
    """https://docs.aws.amazon.com/athena/latest/APIReference/API_WorkGroup.html"""
    return {
        "Name": group.name,
        "State": group.state,
        "Description": group.description,
        "CreationTime": group.created_at,
        "Configuration": {"EnforceWorkGroupConfiguration": True, "EngineVersion": ENGINE, **group.configuration},
    }


def paged(items: list[Any], name: str, arguments: dict[str, Any], most: int) -> dict[str, Any]:
    """A page of a list; the token is where the next begins."""
    token = arguments.get("NextToken", "0")
    if not token.isdigit():
        raise invalid("Invalid NextToken")
    start, size = int(token), min(arguments.get("MaxResults", most), most)
    page = {name: items[start : start + size]}
    return {**page, "NextToken": str(start + size)} if start + size < len(items) else page
