"""The Dag files as Airflow reads them: quickly, without network, without settings, and in the shape that stops models."""

from __future__ import annotations

import ast
import copy
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pendulum
import pytest
from airflow.configuration import conf
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import TriggerRule
from airflow.sdk.exceptions import ParamValidationError
from airflow.serialization.serialized_objects import DagSerialization

from include.decide import MAX_BATCHES_A_RUN
from include.settings import PREFIX
from labelling.defaults import TAGS
from rekognition.operators import RekognitionStartProjectVersionOperator, RekognitionStopProjectVersionOperator
from rekognition.sensors import RekognitionProjectVersionSensor

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "dags").glob("*.py"))
IDS = {
    "audit_images",
    "backfill_archive",
    "compact_labels",
    "index_labels",
    "label_images",
    "query_labels",
    "stop_idle_model",
}

READ_A_FILE = """
import sys, time
import airflow.sdk, airflow.providers.amazon.aws.operators.base_aws, airflow.providers.amazon.aws.sensors.base_aws
import airflow.providers.standard.operators.trigger_dagrun  # it brings Airflow's models, which every Dag processor has
import socket, botocore.session

def refuse(*arguments, **options):
    raise AssertionError("the network was used while a Dag file was read")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse
botocore.session.Session.create_client = refuse
before = time.process_time()
__import__(sys.argv[1])
print(time.process_time() - before)
"""


@pytest.fixture(scope="module")
def bag() -> DagBag:
    return DagBag(ROOT / "dags")


@pytest.fixture(scope="module")
def label_images(bag: Any) -> Any:
    return bag.dags["label_images"]


