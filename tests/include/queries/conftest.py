"""Results in local AWS, set up once: every question is asked of the same three days."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from include.queries import athena
from include.queries.setup import set_up
from include.settings import Settings, load_settings
from local_aws.process import LocalAws
from tests.include.queries.sample_results import put_sample
from tests.include.samples import VALUES


@dataclass(frozen=True)
class Analyst:
    """Somebody who asks, and what it takes."""

    athena: Any
    glue: Any
    s3: Any
    settings: Settings

    def set_up(self) -> list[str]:
        return set_up(self.athena, self.glue, self.s3, self.settings, sleep=quickly)

    def run(self, sql: str, *literals: str) -> athena.Done:
        return athena.run(self.athena, self.settings, sql, literals, name="asked", sleep=quickly)

    def ask(self, sql: str, *literals: str) -> list[tuple[Any, ...]]:
        """The rows, by position."""
        batches = athena.batches(self.athena, self.run(sql, *literals).query_id)
        return [row for batch in batches for row in zip(*(each.to_pylist() for each in batch.columns), strict=True)]

    def table(self, name: str) -> dict[str, Any]:
        return dict(self.glue.get_table(DatabaseName=self.settings.database, Name=name)["Table"])


def quickly(_: float) -> None:
    time.sleep(0.02)


@pytest.fixture(scope="session")
def an_analyst(aws: LocalAws) -> Callable[[str], Analyst]:
    """One with buckets and a database of that name; nothing is set up."""
    clients = [aws.client(service) for service in ("athena", "glue", "s3")]

    def of(name: str) -> Analyst:
        changes = {"final_bucket": f"{name}-final", "database": name, "workgroup": name}
        clients[2].create_bucket(Bucket=f"{name}-final")
        return Analyst(*clients, load_settings(**VALUES | changes))

    return of


@pytest.fixture(scope="session")
def analyst(an_analyst: Callable[[str], Analyst]) -> Analyst:
    found = an_analyst("sample")
    put_sample(found.s3, found.settings)
    found.set_up()
    return found
