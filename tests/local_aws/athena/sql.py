"""SQL that is run without a server: an engine over an empty S3 and catalog."""

from __future__ import annotations

from datetime import UTC, datetime

from local_aws.athena.catalog import Catalog
from local_aws.athena.engine import Engine, Prepared
from local_aws.athena.results import Result, csv_rows
from local_aws.athena.scan import Meter
from local_aws.athena.storage import Storage
from local_aws.moto_services import MotoServices

NOW = datetime(2026, 11, 21, 10, 0, 0, 123456, tzinfo=UTC)
Rows = list[tuple[str | None, ...]]


def run(moto: MotoServices, sql: str, parameters: list[str] | None = None) -> Result:
    """One statement at the time NOW."""
    prepared = Prepared(lambda name: "", lambda name, sql: None, lambda name: None)
    engine = Engine(
        catalog=Catalog(moto, "us-east-1"),
        storage=Storage(moto),
        prepared=prepared,
        now=NOW,
        meter=Meter(),
        database="default",
        query_id="11111111-2222-3333-4444-555555555555",
        output="s3://results/",
    )
    return engine.run(sql, parameters or [])


def rows(result: Result) -> Rows:
    """A result's rows without the header."""
    return [tuple(fields) for fields, _ in csv_rows(result.data, 0)][1:]


def header(result: Result) -> list[str | None]:
    """A result's first row."""
    return next(csv_rows(result.data, 0))[0]
