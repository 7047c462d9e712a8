"""Which images a version is trained on and tested with: manifests of the request, or the project's datasets."""

from __future__ import annotations

from typing import Any

from local_aws.rekognition import manifests
from local_aws.rekognition.detection import read_image
from local_aws.rekognition.resources import Dataset, Project, S3Location
from local_aws.rekognition.training import Images, split
from local_aws.wire import AwsError

Arguments = dict[str, Any]

_Source = tuple[manifests.Manifest, S3Location | None]


def chosen(project: Project, arguments: Arguments, region: str) -> tuple[Images, dict[str, S3Location], bool]:
    """What to train on and test with: manifests given in the request, or the project's datasets."""
    training = _assets(arguments.get("TrainingData"), region)
    testing = _assets(arguments.get("TestingData"), region)
    if training is None:
        training, testing = (_dataset(project.datasets.get(kind)) for kind in ("TRAIN", "TEST"))
    if training is None:
        reason = f"The project {project.name} has no training dataset, and the request has no TrainingData"
        raise AwsError("InvalidParameterException", reason)
    inputs = {"training": training[1]} if training[1] else {}
    if testing is None:
        return split(training[0].entries), inputs, True
    if testing[1]:
        inputs["testing"] = testing[1]
    return Images(training[0].entries, testing[0].entries), inputs, False


def _assets(data: Arguments | None, region: str) -> _Source | None:
    """The manifests of TrainingData or TestingData as one; None where there are none."""
    if not data or not data.get("Assets"):
        return None
    read = [read_manifest(asset.get("GroundTruthManifest", {}), region) for asset in data["Assets"]]
    for manifest, _ in read:
        if manifest.problem:
            raise AwsError("InvalidParameterException", manifest.problem)
    entries = tuple(entry for manifest, _ in read for entry in manifest.entries)
    return manifests.Manifest(entries), read[0][1]


def _dataset(dataset: Dataset | None) -> _Source | None:
    if dataset is None:
        return None
    if dataset.status != "CREATE_COMPLETE":
        reason = f"The dataset {dataset.arn} is {dataset.status}: {dataset.status_message}"
        raise AwsError("InvalidParameterException", reason)
    return dataset.manifest, dataset.source


def read_manifest(ground_truth: Arguments, region: str) -> tuple[manifests.Manifest, S3Location]:
    """The manifest that a GroundTruthManifest names, and where it lies; InvalidS3ObjectException if it is not there."""
    s3_object = ground_truth.get("S3Object", {})
    if not s3_object.get("Bucket") or not s3_object.get("Name"):
        raise AwsError("InvalidParameterException", "GroundTruthManifest.S3Object needs Bucket and Name")
    location = S3Location(s3_object["Bucket"], s3_object["Name"], s3_object.get("Version"))
    return manifests.parse(read_image(s3_object, region)), location
