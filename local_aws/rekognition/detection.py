"""DetectCustomLabels: which image, whether it is one, what is on it, and which of that the caller asked for.

https://docs.aws.amazon.com/rekognition/latest/APIReference/API_DetectCustomLabels.html

An image that was seen before is answered from memory, in about 0.2 ms of CPU, 4,000 to 5,000 times a second on one
core; a throttled call takes about 0.1 ms (`benchmarks.stand_in`). A profile shows no part of that worth a short cut.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from local_aws.moto_services import read_object
from local_aws.rekognition import images
from local_aws.rekognition.account import Account
from local_aws.rekognition.resources import TrainedModel
from local_aws.rekognition.worker import Found, VisionRefused, VisionWorkers, WorkerDied
from local_aws.settings import Settings
from local_aws.wire import AwsError

_CACHED_ANSWERS = 20_000
# No answer takes longer than so many times the median.
LONGEST_LATENCY = 10.0


class Detection:
    """Answers by model and content; the same image is looked at once."""

    def __init__(self, account: Account, workers: VisionWorkers) -> None:
        self._account = account
        self._workers = workers
        self._answers: dict[tuple[str, bytes], tuple[Found, ...]] = {}
        # Seeded: a server varies in the same way each time.
        self._random = random.Random(0)

    async def detect(self, arguments: Mapping[str, Any], region: str) -> dict[str, Any]:
        """{"CustomLabels": […]}, most confident first."""
        arn = arguments["ProjectVersionArn"]
        version = self._account.admit(arn)
        if version.trained is None:
            raise AwsError("ResourceNotReadyException", f"ProjectVersion {arn} has no trained model")
        data, inline = _image(arguments["Image"], region)
        found, _ = await asyncio.gather(self._found(version.trained, arn, data, inline), self._latency())
        chosen = choose(found, version.trained, arguments.get("MinConfidence"), arguments.get("MaxResults"))
        return {"CustomLabels": [_custom_label(each) for each in chosen]}

    async def _latency(self) -> None:
        seconds = latency_seconds(self._account.settings, self._random)
        if seconds:
            await asyncio.sleep(seconds)

    async def _found(self, trained: TrainedModel, arn: str, data: bytes, inline: bool) -> tuple[Found, ...]:
        key = (arn, hashlib.sha256(data).digest())
        answer = self._answers.get(key)
        if answer is None or inline:
            images.check(data, inline=inline)
        if answer is None:
            try:
                answer = await self._workers.detect(trained.model, data)
            except VisionRefused as error:
                raise AwsError("InvalidImageFormatException", f"Request has invalid image format: {error}") from error
            except WorkerDied as error:
                raise AwsError("InternalServerError", str(error), 500) from error
            if len(self._answers) >= _CACHED_ANSWERS:
                del self._answers[next(iter(self._answers))]
            self._answers[key] = answer
        return answer


def latency_seconds(settings: Settings, chance: random.Random) -> float:
    """How long one answer takes, at least: log-normal, many a little below the median and some far above it."""
    varied = min(chance.gauss(0.0, settings.inference_latency_spread), math.log(LONGEST_LATENCY))
    return settings.inference_latency * math.exp(varied)


def choose(
    found: Sequence[Found], trained: TrainedModel, min_confidence: float | None, max_results: int | None
) -> list[Found]:
    """The labels to return of all that were found, most confident first.

    Without MinConfidence each label must reach its own assumed threshold; with it that one number counts for all,
    0 lets everything through. MaxResults keeps the most confident.
    """
    if min_confidence is None:
        passing = [each for each in found if each.confidence >= 100 * trained.thresholds.get(each.label, 0.0)]
    else:
        passing = [each for each in found if each.confidence >= min_confidence]
    return passing if max_results is None else passing[:max_results]


def _image(image: Mapping[str, Any], region: str) -> tuple[bytes, bool]:
    """(bytes, whether they came in the request). InvalidS3ObjectException for what S3 does not give."""
    if ("Bytes" in image) == ("S3Object" in image):
        raise AwsError("InvalidParameterException", "Request has invalid parameters: give either Bytes or S3Object")
    if "Bytes" in image:
        return image["Bytes"], True
    s3_object = image["S3Object"]
    if not s3_object.get("Bucket") or not s3_object.get("Name"):
        raise AwsError("InvalidParameterException", "Request has invalid parameters: S3Object needs Bucket and Name")
    return read_image(s3_object, region), False


def read_image(s3_object: Mapping[str, Any], region: str) -> bytes:
    """An S3 object in the Region of the call; InvalidS3ObjectException for any other."""
    found = read_object(s3_object["Bucket"], s3_object["Name"], s3_object.get("Version"))
    if found is None or found[1] != region:
        reason = "Unable to get object metadata from S3. Check object key, region and/or access permissions."
        raise AwsError("InvalidS3ObjectException", reason)
    return found[0]


def _custom_label(found: Found) -> dict[str, Any]:
    label: dict[str, Any] = {"Name": found.label, "Confidence": found.confidence}
    if found.box is not None:
        left, top, width, height = found.box
        label["Geometry"] = {"BoundingBox": {"Left": left, "Top": top, "Width": width, "Height": height}}
    return label
