from __future__ import annotations

import asyncio
from unittest import mock

from airflow.providers.amazon.aws.triggers.athena import AthenaTrigger

from stopping_athena import StoppingAthenaTrigger
from tests.plugins.test_plugin_loading import run_with_plugins_folder

GIVEN = {
    "query_execution_id": "some-query",
    "waiter_delay": 2,
    "waiter_max_attempts": 7,
    "aws_conn_id": "aws_default",
    "region_name": "us-east-1",
}


def test_it_is_the_providers_trigger_in_all_else():
    classpath, kwargs = StoppingAthenaTrigger(**GIVEN).serialize()
    assert (classpath, kwargs) == ("stopping_athena.StoppingAthenaTrigger", AthenaTrigger(**GIVEN).serialize()[1])


def test_a_task_that_is_killed_stops_its_query():
    client = mock.AsyncMock()
    client.__aenter__.return_value = client
    hook = mock.Mock(get_async_conn=mock.AsyncMock(return_value=client))
    with mock.patch.object(StoppingAthenaTrigger, "hook", return_value=hook):
        asyncio.run(StoppingAthenaTrigger(**GIVEN).on_kill())
    client.stop_query_execution.assert_awaited_once_with(QueryExecutionId="some-query")


def test_the_triggerer_finds_it_and_other_processes_do_not_import_it(tmp_path):
    code = """
import sys
from airflow.plugins_manager import _get_plugins
_, errors = _get_plugins()
early = "stopping_athena" in sys.modules
from airflow.jobs.triggerer_job_runner import TriggerRunner
found = TriggerRunner().get_trigger_by_classpath("stopping_athena.StoppingAthenaTrigger")
print(errors, early, found.__name__)
"""
    assert run_with_plugins_folder(code, tmp_path) == "{} False StoppingAthenaTrigger"
