"""The model's session: what is asked of the service, and by whom."""

from __future__ import annotations

from types import SimpleNamespace
from unittest import mock

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from include.model_state import ModelStateStore
from labelling import model_session
from labelling.model_session import StartModel
from tests.include.memory_s3 import MemoryS3
from tests.include.samples import FINAL, MODEL_ARN, PROJECT_ARN, VALUES


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in VALUES.items():
        monkeypatch.setenv(f"LABELS_{name.upper()}", str(value))


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> ModelStateStore:
    store = ModelStateStore(MemoryS3(FINAL), FINAL, "state/model/shop/v7.json")
    monkeypatch.setattr(model_session, "model_state", lambda settings: store)
    return store


def start(decision: dict[str, object]) -> mock.MagicMock:
    """Run start_model after a decision; the calls that reached the hook."""
    task = StartModel(task_id="start_model")
    task.project_arn, task.project_version_arn = PROJECT_ARN, MODEL_ARN
    context = {
        "ti": mock.MagicMock(**{"xcom_pull.return_value": decision}),
        "dag": SimpleNamespace(dag_id="label_images"),
        "run_id": "r",
    }
    with (
        mock.patch.object(StartModel, "hook", new_callable=mock.PropertyMock) as hook,
        mock.patch.object(StartModel, "_persist_link"),
    ):
        hook.return_value.describe_project_version.return_value = {"Status": "STOPPED"}
        hook.return_value.STARTABLE_STATES = ("STOPPED",)
        hook.return_value.start_project_version.return_value = "STARTING"
        task.execute(context)  # type: ignore[arg-type]
        return hook.return_value


def test_the_units_that_were_decided_are_started(state: ModelStateStore) -> None:
    hook = start({"start": True, "inference_units": 4, "reason": ""})
    assert hook.start_project_version.call_args.args == (MODEL_ARN, 4, None)


def test_the_lease_is_taken_before_the_model_is_started(state: ModelStateStore) -> None:
    start({"start": True, "inference_units": 1, "reason": ""})
    lease = state.read().lease
    assert lease is not None
    assert lease.holder == "label_images/r"


def test_a_run_without_work_takes_nothing_and_starts_nothing(state: ModelStateStore) -> None:
    with pytest.raises(AirflowSkipException, match="Nothing is pending"):
        start({"start": False, "inference_units": 0, "reason": "Nothing is pending"})
    assert state.read().lease is None
