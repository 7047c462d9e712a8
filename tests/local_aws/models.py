"""A model of drawn shapes, its training data, and waiting for what a server does."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.local_aws import drawings

DATA_BUCKET = "training-data"


@dataclass(frozen=True)
class Model:
    """A trained model that is not running, and images that it was not trained on."""

    project_arn: str
    version_arn: str
    version_name: str


def put_examples(s3: Any, count: int, *, prefix: str, first_seed: int, boxes: bool = True) -> list[dict[str, Any]]:
    """Draw and store `count` images of each shape; their manifest lines."""
    lines = []
    for shape in ("ball", "tile"):
        for seed in range(first_seed, first_seed + count):
            data, box = drawings.scene(shape, seed)
            key = f"{prefix}/{shape} {seed}.jpg"
            s3.put_object(Bucket=DATA_BUCKET, Key=key, Body=data)
            uri = f"s3://{DATA_BUCKET}/{key}"
            line = drawings.detection_line(uri, shape, box) if boxes else drawings.classification_line(uri, shape)
            lines.append(line)
    return lines


def put_manifest(s3: Any, key: str, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Store a manifest; the GroundTruthManifest that names it."""
    s3.put_object(Bucket=DATA_BUCKET, Key=key, Body=drawings.json_lines(lines))
    return {"GroundTruthManifest": {"S3Object": {"Bucket": DATA_BUCKET, "Name": key}}}


def status(rekognition: Any, model: Model) -> str:
    """The model's status now."""
    described = rekognition.describe_project_versions(ProjectArn=model.project_arn, VersionNames=[model.version_name])
    return str(described["ProjectVersionDescriptions"][0]["Status"])


def wait_for(is_true: Callable[[], bool], *, seconds: float = 10) -> None:
    """Ask until it is true, at most so long."""
    until = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < until, "it did not come true in time"
        time.sleep(0.02)
