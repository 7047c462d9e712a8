from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from include.errors import SettingsError, TerminalError
from include.settings import PREFIX, Settings, load_settings
from tests.include.conftest import BuildSettings
from tests.include.samples import MODEL_ARN, PROJECT_ARN, VALUES

EXAMPLE = Path(__file__).parents[2] / ".env.example"


def problems(**changes: Any) -> list[str]:
    """The lines of the error that these settings meet."""
    with pytest.raises(SettingsError) as raised:
        load_settings(**{name: value for name, value in (VALUES | changes).items() if value is not None})
    return str(raised.value).split("\n")[1:]


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (VALUES | {"allowed_buckets": " stock, other ,", "convert_images": "true"}).items():
        monkeypatch.setenv(PREFIX + name.upper(), str(value))
    settings = load_settings()
    assert settings.source_bucket == "inbox"
    assert settings.allowed_buckets == ("stock", "other")
    assert settings.readable_buckets == {"inbox", "stock", "other"}
    assert settings.convert_images is True


def test_nothing_set_lists_everything_that_is_needed() -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings()
    text = str(raised.value)
    for name in ("SOURCE_BUCKET", "FINAL_BUCKET", "QUEUE_URL", "REGION", "PROJECT_ARN", "PROJECT_VERSION_ARN"):
        assert f"{PREFIX}{name} is not set" in text
    assert text.startswith("6 setting(s) to mend")
    assert ".env.example" in text


def test_all_problems_are_in_one_message() -> None:
    found = problems(
        source_bucket=None,
        queue_url="uploads",
        region="mars",
        project_arn="shop",
        project_version_arn="shop.v7",
        batch_size="many",
        inference_units_min=4,
        inference_units_max=2,
        originals="burn",
    )
    assert len(found) == 8
    for line, name in zip(
        found,
        (
            "SOURCE_BUCKET",
            "QUEUE_URL",
            "ORIGINALS",
            "REGION",
            "PROJECT_ARN",
            "PROJECT_VERSION_ARN",
            "INFERENCE_UNITS_MIN",
        ),
        strict=False,
    ):
        assert PREFIX + name in line
    assert "BATCH_SIZE" in found[-1]


def test_problems_of_comparison_stand_beside_those_of_single_settings() -> None:
    found = "\n".join(problems(queue_url=None, project_version_arn=MODEL_ARN.replace("project/shop", "project/other")))
    assert "QUEUE_URL is not set" in found
    assert "belongs to project 'other'" in found


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("project/shop", "project/other", "belongs to project 'other', LABELS_PROJECT_ARN to 'shop'"),
        ("123456789012", "210987654321", "belongs to account '210987654321', LABELS_PROJECT_ARN to '123456789012'"),
        ("us-east-1", "eu-west-1", "belongs to region 'eu-west-1', LABELS_PROJECT_ARN to 'us-east-1'"),
    ],
)
def test_a_model_of_another_project_account_or_region_is_said_to_be_one(old: str, new: str, said: str) -> None:
    assert any(said in line for line in problems(project_version_arn=MODEL_ARN.replace(old, new)))


def test_everything_that_is_foreign_about_a_model_is_said() -> None:
    arn = MODEL_ARN.replace("us-east-1:123456789012:project/shop", "eu-west-1:210987654321:project/other")
    assert len(problems(project_version_arn=arn)) == 4


def test_the_region_must_be_the_models() -> None:
    assert problems(region="eu-west-1") == [
        "  - LABELS_PROJECT_VERSION_ARN is in region 'us-east-1', LABELS_REGION is 'eu-west-1'"
    ]


@pytest.mark.parametrize(
    "arn",
    [
        "",
        "shop",
        MODEL_ARN + "\n",
        MODEL_ARN.replace("123456789012", "12345"),
        MODEL_ARN.replace("rekognition", "s3"),
        MODEL_ARN.rpartition("/")[0],
        PROJECT_ARN,
    ],
)
def test_what_is_no_version_arn_is_said_not_to_be_one(arn: str) -> None:
    (line,) = problems(project_version_arn=arn)
    assert "PROJECT_VERSION_ARN is not a project version's ARN" in line


@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov"])
def test_every_partition_is_known(build_settings: BuildSettings, partition: str) -> None:
    project, version = (arn.replace("arn:aws:", f"arn:{partition}:") for arn in (PROJECT_ARN, MODEL_ARN))
    assert build_settings(project_arn=project, project_version_arn=version).model.version == "shop.v7"


def test_results_may_not_go_to_the_inbox() -> None:
    (line,) = problems(final_bucket="inbox")
    assert "announce themselves as uploads" in line


def test_the_range_of_units_must_be_one() -> None:
    for changes in ({"inference_units_min": 3, "inference_units_max": 2}, {"inference_units_min": 6}):
        (line,) = problems(**changes)
        assert "INFERENCE_UNITS_MIN" in line
        assert "is more than" in line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("inference_units_min", 0),
        ("batch_size", 0),
        ("batch_size", 10_001),
        ("threads", 0),
        ("lease_minutes", 0),
        ("default_threshold", 101),
        ("deadline_minutes", 0),
        ("price_per_unit_hour_usd", -1),
        ("start_timeout_minutes", 181),
        ("assumed_images_per_second", 0),
        ("convert_images", "perhaps"),
    ],
)
def test_a_value_out_of_range_is_shown_with_its_meaning(name: str, value: Any) -> None:
    (line,) = problems(**{name: value})
    assert f"{PREFIX}{name.upper()}={value!r}" in line
    assert Settings.model_fields[name].description in line  # type: ignore[operator]


def test_settings_do_not_change_while_they_are_used(settings: Settings) -> None:
    with pytest.raises(ValidationError):
        settings.batch_size = 1


def test_wrong_settings_are_not_retried() -> None:
    assert issubclass(SettingsError, TerminalError)


def test_every_setting_says_what_it_means() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_the_example_lists_exactly_the_settings() -> None:
    names = re.findall(rf"^#?\s?({PREFIX}[A-Z_]+)=", EXAMPLE.read_text(), re.MULTILINE)
    assert sorted(names) == sorted(PREFIX + name.upper() for name in Settings.model_fields)


def test_the_examples_values_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in re.findall(rf"^#?\s?({PREFIX}[A-Z_]+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE):
        monkeypatch.setenv(name, value.strip().strip("\"'"))
    load_settings()
