"""One server and one trained model for all stories, and the processes that their runs are played by."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local_stack.chaos.nursery import Nursery
from local_stack.chaos.world import Stage, World, a_stage


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    with a_stage() as stage:
        yield stage


@pytest.fixture(scope="session")
def nursery(stage: Stage) -> Iterator[Nursery]:
    with Nursery(stage.aws.endpoint_url) as nursery:
        yield nursery


@pytest.fixture
def world(stage: Stage) -> World:
    return stage.world()
