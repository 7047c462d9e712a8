"""Queries in the background: a few threads, each with a DuckDB of its own."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from local_aws.athena.account import AthenaAccount, QueryExecution, WorkGroup
from local_aws.athena.errors import SYSTEM, Cancelled, QueryError
from local_aws.athena.results import metadata
from local_aws.moto_services import MotoServices

if TYPE_CHECKING:
    from local_aws.athena.engine import Engine, Prepared
    from local_aws.athena.results import Result

logger = logging.getLogger(__name__)

# What a laptop bears; AWS runs 20 DML queries at a time in most Regions.
_AT_A_TIME = 2
_INTERRUPTIONS, _INTERRUPTION_SECONDS = 100, 0.05


class Executions:
    """Starts and stops queries. `changed` is told of each end."""

    def __init__(self, account: AthenaAccount, moto: MotoServices, changed: Callable[[], None]) -> None:
        self._account = account
        self._moto = moto
        self._changed = changed
        self._threads = ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="athena")
        self._running: dict[str, Engine] = {}

    def start(self, query: QueryExecution) -> None:
        """Run a query as soon as a thread is free."""
        self._threads.submit(self._run, query)

    def stop(self, query: QueryExecution) -> None:
        """Cancel a query; one that has ended stays as it is."""
        if query.is_over:
            return
        reason = "Query was cancelled by user"
        self._end(query, "CANCELLED", reason)
        self._interrupt(query.id, reason)

    def close(self) -> None:
        """Stop what runs, and start nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for query_id in list(self._running):
            self._interrupt(query_id, "local AWS is ending")

    def _interrupt(self, query_id: str, reason: str) -> None:
        """Again and again: DuckDB forgets an interruption that comes just before it begins."""
        for _ in range(_INTERRUPTIONS):
            engine = self._running.get(query_id)
            if engine is None:
                return
            engine.stop(reason)
            engine.ended.wait(_INTERRUPTION_SECONDS)

    def _end(self, query: QueryExecution, state: str, reason: str = "", error: dict[str, Any] | None = None) -> None:
        if query.is_over:
            return
        query.completed_at = self._account.clock()
        query.reason, query.error = reason, error
        query.state = state
        self._changed()

    def _run(self, query: QueryExecution) -> None:
        if query.is_over:
            return
        # Imported with the first query: the server starts without DuckDB, sqlglot and Arrow.
        from local_aws.athena.catalog import Catalog
        from local_aws.athena.engine import Engine
        from local_aws.athena.scan import Meter
        from local_aws.athena.storage import Storage

        group = self._account.workgroup(query.region, query.workgroup)
        engine = Engine(
            catalog=Catalog(self._moto, query.region),
            storage=Storage(self._moto),
            prepared=self._prepared(group),
            now=datetime.fromtimestamp(query.submitted_at, UTC),
            meter=Meter(group.cutoff),
            database=query.database,
            query_id=query.id,
            output=query.output_folder,
        )
        self._running[query.id] = engine
        if query.is_over:
            engine.stop(query.reason)
        else:
            query.state, query.started_at = "RUNNING", self._account.clock()
        try:
            engine.meter.check()
            result = engine.run(query.sql, query.parameters)
            engine.meter.check()
            self._keep(query, engine, result)
            self._end(query, "SUCCEEDED")
        except QueryError as error:
            self._end(query, "FAILED", str(error), error.as_json())
        except Cancelled as stopped:
            self._end(query, "CANCELLED", str(stopped))
        except Exception as error:
            # A fault of this stand-in: the query has to end all the same, and says so.
            logger.warning("local Athena failed at %s:\n%s", query.sql, traceback.format_exc())
            ours = QueryError(
                "GENERIC_INTERNAL_ERROR", f"local Athena: {type(error).__name__}: {error}", category=SYSTEM
            )
            self._end(query, "FAILED", str(ours), ours.as_json())
        finally:
            query.bytes = engine.meter.bytes
            self._running.pop(query.id, None)
            engine.ended.set()
            self._changed()

    def _keep(self, query: QueryExecution, engine: Engine, result: Result) -> None:
        """Write the result files, before anybody is told that there are any."""
        folder = query.output_folder
        query.columns, query.update_count, query.bytes = result.columns, result.update_count, engine.meter.bytes
        query.output = result.output or f"{folder}{query.id}.{result.suffix}"
        if result.manifest is not None:
            query.manifest = f"{folder}{query.id}-manifest.csv"
            engine.storage.write(query.manifest, "".join(f"{uri}\n" for uri in result.manifest).encode())
            if not result.output:
                query.output = f"{folder}{query.id}"
            return
        engine.storage.write(f"{query.output}.metadata", metadata(result.columns))
        engine.storage.write(query.output, result.data)

    def _prepared(self, group: WorkGroup) -> Prepared:
        from local_aws.athena.engine import Prepared

        def get(name: str) -> str:
            if name not in group.prepared:
                raise QueryError("NOT_FOUND", f"PreparedStatement {name} was not found in workGroup {group.name}")
            return str(group.prepared[name]["QueryStatement"])

        def put(name: str, sql: str) -> None:
            group.prepared[name] = statement(group, name, sql, "", self._account.clock())

        def drop(name: str) -> None:
            get(name)
            del group.prepared[name]

        return Prepared(get, put, drop)


def statement(group: WorkGroup, name: str, sql: str, description: str, now: float) -> dict[str, Any]:
    """A prepared statement as the API has it."""
    return {
        "StatementName": name,
        "QueryStatement": sql,
        "WorkGroupName": group.name,
        "Description": description,
        "LastModifiedTime": now,
    }
