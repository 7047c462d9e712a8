"""Uploads under a name that another image had before."""

from __future__ import annotations

import json
from typing import Any

from local_stack.chaos.nursery import Nursery
from local_stack.chaos.runs import Run, finish
from local_stack.chaos.world import World

KEY = "front.jpg"


def upload(world: World, which: int) -> str:
    """Upload one of the images under the name; its ETag."""
    body = world.theatre.images[which]
    answer = world.theatre.s3.put_object(Bucket=world.source, Key=KEY, Body=body)
    world.uploads[KEY] = body
    return str(answer["ETag"]).strip('"')


def take_message(world: World) -> str:
    """Take the upload's message out of the queue; its body."""
    while True:
        sqs, url = world.theatre.sqs, world.queue_url
        [message] = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=5)["Messages"]
        sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        if "Records" in message["Body"]:
            return str(message["Body"])


def published_etag(world: World) -> str:
    document: dict[str, Any] = json.loads(world.read(f"labels/{world.source}/{KEY}.json"))
    return str(document["etag"])


def test_the_newest_of_several_stands_in_the_end(world: World, nursery: Nursery) -> None:
    upload(world, 0)
    Run(world, nursery, "first").play()
    newest = upload(world, 1)
    finish(world, nursery, "second")
    assert published_etag(world) == newest
    assert sorted(row["status"] for row in world.rows()) == ["LABELLED", "LABELLED"]


def test_a_late_message_of_an_older_version_does_not_overwrite_the_newest_result(
    world: World, nursery: Nursery
) -> None:
    world.theatre.s3.put_bucket_versioning(Bucket=world.source, VersioningConfiguration={"Status": "Enabled"})
    upload(world, 0)
    late = take_message(world)
    newest = upload(world, 1)
    Run(world, nursery, "newest").play()
    assert published_etag(world) == newest
    world.theatre.sqs.send_message(QueueUrl=world.queue_url, MessageBody=late)
    finish(world, nursery, "late")
    assert published_etag(world) == newest


def test_an_image_that_comes_back_under_its_name_is_labelled_again_and_stands_in_the_end(
    world: World, nursery: Nursery
) -> None:
    """Its document was that of the other image meanwhile, and its labels were in Parquet alone."""
    for number, which in enumerate((0, 1, 0)):
        newest = upload(world, which)
        Run(world, nursery, f"run-{number}").play()
    finish(world, nursery, "after")
    assert published_etag(world) == newest
    assert world.calls_served() == 3
    assert len(world.rows()) == 3
