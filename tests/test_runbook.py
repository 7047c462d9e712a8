"""What the runbook says exists: commands parse, settings, tasks, findings and places are there, messages are in the source.

Each piece of code in docs/runbook.md says by its form what it is; one of no known form fails.
"""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import botocore.session
import pytest
from airflow.cli.cli_parser import get_parser
from airflow.dag_processing.dagbag import DagBag
from botocore import xform_name

from include import layout
from include.audit import KINDS
from include.batches import list_pending
from include.decide import count_backlog
from include.outcomes import Status
from include.schema import IMAGE_LABELS
from include.selection import split_uri
from include.settings import PREFIX, Settings, load_settings
from tests.include.audit.audited_world import World
from tests.include.memory_s3 import MemoryS3
from tests.include.samples import FINAL, INBOX, NOW, VALUES, picture

ROOT = Path(__file__).parents[1]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
PROGRAMS = ("aws", "python", "airflow", "export")
# What the AWS CLI has beside the services' own operations, and takes with every one.
AWS_S3_COMMANDS = {"ls": {"recursive", "human-readable"}, "cp": set(), "mv": set(), "rm": {"recursive"}}
AWS_OPTIONS = {"output", "query"}
# Commands of the pipeline's own that the text names.
OUR_COMMANDS = {"release", "redrive"}
# Errors of AWS that stand nowhere in the source, since no code asks for them.
AWS_ERRORS = {"ExpiredToken", "ExpiredTokenException", "AccessDeniedException"}


def blocks() -> list[str]:
    return re.findall(r"^```bash\n(.*?)^```$", RUNBOOK, flags=re.MULTILINE | re.DOTALL)


