"""Airflow executes every .py below plugins/ that is not ignored, as a top-level module named after its file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parents[2] / "plugins"


def run_with_plugins_folder(code: str, airflow_home: Path) -> str:
    """Run code in a new interpreter that knows the plugins folder only as Airflow does: through its configuration."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"AIRFLOW_HOME": str(airflow_home), "AIRFLOW__CORE__PLUGINS_FOLDER": str(PLUGINS)}
    environment |= {"AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    finished = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=airflow_home, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.splitlines()[-1]


def test_airflow_executes_no_module_of_the_package(tmp_path):
    code = """
import sys, types
before = set(sys.modules)
from airflow.plugins_manager import _get_plugins
plugins, errors = _get_plugins()
executed = [
    name for name, module in sys.modules.items()
    if name not in before and "/plugins/rekognition/" in (getattr(module, "__file__", None) or "")
]
print(executed, errors, sys.modules["types"] is types and types.__file__.startswith(sys.base_prefix))
"""
    assert run_with_plugins_folder(code, tmp_path) == "[] {} True"


@pytest.mark.parametrize(
    "trigger", ["RekognitionProjectVersionRunningTrigger", "RekognitionProjectVersionStoppedTrigger"]
)
def test_the_triggerer_finds_the_triggers(tmp_path, trigger):
    code = f"""
from airflow.jobs.triggerer_job_runner import TriggerRunner
runner = TriggerRunner()
print(runner.get_trigger_by_classpath("rekognition.triggers.{trigger}").__name__)
"""
    assert run_with_plugins_folder(code, tmp_path) == trigger
