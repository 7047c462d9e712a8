"""DetectCustomLabels: what it finds, what of it is returned, and what it refuses."""

from __future__ import annotations

import math
import random
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError
from PIL import Image

from local_aws.process import LocalAws
from local_aws.rekognition.detection import LONGEST_LATENCY, choose, latency_seconds
from local_aws.rekognition.resources import S3Location, TrainedModel
from local_aws.rekognition.worker import Found
from local_aws.settings import Settings, updated
from tests.local_aws import drawings
from tests.local_aws.models import Model, status, wait_for


@pytest.fixture
def rekognition(aws: LocalAws) -> Any:
    return aws.client("rekognition", retries={"total_max_attempts": 1})


@pytest.fixture
def s3(aws: LocalAws) -> Any:
    return aws.client("s3")


def detect(rekognition: Any, model: Model, image: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    answer = rekognition.detect_custom_labels(ProjectVersionArn=model.version_arn, Image=image, **more)
    return list(answer["CustomLabels"])


def refused(rekognition: Any, model: Model, image: dict[str, Any]) -> str:
    with pytest.raises(ClientError) as error:
        detect(rekognition, model, image)
    return str(error.value.response["Error"]["Code"])


def in_s3(bucket: str, key: str, **more: str) -> dict[str, Any]:
    return {"S3Object": {"Bucket": bucket, "Name": key, **more}}


@pytest.mark.parametrize("shape", ["ball", "tile"])
def test_it_finds_what_is_drawn_and_where(rekognition: Any, s3: Any, running: Model, bucket: str, shape: str) -> None:
    data, (left, top, width, height) = drawings.scene(shape, 555)
    key = f"in box/{shape} (1)+é.jpg"
    s3.put_object(Bucket=bucket, Key=key, Body=data)
    [found] = detect(rekognition, running, in_s3(bucket, key))
    assert found["Name"] == shape
    assert 0 < found["Confidence"] <= 100
    box = found["Geometry"]["BoundingBox"]
    expected = [each / drawings.SIDE_PX for each in (left, top, width, height)]
    assert [box["Left"], box["Top"], box["Width"], box["Height"]] == pytest.approx(expected, abs=0.1)
    assert detect(rekognition, running, {"Bytes": data}) == [found]


def test_zero_confidence_returns_at_least_what_the_thresholds_do_sorted(rekognition: Any, running: Model) -> None:
    image = {"Bytes": drawings.scene("ball", 556)[0]}
    everything = detect(rekognition, running, image, MinConfidence=0)
    confidences = [each["Confidence"] for each in everything]
    assert confidences == sorted(confidences, reverse=True)
    assert detect(rekognition, running, image) == [each for each in everything if each["Confidence"] > 50]
    assert detect(rekognition, running, image, MinConfidence=0, MaxResults=1) == everything[:1]


TRAINED = TrainedModel(b"", "classification", {"cap": 0.988, "watch": 0.014}, 1.0, 1, S3Location("b", "k"), {})
FOUND = (Found("cap", 95.0, None), Found("watch", 2.0, None), Found("cap", 0.5, None))


@pytest.mark.parametrize(
    ("min_confidence", "max_results", "expected"),
    [
        (None, None, [FOUND[1]]),
        (0.0, None, list(FOUND)),
        (1.5, None, list(FOUND[:2])),
        (0.0, 2, list(FOUND[:2])),
        (99.0, None, []),
    ],
)
def test_each_label_has_its_threshold_unless_one_number_is_given_for_all(
    min_confidence: float | None, max_results: int | None, expected: list[Found]
) -> None:
    assert choose(FOUND, TRAINED, min_confidence, max_results) == expected


def test_a_version_of_an_object_can_be_named(rekognition: Any, s3: Any, running: Model, bucket: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    version = s3.put_object(Bucket=bucket, Key="k", Body=drawings.scene("ball", 557)[0])["VersionId"]
    s3.put_object(Bucket=bucket, Key="k", Body=b"not an image")
    assert detect(rekognition, running, in_s3(bucket, "k", Version=version))[0]["Name"] == "ball"
    assert refused(rekognition, running, in_s3(bucket, "k")) == "InvalidImageFormatException"


def test_an_object_that_cannot_be_read_is_an_invalid_s3_object(
    aws: LocalAws, rekognition: Any, s3: Any, running: Model, bucket: str
) -> None:
    elsewhere = f"{bucket}-elsewhere"
    s3.create_bucket(Bucket=elsewhere, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.put_object(Bucket=elsewhere, Key="k", Body=drawings.jpeg())
    for image in (in_s3(bucket, "missing.jpg"), in_s3("no-such-bucket", "k"), in_s3(elsewhere, "k")):
        with pytest.raises(rekognition.exceptions.InvalidS3ObjectException, match="object metadata from S3"):
            detect(rekognition, running, image)


def tagged_as_large(size: int) -> bytes:
    """A JPEG that is followed by so many bytes that the file has this size."""
    data = drawings.jpeg()
    return data + b"\0" * (size - len(data))


MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"no image at all", "InvalidImageFormatException"),
        (drawings.encoded(Image.new("RGB", (100, 100)), "GIF"), "InvalidImageFormatException"),
        (drawings.encoded(Image.new("RGB", (100, 100)), "WEBP"), "InvalidImageFormatException"),
        (drawings.scene("ball", 1)[0][:700], "InvalidImageFormatException"),
        (drawings.jpeg(63, 100), "InvalidParameterException"),
        (drawings.jpeg(1400, 65), "InvalidParameterException"),
        (drawings.jpeg(4097, 300), "ImageTooLargeException"),
        (tagged_as_large(15 * MIB + 1), "ImageTooLargeException"),
        (b"", "InvalidImageFormatException"),
    ],
    ids=["text", "gif", "webp", "cut off", "small", "narrow", "wide", "heavy", "empty"],
)
def test_an_image_outside_the_limits_is_refused(
    rekognition: Any, s3: Any, running: Model, bucket: str, data: bytes, expected: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=data)
    assert refused(rekognition, running, in_s3(bucket, "k")) == expected


