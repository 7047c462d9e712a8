from __future__ import annotations

import pytest

from include.selection import find_images, queue_images
from tests.include.audit.audited_world import LONG_KEY, TILDE_KEY, World
from tests.include.conftest import BuildSettings
from tests.include.memory_s3 import MemoryS3
from tests.include.samples import AWKWARD_KEYS, INBOX, picture
from tests.include.scripted_model import refusal


@pytest.fixture
def world(s3: MemoryS3, build_settings: BuildSettings) -> World:
    """Two runs: images of every name, with every outcome, one written over before the run and one after it."""
    world = World(s3, build_settings(allowed_buckets="archive"))
    for number, key in enumerate((*AWKWARD_KEYS, LONG_KEY, TILDE_KEY)):
        world.upload(key, picture(seed=number))
    world.upload("no image.jpg", b"hello")
    world.upload("too much.jpg", picture(seed=101))
    world.model.answers("too much.jpg", *[refusal("ImageTooLargeException")] * 9)
    world.upload("gone.jpg", picture(seed=102))
    s3.delete_object(Bucket=INBOX, Key="gone.jpg")
    world.upload("twice.jpg", picture(seed=103))
    world.upload("folder/", b"")
    world.run()
    world.upload("twice.jpg", picture(seed=104), minutes=60, sequencer="02")
    s3.put_object(Bucket="archive", Key="a.jpg", Body=picture(seed=105))
    queue_images(s3, world.settings, find_images(s3, world.settings, uris=["s3://archive/a.jpg"]), request_id="r")
    world.run()
    return world
