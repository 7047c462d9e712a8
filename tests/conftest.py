"""Airflow reads its configuration when it is first imported: its home must be set before any test module is."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

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