@pytest.mark.parametrize(
    "data",
    [
        drawings.jpeg(64, 64),
        drawings.jpeg(1280, 64),
        drawings.jpeg(4096, 300),
        drawings.encoded(Image.new("RGB", (100, 100)), "PNG"),
        drawings.encoded(Image.new("RGBA", (100, 100)), "PNG"),
        drawings.encoded(Image.new("L", (100, 100)), "JPEG"),
        drawings.encoded(Image.new("CMYK", (100, 100)), "JPEG"),
        tagged_as_large(15 * MIB),
    ],
    ids=["smallest", "narrowest", "widest", "png", "rgba", "grey", "cmyk", "heaviest"],
)
def test_an_image_at_the_limits_is_looked_at(
    rekognition: Any, s3: Any, running: Model, bucket: str, data: bytes
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=data)
    assert isinstance(detect(rekognition, running, in_s3(bucket, "k")), list)


def test_bytes_have_a_limit_of_their_own(rekognition: Any, running: Model) -> None:
    assert isinstance(detect(rekognition, running, {"Bytes": tagged_as_large(4 * MIB)}), list)
    assert refused(rekognition, running, {"Bytes": tagged_as_large(4 * MIB + 1)}) == "ImageTooLargeException"
    assert refused(rekognition, running, {}) == "InvalidParameterException"


def test_a_model_that_does_not_run_is_not_ready(rekognition: Any, model: Model) -> None:
    image = {"Bytes": drawings.jpeg()}
    assert refused(rekognition, model, image) == "ResourceNotReadyException"
    rekognition.start_project_version(ProjectVersionArn=model.version_arn, MinInferenceUnits=1)
    assert refused(rekognition, model, image) == "ResourceNotReadyException"
    wait_for(lambda: status(rekognition, model) == "RUNNING")
    detect(rekognition, model, image)
    rekognition.stop_project_version(ProjectVersionArn=model.version_arn)
    assert refused(rekognition, model, image) == "ResourceNotReadyException"


def test_calls_over_the_throughput_are_throttled_and_can_be_retried(
    aws: LocalAws, rekognition: Any, running: Model
) -> None:
    image = {"Bytes": drawings.jpeg()}
    detect(rekognition, running, image)
    aws.settings(tps_per_unit=5)
    errors = []
    for _ in range(30):
        try:
            detect(rekognition, running, image)
        except ClientError as error:
            errors.append((error.response["Error"]["Code"], error.response["Error"]["Message"]))
    assert len(errors) >= 20
    assert set(errors) == {("ProvisionedThroughputExceededException", "Provisioned Rate exceeded.")}
    patient = aws.client("rekognition", retries={"mode": "standard", "total_max_attempts": 10})
    assert isinstance(detect(patient, running, image), list)


def test_a_call_takes_at_least_the_latency_that_is_set(aws: LocalAws, rekognition: Any, running: Model) -> None:
    aws.settings(inference_latency=0.4)
    started = time.monotonic()
    detect(rekognition, running, {"Bytes": drawings.jpeg()})
    assert time.monotonic() - started >= 0.4


def latencies(spread: float, *, seed: int = 0, count: int = 10_000) -> list[float]:
    settings = updated(Settings(), {"inference_latency": 0.35, "inference_latency_spread": spread})
    chance = random.Random(seed)
    return sorted(latency_seconds(settings, chance) for _ in range(count))


def test_a_latency_without_spread_is_always_the_same() -> None:
    assert set(latencies(0.0)) == {0.35}


def test_latencies_are_log_normal_around_the_median() -> None:
    drawn = latencies(0.45)
    part = len(drawn) // 100
    # The standard normal distribution's quantiles: 5 % below -1.645, 1 % above 2.326.
    assert drawn[50 * part] == pytest.approx(0.35, rel=0.02)
    assert drawn[5 * part] == pytest.approx(0.35 * math.exp(-1.645 * 0.45), rel=0.05)
    assert drawn[99 * part] == pytest.approx(0.35 * math.exp(2.326 * 0.45), rel=0.05)


def test_no_latency_is_longer_than_ten_medians_and_the_same_seed_gives_the_same() -> None:
    assert latencies(1e6)[-1] == pytest.approx(0.35 * LONGEST_LATENCY)
    assert latencies(0.45) == latencies(0.45) != latencies(0.45, seed=1)


def test_a_throttled_call_is_answered_at_once_whatever_the_latency(
    aws: LocalAws, rekognition: Any, running: Model
) -> None:
    image = {"Bytes": drawings.jpeg()}
    aws.settings(tps_per_unit=0.001)
    detect(rekognition, running, image)
    aws.settings(inference_latency=600, inference_latency_spread=0.45)
    impatient = aws.client("rekognition", retries={"total_max_attempts": 1}, read_timeout=30)
    assert refused(impatient, running, image) == "ProvisionedThroughputExceededException"


def test_answers_that_are_remembered_are_those_of_the_content_not_of_the_key(
    rekognition: Any, s3: Any, running: Model, bucket: str
) -> None:
    ball, tile = drawings.scene("ball", 558)[0], drawings.scene("tile", 559)[0]
    for data, shape in ((ball, "ball"), (tile, "tile"), (ball, "ball")):
        s3.put_object(Bucket=bucket, Key="k", Body=data)
        for _ in range(2):
            assert {each["Name"] for each in detect(rekognition, running, in_s3(bucket, "k"))} == {shape}
