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
from local_aws.rekognition.detection import Detection, read_image
from local_aws.rekognition.resources import Dataset, Project, ProjectVersion, S3Location
from local_aws.rekognition.training import Images, Trainer, split
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
        return _present(ProjectDescriptions=[_describe_project(project) for project in page], NextToken=token)

    async def create_dataset(self, arguments: Arguments, request: Request) -> Arguments:
        project = self._account.project(arguments["ProjectArn"])
        kind, source = arguments["DatasetType"], arguments.get("DatasetSource", {})
        now = self._account.clock()
        arn = f"{project.arn.rpartition('/')[0]}/dataset/{kind.lower()}/{int(now * 1000)}"
        if "DatasetArn" in source:
            manifest, location = self._account.dataset(source["DatasetArn"]).manifest, None
        elif "GroundTruthManifest" in source:
            manifest, location = _read_manifest(source["GroundTruthManifest"], request.region)
        else:
            manifest, location = manifests.Manifest(), None
        problem = manifest.problem if location else ""
        status = "CREATE_FAILED" if problem else "CREATE_COMPLETE"
        tags = arguments.get("Tags", {})
        self._account.add_dataset(Dataset(arn, kind, now, location, manifest, status, problem, tags), project)
        self._start_in_background(self._workers.warm())
        return {"DatasetArn": arn}

    async def describe_dataset(self, arguments: Arguments, request: Request) -> Arguments:
        dataset = self._account.dataset(arguments["DatasetArn"])
        entries, errors = dataset.manifest.entries, dataset.manifest.errors
        description = {
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
        return {"DatasetDescription": description}

    async def create_project_version(self, arguments: Arguments, request: Request) -> Arguments:
        project = self._account.project(arguments["ProjectArn"])
        output = S3Location(
            arguments["OutputConfig"].get("S3Bucket", ""), arguments["OutputConfig"].get("S3KeyPrefix", "")
        )
        if not bucket_exists(output.bucket):
            raise AwsError("InvalidParameterException", f"The OutputConfig bucket {output.bucket!r} does not exist")
        images, inputs, split_off = self._images(project, arguments, request.region)
        version = self._account.create_version(project, arguments["VersionName"], output)
        version.inputs, version.auto_created_test = inputs, split_off
        version.description = arguments.get("VersionDescription", "")
        version.tags = arguments.get("Tags", {})
        self._start_in_background(self._trainer.train(version, images))
        return {"ProjectVersionArn": version.arn}

    def _images(
        self, project: Project, arguments: Arguments, region: str
    ) -> tuple[Images, dict[str, S3Location], bool]:
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

    async def describe_project_versions(self, arguments: Arguments, request: Request) -> Arguments:
        await asyncio.sleep(self._account.settings.describe_delay)
        project = self._account.project(arguments["ProjectArn"])
        names = arguments.get("VersionNames")
        versions = [each for each in self._account.versions_of(project.arn) if names is None or each.name in names]
        page, token = _page(versions, arguments)
        return _present(ProjectVersionDescriptions=[_describe_version(each) for each in page], NextToken=token)

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


_Source = tuple[manifests.Manifest, S3Location | None]


def _assets(data: Arguments | None, region: str) -> _Source | None:
    """The manifests of TrainingData or TestingData as one; None where there are none."""
    if not data or not data.get("Assets"):
        return None
    read = [_read_manifest(asset.get("GroundTruthManifest", {}), region) for asset in data["Assets"]]
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


def _read_manifest(ground_truth: Arguments, region: str) -> tuple[manifests.Manifest, S3Location]:
    s3_object = ground_truth.get("S3Object", {})
    if not s3_object.get("Bucket") or not s3_object.get("Name"):
        raise AwsError("InvalidParameterException", "GroundTruthManifest.S3Object needs Bucket and Name")
    location = S3Location(s3_object["Bucket"], s3_object["Name"], s3_object.get("Version"))
    return manifests.parse(read_image(s3_object, region)), location


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


def _describe_project(project: Project) -> Arguments:
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


def _describe_version(version: ProjectVersion) -> Arguments:
    trained = version.trained
    description = _present(
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
    return _present(Bucket=location.bucket, Name=location.key, Version=location.version_id)


def _present(**members: Any) -> Arguments:
    return {name: value for name, value in members.items() if value is not None}
