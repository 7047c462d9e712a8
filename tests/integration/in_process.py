"""The real Dags run by ``dag.test()``: in this process, without scheduler, task after task."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.models import dagrun
from airflow.utils.types import DagRunType


@dataclass(frozen=True)
class Ended:
    """A run that has ended: its state, those of its tasks (mapped ones with their index), and what was logged."""

    run_id: str
    state: str
    tasks: dict[str, str]
    log: str

    def of(self, task_id: str) -> set[str]:
        """The states of a task's instances."""
        return {state for name, state in self.tasks.items() if name.partition("[")[0] == task_id}


class DagRunner:
    """Runs the Dags of the repository, retries coming at once."""

    def __init__(self, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
        self._capsys, self._caplog = capsys, caplog
        self._dags = DagBag().dags

    def dag(self, dag_id: str = "label_images") -> Any:
        dag = self._dags[dag_id]
        for task in dag.tasks:
            task.retry_delay, task.retry_exponential_backoff = timedelta(0), False
        return dag

    def run(self, dag_id: str = "label_images", **params: Any) -> Ended:
        """Run a Dag by hand with these params."""
        return self.run_dag(self.dag(dag_id), **params)

    def run_scheduled(self, patch: pytest.MonkeyPatch) -> Ended:
        """Run ``label_images`` as the scheduler does every hour."""
        with self._as(DagRunType.SCHEDULED, patch):
            return self.run()

    def run_backfill(self, patch: pytest.MonkeyPatch, until: datetime, **params: Any) -> Ended:
        """Run ``backfill_archive`` as Airflow's backfill does, for the day that ends then."""
        with self._as(DagRunType.BACKFILL_JOB, patch):
            return self.run_dag(self.dag("backfill_archive"), until, **params)

    @staticmethod
    @contextmanager
    def _as(run_type: DagRunType, patch: pytest.MonkeyPatch) -> Iterator[None]:
        by_hand = dagrun.get_or_create_dagrun

        def of_that_type(**fields: Any) -> Any:
            run = by_hand(**fields)
            run.run_type = run_type
            fields["session"].commit()
            return run

        with patch.context() as context:
            context.setattr(dagrun, "get_or_create_dagrun", of_that_type)
            yield

    def run_dag(self, dag: Any, logical_date: datetime | None = None, **params: Any) -> Ended:
        self._capsys.readouterr()
        self._caplog.clear()
        # In this one process, what is asked for in this run would stand in the next one's form.
        declared = [(each, copy.deepcopy(each.params)) for each in (dag, *dag.tasks)]
        run = dag.test(logical_date=logical_date, run_conf=params)
        for each, as_declared in declared:
            each.params = as_declared
        # Tracebacks are drawn in boxes: a sentence may be broken anywhere.
        log = re.sub(r"[\s│]+", " ", self._capsys.readouterr().out + self._caplog.text)
        tasks = {
            instance.task_id + (f"[{instance.map_index}]" if instance.map_index >= 0 else ""): str(instance.state)
            for instance in run.get_task_instances()
        }
        return Ended(run.run_id, str(run.state), tasks, log)
