"""The Custom Labels of one account: life cycle, limits and bill, apart from any protocol.

The statuses and which of them allows what:
https://docs.aws.amazon.com/rekognition/latest/customlabels-dg/running-model.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from local_aws.rekognition.history import StatusHistory
from local_aws.rekognition.meter import Meter
from local_aws.rekognition.resources import Dataset, Project, ProjectVersion, S3Location, TrainedModel
from local_aws.rekognition.throttle import TokenBucket
from local_aws.settings import Settings
from local_aws.wire import AwsError

# A copied model is startable as a trained one is. AWS does not say whether a FAILED one is; here it is not.
STARTABLE = ("TRAINING_COMPLETED", "STOPPED", "COPYING_COMPLETED")
# These occupy one of the models that an account may run at a time.
ACTIVE = ("STARTING", "RUNNING", "STOPPING")
STATUSES = (
    *("TRAINING_IN_PROGRESS", "TRAINING_COMPLETED", "TRAINING_FAILED", "STARTING", "RUNNING", "FAILED", "STOPPING"),
    *("STOPPED", "DELETING", "COPYING_IN_PROGRESS", "COPYING_COMPLETED", "COPYING_FAILED", "DEPRECATED", "EXPIRED"),
)
# https://docs.aws.amazon.com/general/latest/gr/rekognition.html
MAX_PROJECTS = 100
MAX_VERSIONS = 100


class Account:
    """Everything is evaluated when it is asked for: no timer runs, `clock` (epoch seconds) says how far things are."""

    def __init__(self, account_id: str, settings: Settings, clock: Callable[[], float]) -> None:
        self.account_id = account_id
        self.settings = settings
        self.clock = clock
        self.clear()

    def clear(self) -> None:
        """Forget everything but the settings."""
        self.projects: dict[str, Project] = {}
        self.versions: dict[str, ProjectVersion] = {}
        self.meter = Meter()
        self._buckets: dict[str, TokenBucket] = {}
        self._history = StatusHistory()
        self._calls_left: dict[str, int] = {}  # until a version stops by itself, by ARN

    def kept(self) -> dict[str, Any]:
        """What is to outlive the process."""
        return {"projects": self.projects, "versions": self.versions, "meter": self.meter}

    def restore(self, kept: dict[str, Any]) -> None:
        """Take up what `kept` returned. A model that was RUNNING has gone on billing; one that was in training failed."""
        self.projects, self.versions, self.meter = kept["projects"], kept["versions"], kept["meter"]
        for version in self.versions.values():
            if version.status == "TRAINING_IN_PROGRESS":
                self.training_failed(version, "The training was interrupted; create the version again")

    def create_project(
        self, region: str, name: str, *, feature: str, auto_update: str, tags: dict[str, str]
    ) -> Project:
        """ResourceInUseException for a name that is taken."""
        if any(project.name == name and _region(project.arn) == region for project in self.projects.values()):
            raise AwsError("ResourceInUseException", f"A project named {name} exists already")
        if len(self.projects) >= MAX_PROJECTS:
            raise AwsError("LimitExceededException", f"An account may have {MAX_PROJECTS} projects")
        now = self.clock()
        arn = f"arn:aws:rekognition:{region}:{self.account_id}:project/{name}/{int(now * 1000)}"
        project = Project(arn, name, now, feature, auto_update, tags)
        self.projects[arn] = project
        return project

    def project(self, arn: str) -> Project:
        """ResourceNotFoundException where there is none."""
        if arn not in self.projects:
            raise AwsError("ResourceNotFoundException", f"The project {arn} was not found")
        return self.projects[arn]

    def delete_project(self, arn: str) -> None:
        """ResourceInUseException while it has versions."""
        project = self.project(arn)
        if self.versions_of(arn):
            raise AwsError("ResourceInUseException", f"Delete the versions of {project.name} before the project")
        del self.projects[arn]

    def add_dataset(self, dataset: Dataset, project: Project) -> None:
        """ResourceAlreadyExistsException when the project has one of this type."""
        if dataset.kind in project.datasets:
            reason = f"The project {project.name} already has a dataset of the type {dataset.kind}"
            raise AwsError("ResourceAlreadyExistsException", reason)
        project.datasets[dataset.kind] = dataset

    def dataset(self, arn: str) -> Dataset:
        """ResourceNotFoundException where there is none."""
        for project in self.projects.values():
            for dataset in project.datasets.values():
                if dataset.arn == arn:
                    return dataset
        raise AwsError("ResourceNotFoundException", f"The dataset {arn} was not found")

    def create_version(self, project: Project, name: str, output: S3Location) -> ProjectVersion:
        """A new version, TRAINING_IN_PROGRESS. ResourceInUseException for a name that is taken."""
        versions = self.versions_of(project.arn)
        if any(version.name == name for version in versions):
            raise AwsError("ResourceInUseException", f"The project {project.name} already has a version named {name}")
        if len(versions) >= MAX_VERSIONS:
            raise AwsError("LimitExceededException", f"A project may have {MAX_VERSIONS} versions")
        now = self.clock()
        arn = f"{project.arn.rpartition('/')[0]}/version/{name}/{int(now * 1000)}"
        version = ProjectVersion(arn, name, project.arn, now, output)
        self.versions[arn] = version
        return version

    def training_completed(self, version: ProjectVersion, trained: TrainedModel) -> None:
        """The version can be started from now on."""
        version.trained, version.training_ended_at = trained, self.clock()
        self._change(version, "TRAINING_COMPLETED", "The model is ready to run.")

    def training_failed(self, version: ProjectVersion, why: str) -> None:
        """The version will never run."""
        version.training_ended_at = self.clock()
        self._change(version, "TRAINING_FAILED", why)

    def version(self, arn: str) -> ProjectVersion:
        """A version as it is now; ResourceNotFoundException where there is none."""
        version = self.versions.get(arn)
        if version is None:
            raise AwsError("ResourceNotFoundException", f"The project version {arn} was not found")
        self._settle(version)
        return version

    def versions_of(self, project_arn: str) -> list[ProjectVersion]:
        """The versions of a project, latest first."""
        found = [self.version(arn) for arn, version in self.versions.items() if version.project_arn == project_arn]
        return sorted(found, key=lambda version: version.created_at, reverse=True)

    def described(self, project_arn: str) -> list[ProjectVersion]:
        """The versions of a project, latest first, with the statuses that they had `describe_lag` ago."""
        versions = self.versions_of(project_arn)
        if not self.settings.describe_lag:
            return versions
        at = self.clock() - self.settings.describe_lag
        return [self._history.as_of(version, at) for version in versions]

    def start(self, arn: str, min_units: int, max_units: int | None) -> ProjectVersion:
        """Begin to start a version; LimitExceededException over the unit limit or the number of running models."""
        version = self.version(arn)
        if version.status not in STARTABLE:
            raise _in_use(version, "started", "it must be in TRAINING_COMPLETED or STOPPED state")
        most = self.settings.max_inference_units
        if max(min_units, max_units or 0) > most:
            raise AwsError(
                "LimitExceededException", f"A model may have {most} inference units; {min_units} were asked for"
            )
        if max_units is not None and max_units < min_units:
            reason = f"MaxInferenceUnits {max_units} is less than MinInferenceUnits {min_units}"
            raise AwsError("InvalidParameterException", reason)
        active = [each for each in self._settled() if each.status in ACTIVE]
        if len(active) >= self.settings.max_running_models:
            names = ", ".join(sorted(each.name for each in active))
            raise AwsError("LimitExceededException", f"{len(active)} models run already, the most allowed: {names}")
        version.min_units, version.max_units = min_units, max_units
        version.start_fails, version.next_start_fails = version.next_start_fails, None
        self._enter(version, "STARTING", "The model is being started.", self.settings.start_seconds)
        self._settle(version)
        return version

    def stop(self, arn: str) -> ProjectVersion:
        """Begin to stop a version that runs or, where the settings allow it, starts."""
        version = self.version(arn)
        stoppable = ("RUNNING", "STARTING") if self.settings.stop_while_starting == "accept" else ("RUNNING",)
        if version.status not in stoppable:
            raise _in_use(version, "stopped", "it must be in RUNNING state")
        self._enter(version, "STOPPING", "The model is being stopped.", self.settings.stop_seconds)
        self._settle(version)
        return version

    def delete_version(self, arn: str) -> None:
        """Delete a version that neither trains nor runs."""
        version = self.version(arn)
        if version.status in (*ACTIVE, "TRAINING_IN_PROGRESS", "COPYING_IN_PROGRESS"):
            raise _in_use(version, "deleted", "it must neither train nor run")
        del self.versions[arn]

    def admit(self, arn: str) -> ProjectVersion:
        """Let one DetectCustomLabels through to a running version, or turn it away as the service does.

        ResourceNotReadyException unless RUNNING, ProvisionedThroughputExceededException over the throughput of its
        units or of the account.
        """
        version = self.version(arn)
        if version.status != "RUNNING":
            reason = f"ProjectVersion {arn} must be in RUNNING state; it is {version.status}"
            raise AwsError("ResourceNotReadyException", reason)
        now = self.clock()
        rate = self.settings.tps_per_unit * (version.min_units or 1)
        if not (self._take(arn, rate, now) and self._take("account", self.settings.account_tps, now)):
            self.meter.throttled(arn)
            raise AwsError("ProvisionedThroughputExceededException", "Provisioned Rate exceeded.")
        self.meter.served(arn, now)
        self._count_down(version)
        return version

    def admit_control(self, operation: str) -> None:
        """Let one call of a control operation through; ThrottlingException over the account's rate for it."""
        if not self._take(f"operation {operation}", self.settings.control_tps, self.clock()):
            reason = "Slow down; sudden increase in rate of requests"
            raise AwsError("ThrottlingException", reason, 500)

    def override(
        self,
        arn: str,
        *,
        status: str | None,
        status_message: str,
        next_start_fails: str | None,
        stops_after_calls: int | None = None,
    ) -> dict[str, Any]:
        """Set what only AWS could.

        A version's status outright, that its next start fails with a message, or that it stops by itself with the last
        of so many more calls that it serves.
        """
        version = self.version(arn)
        if stops_after_calls is not None:
            if isinstance(stops_after_calls, bool) or not isinstance(stops_after_calls, int) or stops_after_calls < 1:
                raise ValueError(f"stops_after_calls: {stops_after_calls!r} is not an integer of at least 1")
            self._calls_left[arn] = stops_after_calls
        if next_start_fails is not None:
            version.next_start_fails = next_start_fails
        if status is not None:
            if status not in STATUSES:
                raise ValueError(f"{status!r} is none of {', '.join(STATUSES)}")
            version.changes_at = None
            self._change(version, status, status_message)
            if status == "RUNNING":
                version.min_units = version.min_units or 1
                self.meter.opened(arn, version.min_units, self.clock())
            elif status != "STOPPING":
                self.meter.closed(arn, self.clock())
        return {
            "project_version_arn": arn,
            "status": version.status,
            "next_start_fails": version.next_start_fails,
            "stops_after_calls": self._calls_left.get(arn),
        }

    def bill(self) -> dict[str, Any]:
        """The meter's reading; see `Meter.bill`."""
        self._settled()
        return self.meter.bill(self.clock())

    def tags(self, arn: str) -> dict[str, str]:
        """The tags of a project, dataset or version."""
        if "/version/" in arn:
            return self.version(arn).tags
        return self.dataset(arn).tags if "/dataset/" in arn else self.project(arn).tags

    def _settled(self) -> Iterable[ProjectVersion]:
        return [self.version(arn) for arn in self.versions]

    def _take(self, bucket: str, rate: float, now: float) -> bool:
        return self._buckets.setdefault(bucket, TokenBucket()).take(now, rate)

    def _enter(self, version: ProjectVersion, status: str, message: str, seconds: float) -> None:
        self._change(version, status, message)
        version.changes_at = self.clock() + seconds * self.settings.time_scale

    def _change(self, version: ProjectVersion, status: str, message: str, *, at: float | None = None) -> None:
        self._history.change(version, status, message, self.clock() if at is None else at)

    def _count_down(self, version: ProjectVersion) -> None:
        """Let a version stop by itself when the calls that it had left are served."""
        left = self._calls_left.pop(version.arn, 0) - 1
        if left == 0:
            self._enter(version, "STOPPING", "The model is being stopped.", self.settings.stop_seconds)
        elif left > 0:
            self._calls_left[version.arn] = left

    def _settle(self, version: ProjectVersion) -> None:
        """Let a version pass from STARTING or STOPPING to what follows, at the time when it was due."""
        at = version.changes_at
        if at is None or self.clock() < at:
            return
        version.changes_at = None
        if version.status == "STOPPING":
            self._change(version, "STOPPED", "The model has been stopped.", at=at)
            self.meter.closed(version.arn, at)
        elif version.start_fails is not None:
            self._change(version, "FAILED", version.start_fails, at=at)
        else:
            self._change(version, "RUNNING", "The model is running.", at=at)
            self._buckets.pop(version.arn, None)
            self.meter.opened(version.arn, version.min_units or 1, at)


def _in_use(version: ProjectVersion, done: str, rule: str) -> AwsError:
    reason = f"ProjectVersion {version.arn} cannot be {done}: {rule}; it is {version.status}"
    return AwsError("ResourceInUseException", reason)


def _region(arn: str) -> str:
    return arn.split(":")[3]
