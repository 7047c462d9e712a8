"""CreateProjectVersion's work: read the images of the manifests, train, evaluate, and write what AWS writes.

https://docs.aws.amazon.com/rekognition/latest/customlabels-dg/im-summary-file-api.html
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from moto.core.exceptions import ServiceException

from local_aws.moto_services import MotoServices, read_object, write_object
from local_aws.rekognition.account import Account
from local_aws.rekognition.manifests import MAX_INVALID_SHARE, Entry
from local_aws.rekognition.resources import ProjectVersion, S3Location, TrainedModel
from local_aws.rekognition.worker import Example, Training, VisionRefused, VisionWorkers, WorkerDied

# "Amazon Rekognition Custom Labels uses 80% of the training dataset images for training, and 20% for testing":
# https://docs.aws.amazon.com/rekognition/latest/customlabels-dg/creating-datasets.html
_TEST_SHARE = 5


@dataclass(frozen=True)
class Images:
    """The images to train on and to test with."""

    training: tuple[Entry, ...]
    testing: tuple[Entry, ...]


def split(entries: Sequence[Entry]) -> Images:
    """Every fifth image becomes a test image, as where no test images are given."""
    return Images(
        tuple(entry for number, entry in enumerate(entries) if number % _TEST_SHARE),
        tuple(entries[::_TEST_SHARE]),
    )


class Trainer:
    """Takes versions from TRAINING_IN_PROGRESS to TRAINING_COMPLETED or TRAINING_FAILED, and then calls `trained`."""

    def __init__(
        self, account: Account, moto: MotoServices, workers: VisionWorkers, trained: Callable[[], None] = lambda: None
    ) -> None:
        self._account = account
        self._trained = trained
        self._moto = moto
        self._workers = workers

    async def train(self, version: ProjectVersion, images: Images) -> None:
        """Train, and write the evaluation summary and both manifests below the version's output location."""
        try:
            await self._train(version, images)
        finally:
            if version.status == "TRAINING_IN_PROGRESS":
                self._account.training_failed(version, "Amazon Rekognition experienced a service issue")
            self._trained()

    async def _train(self, version: ProjectVersion, images: Images) -> None:
        started = time.monotonic()
        try:
            training = await self._moto.run(lambda: _load(images.training))
            testing = await self._moto.run(lambda: _load(images.testing))
            result = await self._workers.train(training, testing)
        except (VisionRefused, WorkerDied) as error:
            self._account.training_failed(version, str(error))
            return
        billable_seconds = math.ceil(time.monotonic() - started)
        try:
            trained = await self._moto.run(lambda: _write_outputs(version, images, result, billable_seconds))
        except ServiceException as error:
            self._account.training_failed(version, f"Cannot write to the bucket {version.output.bucket}: {error}")
            return
        self._account.training_completed(version, trained)


def _load(entries: Sequence[Entry]) -> list[Example]:
    """The images' bytes; VisionRefused when more of them are missing than AWS lets pass."""
    examples: list[Example] = []
    missing = []
    for entry in entries:
        found = read_object(entry.bucket, entry.key)
        if found is None:
            missing.append(f"s3://{entry.bucket}/{entry.key}")
        else:
            examples.append((found[0], entry.labels))
    if len(missing) > MAX_INVALID_SHARE * len(entries):
        reason = (
            f"The manifest file contains too many invalid lines: {len(missing)} of {len(entries)} images are not in S3"
        )
        raise VisionRefused(f"{reason}, the first {missing[0]}")
    return examples


def _write_outputs(version: ProjectVersion, images: Images, result: Training, billable_seconds: int) -> TrainedModel:
    project_name = version.arn.split("/")[1]
    prefix = f"{version.output.key.rstrip('/')}/" if version.output.key else ""
    stem = f"{prefix}{project_name}-{version.name}"
    summary = S3Location(version.output.bucket, f"{prefix}EvaluationResultSummary-{project_name}-{version.name}.json")
    write_object(summary.bucket, summary.key, json.dumps(_summary(version, images, result), indent=2).encode())
    manifests = {}
    for part, entries in (("training", images.training), ("testing", images.testing)):
        manifests[part] = S3Location(version.output.bucket, f"{stem}/{part}.manifest")
        lines = b"".join(entry.line + b"\n" for entry in entries)
        write_object(manifests[part].bucket, manifests[part].key, lines)
    return TrainedModel(
        model=result.model,
        kind=result.kind,
        thresholds={score.label: score.threshold for score in result.labels},
        f1=result.f1,
        billable_seconds=billable_seconds,
        summary=summary,
        manifests=manifests,
    )


def _summary(version: ProjectVersion, images: Images, result: Training) -> dict[str, Any]:
    """The summary file: https://docs.aws.amazon.com/rekognition/latest/customlabels-dg/im-summary-file-api.html"""
    aggregated: dict[str, float] = {"F1Score": result.f1, "Precision": result.precision, "Recall": result.recall}
    if result.average_precision is not None:
        aggregated["AveragePrecision"] = result.average_precision
    return {
        "Version": 1,
        "EvaluationDetails": {
            "EvaluationEndTimestamp": datetime.now(UTC).isoformat(timespec="seconds"),
            "Labels": [score.label for score in result.labels],
            "NumberOfTrainingImages": len(images.training),
            "NumberOfTestingImages": len(images.testing),
            "ProjectVersionArn": version.arn,
        },
        "AggregatedEvaluationResults": aggregated,
        "LabelEvaluationResults": [
            {
                "Label": score.label,
                "NumberOfTestingImages": score.test_images,
                "Metrics": {
                    "F1Score": score.f1,
                    "Precision": score.precision,
                    "Recall": score.recall,
                    "Threshold": score.threshold,
                },
            }
            for score in result.labels
        ],
    }
