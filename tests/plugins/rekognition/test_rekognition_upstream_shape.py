"""What the amazon provider asks of a module of its own."""

from __future__ import annotations

import ast
import inspect
import sys
from pathlib import Path

import pytest
from airflow.providers.amazon.aws.links.base_aws import BaseAwsLink
from airflow.providers.amazon.aws.operators.base_aws import AwsBaseOperator
from airflow.providers.amazon.aws.sensors.base_aws import AwsBaseSensor
from airflow.providers.amazon.aws.triggers.base import AwsBaseWaiterTrigger

import rekognition
from rekognition import links, operators, sensors, triggers
from rekognition.hooks import RekognitionHook

PACKAGE = Path(rekognition.__file__).parent
IMPORTABLE = {"airflow", "botocore", "rekognition", "tenacity"}  # beside the standard library
QUARTET = ["wait_for_completion", "waiter_delay", "waiter_max_attempts", "deferrable"]


def public_classes(module, base):
    return [
        value
        for name, value in vars(module).items()
        if inspect.isclass(value)
        and issubclass(value, base)
        and value.__module__ == module.__name__
        and not name.startswith("_")
    ]


OPERATORS = public_classes(operators, AwsBaseOperator)
SENSORS = public_classes(sensors, AwsBaseSensor)
TRIGGERS = public_classes(triggers, AwsBaseWaiterTrigger)


@pytest.mark.parametrize("module", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.stem)
def test_imports_nothing_that_the_provider_does_not_depend_on(module):
    imported = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert imported - sys.stdlib_module_names <= IMPORTABLE


@pytest.mark.parametrize("cls", [*OPERATORS, *SENSORS, *TRIGGERS, *public_classes(links, BaseAwsLink)])
def test_names_begin_with_the_service(cls):
    assert cls.__name__.startswith("Rekognition")


@pytest.mark.parametrize("cls", [*OPERATORS, *SENSORS])
def test_tasks_use_the_hook_and_link_to_the_console(cls):
    assert cls.aws_hook_class is RekognitionHook
    assert [type(link) for link in cls.operator_extra_links] == [links.RekognitionProjectVersionLink]
    assert [*cls.template_fields] == sorted({"aws_conn_id", "region_name", "verify", *cls.template_fields})


@pytest.mark.parametrize("cls", OPERATORS)
def test_waiting_is_spelled_as_everywhere(cls):
    names = [name for name in inspect.signature(cls.__init__).parameters if name in QUARTET]
    assert names == QUARTET


@pytest.mark.parametrize("cls", [*OPERATORS, *SENSORS])
def test_docstring_describes_every_argument_and_marks_the_templated(cls):
    described = cls.__doc__.split(":param ")[1:]
    descriptions = {entry.split(":")[0]: entry for entry in described}
    aws = {"aws_conn_id", "region_name", "verify", "botocore_config"}
    assert {*descriptions} == ({*inspect.signature(cls.__init__).parameters} - {"self", "kwargs"}) | aws
    templated = {name for name, text in descriptions.items() if "(templated" in text}
    assert templated == {*cls.template_fields} - aws


@pytest.mark.parametrize("cls", TRIGGERS)
def test_trigger_agrees_with_its_waiter_on_how_long_to_wait(cls):
    trigger = cls(
        project_arn="arn:aws:rekognition:eu-west-1:123456789012:project/shop/1",
        project_version_arn="arn:aws:rekognition:eu-west-1:123456789012:project/shop/version/v7/2",
    )
    waiter = RekognitionHook(aws_conn_id=None, region_name="eu-west-1").get_waiter(trigger.waiter_name)
    assert (trigger.waiter_delay, trigger.attempts) == (waiter.config.delay, waiter.config.max_attempts)
