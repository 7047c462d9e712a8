"""An archive's bucket that may be read, a bucket for inventories and lists, and a plan of it in one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from include.archive.plan import Plan, plan_archive, read_part
from include.archive.request import parse_request
from include.images import ImageRef
from include.model_state import ModelState
from include.settings import Settings
from tests.include.archive.inventories import REPORTS
from tests.include.conftest import BuildSettings
from tests.include.memory_s3 import MemoryS3
from tests.include.samples import FINAL, INBOX, NOW

MakePlan = Callable[..., Plan]


@pytest.fixture
def s3() -> MemoryS3:
    return MemoryS3(INBOX, FINAL, "archive", REPORTS)


@pytest.fixture
def settings(build_settings: BuildSettings) -> Settings:
    return build_settings(allowed_buckets="archive", threads=8)


@pytest.fixture
def make_plan(s3: MemoryS3, settings: Settings) -> MakePlan:
    """Plan what a request's fields say."""

    def make(archive_id: str = "20260301T120000Z.stock", **asked: Any) -> Plan:
        return plan_archive(
            s3,
            settings,
            parse_request(**asked),
            archive_id=archive_id,
            now=NOW,
            model_state=ModelState(),
            month_cost_usd=0.0,
        )

    return make


def planned(s3: MemoryS3, plan: Plan) -> list[ImageRef]:
    """All images of a plan."""
    return [image for key in plan.parts for image in read_part(s3, FINAL, key)]


def planned_keys(s3: MemoryS3, plan: Plan) -> list[str]:
    return sorted(image.key for image in planned(s3, plan))
