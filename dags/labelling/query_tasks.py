"""Saved queries as tasks: make the tables, choose what is asked, ask Athena, keep the answer.

XCom carries queries and keys, never rows.
"""

from __future__ import annotations

import io
import logging
import time
from datetime import UTC, datetime
from typing import Any, NoReturn

from airflow.providers.amazon.aws.operators.athena import AthenaOperator
from airflow.sdk import Context, get_current_context, task

from include.cli.output import console
from include.cli.rows import as_table, rows_of
from include.queries import athena
from include.queries.answers import keep_answer
from include.queries.saved import bind_all
from include.queries.setup import set_up
from include.settings import Settings, load_settings
from labelling.alerts import alert_of_failed_task
from labelling.clients import client
from labelling.defaults import AWS_CONN_ID
from stopping_athena import StoppingAthenaTrigger

log = logging.getLogger(__name__)

POLL_SECONDS = 2


class AskAthena(AthenaOperator):
    """The provider's operator: the query runs in Athena, the task waits without a worker.

    :param name: of the saved query, for what is said of it.
    """

    template_fields = (*AthenaOperator.template_fields, "name")

    def __init__(self, *, name: str, **kwargs: Any) -> None:
        super().__init__(
            aws_conn_id=AWS_CONN_ID,
            region_name="{{ settings().region }}",
            database="{{ settings().database }}",
            workgroup="{{ settings().workgroup }}",
            output_location="{{ results_location(settings()) }}",
            sleep_time=POLL_SECONDS,
            deferrable=True,
            on_failure_callback=alert_of_failed_task,
            **kwargs,
        )
        self.name = name

    def defer(self, *, trigger: Any, **kwargs: Any) -> NoReturn:
        """To a trigger that stops the query when somebody ends the task."""
        super().defer(trigger=StoppingAthenaTrigger(**trigger.serialize()[1]), **kwargs)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> str:
        """The query's id; what failed is said with what to do about it, and only repeated where that may help."""
        if event:
            found = _execution(load_settings(), event["value"])
            if found["Status"]["State"] in self.hook.TERMINAL_STATES:
                athena.judged(found, name=self.name)
        return super().execute_complete(context, event)


@task(on_failure_callback=alert_of_failed_task)
def make_tables() -> None:
    """Workgroup, tables, views, prepared queries: made, or brought up to date."""
    settings = load_settings()
    athena_client, glue, s3 = (client(service, settings) for service in ("athena", "glue", "s3"))
    for line in set_up(athena_client, glue, s3, settings, sleep=time.sleep):
        log.info(line)


@task(on_failure_callback=alert_of_failed_task)
def choose() -> list[dict[str, str]]:
    """The queries that are asked, with their values."""
    params, settings = get_current_context()["params"], load_settings()
    chosen = bind_all(params["queries"] or settings.queries, params["parameters"] or {}, today=datetime.now(UTC).date())
    return [{"name": bound.name, "query": bound.as_prepared} for bound in chosen]


@task(on_failure_callback=alert_of_failed_task)
def keep(name: str, query_id: str) -> dict[str, Any]:
    """Keep the answer as CSV and Parquet; its keys, rows, and what it cost."""
    context, settings = get_current_context(), load_settings()
    done = athena.judged(_execution(settings, query_id), name=name)
    began = context["dag_run"].start_date or datetime.now(UTC)
    kept = keep_answer(
        client("athena", settings),
        client("s3", settings),
        settings,
        done,
        day=f"{began:%Y-%m-%d}",
        run_id=context["run_id"],
    )
    screen = io.StringIO()
    console(screen).print(as_table(kept.head.schema, rows_of([kept.head])))
    log.info("%s: %s rows; the first of them:\n%s", name, f"{kept.rows:,}", screen.getvalue().rstrip())
    log.info("All of them: s3://%s/%s, .parquet beside it; $%.5f", settings.final_bucket, kept.csv_key, done.cost_usd)
    return {"csv": kept.csv_key, "parquet": kept.parquet_key, "rows": kept.rows, "cost_usd": done.cost_usd}


def _execution(settings: Settings, query_id: str) -> dict[str, Any]:
    answer = client("athena", settings).get_query_execution(QueryExecutionId=query_id)
    return dict(answer["QueryExecution"])