def read_alone(module: str, home: Path) -> str:
    """Read a module in an interpreter of its own, with nothing in the environment that a stranger would not have."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "AIRFLOW", "AWS_"))}
    path = os.pathsep.join(str(ROOT / name) for name in ("", "plugins", "dags"))
    done = subprocess.run(
        [sys.executable, "-c", READ_A_FILE, module],
        env=clean | {"AIRFLOW_HOME": str(home), "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_is_read_in_under_a_second_without_network_clients_or_settings(file: Path, tmp_path: Path) -> None:
    assert float(read_alone(file.stem, tmp_path)) < 1.0


def test_every_file_is_a_dag_of_its_name(bag: Any) -> None:
    assert bag.import_errors == {}
    assert set(bag.dags) == {file.stem for file in FILES} == IDS
    assert {dag_id: Path(dag.fileloc).stem for dag_id, dag in bag.dags.items()} == {name: name for name in IDS}


@pytest.mark.parametrize("dag_id", sorted(IDS))
class TestEveryDag:
    def test_its_docstring_is_its_runbook(self, bag: Any, dag_id: str) -> None:
        document = ast.get_docstring(ast.parse(Path(bag.dags[dag_id].fileloc).read_text()), clean=False)
        assert bag.dags[dag_id].doc_md == document
        assert document is not None
        assert "**When it is red**" in document

    def test_tags_are_of_the_vocabulary(self, bag: Any, dag_id: str) -> None:
        assert bag.dags[dag_id].tags
        assert bag.dags[dag_id].tags <= TAGS

    def test_runs_neither_catch_up_nor_overlap(self, bag: Any, dag_id: str) -> None:
        assert bag.dags[dag_id].catchup is False
        assert bag.dags[dag_id].max_active_runs == 1

    def test_no_timeout_of_a_run_skips_its_teardowns(self, bag: Any, dag_id: str) -> None:
        assert bag.dags[dag_id].dagrun_timeout is None

    def test_every_task_is_retried(self, bag: Any, dag_id: str) -> None:
        for task in bag.dags[dag_id].tasks:
            assert task.retries >= 3, task.task_id

    def test_terminal_errors_are_not_but_the_stop_is_whatever_went_wrong(self, bag: Any, dag_id: str) -> None:
        for task in bag.dags[dag_id].tasks:
            if task.task_id == "stop_model":
                assert task.retry_policy is None
            else:
                rules = [rule.exception for rule in task.retry_policy.rules]
                assert rules == ["include.errors.TerminalError"], task.task_id

    def test_it_can_be_serialized_and_read_back(self, bag: Any, dag_id: str) -> None:
        stored = json.loads(json.dumps(DagSerialization.to_dict(bag.dags[dag_id])))
        assert set(DagSerialization.from_dict(stored).task_dict) == set(bag.dags[dag_id].task_dict)


@pytest.mark.parametrize(
    ("set_to", "schedule"), [(None, "@hourly"), ("*/15 * * * *", "*/15 * * * *"), ("", None)], ids=str
)
def test_the_schedule_is_a_setting_and_hourly_by_default(
    monkeypatch: pytest.MonkeyPatch, set_to: str | None, schedule: str | None
) -> None:
    monkeypatch.delenv("LABELS_SCHEDULE", raising=False)
    if set_to is not None:
        monkeypatch.setenv("LABELS_SCHEDULE", set_to)
    assert runpy.run_path(str(ROOT / "dags/labelling/defaults.py"))["SCHEDULE"] == schedule


@pytest.mark.parametrize(
    ("set_to", "schedule"),
    [(None, "@daily"), ("@weekly", "@weekly"), ("after each run", ["labelled_images"]), ("", None)],
)
def test_the_audit_comes_daily_or_after_each_run(
    monkeypatch: pytest.MonkeyPatch, set_to: str | None, schedule: Any, label_images: Any
) -> None:
    monkeypatch.delenv("LABELS_AUDIT_SCHEDULE", raising=False)
    if set_to is not None:
        monkeypatch.setenv("LABELS_AUDIT_SCHEDULE", set_to)
    found = runpy.run_path(str(ROOT / "dags/labelling/defaults.py"))["AUDIT_SCHEDULE"]
    assert ([asset.name for asset in found] if isinstance(found, list) else found) == schedule
    assert [asset.name for asset in label_images.task_dict["report"].outlets] == ["labelled_images"]


def validated(params: Any, form: dict[str, Any]) -> dict[str, Any]:
    params.update(form)
    return dict(params.validate())


class TestLabelImages:
    def test_the_model_is_started_by_two_setups_and_stopped_by_the_teardown_of_both(self, label_images: Any) -> None:
        start, wait, stop = (
            label_images.task_dict[name] for name in ("start_model", "wait_until_running", "stop_model")
        )
        assert isinstance(start, RekognitionStartProjectVersionOperator)
        assert isinstance(wait, RekognitionProjectVersionSensor)
        assert isinstance(stop, RekognitionStopProjectVersionOperator)
        assert {task.task_id for task in label_images.tasks if task.is_setup} == {"start_model", "wait_until_running"}
        assert stop.is_teardown
        assert stop.upstream_task_ids >= {"start_model", "wait_until_running", "infer"}
        assert stop.on_failure_fail_dagrun

    def test_the_start_is_only_requested_and_the_wait_is_deferred(self, label_images: Any) -> None:
        start, wait = (label_images.task_dict[name] for name in ("start_model", "wait_until_running"))
        assert (start.wait_for_completion, start.deferrable) == (False, False)
        assert (wait.deferrable, wait.stop_on_kill) == (True, True)

    def test_the_stop_is_seen_through_and_retried_longest(self, label_images: Any) -> None:
        stop = label_images.task_dict["stop_model"]
        assert stop.wait_for_completion
        assert stop.retries > max(task.retries for task in label_images.tasks if task is not stop)

    def test_nothing_but_inference_is_between_start_and_stop(self, label_images: Any) -> None:
        running = label_images.task_dict["wait_until_running"].downstream_task_ids
        assert running == {"infer", "stop_model"}
        assert "wait_until_running" not in label_images.task_dict["preflight"].get_flat_relative_ids(upstream=True)
        assert label_images.task_dict["publish"].upstream_task_ids >= {"infer"}

    def test_publishing_goes_on_whatever_became_of_other_batches(self, label_images: Any) -> None:
        assert label_images.task_dict["publish"].trigger_rule == TriggerRule.ALL_DONE

    def test_the_report_comes_last_and_decides_the_runs_state(self, label_images: Any) -> None:
        report = label_images.task_dict["report"]
        assert report.downstream_task_ids == set()
        assert report.upstream_task_ids == {"next_run"}
        assert label_images.task_dict["next_run"].upstream_task_ids == {"stop_model", "publish"}
        assert report.is_teardown
        assert report.on_failure_fail_dagrun

    def test_a_failed_run_has_a_second_line(self, label_images: Any) -> None:
        assert label_images.has_on_failure_callback

    def test_there_are_never_more_mapped_tasks_than_airflow_maps(self) -> None:
        assert conf.getint("core", "max_map_length") > MAX_BATCHES_A_RUN

    @pytest.mark.parametrize(
        "form",
        [
            {},
            {"what": "a prefix", "prefix": "s3://bucket/"},
            {"what": "a prefix", "prefix": "s3://bucket/folder with space/"},
            {"what": "a list of S3 URIs", "uris": ["s3://bucket/a b+%é🦊.jpg"]},
            {"uris": None, "prefix": None, "inference_units": None},
            {"inference_units": 1, "force": True, "dry_run": True},
        ],
    )
    def test_the_form_takes_what_is_meant(self, label_images: Any, form: dict[str, Any]) -> None:
        params = copy.deepcopy(label_images.params)
        found = validated(params, form)
        assert found | form == found

    @pytest.mark.parametrize(
        "form",
        [
            {"what": "everything"},
            {"what": None},
            {"prefix": "bucket/folder"},
            {"prefix": "https://bucket/folder"},
            {"prefix": "s3://bucket"},
            {"prefix": 7},
            {"uris": "s3://bucket/a.jpg"},
            {"uris": ["bucket/a.jpg"]},
            {"uris": ["s3://bucket/"]},
            {"uris": [None]},
            {"inference_units": 0},
            {"inference_units": 101},
            {"inference_units": 1.5},
            {"inference_units": "two"},
            {"force": "yes"},
            {"dry_run": None},
        ],
    )
    def test_the_form_refuses_what_cannot_be_meant(self, label_images: Any, form: dict[str, Any]) -> None:
        params = copy.deepcopy(label_images.params)
        with pytest.raises(ParamValidationError, match=next(iter(form))):
            validated(params, form)


def test_the_watchdog_looks_every_ten_minutes(bag: Any) -> None:
    assert bag.dags["stop_idle_model"].schedule == "*/10 * * * *"


def test_archives_are_backfilled_by_dates_and_never_by_themselves(bag: Any) -> None:
    dag = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(bag.dags["backfill_archive"]))))
    first, last = pendulum.datetime(2024, 2, 28), pendulum.datetime(2024, 3, 1)
    days = [info.data_interval.start for info in dag.iter_dagrun_infos_between(first, last)]
    assert days == [first, first.add(days=1), last]
    assert dag.next_dagrun_info(last_automated_run_info=None) is None
    assert "only backfills" in dag.timetable.summary
