"""Where it matters how S3 really lists, versions, and names what came in parts."""

from __future__ import annotations

import itertools
import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from include.audit import Audit
from include.settings import Settings
from local_aws.process import LocalAws
from tests.include.audit.audited_world import LONG_KEY, TILDE_KEY, World, found
from tests.include.samples import AWKWARD_KEYS, NOW, picture


@pytest.fixture
def world(aws: LocalAws, aws_s3: Any, sqs: Any, unique: str, aws_settings: Settings) -> World:
    world = World(aws_s3, aws_settings)
    world.runs = itertools.count(int(unique.rpartition("-")[2]) * 100)
    return world


def later(world: World) -> Audit:
    return world.audit(now=datetime.now(NOW.tzinfo) + timedelta(hours=2))


def test_every_name_is_found_again(world: World) -> None:
    for number, key in enumerate((*AWKWARD_KEYS, LONG_KEY, TILDE_KEY)):
        world.upload(key, picture(seed=number))
    world.upload("no image.jpg", b"hello")
    world.run()
    what = later(world)
    assert (found(what), what.published_rows) == ({}, len(AWKWARD_KEYS) + 3)


def test_an_upload_in_parts_is_known_by_its_size(world: World) -> None:
    body, where = picture(size=(3000, 3000), format="PNG"), {"Bucket": world.settings.source_bucket, "Key": "a.png"}
    upload = world.s3.create_multipart_upload(**where)["UploadId"]
    part = world.s3.upload_part(**where, UploadId=upload, PartNumber=1, Body=body)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    put = world.s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload=parts)
    assert "-" in put["ETag"]
    world.announce("a.png", put, size=len(body), minutes=-60)
    world.run()
    assert world.keys("images/") == [f"images/{world.settings.source_bucket}/a.png"]
    assert found(later(world)) == {}
    world.delete(f"images/{world.settings.source_bucket}/a.png")
    assert found(later(world)) == {"lost": 1}


@pytest.mark.parametrize("originals", ["leave", "move"])
def test_a_version_that_is_not_the_current_one_is_found(world: World, originals: str) -> None:
    bucket = world.settings.source_bucket
    world.settings = world.settings.model_copy(update={"originals": originals})
    world.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for number in range(3):
        world.upload("a.jpg", picture(seed=number), minutes=number - 60, sequencer=f"0{number}")
    world.run()
    what = later(world)
    assert (found(what), what.published_rows) == ({}, 3)


def test_messages_are_counted_where_they_wait(world: World, sqs: Any, unique: str) -> None:
    dead = sqs.create_queue(QueueName=f"{unique}-dead")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 5})
    url = sqs.create_queue(QueueName=unique, Attributes={"RedrivePolicy": policy})["QueueUrl"]
    for _ in range(3):
        sqs.send_message(QueueUrl=url, MessageBody="{}")
    sqs.receive_message(QueueUrl=url)
    sqs.send_message(QueueUrl=dead, MessageBody="{}")
    world.queue, world.settings = sqs, world.settings.model_copy(update={"queue_url": url})
    what = later(world)
    assert (what.queue_messages, what.dead_letters, found(what)) == (3, 1, {"dead_letters": 1})


def test_more_than_a_page_of_uploads_that_nobody_heard_of(world: World) -> None:
    for number in range(1_050):
        world.s3.put_object(Bucket=world.settings.source_bucket, Key=f"{number:05d}.jpg", Body=b"")
    assert found(later(world)) == {"unprocessed": 1_050}
