from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from include import layout
from include.queries import QueryError, saved
from include.queries.setup import VIEWS
from include.queries.tables import VERSION_PROPERTY
from include.schema import ANALYSIS, image_labels_table
from tests.include.queries.conftest import Analyst
from tests.include.queries.sample_results import RESULTS, at, put_parquet, put_results, row

COUNT = "SELECT count(*), count(exif_orientation), count(version_id) FROM image_labels"


@pytest.fixture
def newcomer(an_analyst: Callable[[str], Analyst], unique: str) -> Analyst:
    return an_analyst(unique.replace("-", "_") + "_new")


def test_the_first_time_makes_everything_and_the_second_nothing(newcomer: Analyst) -> None:
    said = newcomer.set_up()
    for what in ("Workgroup", "Database", "Table image_labels", "Table runs", "Query slow_hours"):
        assert any(line.startswith(what) for line in said), what
    assert newcomer.set_up() == []
    tables = newcomer.glue.get_tables(DatabaseName=newcomer.settings.database)["TableList"]
    assert {table["Name"] for table in tables} == {"image_labels", "runs", *VIEWS}
    for view in VIEWS:
        assert newcomer.ask(f"SELECT * FROM {view}") == []


def test_the_workgroup_enforces_where_answers_lie_and_what_a_query_may_read(newcomer: Analyst) -> None:
    newcomer.set_up()
    changed = replace_settings(newcomer, query_scan_limit_gb=0.5)
    assert changed.set_up() == [f"Workgroup {newcomer.settings.workgroup} changed: a query may scan 0.5 GB."]
    group = newcomer.athena.get_work_group(WorkGroup=newcomer.settings.workgroup)["WorkGroup"]["Configuration"]
    assert group["EnforceWorkGroupConfiguration"] is True
    assert group["BytesScannedCutoffPerQuery"] == 500_000_000
    location = f"s3://{newcomer.settings.final_bucket}/queries/results/"
    assert group["ResultConfiguration"]["OutputLocation"] == location


def test_somebodys_own_workgroup_is_used_as_it_is(newcomer: Analyst) -> None:
    name = newcomer.settings.workgroup
    newcomer.athena.create_work_group(Name=name, Description="of the data team")
    before = newcomer.athena.get_work_group(WorkGroup=name)["WorkGroup"]
    assert any("is not ours: used as it is" in line for line in newcomer.set_up())
    assert newcomer.athena.get_work_group(WorkGroup=name)["WorkGroup"] == before
    assert newcomer.ask(COUNT) == [(0, 0, 0)]


def test_a_table_of_before_is_brought_up_to_date_and_its_files_read_as_null(newcomer: Analyst) -> None:
    newcomer.set_up()
    put_results(newcomer.s3, newcomer.settings, RESULTS)
    old = image_labels_table([row(4, "old.jpg", [("mug", 90.0)])]).drop_columns(["exif_orientation", "etag"])
    key = layout.image_labels(analysis=ANALYSIS, day="2026-03-04", batch_id="old")
    put_parquet(newcomer.s3, newcomer.settings.final_bucket, key, old)
    as_it_was = as_before(newcomer.table("image_labels"))
    newcomer.glue.update_table(DatabaseName=newcomer.settings.database, TableInput=as_it_was)

    assert newcomer.set_up() == [
        "1 days of results from before file lists were listed.",
        "Table image_labels brought up to date.",
    ]
    assert newcomer.ask(COUNT) == [(len(RESULTS) + 1, len(RESULTS), 0)]
    assert newcomer.ask("SELECT exif_orientation, etag FROM latest_labels WHERE source_key = 'old.jpg'") == [
        (None, None)
    ]
    assert newcomer.ask("SELECT added_by_hand FROM image_labels LIMIT 1") == [(None,)]
    assert newcomer.set_up() == []


def as_before(table: dict[str, Any]) -> dict[str, Any]:
    """The table as an earlier release would have made it: without a column, with a narrower range, and with one by hand."""
    parts = ("Name", "TableType", "Parameters", "PartitionKeys", "StorageDescriptor")
    made = copy.deepcopy({part: table[part] for part in parts})
    described = made["StorageDescriptor"]
    described["Columns"] = [each for each in described["Columns"] if each["Name"] != "exif_orientation"]
    described["Columns"].append({"Name": "added_by_hand", "Type": "string"})
    made["Parameters"] |= {"projection.dt.range": "2026-01-01,2026-03-01", VERSION_PROPERTY: "0"}
    return made


def test_a_saved_query_that_changed_is_prepared_anew(newcomer: Analyst) -> None:
    newcomer.set_up()
    newcomer.athena.update_prepared_statement(
        StatementName="slow_hours", WorkGroup=newcomer.settings.workgroup, QueryStatement="SELECT 1"
    )
    assert newcomer.set_up() == ["Query slow_hours brought up to date."]
    assert newcomer.ask(saved.find("slow_hours").bind({}, today=at(3).date()).as_prepared) == []


def test_a_database_of_another_deployment_is_left_alone(newcomer: Analyst, analyst: Analyst) -> None:
    before = analyst.table("image_labels")
    intruder = replace_settings(newcomer, database=analyst.settings.database)
    with pytest.raises(QueryError, match="another deployment"):
        intruder.set_up()
    assert analyst.table("image_labels") == before


def test_what_is_not_set_up_is_said(newcomer: Analyst) -> None:
    with pytest.raises(QueryError, match="query --setup"):
        newcomer.ask(COUNT)


def test_a_damaged_file_is_named_with_what_to_do(newcomer: Analyst) -> None:
    newcomer.set_up()
    put_results(newcomer.s3, newcomer.settings, RESULTS)
    key = layout.image_labels(analysis=ANALYSIS, day="2026-03-02", batch_id="batch")
    newcomer.s3.put_object(Bucket=newcomer.settings.final_bucket, Key=key, Body=b"PAR1 no more")
    with pytest.raises(QueryError, match=rf"{key}.*damaged, gone"):
        newcomer.ask("SELECT max(source_key) FROM image_labels")
    assert newcomer.ask("SELECT count(source_key) FROM image_labels WHERE dt <> '2026-03-02'") == [(7,)]


def replace_settings(analyst: Analyst, **changes: Any) -> Analyst:
    return replace(analyst, settings=analyst.settings.model_copy(update=changes))
