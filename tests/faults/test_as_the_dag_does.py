"""The stages that are killed are the Dag's: they call the same functions of the library."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

# What the Dag does beside a run of everything pending: manual runs, budgets, words for people.
NOT_PLAYED = {
    "AuditError",
    "DrainReport",
    "IncompleteRunError",
    "LabellingError",
    "RunReport",
    "audit",
    "find_images",
    "in_a_sentence",
    "json_values",
    "load_settings",
    "month_cost_usd",
    "queue_images",
    "render",
}


def of_the_library(*files: str) -> set[str]:
    """Names that modules import from include."""
    return {
        alias.name
        for file in files
        for node in ast.walk(ast.parse((ROOT / file).read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "include"
        for alias in node.names
    }


def test_the_same_functions_of_the_library_are_called() -> None:
    dag = of_the_library(
        "dags/labelling/tasks.py", "dags/labelling/closing_tasks.py", "dags/labelling/model_session.py"
    )
    played = of_the_library("local_stack/chaos/stages.py", "local_stack/chaos/model_stages.py")
    assert dag - played == NOT_PLAYED
