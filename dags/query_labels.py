"""
### Ask the results

Answers saved queries with Athena, and keeps each answer: `queries/<query>/dt=<day>/<run>.csv` in the final bucket, and
`.parquet` beside it with the columns' types. The log of `keep` shows the first rows.

First it makes what queries need, or brings it up to date: workgroup, Glue database, tables, views, and the saved queries under
their names (`EXECUTE failures_by_reason USING '2026-11-01', '2026-11-30'` in any SQL client). Nothing that people have made is
dropped.

**By hand**: press *Trigger*, and choose queries; without any, those of `LABELS_QUERIES` are asked. *Parameters* go to each query
that knows them, as in `{"label": "mug", "since": "2026-11-01"}`. `docs/queries.md` lists queries and parameters; the same from a
shell is `python -m include.cli query`.

**On a schedule**: `LABELS_QUERY_SCHEDULE`.

**Safe to run again**: always. An answer is written again under the same name. A task that is ended stops its query.

**When it is red**: the log of the red task says what Athena said, and what to do. The other queries have their answers.

**What it costs**: $5 for a terabyte that is read, $0.00005 a query at least; `LABELS_QUERY_SCAN_LIMIT_GB` stops a query that
reads more.
"""

from __future__ import annotations

import pendulum
from airflow.sdk import Param, dag, task_group

from include.queries import saved
from include.queries.athena import results_location
from include.settings import load_settings
from labelling.defaults import DEFAULT_ARGS, QUERY_SCHEDULE
from labelling.query_tasks import AskAthena, choose, keep, make_tables

PARAMS = {
    "queries": Param(
        [],
        type=["null", "array"],
        items={"type": "string", "enum": list(saved.names())},
        examples=list(saved.names()),
        title="Queries",
        description="Empty: those of LABELS_QUERIES.",
    ),
    "parameters": Param(
        {},
        type=["null", "object"],
        title="Parameters",
        description='Values for the queries that know them, such as {"label": "mug", "since": "2026-11-01"}.',
    ),
}


@dag(
    schedule=QUERY_SCHEDULE,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    params=PARAMS,
    user_defined_macros={"settings": load_settings, "results_location": results_location},
    tags=["labels"],
    doc_md=__doc__,
)
def query_labels() -> None:
    @task_group(prefix_group_id=False)
    def answer(name: str, query: str) -> None:
        keep(name, AskAthena(task_id="ask", name=name, query=query).output)  # type: ignore[arg-type]

    chosen = choose()
    make_tables() >> chosen
    answer.expand_kwargs(chosen)


query_labels()
