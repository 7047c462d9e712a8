"""One server and one trained model for all stories, and the processes that their runs are played by."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local_stack.chaos.nursery import Nursery
from local_stack.chaos.world import Theatre, World, a_theatre


@pytest.fixture(scope="session")
def theatre() -> Iterator[Theatre]:
    with a_theatre() as theatre:
        yield theatre


@pytest.fixture(scope="session")
def nursery(theatre: Theatre) -> Iterator[Nursery]:
    with Nursery(theatre.aws.endpoint_url) as nursery:
        yield nursery


@pytest.fixture
def world(theatre: Theatre) -> World:
    return theatre.world()
