"""Asking Athena in a task: what is deferred to, and what a failure says."""

from __future__ import annotations

import copy
import runpy
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import ParamValidationError, TaskDeferred

from include.errors import TransientError
from include.queries import QueryError
from labelling import query_tasks
from labelling.query_tasks import AskAthena, choose
from stopping_athena import StoppingAthenaTrigger
from tests.include.samples import VALUES

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in VALUES.items():
        monkeypatch.setenv(f"LABELS_{name.upper()}", str(value))


@pytest.fixture
def athena(monkeypatch: pytest.MonkeyPatch) -> mock.Mock:
    client = mock.Mock()
    monkeypatch.setattr(query_tasks, "client", lambda service, settings: client)
    return client


@pytest.fixture(scope="module")
def dag() -> Any:
    return DagBag(ROOT / "dags" / "query_labels.py").dags["query_labels"]


def ask() -> AskAthena:
    return AskAthena(task_id="ask", name="slow_hours", query="EXECUTE slow_hours USING 'a', 'b'")


def test_the_wait_is_deferred_to_a_trigger_that_stops_the_query() -> None:
    task = ask()
    task.region_name = "us-east-1"
    with (
        mock.patch.object(AskAthena, "hook", new_callable=mock.PropertyMock) as hook,
        mock.patch("airflow.providers.amazon.aws.operators.athena.AthenaQueryResultsLink.persist"),
    ):
        hook.return_value.run_query.return_value = "some-query"
        with pytest.raises(TaskDeferred) as deferred:
            task.execute({})
    assert isinstance(deferred.value.trigger, StoppingAthenaTrigger)
    assert deferred.value.trigger.serialize()[1]["query_execution_id"] == "some-query"
    assert deferred.value.trigger.serialize()[1]["waiter_delay"] == query_tasks.POLL_SECONDS


@pytest.mark.parametrize(
    ("error", "raised", "says"),
    [
        ({}, QueryError, "slow_hours: Athena says: Bytes scanned limit .* LABELS_QUERY_SCAN_LIMIT_GB"),
        ({"AthenaError": {"Retryable": True}}, TransientError, "may succeed later"),
    ],
)
def test_a_failure_says_what_to_do_and_is_only_repeated_where_that_may_help(
    athena: mock.Mock, error: dict[str, Any], raised: type[Exception], says: str
) -> None:
    status = {"State": "CANCELLED", "StateChangeReason": "Bytes scanned limit was exceeded"} | error
    athena.get_query_execution.return_value = {"QueryExecution": {"QueryExecutionId": "some-query", "Status": status}}
    with pytest.raises(raised, match=says):
        ask().execute_complete({}, {"status": "error", "message": "it failed", "value": "some-query"})


def test_an_answer_is_handed_on_by_its_id(athena: mock.Mock) -> None:
    found = {"QueryExecutionId": "some-query", "Status": {"State": "SUCCEEDED"}}
    athena.get_query_execution.return_value = {"QueryExecution": found}
    assert ask().execute_complete({}, {"status": "success", "value": "some-query"}) == "some-query"


@pytest.mark.parametrize(
    ("form", "names"),
    [
        ({"queries": [], "parameters": {}}, ["slow_hours", "failures_by_reason"]),
        ({"queries": None, "parameters": None}, ["slow_hours", "failures_by_reason"]),
        ({"queries": ["images_with_label"], "parameters": {"label": "{{ 7 }} it's"}}, ["images_with_label"]),
    ],
)
def test_what_is_asked_is_what_the_form_says_else_the_setting(
    monkeypatch: pytest.MonkeyPatch, form: dict[str, Any], names: list[str]
) -> None:
    monkeypatch.setenv("LABELS_QUERIES", "slow_hours, failures_by_reason")
    monkeypatch.setattr(query_tasks, "get_current_context", lambda: {"params": form})
    chosen = choose.function()
    assert [each["name"] for each in chosen] == names
    for each in chosen:
        assert each["query"].startswith(f"EXECUTE {each['name']} USING ")
    assert ("'{{ 7 }} it''s'" in chosen[0]["query"]) == bool(form["parameters"])


@pytest.mark.parametrize(("set_to", "schedule"), [(None, None), ("", None), ("@weekly", "@weekly")])
def test_queries_are_asked_by_hand_unless_a_schedule_is_set(
    monkeypatch: pytest.MonkeyPatch, set_to: str | None, schedule: str | None
) -> None:
    monkeypatch.delenv("LABELS_QUERY_SCHEDULE", raising=False)
    if set_to is not None:
        monkeypatch.setenv("LABELS_QUERY_SCHEDULE", set_to)
    assert runpy.run_path(str(ROOT / "dags/labelling/defaults.py"))["QUERY_SCHEDULE"] == schedule


@pytest.mark.parametrize(
    ("form", "is_meant"),
    [
        ({}, True),
        ({"queries": None, "parameters": None}, True),
        ({"queries": ["slow_hours", "images_with_label"], "parameters": {"label": "mug", "min_confidence": 80}}, True),
        ({"queries": ["no_such_query"]}, False),
        ({"queries": "slow_hours"}, False),
        ({"parameters": "label=mug"}, False),
    ],
)
def test_the_form_takes_saved_queries_and_their_values(dag: Any, form: dict[str, Any], is_meant: bool) -> None:
    params = copy.deepcopy(dag.params)
    if is_meant:
        params.update(form)
        assert params.validate() | form == params.validate()
    else:
        with pytest.raises(ParamValidationError):
            params.update(form)


def test_one_query_that_fails_keeps_no_other_from_its_answer(dag: Any) -> None:
    ask, keep = dag.task_dict["ask"], dag.task_dict["keep"]
    assert "ask" in keep.upstream_task_ids
    assert ask.get_closest_mapped_task_group() is keep.get_closest_mapped_task_group() is not None
    assert dag.task_dict["choose"].upstream_task_ids == {"make_tables"}
