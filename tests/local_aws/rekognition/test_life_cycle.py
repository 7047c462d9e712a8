"""Custom Labels as clients see it: projects, training, and a model's life."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local_aws.process import LocalAws
from tests.local_aws.models import DATA_BUCKET, Model, put_examples, put_manifest, status, wait_for

NO_PROJECT = "arn:aws:rekognition:us-east-1:123456789012:project/none/1234567890123"
NO_VERSION = "arn:aws:rekognition:us-east-1:123456789012:project/none/version/v/1234567890123"


@pytest.fixture
def rekognition(aws: LocalAws) -> Any:
    return aws.client("rekognition", retries={"total_max_attempts": 1})


def code(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def train(rekognition: Any, project_arn: str, version_name: str, **more: Any) -> dict[str, Any]:
    """Train a version and wait; its description."""
    output = {"S3Bucket": DATA_BUCKET, "S3KeyPrefix": f"output/{version_name}"}
    rekognition.create_project_version(ProjectArn=project_arn, VersionName=version_name, OutputConfig=output, **more)

    def described() -> dict[str, Any]:
        answer = rekognition.describe_project_versions(ProjectArn=project_arn, VersionNames=[version_name])
        return dict(answer["ProjectVersionDescriptions"][0])

    wait_for(lambda: described()["Status"] != "TRAINING_IN_PROGRESS", seconds=60)
    return described()


def test_training_reports_what_it_learnt_and_where_it_wrote_it(aws: LocalAws, rekognition: Any, model: Model) -> None:
    [version] = rekognition.describe_project_versions(ProjectArn=model.project_arn)["ProjectVersionDescriptions"]
    assert version["ProjectVersionArn"] == model.version_arn
    assert version["BillableTrainingTimeInSeconds"] >= 1
    assert version["EvaluationResult"]["F1Score"] > 0.8
    location = version["EvaluationResult"]["Summary"]["S3Object"]
    s3 = aws.client("s3")
    summary = json.load(s3.get_object(Bucket=location["Bucket"], Key=location["Name"])["Body"])
    assert summary["EvaluationDetails"]["Labels"] == ["ball", "tile"]
    assert summary["EvaluationDetails"]["NumberOfTrainingImages"] == 24
    for label in summary["LabelEvaluationResults"]:
        assert label["NumberOfTestingImages"] == 6
        assert 0 <= label["Metrics"]["Threshold"] <= 1
    manifest = version["TestingDataResult"]["Output"]["Assets"][0]["GroundTruthManifest"]["S3Object"]
    lines = s3.get_object(Bucket=manifest["Bucket"], Key=manifest["Name"])["Body"].read().splitlines()
    assert len(lines) == 12
    assert "class-map" in json.loads(lines[0])["boxes-metadata"]


def test_datasets_are_described_with_their_errors(aws: LocalAws, rekognition: Any, model: Model, name: str) -> None:
    s3 = aws.client("s3")
    project_arn = rekognition.create_project(ProjectName=name)["ProjectArn"]
    lines = put_examples(s3, 3, prefix=name, first_seed=0)
    source = put_manifest(s3, f"{name}/one-bad.manifest", [*lines, {"no": "source"}])
    arn = rekognition.create_dataset(ProjectArn=project_arn, DatasetType="TRAIN", DatasetSource=source)["DatasetArn"]
    described = rekognition.describe_dataset(DatasetArn=arn)["DatasetDescription"]
    assert described["Status"] == "CREATE_COMPLETE"
    assert described["DatasetStats"] == {"LabeledEntries": 6, "TotalEntries": 7, "TotalLabels": 2, "ErrorEntries": 1}
    with pytest.raises(rekognition.exceptions.ResourceAlreadyExistsException):
        rekognition.create_dataset(ProjectArn=project_arn, DatasetType="TRAIN", DatasetSource=source)
    bad = put_manifest(s3, f"{name}/bad.manifest", [{"no": "source"}] * 3)
    arn = rekognition.create_dataset(ProjectArn=project_arn, DatasetType="TEST", DatasetSource=bad)["DatasetArn"]
    described = rekognition.describe_dataset(DatasetArn=arn)["DatasetDescription"]
    assert described["Status"] == "CREATE_FAILED"
    assert "3 of 3" in described["StatusMessage"]
    missing = {"GroundTruthManifest": {"S3Object": {"Bucket": DATA_BUCKET, "Name": "nothing here"}}}
    with pytest.raises(rekognition.exceptions.InvalidS3ObjectException):
        rekognition.create_dataset(ProjectArn=project_arn, DatasetType="TEST", DatasetSource=missing)


def test_a_fifth_of_the_images_test_where_no_test_images_are_given(
    aws: LocalAws, rekognition: Any, model: Model, name: str
) -> None:
    s3 = aws.client("s3")
    project_arn = rekognition.create_project(ProjectName=name)["ProjectArn"]
    lines = put_examples(s3, 10, prefix=name, first_seed=0, boxes=False)
    asset = put_manifest(s3, f"{name}.manifest", lines)
    version = train(rekognition, project_arn, name, TrainingData={"Assets": [asset]}, TestingData={"AutoCreate": True})
    assert version["Status"] == "TRAINING_COMPLETED"
    assert version["TestingDataResult"]["Input"]["AutoCreate"] is True
    location = version["EvaluationResult"]["Summary"]["S3Object"]
    summary = json.load(s3.get_object(Bucket=location["Bucket"], Key=location["Name"])["Body"])
    assert summary["EvaluationDetails"]["NumberOfTestingImages"] == 4


def test_training_on_one_label_or_on_missing_images_fails_with_the_reason(
    aws: LocalAws, rekognition: Any, model: Model, name: str
) -> None:
    s3 = aws.client("s3")
    project_arn = rekognition.create_project(ProjectName=name)["ProjectArn"]
    lines = put_examples(s3, 5, prefix=name, first_seed=0, boxes=False)
    one_label = put_manifest(s3, f"{name}/one.manifest", lines[:5])
    version = train(rekognition, project_arn, "one-label", TrainingData={"Assets": [one_label]})
    assert version["Status"] == "TRAINING_FAILED"
    assert "label" in version["StatusMessage"]
    for line in lines[:6]:
        line["source-ref"] += ".gone"
    gone = put_manifest(s3, f"{name}/gone.manifest", lines)
    version = train(rekognition, project_arn, "gone", TrainingData={"Assets": [gone]})
    assert version["Status"] == "TRAINING_FAILED"
    assert ".gone" in version["StatusMessage"]
    with pytest.raises(rekognition.exceptions.ResourceInUseException):
        rekognition.start_project_version(ProjectVersionArn=version["ProjectVersionArn"], MinInferenceUnits=1)


def test_training_that_cannot_write_its_results_fails(
    aws: LocalAws, rekognition: Any, model: Model, bucket: str, name: str
) -> None:
    project_arn = rekognition.create_project(ProjectName=name)["ProjectArn"]
    source = {"S3Object": {"Bucket": DATA_BUCKET, "Name": "train.manifest"}}
    arguments = {
        "ProjectArn": project_arn,
        "VersionName": "v",
        "TrainingData": {"Assets": [{"GroundTruthManifest": source}]},
    }
    with pytest.raises(rekognition.exceptions.InvalidParameterException, match="no-such-bucket"):
        rekognition.create_project_version(**arguments, OutputConfig={"S3Bucket": "no-such-bucket"})
    # Its training comes after these: so the bucket is gone before there are results.
    for number in range(4):
        busy = arguments | {"ProjectArn": rekognition.create_project(ProjectName=f"{name}-{number}")["ProjectArn"]}
        rekognition.create_project_version(**busy, OutputConfig={"S3Bucket": DATA_BUCKET})
    arn = rekognition.create_project_version(**arguments, OutputConfig={"S3Bucket": bucket})["ProjectVersionArn"]
    aws.client("s3").delete_bucket(Bucket=bucket)
    version = Model(project_arn, arn, "v")
    wait_for(lambda: status(rekognition, version) == "TRAINING_FAILED", seconds=60)


def test_boto3_waits_until_a_model_runs(rekognition: Any, model: Model) -> None:
    started = rekognition.start_project_version(
        ProjectVersionArn=model.version_arn, MinInferenceUnits=2, MaxInferenceUnits=4
    )
    assert started["Status"] == "STARTING"
    with pytest.raises(rekognition.exceptions.ResourceInUseException):
        rekognition.start_project_version(ProjectVersionArn=model.version_arn, MinInferenceUnits=1)
    waiter = rekognition.get_waiter("project_version_running")
    waiter.wait(ProjectArn=model.project_arn, VersionNames=["v1"], WaiterConfig={"Delay": 1, "MaxAttempts": 5})
    [version] = rekognition.describe_project_versions(ProjectArn=model.project_arn)["ProjectVersionDescriptions"]
    assert (version["MinInferenceUnits"], version["MaxInferenceUnits"]) == (2, 4)
    assert version["StatusMessage"] == "The model is running."
    assert rekognition.stop_project_version(ProjectVersionArn=model.version_arn)["Status"] == "STOPPING"
    with pytest.raises(rekognition.exceptions.ResourceInUseException):
        rekognition.stop_project_version(ProjectVersionArn=model.version_arn)
    wait_for(lambda: status(rekognition, model) == "STOPPED")


def test_a_start_that_fails_ends_in_failed_with_its_message(aws: LocalAws, rekognition: Any, model: Model) -> None:
    aws.set_model(model.version_arn, next_start_fails="Insufficient capacity")
    rekognition.start_project_version(ProjectVersionArn=model.version_arn, MinInferenceUnits=1)
    wait_for(lambda: status(rekognition, model) == "FAILED")
    [version] = rekognition.describe_project_versions(ProjectArn=model.project_arn)["ProjectVersionDescriptions"]
    assert version["StatusMessage"] == "Insufficient capacity"


def test_describing_can_be_made_slow(aws: LocalAws, rekognition: Any, model: Model) -> None:
    aws.settings(describe_delay=0.5)
    started = time.monotonic()
    status(rekognition, model)
    assert time.monotonic() - started >= 0.5


def test_the_meter_counts_a_run(aws: LocalAws, rekognition: Any, model: Model) -> None:
    def bill() -> dict[str, Any]:
        found = [each for each in aws.meter()["models"] if each["project_version_arn"] == model.version_arn]
        return dict(found[0]) if found else {"unit_seconds": 0, "cost_usd": 0}

    before = bill()
    rekognition.start_project_version(ProjectVersionArn=model.version_arn, MinInferenceUnits=3)
    wait_for(lambda: status(rekognition, model) == "RUNNING")
    rekognition.stop_project_version(ProjectVersionArn=model.version_arn)
    wait_for(lambda: status(rekognition, model) == "STOPPED")
    after = bill()
    unit_seconds = after["unit_seconds"] - before["unit_seconds"]
    assert unit_seconds >= 3 * 0.2
    assert after["cost_usd"] - before["cost_usd"] == pytest.approx(unit_seconds / 3600 * 4)
    time.sleep(0.1)
    assert bill() == after


def test_what_does_not_exist_is_not_found(rekognition: Any) -> None:
    image = {"Bytes": b"x"}
    calls: list[Callable[[], Any]] = [
        lambda: rekognition.describe_project_versions(ProjectArn=NO_PROJECT),
        lambda: rekognition.start_project_version(ProjectVersionArn=NO_VERSION, MinInferenceUnits=1),
        lambda: rekognition.stop_project_version(ProjectVersionArn=NO_VERSION),
        lambda: rekognition.delete_project_version(ProjectVersionArn=NO_VERSION),
        lambda: rekognition.detect_custom_labels(ProjectVersionArn=NO_VERSION, Image=image),
        lambda: rekognition.list_tags_for_resource(ResourceArn=NO_VERSION),
    ]
    for call in calls:
        with pytest.raises(rekognition.exceptions.ResourceNotFoundException):
            call()


def test_projects_and_versions_come_in_pages(aws: LocalAws, rekognition: Any, model: Model, name: str) -> None:
    arns = [rekognition.create_project(ProjectName=f"{name}-{n}")["ProjectArn"] for n in range(5)]
    names = [f"{name}-{n}" for n in range(5)]
    paginator = rekognition.get_paginator("describe_projects")
    pages = list(paginator.paginate(ProjectNames=names, PaginationConfig={"PageSize": 2}))
    assert [len(page["ProjectDescriptions"]) for page in pages] == [2, 2, 1]
    assert {each["ProjectArn"] for page in pages for each in page["ProjectDescriptions"]} == set(arns)
    with pytest.raises(rekognition.exceptions.InvalidPaginationTokenException):
        rekognition.describe_projects(NextToken="no such token")
    with pytest.raises(rekognition.exceptions.ResourceInUseException):
        rekognition.create_project(ProjectName=f"{name}-0")
    assert rekognition.delete_project(ProjectArn=arns[0])["Status"] == "DELETING"
    assert len(rekognition.describe_projects(ProjectNames=names)["ProjectDescriptions"]) == 4

    source = {"Bucket": DATA_BUCKET, "Name": "train.manifest"}
    data = {"Assets": [{"GroundTruthManifest": {"S3Object": source}}]}
    for number in range(3):
        rekognition.create_project_version(
            ProjectArn=arns[1], VersionName=f"v{number}", OutputConfig={"S3Bucket": DATA_BUCKET}, TrainingData=data
        )
    paginator = rekognition.get_paginator("describe_project_versions")
    pages = list(paginator.paginate(ProjectArn=arns[1], PaginationConfig={"PageSize": 2}))
    found = [each["ProjectVersionArn"].split("/")[3] for page in pages for each in page["ProjectVersionDescriptions"]]
    assert found == ["v2", "v1", "v0"]


def test_tags_are_kept(rekognition: Any, model: Model) -> None:
    rekognition.tag_resource(ResourceArn=model.version_arn, Tags={"team": "labels", "stage": "test"})
    rekognition.untag_resource(ResourceArn=model.version_arn, TagKeys=["stage"])
    assert rekognition.list_tags_for_resource(ResourceArn=model.version_arn)["Tags"] == {"team": "labels"}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({}, "Value null at 'projectVersionArn' failed to satisfy constraint: Member must not be null"),
        (
            {"ProjectVersionArn": "arn:aws:rekognition:nonsense", "MinInferenceUnits": 1},
            "Member must satisfy regular expression pattern",
        ),
        (
            {"ProjectVersionArn": NO_VERSION, "MinInferenceUnits": 0},
            "Member must have value greater than or equal to 1",
        ),
    ],
)
def test_input_that_breaks_a_constraint_is_refused_in_the_service_s_words(
    aws: LocalAws, arguments: dict[str, Any], why: str
) -> None:
    lax = aws.client("rekognition", parameter_validation=False, retries={"total_max_attempts": 1})
    with pytest.raises(ClientError, match=why) as error:
        lax.start_project_version(**arguments)
    assert code(error) == "ValidationException"
    assert "validation error" in str(error.value)


def test_an_operation_that_is_not_answered_says_so_at_once(aws: LocalAws) -> None:
    patient = aws.client("rekognition", retries={"total_max_attempts": 5})
    with pytest.raises(ClientError, match="DetectLabels") as error:
        patient.detect_labels(Image={"Bytes": b"x"})
    assert code(error) == "NotImplementedException"
    assert error.value.response["ResponseMetadata"]["RetryAttempts"] == 0


def test_control_operations_over_the_account_s_rate_are_throttled(aws: LocalAws, rekognition: Any) -> None:
    aws.settings(control_tps=2)
    errors = []
    for _ in range(10):
        try:
            rekognition.describe_projects()
        except ClientError as error:
            errors.append(error.response["Error"]["Code"])
    assert len(errors) >= 5
    assert set(errors) == {"ThrottlingException"}
    retrying = aws.client("rekognition", retries={"mode": "standard", "total_max_attempts": 8})
    assert "ProjectDescriptions" in retrying.describe_projects()


def test_the_aws_command_line_works(aws: LocalAws, model: Model, tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("aws")
    environment = {**aws.environment(), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}

    def run(*arguments: str) -> Any:
        done = subprocess.run(
            [command, "--endpoint-url", aws.endpoint_url, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return json.loads(done.stdout) if done.stdout.startswith("{") else done.stdout

    started = run(
        *("rekognition", "start-project-version", "--min-inference-units", "1"),
        *("--project-version-arn", model.version_arn),
    )
    assert started == {"Status": "STARTING"}
    image = tmp_path / "an image (1).jpg"
    image.write_bytes(b"x")
    run("s3", "cp", str(image), f"s3://{DATA_BUCKET}/cli/")
    assert "an image (1).jpg" in run("s3", "ls", f"s3://{DATA_BUCKET}/cli/")
    url = run("sqs", "create-queue", "--queue-name", "cli")["QueueUrl"]
    run("sqs", "send-message", "--queue-url", url, "--message-body", "hello")
    assert run("sqs", "receive-message", "--queue-url", url)["Messages"][0]["Body"] == "hello"
