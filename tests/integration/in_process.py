"""The real Dags run by ``dag.test()``: in this process, without scheduler, task after task."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

from airflow.dag_processing.dagbag import DagBag

from tests.integration.world import wait_for  # noqa: F401


@cache
def _bag() -> DagBag:
    return DagBag()


@dataclass(frozen=True)
class Ended:
    """A run that has ended: its state, each task's (mapped tasks with their index), and why tasks failed."""

    run_id: str
    state: str
    tasks: dict[str, str]
    xcom: dict[str, Any]

    def of(self, task_id: str) -> set[str]:
        """The states of a task's instances."""
        return {state for name, state in self.tasks.items() if name.partition("[")[0] == task_id}


class DagRunner:
    """Runs a Dag of the repository."""

    def dag(self, dag_id: str) -> Any:
        """The Dag, its retries coming at once."""
        dag = _bag().dags[dag_id]
        for task in dag.tasks:
            task.retry_delay, task.retry_exponential_backoff = timedelta(0), False
        return dag

    def run(self, dag_id: str = "label_images", **params: Any) -> Ended:
        return self.run_dag(self.dag(dag_id), **params)

    def run_dag(self, dag: Any, **params: Any) -> Ended:
        run = dag.test(run_conf=params)
        instances = run.get_task_instances()
        return Ended(
            run.run_id,
            str(run.state),
            {
                ti.task_id + (f"[{ti.map_index}]" if ti.map_index >= 0 else ""): str(ti.state)
                for ti in instances
            },
            {},
        )
