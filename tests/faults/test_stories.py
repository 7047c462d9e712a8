"""Stories drawn from seeds: several kills each, while local AWS misbehaves. ``python -m local_stack.chaos`` plays more."""

from __future__ import annotations

import pytest

from local_stack.chaos.nursery import Nursery
from local_stack.chaos.story import tell
from local_stack.chaos.world import Theatre


@pytest.mark.parametrize("seed", range(25))
def test_a_story_ends_well(theatre: Theatre, nursery: Nursery, seed: int) -> None:
    told = tell(theatre, nursery, seed)
    assert told.verdict.is_clean, "\n".join((str(told), *told.log))
