"""Settings: read once from the environment (prefix ``LABELS_``), validated together, then passed around frozen."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from include.errors import SettingsError
from include.model import ModelName, parse_project_arn, parse_project_version_arn

PREFIX = "LABELS_"


class Settings(BaseSettings):
    """Every setting of the pipeline; ``.env.example`` shows each with its meaning."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", allow_inf_nan=False)

    # What to read and where to write.
    source_bucket: str = Field(min_length=3, max_length=63, description="the inbox: images land here")
    final_bucket: str = Field(min_length=3, max_length=63, description="batches, labels, Parquet, originals")
    queue_url: str = Field(pattern=r"^https?://", description="SQS queue that S3 announces uploads to")
    allowed_buckets: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="further buckets that manual runs and archives may label images of, comma-separated"
    )
    originals: Literal["move", "leave"] = Field(
        default="move", description="move: a labelled upload goes to images/ of the final bucket; leave: it stays"
    )

    # The model.
    region: str = Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$", description="region of model, buckets and queue")
    project_arn: str = Field(description="ARN of the Custom Labels project")
    project_version_arn: str = Field(description="ARN of the project version (the model)")
    inference_units_min: int = Field(default=1, ge=1, le=100, description="fewest inference units to start with")
    inference_units_max: int = Field(
        default=5, ge=1, le=100, validate_default=True, description="most inference units; AWS's default quota is 5"
    )
    start_timeout_minutes: float = Field(default=40, gt=0, le=180, description="longest wait for RUNNING")
    poll_seconds: int = Field(default=5, ge=1, le=300, description="seconds between looks at a starting model")

    # When a start is worth it.
    schedule: str = Field(
        default="@hourly",
        description="cron expression or preset of label_images; empty: only by hand (read by the Dag file)",
    )
    audit_schedule: str = Field(
        default="@daily",
        description='when audit_images runs: cron expression, preset, or "after each run"; empty: only by hand',
    )
    compact_schedule: str = Field(
        default="30 2 * * *",
        description="when compact_labels runs, after midnight UTC: cron expression or preset; empty: only by hand",
    )
    deadline_minutes: float = Field(default=50, gt=0, description="finish a run's images within this, by adding units")
    minimum_backlog: int = Field(default=1, ge=1, description="images that must be pending before the model is started")
    maximum_wait_minutes: float = Field(
        default=180, ge=0, description="start for fewer images once the oldest has waited this long"
    )
    monthly_budget_usd: float | None = Field(
        default=None, ge=0, description="dollars that the model may cost in a calendar month (UTC); empty: no limit"
    )
    max_model_minutes: float | None = Field(
        default=None, ge=1, description="minutes that a run may keep the model RUNNING; empty: no limit"
    )
    archive_minutes: float = Field(
        default=30,
        ge=1,
        description="minutes of a run after which no image of an archive is labelled: uploads come first",
    )
    price_per_unit_hour_usd: float = Field(
        default=4.0, ge=0, description="AWS's price of one inference unit for an hour"
    )
    assumed_images_per_second: float = Field(
        default=5.0, gt=0, description="images a second and unit, until the model's own figure has been learned"
    )

    # How to work.
    batch_size: int = Field(
        default=10_000,
        ge=1,
        le=10_000,
        description="most images of a batch; how many it has follows from the model's rate",
    )
    batch_attempts: int = Field(
        default=5,
        ge=1,
        description="runs that may take up a batch in vain before its images go into quarantine",
    )
    threads: int = Field(default=16, ge=1, le=256, description="parallel S3 and SQS calls of one task")
    inference_threads: int = Field(default=256, ge=1, le=1024, description="most parallel inference calls of one task")
    lease_minutes: float = Field(
        default=10, ge=1, le=60, description="a crashed run loses its right to the model after this"
    )
    foreign_model: Literal["stop", "warn"] = Field(
        default="stop",
        description="what the watchdog does with a model that somebody else has started: stop it, or only warn",
    )
    alerts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="who is told: SNS topic ARNs, and import paths of functions that make a notifier of a line; comma-separated",
    )
    default_threshold: float = Field(
        default=50.0,
        ge=0,
        le=100,
        description="confidence that a label must reach where the model reports no threshold",
    )
    convert_images: bool = Field(
        default=False,
        description="re-encode images that the service refuses (format, size) as JPEG instead of rejecting them",
    )

    # Questions to the results.
    database: str = Field(
        default="labels",
        pattern=r"^[a-z0-9_]{1,255}$",
        description="Glue database of the tables and views over results",
    )
    workgroup: str = Field(
        default="labels",
        pattern=r"^[a-zA-Z0-9._-]{1,128}$",
        description="Athena workgroup; one that is there already is used as it is",
    )
    query_scan_limit_gb: float = Field(
        default=10,
        ge=0.01,
        description="gigabytes that a query may scan before Athena stops it; each costs half a cent",
    )
    query_schedule: str = Field(
        default="",
        description="cron expression or preset of query_labels; empty: only by hand (read by the Dag file)",
    )
    queries: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("label_counts_by_day", "failures_by_reason", "cost_per_thousand_by_week"),
        description="saved queries that query_labels answers where it is not told others, comma-separated",
    )

    # An empty line in .env is a setting that is not made.
    @field_validator("monthly_budget_usd", "max_model_minutes", mode="before")
    @classmethod
    def _is_off(cls, value: Any) -> Any:
        return None if value == "" else value

    @field_validator("allowed_buckets", "alerts", "queries", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    # Checks that compare settings stand on the field that is read last: so each one names its problem beside the others.
    @field_validator("final_bucket")
    @classmethod
    def _is_another_bucket(cls, value: str, others: ValidationInfo) -> str:
        if value == others.data.get("source_bucket"):
            raise ValueError(f"{PREFIX}FINAL_BUCKET is the source bucket: results would announce themselves as uploads")
        return value

    @field_validator("project_arn")
    @classmethod
    def _is_project(cls, value: str) -> str:
        if parse_project_arn(value) is None:
            raise ValueError(
                f"{PREFIX}PROJECT_ARN is not a project's ARN "
                f"(arn:aws:rekognition:<region>:<account>:project/<name>/<id>): {value!r}"
            )
        return value

    @field_validator("project_version_arn")
    @classmethod
    def _is_version_of_project(cls, value: str, others: ValidationInfo) -> str:
        version = parse_project_version_arn(value)
        if version is None:
            raise ValueError(
                f"{PREFIX}PROJECT_VERSION_ARN is not a project version's ARN "
                f"(arn:aws:rekognition:<region>:<account>:project/<name>/version/<version>/<id>): {value!r}"
            )
        problems = []
        project = parse_project_arn(others.data.get("project_arn", ""))
        for what in ("project", "account", "region"):
            mine = getattr(version, what)
            if project and mine != getattr(project, what):
                problems.append(
                    f"{PREFIX}PROJECT_VERSION_ARN belongs to {what} {mine!r}, "
                    f"{PREFIX}PROJECT_ARN to {getattr(project, what)!r}"
                )
        region = others.data.get("region", version.region)
        if version.region != region:
            problems.append(
                f"{PREFIX}PROJECT_VERSION_ARN is in region {version.region!r}, {PREFIX}REGION is {region!r}"
            )
        if problems:
            raise ValueError("\n".join(problems))
        return value

    @field_validator("inference_units_max")
    @classmethod
    def _is_not_below_minimum(cls, value: int, others: ValidationInfo) -> int:
        least = others.data.get("inference_units_min", value)
        if value < least:
            raise ValueError(
                f"{PREFIX}INFERENCE_UNITS_MIN ({least}) is more than {PREFIX}INFERENCE_UNITS_MAX ({value})"
            )
        return value

    @property
    def model(self) -> ModelName:
        """The names inside the project version's ARN."""
        name = parse_project_version_arn(self.project_version_arn)
        if name is None:
            raise SettingsError(
                f"{PREFIX}PROJECT_VERSION_ARN is not a project version's ARN: {self.project_version_arn}"
            )
        return name

    @property
    def readable_buckets(self) -> frozenset[str]:
        """Buckets that images may be labelled from."""
        return frozenset({self.source_bucket, *self.allowed_buckets})


def load_settings(**overrides: Any) -> Settings:
    """Read ``LABELS_*`` from the environment.

    :raises SettingsError: listing every missing and every wrong setting in one message.
    """
    try:
        return Settings(**overrides)
    except ValidationError as err:
        lines = [line for problem in err.errors() for line in _in_words(dict(problem))]
        raise SettingsError(
            f"{len(lines)} setting(s) to mend (see .env.example):\n" + "\n".join(f"  - {line}" for line in lines)
        ) from err


def _in_words(problem: dict[str, Any]) -> list[str]:
    if problem["type"] == "value_error":
        return re.sub(r"^Value error, ", "", problem["msg"]).split("\n")
    field = str(problem["loc"][0])
    name = PREFIX + field.upper()
    meaning = Settings.model_fields[field].description
    if problem["type"] == "missing":
        return [f"{name} is not set ({meaning})"]
    return [f"{name}={problem['input']!r}: {problem['msg'][0].lower()}{problem['msg'][1:]} ({meaning})"]
