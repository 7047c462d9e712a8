from __future__ import annotations

import json
from typing import Any

import pytest

from include.errors import TerminalError
from include.model import ModelName, assumed_thresholds, describe, parse_project_arn, parse_project_version_arn
from tests.include.memory_s3 import MemoryS3, failure
from tests.include.samples import FINAL, MODEL_ARN, PROJECT_ARN

NAME = ModelName("us-east-1", "123456789012", "shop", "shop.v7")
WHERE = {"EvaluationResult": {"F1Score": 0.9, "Summary": {"S3Object": {"Bucket": FINAL, "Name": "summary.json"}}}}


class Rekognition:
    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    def describe_project_versions(self, **call: Any) -> Any:
        self.asked.append(call)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return {"ProjectVersionDescriptions": answer}


def test_names_inside_arns() -> None:
    assert parse_project_version_arn(MODEL_ARN) == NAME
    assert parse_project_arn(PROJECT_ARN) == ModelName("us-east-1", "123456789012", "shop")
    assert parse_project_arn(MODEL_ARN) is None
    assert parse_project_version_arn(PROJECT_ARN) is None


def test_the_one_version_is_asked_for_by_name() -> None:
    rekognition = Rekognition([{"Status": "STOPPED"}])
    assert describe(rekognition, project_arn=PROJECT_ARN, name=NAME) == {"Status": "STOPPED"}
    assert rekognition.asked == [{"ProjectArn": PROJECT_ARN, "VersionNames": ["shop.v7"]}]


def test_a_version_that_does_not_exist_is_named() -> None:
    with pytest.raises(TerminalError, match=r"no version 'shop\.v7'.*LABELS_PROJECT_VERSION_ARN"):
        describe(Rekognition([]), project_arn=PROJECT_ARN, name=NAME)


def test_a_project_that_does_not_exist_is_named_with_account_and_region() -> None:
    missing = failure("ResourceNotFoundException", "DescribeProjectVersions")
    with pytest.raises(
        TerminalError, match=r"no project arn:.*account 123456789012, region us-east-1.*LABELS_PROJECT_ARN"
    ):
        describe(Rekognition(missing), project_arn=PROJECT_ARN, name=NAME)


def test_any_other_error_is_raised_as_it_is() -> None:
    with pytest.raises(Exception, match="ThrottlingException"):
        describe(Rekognition(failure("ThrottlingException", "D")), project_arn=PROJECT_ARN, name=NAME)


@pytest.mark.parametrize(
    "rows",
    [
        [{"Label": "CAP", "Metrics": {"Threshold": 0.988}}, {"Label": "WATCH", "Metrics": {"Threshold": 0.014}}],
        [{"Label": "CAP", "Threshold": 0.988}, {"Label": "WATCH", "Threshold": 0.014}],
        [{"Label": "CAP", "Metrics": {"Threshold": 0.988}}, {"Label": "WATCH", "Threshold": 0.014}, {"F1Score": 1}],
    ],
    ids=["nested", "flat", "mixed"],
)
def test_both_shapes_of_the_summary_give_each_labels_threshold(s3: MemoryS3, rows: list[Any]) -> None:
    s3.put_object(Bucket=FINAL, Key="summary.json", Body=json.dumps({"Version": 1, "LabelEvaluationResults": rows}))
    assert assumed_thresholds(s3, WHERE) == {"CAP": 98.8, "WATCH": 1.4}


@pytest.mark.parametrize("body", [None, "no JSON", "{}"])
def test_without_a_readable_summary_there_are_no_thresholds(s3: MemoryS3, body: str | None) -> None:
    if body is not None:
        s3.put_object(Bucket=FINAL, Key="summary.json", Body=body)
    assert assumed_thresholds(s3, WHERE) == {}


def test_a_summary_that_may_not_be_read_is_a_warning(s3: MemoryS3, caplog: pytest.LogCaptureFixture) -> None:
    s3.refuse["get_object", "summary.json"] = failure("AccessDenied", "GetObject", 403)
    assert assumed_thresholds(s3, WHERE) == {}
    assert "s3://final/summary.json" in caplog.text


def test_a_model_that_was_never_evaluated_has_no_thresholds(s3: MemoryS3) -> None:
    assert assumed_thresholds(s3, {"Status": "STOPPED"}) == {}
    assert s3.calls == []
