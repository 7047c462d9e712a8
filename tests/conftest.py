"""Airflow reads its configuration when it is first imported: its home must be set before any test module is."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from botocore.loaders import JSONFileLoader

ROOT = Path(__file__).resolve().parent.parent
HOME = tempfile.mkdtemp(prefix="airflow-home-")
atexit.register(shutil.rmtree, HOME, ignore_errors=True)

# What belongs to another Airflow, AWS account or deployment has no say in a test.
for name in [name for name in os.environ if name.startswith(("AIRFLOW", "LABELS_", "AWS_"))]:
    del os.environ[name]

os.environ |= {
    "AIRFLOW_HOME": HOME,
    "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "LABELS_SCHEDULE": "",
}


@pytest.fixture(scope="session", autouse=True)
def models_read_once() -> Iterator[None]:
    """Each boto3 session parses AWS's service models for itself; the hundreds of sessions of these tests share them."""
    read = cache(JSONFileLoader().load_file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", lambda _, path: read(path))
        yield
