"""
### Stop a model that nobody uses

Every ten minutes: if the Custom Labels model is STARTING or RUNNING and no run holds a live lease on it, stops it and
**fails on purpose**, so that alerts and people see that something left it running.

It trusts neither run states nor task states, only what AWS says and the lease: a paused Dag, a broken Dag file or a
crashed scheduler leaves runs that look alive for ever.

**When it is red**: the model has been stopped already (or, if the stop itself failed, the log says so and how to stop it
by hand). Look for the run that is named in the error: it was killed, paused, or its teardown was marked as done.
"""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.sdk import dag

from labelling.defaults import DEFAULT_ARGS
from labelling.model_session import stop_if_idle


@dag(
    schedule="*/10 * * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS | {"retries": 5, "retry_delay": timedelta(seconds=20)},
    tags=["rekognition", "cost"],
    doc_md=__doc__,
)
def stop_idle_model() -> None:
    stop_if_idle()


stop_idle_model()
