from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from include.index.published import fetch_index
from include.index.refresh import Refreshed, refresh_index
from include.index.search import LabelIndex, open_index
from tests.include.memory_s3 import MemoryS3
from tests.include.samples import FINAL, NOW

Refresh = Callable[..., Refreshed]
Opened = Callable[[], LabelIndex]


@pytest.fixture
def s3() -> MemoryS3:
    return MemoryS3(FINAL)


@pytest.fixture
def refresh(s3: MemoryS3) -> Refresh:
    def run(**changes: Any) -> Refreshed:
        return refresh_index(s3, FINAL, **{"now": NOW, "threads": 1} | changes)

    return run


@pytest.fixture
def opened(s3: MemoryS3, tmp_path: Path) -> Opened:
    """Fetch what is published now, and open it."""
    return lambda: open_index(fetch_index(s3, FINAL, tmp_path / "fetched"))