def spans() -> list[str]:
    """Code within the text."""
    prose = re.sub(r"^```.*?^```$", "", RUNBOOK, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`]+)`", prose)


def commands() -> list[list[str]]:
    lines = [line for block in blocks() for line in block.splitlines() if line]
    lines += [span for span in spans() if span.split()[0] in PROGRAMS and " " in span]
    return [shlex.split(line, comments=True) for line in lines]


def of_program(*start: str) -> list[list[str]]:
    return [words for words in commands() if tuple(words[: len(start)]) == start]


def strings(file: Path) -> Iterator[str]:
    """Every string of a file; what is put in at run time is an ellipsis."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.JoinedStr):
            yield filled_in(node)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"%[\d.]*[a-z]", "…", node.value)


def filled_in(text: ast.JoinedStr) -> str:
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in text.values)


@cache
def source_strings() -> str:
    files = [file for folder in ("include", "dags", "plugins") for file in sorted((ROOT / folder).rglob("*.py"))]
    return "\n".join(re.sub("…+", "…", text) for file in files for text in strings(file))


@cache
def dags() -> dict[str, set[str]]:
    return {dag_id: set(dag.task_ids) for dag_id, dag in DagBag(ROOT / "dags").dags.items()}


def is_message(span: str) -> bool:
    return span.startswith('"') and span.endswith('"')


def is_setting(span: str) -> bool:
    return span.startswith(PREFIX)


def is_name(span: str) -> bool:
    return re.fullmatch(r"[a-z_]+", span) is not None


def is_place(span: str) -> bool:
    return re.fullmatch(r"[a-z_/]+/", span) is not None


def is_permission(span: str) -> bool:
    return re.fullmatch(r"[a-z0-9]+:[A-Z][A-Za-z]+", span) is not None


def is_error(span: str) -> bool:
    return re.fullmatch(r"([A-Z][a-z0-9]+)+", span) is not None


def is_airflow_setting(span: str) -> bool:
    return re.fullmatch(r"AIRFLOW__[A-Z_]+", span) is not None


FORMS = (is_message, is_setting, is_name, is_place, is_permission, is_error, is_airflow_setting)


def test_every_piece_of_code_has_a_form_that_is_checked() -> None:
    assert [
        span for span in spans() if span.split()[0] not in PROGRAMS and not any(is_it(span) for is_it in FORMS)
    ] == []


def test_every_line_to_type_begins_with_a_known_program() -> None:
    assert [words for words in commands() if words[0] not in PROGRAMS] == []


@pytest.mark.parametrize("words", of_program("python"), ids=" ".join)
def test_our_own_commands_parse(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real entry point takes the arguments, and then only misses its settings."""
    monkeypatch.delenv(f"{PREFIX}SOURCE_BUCKET", raising=False)
    assert words[1] == "-m"
    assert importlib.import_module(words[2]).main(words[3:]) != 0
    told = capsys.readouterr()
    assert f"{PREFIX}SOURCE_BUCKET is not set" in told.err + told.out


@pytest.mark.parametrize("words", of_program("airflow"), ids=" ".join)
def test_commands_of_airflow_parse_and_name_dags_that_exist(words: list[str]) -> None:
    parsed = get_parser().parse_args(words[1:])
    assert getattr(parsed, "dag_id", None) in {None, *dags()}


@pytest.mark.parametrize("words", [words for words in of_program("aws") if words[1] == "s3"], ids=" ".join)
def test_commands_on_s3_exist_and_stay_in_the_places_of_the_layout(words: list[str]) -> None:
    assert {word[2:] for word in words[3:] if word.startswith("--")} <= AWS_S3_COMMANDS[words[2]]
    prefix = f"s3://${PREFIX}FINAL_BUCKET/"
    for uri in [word for word in words if word.startswith("s3://")]:
        assert is_in_layout(uri.removeprefix(prefix)), uri


@pytest.mark.parametrize("words", [words for words in of_program("aws") if words[1] != "s3"], ids=" ".join)
def test_commands_of_aws_are_operations_with_these_parameters(words: list[str]) -> None:
    service = botocore.session.get_session().get_service_model({"s3api": "s3"}.get(words[1], words[1]))
    operations = {dashed(name): name for name in service.operation_names}
    members = service.operation_model(operations[words[2]]).input_shape.members
    options = {word[2:] for word in words[3:] if word.startswith("--")} - AWS_OPTIONS
    assert options <= {dashed(name) for name in members}
    required = service.operation_model(operations[words[2]]).input_shape.required_members
    assert {dashed(name) for name in required} <= options


def dashed(name: str) -> str:
    return xform_name(name, "-")


def test_every_variable_in_a_command_is_a_setting() -> None:
    names = {name for words in commands() for word in words for name in re.findall(r"\$(\w+)", word)}
    assert names
    assert {name for name in names if not is_setting(name)} == set()
    assert {name.removeprefix(PREFIX).lower() for name in names} <= Settings.model_fields.keys()


@pytest.mark.parametrize("span", sorted({span for span in spans() if is_setting(span)}))
def test_settings_exist_and_take_the_value_that_is_given(span: str) -> None:
    name, _, value = span.removeprefix(PREFIX).lower().partition("=")
    assert name in Settings.model_fields
    if value:
        load_settings(**VALUES | {name: value})


def test_names_are_dags_tasks_findings_commands_or_columns() -> None:
    known = {*dags(), *(task_id for task_ids in dags().values() for task_id in task_ids)}
    known |= KINDS.keys() | OUR_COMMANDS | set(IMAGE_LABELS.names) | {"aws_default"}
    assert {span for span in spans() if is_name(span)} - known == set()


def test_every_finding_of_the_audit_has_its_answer() -> None:
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \|", RUNBOOK.partition("## What the audit finds")[2], flags=re.MULTILINE)
    assert {kind for row in rows for kind in re.findall(r"\w+", row)} == KINDS.keys()


def test_every_line_that_people_are_told_has_its_answer() -> None:
    """Alerts, and the errors that end a run or a watchdog: whoever reads one finds a piece of it in the first table."""
    told = [
        *texts_of("include/report.py", "worth_telling"),
        *texts_of("dags/labelling/alerts.py", "alert_of_failed_run"),
        *texts_of("dags/labelling/closing_tasks.py", "_raise_if_incomplete", "IncompleteRunError"),
        *texts_of("dags/labelling/closing_tasks.py", "audit", "AuditError"),
        *texts_of("dags/labelling/model_session.py", "stop_if_idle", "AirflowFailException"),
    ]
    quoted = [span.strip('"') for span in spans() if is_message(span)]
    assert len(told) >= 8
    assert [text for text in told if not any(message in text for message in quoted)] == []


def texts_of(file: str, function: str, error: str = "") -> list[str]:
    """The sentences in a function; of those, the ones that it raises as ``error``, if given."""
    tree = ast.parse((ROOT / file).read_text())
    (found,) = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == function]
    calls = [node for node in ast.walk(found) if isinstance(node, ast.Call)]
    chosen = [call for call in calls if not error or isinstance(call.func, ast.Name) and call.func.id == error]
    return [filled_in(argument) for call in chosen for argument in call.args if isinstance(argument, ast.JoinedStr)]


def test_messages_are_in_the_source() -> None:
    messages = {span.strip('"') for span in spans() if is_message(span)}
    assert len(messages) > 40
    assert {message for message in messages if message not in source_strings()} == set()


