"""Projects, datasets and versions as the Describe operations return them."""

from __future__ import annotations

from typing import Any

from local_aws.rekognition.resources import Dataset, Project, ProjectVersion, S3Location

Arguments = dict[str, Any]


def describe_project(project: Project) -> Arguments:
    """A ProjectDescription."""
    return {
        "ProjectArn": project.arn,
        "CreationTimestamp": project.created_at,
        "Status": "CREATED",
        "Feature": project.feature,
        "AutoUpdate": project.auto_update,
        "Datasets": [
            {
                "CreationTimestamp": dataset.created_at,
                "DatasetType": dataset.kind,
                "DatasetArn": dataset.arn,
                "Status": dataset.status,
            }
            for dataset in project.datasets.values()
        ],
    }


def describe_dataset(dataset: Dataset) -> Arguments:
    """A DatasetDescription."""
    entries, errors = dataset.manifest.entries, dataset.manifest.errors
    return {
        "CreationTimestamp": dataset.created_at,
        "LastUpdatedTimestamp": dataset.created_at,
        "Status": dataset.status,
        "StatusMessage": dataset.status_message or "The dataset was created.",
        "StatusMessageCode": "CLIENT_ERROR" if dataset.status_message else "SUCCESS",
        "DatasetStats": {
            "LabeledEntries": sum(1 for entry in entries if entry.labels),
            "TotalEntries": len(entries) + len(errors),
            "TotalLabels": len(dataset.manifest.label_names),
            "ErrorEntries": len(errors),
        },
    }


def describe_version(version: ProjectVersion) -> Arguments:
    """A ProjectVersionDescription."""
    trained = version.trained
    description = present(
        ProjectVersionArn=version.arn,
        CreationTimestamp=version.created_at,
        Status=version.status,
        StatusMessage=version.status_message or None,
        MinInferenceUnits=version.min_units,
        MaxInferenceUnits=version.max_units,
        TrainingEndTimestamp=version.training_ended_at,
        VersionDescription=version.description or None,
        Feature="CUSTOM_LABELS",
        OutputConfig={"S3Bucket": version.output.bucket, "S3KeyPrefix": version.output.key},
        TrainingDataResult={"Input": _asset_list(version.inputs.get("training"))},
        TestingDataResult={
            "Input": {**_asset_list(version.inputs.get("testing")), "AutoCreate": version.auto_created_test}
        },
    )
    if trained is not None:
        description["BillableTrainingTimeInSeconds"] = trained.billable_seconds
        description["EvaluationResult"] = {"F1Score": trained.f1, "Summary": {"S3Object": _s3_object(trained.summary)}}
        description["TrainingDataResult"]["Output"] = _asset_list(trained.manifests["training"])
        description["TestingDataResult"]["Output"] = _asset_list(trained.manifests["testing"])
    return description


def _asset_list(location: S3Location | None) -> Arguments:
    return {"Assets": [{"GroundTruthManifest": {"S3Object": _s3_object(location)}}] if location else []}


def _s3_object(location: S3Location) -> Arguments:
    return present(Bucket=location.bucket, Name=location.key, Version=location.version_id)


def present(**members: Any) -> Arguments:
    """The members that there are."""
    return {name: value for name, value in members.items() if value is not None}
