"""Who may import whom, and a few habits that a linter does not know."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MOST_LINES = 400
# Longer than that on purpose: docstrings of parameters and templates, as the amazon provider's operators have them.
LONG_MODULES = {"plugins/rekognition/operators.py"}

OURS = {"include", "labelling", "rekognition", "local_aws", "local_stack", "results_browser"}
DAGS = {
    "label_images",
    "stop_idle_model",
    "audit_images",
    "backfill_archive",
    "compact_labels",
    "index_labels",
    "query_labels",
}

# A notifier that a user plugs in may raise anything, and must not fail a run.
RUNS_USERS_CODE = {"dags/labelling/alerts.py"}

# The auditor judges the stages, so it shares nothing with them but what their results look like.
AUDITOR_MAY_IMPORT = {"include.schema", "include.settings", "include.errors"}
# The one thing that it does rather than judges: `queue_unprocessed`.
AUDITOR_ACTS_WITH = {"include.images", "include.selection"}

# Folder: which of our packages its modules may import.
MAY_IMPORT = {
    "include": {"include"},
    "local_aws": {"local_aws"},
    "plugins/rekognition": {"rekognition"},
    "plugins/results_browser": {"results_browser", "include"},
    "dags": {"labelling", "rekognition", "include"},
    "local_stack": {"local_stack", "local_aws", "include"},
}
MAY_NOT_IMPORT_AIRFLOW = ("include", "local_aws", "local_stack")


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


# It passes on to the auditor as it does to the stages, and judges nothing.
COMMAND_LINE = modules("include/cli")


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def imported(file: Path) -> Iterator[str]:
    """Every module that a file names in an import, wherever the import stands."""
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield node.module or ""


def packages(file: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(file)}


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_imports_go_one_way(folder: str) -> None:
    foreign = {
        name_of(file): sorted(packages(file) & (OURS | DAGS | {"dags", "plugins", "tests"}) - MAY_IMPORT[folder])
        for file in modules(folder)
    }
    assert {file: names for file, names in foreign.items() if names} == {}


@pytest.mark.parametrize("folder", MAY_NOT_IMPORT_AIRFLOW)
def test_airflow_is_imported_by_dags_and_plugins_only(folder: str) -> None:
    assert [name_of(file) for file in modules(folder) if "airflow" in packages(file)] == []


def test_the_auditor_shares_no_code_with_the_stages_that_it_judges() -> None:
    auditor = [file for file in modules("include") if file.stem.startswith("audit") and file not in COMMAND_LINE]
    assert auditor
    for file in auditor:
        ours = {name for name in imported(file) if name.startswith("include.") and not name.startswith("include.audit")}
        assert ours <= AUDITOR_MAY_IMPORT | (AUDITOR_ACTS_WITH if file.stem == "audit" else set()), name_of(file)
    stages = [file for file in modules("include") if file not in auditor + COMMAND_LINE]
    assert [name_of(file) for file in stages if any(name.startswith("include.audit") for name in imported(file))] == []


def test_dag_files_import_airflow_from_its_sdk_and_providers_only() -> None:
    allowed = ("airflow.sdk", "airflow.providers")
    named = {name for file in modules("dags") for name in imported(file) if name.startswith("airflow")}
    assert {name for name in named if not name.startswith(allowed)} == set()


def test_every_folder_of_ours_is_covered() -> None:
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    code = {folder for folder in folders if modules(folder)}
    assert code - {"tests", "benchmarks"} == {folder.partition("/")[0] for folder in MAY_IMPORT}


def test_the_library_is_importable_where_there_is_no_airflow() -> None:
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in modules("include")]
    code = f"""
import sys
class NoAirflow:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("airflow", "rekognition", "labelling", "local_aws", "local_stack"):
            raise ImportError(name + " is not here")
sys.meta_path.insert(0, NoAirflow())
import importlib
for name in {names}:
    importlib.import_module(name)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("folder", ["include", "dags", "plugins"])
def test_nothing_is_swallowed(folder: str) -> None:
    """A handler of everything, or of every Exception, must raise again; but for what runs a user's own code."""
    handlers = [
        (file, node)
        for file in modules(folder)
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.ExceptHandler)
    ]
    swallowed = {name_of(file) for file, node in handlers if is_broad(node) and not raises(node)}
    assert swallowed - RUNS_USERS_CODE == set()


def is_broad(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    names = {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)}
    return bool(names & {"Exception", "BaseException"})


def raises(handler: ast.ExceptHandler) -> bool:
    return any(isinstance(node, ast.Raise) for node in ast.walk(handler))


def test_no_module_is_long_without_being_listed() -> None:
    folders = ("include", "dags", "plugins", "local_aws", "local_stack")
    lines = {name_of(file): len(file.read_text().splitlines()) for folder in folders for file in modules(folder)}
    assert {file for file, count in lines.items() if count > MOST_LINES} == LONG_MODULES


def test_no_module_is_a_drawer_for_everything() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
    files = [file for folder in MAY_IMPORT for file in modules(folder)]
    assert [name_of(file) for file in files if vague & {*file.relative_to(ROOT).with_suffix("").parts}] == []


@pytest.mark.parametrize("folder", ["include", "dags", "plugins"])
def test_nothing_asks_whether_it_runs_locally(folder: str) -> None:
    telling = ("local_aws", "localhost", "127.0.0.1", "localstack")
    found = {name_of(file): word for file in modules(folder) for word in telling if word in file.read_text()}
    assert found == {}


def test_every_module_has_annotations_of_the_future() -> None:
    missing = []
    for folder in MAY_IMPORT:
        for file in modules(folder):
            code = [
                node
                for node in parsed(file).body
                if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
            ]
            if code and "__future__" not in set(imported(file)):
                missing.append(name_of(file))
    assert missing == []