def test_places_exist() -> None:
    named = {span for span in spans() if is_place(span)}
    assert {place for place in named if not is_in_layout(place) and not (ROOT / place).is_dir()} == set()


def is_in_layout(key: str) -> bool:
    places = {value for name, value in vars(layout).items() if name.isupper() and isinstance(value, str)}
    places.add(layout.model_state("", "").partition("//")[0] + "/")
    return any(key.startswith(place) for place in places)


def test_permissions_are_actions_of_their_service_and_cover_those_of_the_readme() -> None:
    named = {span for span in spans() if is_permission(span)}
    policy = re.findall(r"```\n(rekognition:.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    needed = set(re.findall(r"\b[A-Z][a-z]+[A-Z]\w+", policy[0]))
    assert needed - {span.partition(":")[2] for span in named} == set()


def test_errors_are_told_apart_in_the_source_or_are_known_of_aws() -> None:
    statuses = {*re.findall(r"[A-Z]+", str(Status))}
    named = {span for span in spans() if is_error(span)} - statuses - AWS_ERRORS
    assert {name for name in named if name not in source_strings()} == set()


def test_links_lead_somewhere() -> None:
    titles = re.findall(r"^#+ (.*)$", RUNBOOK, flags=re.MULTILINE)
    anchors = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
    assert len(anchors) == len(set(anchors))
    assert set(re.findall(r"\]\(#([^)]*)\)", RUNBOOK)) - set(anchors) == set()


def test_every_entry_is_found_from_the_first_table() -> None:
    table = RUNBOOK.partition("## What do you see?")[2].partition("\n## ")[0]
    titles = re.findall(r"^### (.*)$", RUNBOOK, flags=re.MULTILINE)
    linked = set(re.findall(r"\[([^]]*)\]\(#", table))
    assert set(titles) - linked == set()


def typed(title: str, s3: MemoryS3, **values: str) -> None:
    """Do what the S3 commands of an entry do, with its capitals filled in."""
    block = RUNBOOK.partition(f"# {title}\n")[2].partition("```bash\n")[2].partition("```")[0]
    assert block
    for name, value in (values | {f"${PREFIX}FINAL_BUCKET": FINAL}).items():
        block = block.replace(name, value)
    for _, _, command, *uris in [shlex.split(line) for line in block.splitlines()]:
        places = [dict(zip(("Bucket", "Key"), split_uri(uri), strict=True)) for uri in uris if uri.startswith("s3://")]
        if command in ("cp", "mv") and len(places) == 2:
            s3.copy_object(CopySource=places[0], **places[1])
        if command in ("rm", "mv"):
            s3.delete_object(**places[0])


def test_a_finished_batch_that_is_put_back_is_published_again_and_not_paid_for() -> None:
    s3 = MemoryS3(INBOX, FINAL)
    world = World(s3, load_settings(**VALUES))
    world.upload("a.jpg", picture())
    world.run()
    (done,) = s3.keys(FINAL, "batches/done/")
    day, name = done.split("/")[2:]
    before = s3.contents(FINAL)
    s3.delete_object(Bucket=FINAL, Key="labels/inbox/a.jpg.json")
    typed("What the audit finds", s3, BATCH_ID=name.partition(".")[0], DAY=day)
    keys = list_pending(s3, FINAL)
    assert count_backlog(s3, world.settings, keys, now=NOW, run_id="r", change=False).to_label == 0
    world.label()
    after = s3.contents(FINAL)
    assert before.items() <= after.items()
    assert list_pending(s3, FINAL) == []
    assert world.model.served == {"a.jpg": 1}


def test_an_unreadable_batch_that_was_mended_is_pending_again() -> None:
    s3 = MemoryS3(INBOX, FINAL)
    world = World(s3, load_settings(**VALUES))
    world.upload("a.jpg", picture())
    world.drain()
    (pending,) = s3.keys(FINAL, "batches/pending/")
    whole = s3.contents(FINAL)[pending]
    s3.put_object(Bucket=FINAL, Key=pending, Body=whole[:20])
    world.label()
    (aside,) = s3.keys(FINAL, "batches/unreadable/")
    s3.put_object(Bucket=FINAL, Key=aside, Body=whole)
    typed("A batch is unreadable", s3, NAME=aside.rpartition("/")[2].removesuffix(".jsonl.gz"))
    assert s3.keys(FINAL, "batches/unreadable/") == []
    world.label()
    assert s3.keys(FINAL, "labels/") == ["labels/inbox/a.jpg.json"]


def test_it_stays_short_enough_for_three_in_the_morning() -> None:
    assert len(RUNBOOK.splitlines()) < 400
