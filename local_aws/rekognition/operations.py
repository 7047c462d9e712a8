"""The Rekognition operations of Custom Labels as clients call them: AWS JSON in, AWS JSON out.

https://docs.aws.amazon.com/rekognition/latest/APIReference/API_Operations_Amazon_Rekognition.html
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar

from local_aws.json_service import JsonService, Operation, Problem, validation_message
from local_aws.moto_services import bucket_exists
from local_aws.rekognition import manifests
from local_aws.rekognition.account import Account
from local_aws.rekognition.descriptions import describe_dataset, describe_project, describe_version, present
from local_aws.rekognition.detection import Detection
from local_aws.rekognition.resources import Dataset, Project, ProjectVersion, S3Location
from local_aws.rekognition.sources import chosen, read_manifest
from local_aws.rekognition.training import Trainer
from local_aws.rekognition.worker import VisionWorkers
from local_aws.wire import AwsError, Request

Arguments = dict[str, Any]

_Item = TypeVar("_Item", Project, ProjectVersion)


def rekognition_service(
    account: Account, trainer: Trainer, detection: Detection, workers: VisionWorkers
) -> JsonService:
    """Rekognition over this account."""
    operations = _Operations(account, trainer, detection, workers)
    return JsonService("rekognition", operations.by_name(), invalid=_invalid)


def _invalid(problems: list[Problem]) -> AwsError:
    return AwsError("ValidationException", validation_message(problems))


class _Operations:
    def __init__(self, account: Account, trainer: Trainer, detection: Detection, workers: VisionWorkers) -> None:
        self._account = account
        self._trainer = trainer
        self._detection = detection
        self._workers = workers
        self._background: set[asyncio.Task[None]] = set()

    def by_name(self) -> dict[str, Operation]:
        control = {
            "CreateDataset": self.create_dataset,
            "CreateProject": self.create_project,
            "CreateProjectVersion": self.create_project_version,
            "DeleteProject": self.delete_project,
            "DeleteProjectVersion": self.delete_project_version,
            "DescribeDataset": self.describe_dataset,
            "DescribeProjectVersions": self.describe_project_versions,
            "DescribeProjects": self.describe_projects,
            "ListTagsForResource": self.list_tags_for_resource,
            "StartProjectVersion": self.start_project_version,
            "StopProjectVersion": self.stop_project_version,
            "TagResource": self.tag_resource,
            "UntagResource": self.untag_resource,
        }
        limited = {name: self._limited(name, operation) for name, operation in control.items()}
        return {**limited, "DetectCustomLabels": self.detect_custom_labels}

    def _limited(self, name: str, operation: Operation) -> Operation:
        async def limited(arguments: Arguments, request: Request) -> Arguments:
            self._account.admit_control(name)
            return await operation(arguments, request)

        return limited

    def _start_in_background(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def create_project(self, arguments: Arguments, request: Request) -> Arguments:
        project = self._account.create_project(
            request.region,
            arguments["ProjectName"],
            feature=arguments.get("Feature", "CUSTOM_LABELS"),
            auto_update=arguments.get("AutoUpdate", "DISABLED"),
            tags=arguments.get("Tags", {}),
        )
        return {"ProjectArn": project.arn}

    async def delete_project(self, arguments: Arguments, request: Request) -> Arguments:
        self._account.delete_project(arguments["ProjectArn"])
        return {"Status": "DELETING"}

    async def describe_projects(self, arguments: Arguments, request: Request) -> Arguments:
        names, features = arguments.get("ProjectNames"), arguments.get("Features", ["CUSTOM_LABELS"])
        projects = [
            project
            for project in sorted(self._account.projects.values(), key=lambda each: each.created_at, reverse=True)
            if project.arn.split(":")[3] == request.region
            and project.feature in features
            and (names is None or project.name in names)
        ]
        page, token = _page(projects, arguments)
        return present(ProjectDescriptions=[describe_project(project) for project in page], NextToken=token)

    async def create_dataset(self, arguments: Arguments, request: Request) -> Arguments:
        project = self._account.project(arguments["ProjectArn"])
        kind, source = arguments["DatasetType"], arguments.get("DatasetSource", {})
        now = self._account.clock()
        arn = f"{project.arn.rpartition('/')[0]}/dataset/{kind.lower()}/{int(now * 1000)}"
        if "DatasetArn" in source:
            manifest, location = self._account.dataset(source["DatasetArn"]).manifest, None
        elif "GroundTruthManifest" in source:
            manifest, location = read_manifest(source["GroundTruthManifest"], request.region)
        else:
            manifest, location = manifests.Manifest(), None
        problem = manifest.problem if location else ""
        status = "CREATE_FAILED" if problem else "CREATE_COMPLETE"
        tags = arguments.get("Tags", {})
        self._account.add_dataset(Dataset(arn, kind, now, location, manifest, status, problem, tags), project)
        self._start_in_background(self._workers.warm())
        return {"DatasetArn": arn}

    async def describe_dataset(self, arguments: Arguments, request: Request) -> Arguments:
        return {"DatasetDescription": describe_dataset(self._account.dataset(arguments["DatasetArn"]))}

    async def create_project_version(self, arguments: Arguments, request: Request) -> Arguments:
        project = self._account.project(arguments["ProjectArn"])
        output = S3Location(
            arguments["OutputConfig"].get("S3Bucket", ""), arguments["OutputConfig"].get("S3KeyPrefix", "")
        )
        if not bucket_exists(output.bucket):
            raise AwsError("InvalidParameterException", f"The OutputConfig bucket {output.bucket!r} does not exist")
        images, inputs, split_off = chosen(project, arguments, request.region)
        version = self._account.create_version(project, arguments["VersionName"], output)
        version.inputs, version.auto_created_test = inputs, split_off
        version.description = arguments.get("VersionDescription", "")
        version.tags = arguments.get("Tags", {})
        self._start_in_background(self._trainer.train(version, images))
        return {"ProjectVersionArn": version.arn}

    async def describe_project_versions(self, arguments: Arguments, request: Request) -> Arguments:
        await asyncio.sleep(self._account.settings.describe_delay)
        project = self._account.project(arguments["ProjectArn"])
        names = arguments.get("VersionNames")
        versions = [each for each in self._account.described(project.arn) if names is None or each.name in names]
        page, token = _page(versions, arguments)
        return present(ProjectVersionDescriptions=[describe_version(each) for each in page], NextToken=token)

    async def start_project_version(self, arguments: Arguments, request: Request) -> Arguments:
        version = self._account.start(
            arguments["ProjectVersionArn"], arguments["MinInferenceUnits"], arguments.get("MaxInferenceUnits")
        )
        self._start_in_background(self._workers.warm())
        return {"Status": version.status}

    async def stop_project_version(self, arguments: Arguments, request: Request) -> Arguments:
        return {"Status": self._account.stop(arguments["ProjectVersionArn"]).status}

    async def delete_project_version(self, arguments: Arguments, request: Request) -> Arguments:
        self._account.delete_version(arguments["ProjectVersionArn"])
        return {"Status": "DELETING"}

    async def detect_custom_labels(self, arguments: Arguments, request: Request) -> Arguments:
        return await self._detection.detect(arguments, request.region)

    async def tag_resource(self, arguments: Arguments, request: Request) -> Arguments:
        self._account.tags(arguments["ResourceArn"]).update(arguments["Tags"])
        return {}

    async def untag_resource(self, arguments: Arguments, request: Request) -> Arguments:
        tags = self._account.tags(arguments["ResourceArn"])
        for key in arguments["TagKeys"]:
            tags.pop(key, None)
        return {}

    async def list_tags_for_resource(self, arguments: Arguments, request: Request) -> Arguments:
        return {"Tags": dict(self._account.tags(arguments["ResourceArn"]))}


def _page(items: Sequence[_Item], arguments: Arguments) -> tuple[Sequence[_Item], str | None]:
    """The page after NextToken, which is the ARN that the last page ended with."""
    most = arguments.get("MaxResults", 100)
    first, token = 0, arguments.get("NextToken")
    if token is not None:
        ends = [number for number, item in enumerate(items, 1) if item.arn == token]
        if not ends:
            raise AwsError("InvalidPaginationTokenException", "The pagination token is not valid")
        first = ends[0]
    page = items[first : first + most]
    return page, page[-1].arn if first + most < len(items) else None
