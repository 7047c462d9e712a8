"""The model: its names, and what its training says of each label."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from include.errors import TerminalError, error_code

log = logging.getLogger(__name__)

# https://docs.aws.amazon.com/rekognition/latest/APIReference/API_StartProjectVersion.html gives both patterns.
_ARN = r"^arn:[a-z\d-]+:rekognition:(?P<region>[a-z\d-]+):(?P<account>\d{12}):project/(?P<project>[\w.\-]{1,255})"
_PROJECT = re.compile(_ARN + r"/\d+$", re.ASCII)
_VERSION = re.compile(_ARN + r"/version/(?P<version>[\w.\-]{1,255})/\d+$", re.ASCII)


@dataclass(frozen=True, slots=True)
class ModelName:
    """The parts of a project's or a project version's ARN; ``version`` is empty for a project."""

    region: str
    account: str
    project: str
    version: str = ""


def parse_project_arn(arn: str) -> ModelName | None:
    """The names inside a project's ARN, or None where it is not one."""
    match = _PROJECT.fullmatch(arn)
    return ModelName(**match.groupdict()) if match else None


def parse_project_version_arn(arn: str) -> ModelName | None:
    """The names inside a project version's ARN, or None where it is not one."""
    match = _VERSION.fullmatch(arn)
    return ModelName(**match.groupdict()) if match else None


def describe(rekognition: Any, *, project_arn: str, name: ModelName) -> dict[str, Any]:
    """The model's ``ProjectVersionDescription``.

    Asked for by name: an unfiltered answer lists every version of the project.

    :raises TerminalError: where project or version do not exist.
    """
    try:
        answer = rekognition.describe_project_versions(ProjectArn=project_arn, VersionNames=[name.version])
    except ClientError as err:
        if error_code(err) == "ResourceNotFoundException":
            raise TerminalError(
                f"There is no project {project_arn} in account {name.account}, region {name.region}. "
                "Check LABELS_PROJECT_ARN and the account of the Airflow connection."
            ) from err
        raise
    for description in answer["ProjectVersionDescriptions"]:
        return dict(description)
    raise TerminalError(
        f"Project {project_arn} has no version {name.version!r}. Check LABELS_PROJECT_VERSION_ARN: was the model deleted?"
    )


def assumed_thresholds(s3: Any, description: dict[str, Any]) -> dict[str, float]:
    """Each label's assumed threshold, as a confidence from 0 to 100.

    It is the confidence with the best F1 on the test images, found in the evaluation summary that training leaves in S3
    (https://docs.aws.amazon.com/rekognition/latest/customlabels-dg/im-metrics-use.md). Summaries exist in two shapes:
    metrics nested under ``Metrics``, or flat. Empty where the summary cannot be read: labels are stored all the same,
    only compared with the default threshold.
    """
    where = description.get("EvaluationResult", {}).get("Summary", {}).get("S3Object")
    if not where:
        return {}
    try:
        summary = json.loads(s3.get_object(Bucket=where["Bucket"], Key=where["Name"])["Body"].read())
        return _thresholds(summary)
    except (ClientError, ValueError, TypeError, AttributeError) as err:
        log.warning(
            "Could not read the model's evaluation summary s3://%s/%s (%s): labels are compared with the default threshold.",
            where["Bucket"],
            where["Name"],
            err,
        )
        return {}


def _thresholds(summary: dict[str, Any]) -> dict[str, float]:
    thresholds = {}
    for row in summary.get("LabelEvaluationResults", []):
        threshold = row.get("Metrics", row).get("Threshold")
        if "Label" in row and threshold is not None:
            thresholds[str(row["Label"])] = round(float(threshold) * 100, 4)
    return thresholds
