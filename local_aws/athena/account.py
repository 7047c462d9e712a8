"""What Athena keeps of an account: workgroups, queries, named queries, prepared statements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from local_aws.wire import AwsError

PRIMARY = "primary"
ENGINE = {"SelectedEngineVersion": "AUTO", "EffectiveEngineVersion": "Athena engine version 3"}


def invalid(message: str, code: str = "INVALID_INPUT") -> AwsError:
    """InvalidRequestException."""
    return AwsError("InvalidRequestException", message)


@dataclass
class WorkGroup:
    """One workgroup; `configuration` as the API has it."""

    name: str
    created_at: float
    configuration: dict[str, Any]
    description: str = ""
    state: str = "ENABLED"
    tags: dict[str, str] = field(default_factory=dict)
    named: dict[str, dict[str, Any]] = field(default_factory=dict)
    prepared: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def enforces(self) -> bool:
        """Whether its settings override the client's."""
        return bool(self.configuration.get("EnforceWorkGroupConfiguration", True))

    @property
    def cutoff(self) -> int | None:
        """Bytes that a query may scan."""
        found = self.configuration.get("BytesScannedCutoffPerQuery")
        return int(found) if found else None

    @property
    def output(self) -> str:
        """Where results go, where it says."""
        return str((self.configuration.get("ResultConfiguration") or {}).get("OutputLocation") or "")


@dataclass
class QueryExecution:
    """One query: `columns` are ColumnInfos of its result."""

    id: str
    sql: str
    region: str
    workgroup: str
    database: str
    catalog: str
    output_folder: str
    parameters: list[str]
    token: str
    type: str
    substatement: str
    submitted_at: float
    state: str = "QUEUED"
    reason: str = ""
    error: dict[str, Any] | None = None
    completed_at: float | None = None
    started_at: float | None = None
    bytes: int = 0
    output: str = ""
    manifest: str = ""
    columns: list[dict[str, Any]] = field(default_factory=list)
    update_count: int | None = None
    rows: int = 0

    @property
    def is_over(self) -> bool:
        """Whether it has ended, one way or the other."""
        return self.state in ("SUCCEEDED", "FAILED", "CANCELLED")


class AthenaAccount:
    """Every Region's workgroups and queries. `clock` is in seconds since 1970."""

    def __init__(self, account_id: str, clock: Callable[[], float]) -> None:
        self.account_id = account_id
        self.clock = clock
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.workgroups: dict[tuple[str, str], WorkGroup] = {}
        self.queries: dict[str, QueryExecution] = {}

    def kept(self) -> dict[str, Any]:
        """What is to outlive the process."""
        return {"workgroups": self.workgroups, "queries": self.queries}

    def restore(self, kept: dict[str, Any]) -> None:
        """Take up what `kept` returned. A query that was running when the process ended has failed."""
        self.workgroups, self.queries = kept["workgroups"], kept["queries"]
        for query in self.queries.values():
            if not query.is_over:
                query.state, query.reason, query.completed_at = (
                    "FAILED",
                    "Query was interrupted; start it again",
                    self.clock(),
                )
                query.error = {"ErrorCategory": 1, "ErrorType": 1, "Retryable": True, "ErrorMessage": query.reason}

    def workgroup(self, region: str, name: str) -> WorkGroup:
        """InvalidRequestException where there is none. `primary` is always there."""
        if name == PRIMARY and (region, name) not in self.workgroups:
            configuration = {"EnforceWorkGroupConfiguration": False, "EngineVersion": ENGINE}
            self.workgroups[region, name] = WorkGroup(PRIMARY, self.clock(), configuration)
        if (region, name) not in self.workgroups:
            raise invalid("WorkGroup is not found.")
        return self.workgroups[region, name]

    def in_region(self, region: str) -> list[WorkGroup]:
        """The workgroups of a Region, in order of names."""
        self.workgroup(region, PRIMARY)
        return sorted(
            (each for (where, _), each in self.workgroups.items() if where == region), key=lambda each: each.name
        )

    def query(self, query_id: str) -> QueryExecution:
        """InvalidRequestException where there is none."""
        if query_id not in self.queries:
            raise invalid(f"QueryExecution {query_id} was not found")
        return self.queries[query_id]
