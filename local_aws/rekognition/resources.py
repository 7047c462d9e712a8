"""Projects, datasets and project versions, as an account holds them. Times are epoch seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from local_aws.rekognition.manifests import Manifest


@dataclass(frozen=True)
class S3Location:
    """An S3 object; `version_id` is None for the newest."""

    bucket: str
    key: str
    version_id: str | None = None


@dataclass(eq=False)
class Dataset:
    """Training or test images of a project, read from a Ground Truth manifest."""

    arn: str
    kind: str  # TRAIN or TEST
    created_at: float
    source: S3Location | None
    manifest: Manifest
    status: str = "CREATE_COMPLETE"
    status_message: str = ""
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(eq=False)
class Project:
    """A project; its versions are the account's, by ARN."""

    arn: str
    name: str
    created_at: float
    feature: str = "CUSTOM_LABELS"
    auto_update: str = "DISABLED"
    tags: dict[str, str] = field(default_factory=dict)
    datasets: dict[str, Dataset] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainedModel:
    """What training gave: the model itself, and each label's assumed threshold (0-1)."""

    model: bytes
    kind: str  # detection or classification
    thresholds: Mapping[str, float]
    f1: float
    billable_seconds: int
    summary: S3Location
    manifests: Mapping[str, S3Location]  # training, testing: as used; by the names of DescribeProjectVersions


@dataclass(eq=False)
class ProjectVersion:
    """A model: where it stands in its life cycle and what it was trained to."""

    arn: str
    name: str
    project_arn: str
    created_at: float
    output: S3Location
    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    status: str = "TRAINING_IN_PROGRESS"
    status_message: str = ""
    changes_at: float | None = None  # when STARTING or STOPPING ends
    start_fails: str | None = None  # what the start going on will end with
    next_start_fails: str | None = None
    min_units: int | None = None
    max_units: int | None = None
    training_ended_at: float | None = None
    inputs: Mapping[str, S3Location] = field(default_factory=dict)
    auto_created_test: bool = False
    trained: TrainedModel | None = None
