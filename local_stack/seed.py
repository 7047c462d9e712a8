"""What an AWS account needs before the first run: buckets, queues, the notification between them, a trained model."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import boto3
from botocore.exceptions import ClientError

from local_stack.environment import ACCOUNT, REGION, Site
from local_stack.scenes import PRODUCTS, TEST_SEEDS, TRAINING_SEEDS, draw_scene, encode, ground_truth_line

SOURCE_BUCKET: Final = "uploads"
FINAL_BUCKET: Final = "labelled-images"
TRAINING_BUCKET: Final = "training-images"
QUEUE: Final = "uploads"
DEAD_LETTER_QUEUE: Final = "uploads-dead-letters"
PROJECT: Final = "products"
VERSION: Final = "products-v1"
TRAINING_IMAGES: Final = 80
TEST_IMAGES: Final = 30
RECEIVES_BEFORE_DEAD_LETTER: Final = 5


def main() -> None:
    """``python -m local_stack.seed FILE``: seed the AWS that ``AWS_ENDPOINT_URL`` names, and tell a shell its settings.

    FILE becomes a script of ``export LABELS_…`` at once as a whole: others may be reading it.
    """
    [file] = map(Path, sys.argv[1:])
    s3, sqs, rekognition = (boto3.client(service) for service in ("s3", "sqs", "rekognition"))
    create_buckets_and_queues(s3, sqs)
    project_arn, version_arn = train_model(s3, rekognition)
    wait_until_trained(rekognition, project_arn)
    settings = _settings(sqs.get_queue_url(QueueName=QUEUE)["QueueUrl"], project_arn, version_arn)
    part = file.with_suffix(".part")
    part.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in settings.items()))
    part.replace(file)


def create_buckets_and_queues(s3: Any, sqs: Any) -> None:
    """Idempotent; the source bucket announces every created object to the queue."""
    for bucket in (SOURCE_BUCKET, FINAL_BUCKET, TRAINING_BUCKET):
        s3.create_bucket(Bucket=bucket)
    sqs.create_queue(QueueName=DEAD_LETTER_QUEUE, Attributes={"MessageRetentionPeriod": str(14 * 24 * 3600)})
    redrive = {"deadLetterTargetArn": _queue_arn(DEAD_LETTER_QUEUE), "maxReceiveCount": RECEIVES_BEFORE_DEAD_LETTER}
    queue = {"RedrivePolicy": json.dumps(redrive), "VisibilityTimeout": "300", "Policy": json.dumps(_queue_policy())}
    sqs.create_queue(QueueName=QUEUE, Attributes=queue)
    # No suffix filter: S3 compares them with case, and .JPG or .jpeg would never be announced.
    notification = {"QueueArn": _queue_arn(QUEUE), "Events": ["s3:ObjectCreated:*"]}
    s3.put_bucket_notification_configuration(
        Bucket=SOURCE_BUCKET, NotificationConfiguration={"QueueConfigurations": [notification]}
    )


def train_model(s3: Any, rekognition: Any) -> tuple[str, str]:
    """Train on drawn scenes, through the API as one would train on AWS; ARNs of project and version.

    A model that is there already is taken as it is.
    """
    try:
        project_arn = rekognition.create_project(ProjectName=PROJECT)["ProjectArn"]
    except ClientError as err:
        if err.response["Error"]["Code"] != "ResourceInUseException":
            raise
        project_arn = rekognition.describe_projects(ProjectNames=[PROJECT])["ProjectDescriptions"][0]["ProjectArn"]
    known = rekognition.describe_project_versions(ProjectArn=project_arn, VersionNames=[VERSION])
    for version in known["ProjectVersionDescriptions"]:
        return project_arn, version["ProjectVersionArn"]
    for kind, seeds, images in (("TRAIN", TRAINING_SEEDS, TRAINING_IMAGES), ("TEST", TEST_SEEDS, TEST_IMAGES)):
        manifest = _upload_manifest(s3, kind.lower(), seeds[:images])
        source = {"GroundTruthManifest": {"S3Object": {"Bucket": TRAINING_BUCKET, "Name": manifest}}}
        rekognition.create_dataset(ProjectArn=project_arn, DatasetType=kind, DatasetSource=source)
    output = {"S3Bucket": TRAINING_BUCKET, "S3KeyPrefix": "evaluation"}
    version_arn = rekognition.create_project_version(ProjectArn=project_arn, VersionName=VERSION, OutputConfig=output)
    return project_arn, version_arn["ProjectVersionArn"]


def wait_until_trained(rekognition: Any, project_arn: str) -> dict[str, Any]:
    """The trained version's description."""
    while True:
        answer = rekognition.describe_project_versions(ProjectArn=project_arn, VersionNames=[VERSION])
        description = dict(answer["ProjectVersionDescriptions"][0])
        if description["Status"] == "TRAINING_FAILED":
            raise RuntimeError(f"Training failed: {description.get('StatusMessage')}")
        if description["Status"] != "TRAINING_IN_PROGRESS":
            return description
        time.sleep(0.3)


def pipeline_settings(site: Site, project_arn: str, version_arn: str) -> dict[str, str]:
    """``LABELS_*`` for this account; what a deployment on AWS sets to its own names."""
    return _settings(queue_url(site, QUEUE), project_arn, version_arn)


def queue_url(site: Site, name: str) -> str:
    return f"{site.aws_url}/{ACCOUNT}/{name}"


def _settings(uploads_url: str, project_arn: str, version_arn: str) -> dict[str, str]:
    return {
        "LABELS_SOURCE_BUCKET": SOURCE_BUCKET,
        "LABELS_FINAL_BUCKET": FINAL_BUCKET,
        "LABELS_QUEUE_URL": uploads_url,
        "LABELS_REGION": REGION,
        "LABELS_PROJECT_ARN": project_arn,
        "LABELS_PROJECT_VERSION_ARN": version_arn,
    }


def _upload_manifest(s3: Any, kind: str, seeds: range) -> str:
    class_ids = {label: number for number, label in enumerate(PRODUCTS)}
    created = datetime.now(UTC)

    def lines() -> Iterator[dict[str, Any]]:
        with ThreadPoolExecutor(max_workers=8) as pool:
            for seed in seeds:
                scene = draw_scene(seed)
                key = f"{kind}/{seed}.jpg"
                pool.submit(s3.put_object, Bucket=TRAINING_BUCKET, Key=key, Body=encode(scene.image, "JPEG"))
                yield ground_truth_line(f"s3://{TRAINING_BUCKET}/{key}", "products", scene, class_ids, created)

    manifest = f"{kind}.manifest"
    body = "".join(json.dumps(line) + "\n" for line in lines())
    s3.put_object(Bucket=TRAINING_BUCKET, Key=manifest, Body=body.encode())
    return manifest


def _queue_arn(name: str) -> str:
    return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"


def _queue_policy() -> dict[str, Any]:
    """Only this bucket of this account may send."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "s3.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": _queue_arn(QUEUE),
                "Condition": {
                    "ArnEquals": {"aws:SourceArn": f"arn:aws:s3:::{SOURCE_BUCKET}"},
                    "StringEquals": {"aws:SourceAccount": ACCOUNT},
                },
            }
        ],
    }


if __name__ == "__main__":
    main()
