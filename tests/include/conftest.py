"""Settings that need no environment, S3 in memory for most tests, and one local AWS for those that want the real thing."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from include.settings import PREFIX, Settings, load_settings
from local_aws.process import LocalAws
from tests.include.memory_s3 import MemoryS3
from tests.include.samples import FINAL, INBOX, VALUES

_numbers = itertools.count(1)

BuildSettings = Callable[..., Settings]


@pytest.fixture(autouse=True)
def _no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)


@pytest.fixture
def build_settings() -> BuildSettings:
    """Valid settings with some of them changed. One thread, so that calls come in one order."""
    return lambda **changes: load_settings(**VALUES | changes)


@pytest.fixture
def settings(build_settings: BuildSettings) -> Settings:
    return build_settings()


@pytest.fixture
def s3() -> MemoryS3:
    return MemoryS3(INBOX, FINAL, "archive")


@pytest.fixture(scope="session")
def aws() -> Iterator[LocalAws]:
    with LocalAws() as server:
        yield server


@pytest.fixture(scope="session")
def aws_s3(aws: LocalAws) -> Any:
    return aws.client("s3", max_pool_connections=20)


@pytest.fixture(scope="session")
def sqs(aws: LocalAws) -> Any:
    return aws.client("sqs", max_pool_connections=20)


@pytest.fixture
def unique() -> str:
    """A name that no other test uses, for a bucket or a queue."""
    return f"test-{next(_numbers)}"


@pytest.fixture
def aws_settings(build_settings: BuildSettings, aws_s3: Any, unique: str) -> Settings:
    """Settings whose buckets exist in local AWS."""
    for bucket in (f"{unique}-inbox", f"{unique}-final"):
        aws_s3.create_bucket(Bucket=bucket)
    return build_settings(source_bucket=f"{unique}-inbox", final_bucket=f"{unique}-final")
