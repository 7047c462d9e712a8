"""One server for all tests of it, and one model that is trained on it once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from local_aws.process import LocalAws
from tests.local_aws.models import DATA_BUCKET, Model, put_examples, put_manifest, status, wait_for

DEFAULTS = {
    "start_seconds": 0.3,
    "stop_seconds": 0.2,
    "time_scale": 1,
    "tps_per_unit": 1000,
    "account_tps": 1000,
    "control_tps": 1000,
    "inference_latency": 0,
    "inference_latency_spread": 0,
    "describe_delay": 0,
    "describe_lag": 0,
    "max_running_models": 2,
    "stop_while_starting": "accept",
}

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[LocalAws]:
    """The server; its settings are put back and its faults removed before each test that uses `aws`."""
    with LocalAws() as aws:
        yield aws


@pytest.fixture
def aws(server: LocalAws) -> LocalAws:
    """The server with fast settings and no faults."""
    server.clear_faults()
    server.settings(**DEFAULTS)
    return server


@pytest.fixture
def name() -> str:
    """A name that no other test uses, for a bucket, queue or project."""
    return f"test-{next(_numbers)}"


@pytest.fixture
def bucket(aws: LocalAws, name: str) -> str:
    """A new bucket."""
    aws.client("s3").create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="session")
def trained(server: LocalAws) -> Model:
    """A detection model of two labels, trained through the API as a client would."""
    server.settings(**DEFAULTS)
    s3, rekognition = server.client("s3"), server.client("rekognition")
    s3.create_bucket(Bucket=DATA_BUCKET)
    project_arn = rekognition.create_project(ProjectName="shapes")["ProjectArn"]
    for kind, count, first_seed in (("TRAIN", 12, 0), ("TEST", 6, 100)):
        lines = put_examples(s3, count, prefix=kind.lower(), first_seed=first_seed)
        source = put_manifest(s3, f"{kind.lower()}.manifest", lines)
        rekognition.create_dataset(ProjectArn=project_arn, DatasetType=kind, DatasetSource=source)
    version_arn = rekognition.create_project_version(
        ProjectArn=project_arn,
        VersionName="v1",
        OutputConfig={"S3Bucket": DATA_BUCKET, "S3KeyPrefix": "output"},
    )["ProjectVersionArn"]
    waiter = rekognition.get_waiter("project_version_training_completed")
    waiter.wait(ProjectArn=project_arn, VersionNames=["v1"], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    return Model(project_arn, version_arn, "v1")


@pytest.fixture
def model(aws: LocalAws, trained: Model) -> Iterator[Model]:
    """The trained model, STOPPED or never started; stopped again afterwards."""
    yield trained
    aws.clear_faults()
    aws.settings(**DEFAULTS)
    aws.set_model(trained.version_arn, status="STOPPED")


@pytest.fixture
def running(aws: LocalAws, model: Model) -> Model:
    """The trained model, RUNNING."""
    rekognition = aws.client("rekognition")
    rekognition.start_project_version(ProjectVersionArn=model.version_arn, MinInferenceUnits=1)
    wait_for(lambda: status(rekognition, model) == "RUNNING")
    return model
