from __future__ import annotations

import copy
from typing import Any

import pytest

from include.layout import FILE_LISTS
from include.queries import QueryError, columns
from include.queries.tables import SCHEMA_VERSION, VERSION_PROPERTY, migrated, wanted_tables
from include.schema import IMAGE_LABELS, RUNS
from include.settings import Settings
from tests.include.conftest import BuildSettings


@pytest.fixture
def wanted(settings: Settings) -> dict[str, Any]:
    return wanted_tables(settings)[0]


@pytest.fixture
def found(wanted: dict[str, Any]) -> dict[str, Any]:
    """The table as Glue describes it, with what Glue and people add."""
    table = copy.deepcopy(wanted) | {"DatabaseName": "labels", "CreateTime": "2026", "Retention": 0}
    table["Parameters"] |= {"transient_lastDdlTime": "1", "owner": "photo team"}
    table["StorageDescriptor"] |= {"Compressed": False, "NumberOfBuckets": -1}
    return table


def column(table: dict[str, Any], name: str) -> Any:
    return next(each for each in table["StorageDescriptor"]["Columns"] if each["Name"] == name)


def test_columns_are_those_of_the_schema_in_glues_types(wanted: dict[str, Any]) -> None:
    assert [each["Name"] for each in wanted["StorageDescriptor"]["Columns"]] == IMAGE_LABELS.names
    types = {each["Name"]: each["Type"] for each in wanted["StorageDescriptor"]["Columns"]}
    assert types["event_time"] == "timestamp"
    assert (types["size_bytes"], types["width_px"], types["max_confidence"]) == ("bigint", "int", "double")
    assert types["labels"] == (
        "array<struct<name:string,confidence:double,threshold:double,passes:boolean,left:double,top:double,"
        "width:double,height:double,parents:array<string>,attributes:map<string,string>>>"
    )


def test_every_column_has_a_meaning_that_glue_takes() -> None:
    assert list(columns.IMAGE_LABELS) == [*IMAGE_LABELS.names, "analysis", "dt"]
    assert list(columns.RUNS) == [*RUNS.names, "dt"]
    for meaning in [*columns.IMAGE_LABELS.values(), *columns.RUNS.values()]:
        assert 0 < len(meaning) <= 255  # https://docs.aws.amazon.com/glue/latest/webapi/API_Column.html


def test_image_labels_reads_the_files_that_the_lists_of_days_name(wanted: dict[str, Any]) -> None:
    assert wanted["StorageDescriptor"]["InputFormat"].endswith(".SymlinkTextInputFormat")
    template = f"s3://final/{FILE_LISTS}analysis=${{analysis}}/dt=${{dt}}/"
    assert wanted["Parameters"]["storage.location.template"] == template
    assert wanted["Parameters"]["projection.dt.range"] == "2026-01-01,NOW+1DAYS"


def test_a_table_as_it_should_be_is_left_alone(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert migrated(found, wanted) is None


def test_a_table_of_before_gains_columns_fields_and_properties_and_loses_nothing(
    found: dict[str, Any], wanted: dict[str, Any]
) -> None:
    fields = found["StorageDescriptor"]["Columns"]
    fields.remove(column(found, "exif_orientation"))
    fields.insert(0, {"Name": "added_by_hand", "Type": "string"})
    labels = column(found, "labels")
    labels["Type"] = labels["Type"].replace(",attributes:map<string,string>", "")
    found["Parameters"] |= {"projection.dt.range": "2026-01-01,2026-12-31", VERSION_PROPERTY: "0"}
    made = migrated(found, wanted)
    assert made is not None
    names = [each["Name"] for each in made["StorageDescriptor"]["Columns"]]
    assert (names[0], names[-1]) == ("added_by_hand", "exif_orientation")
    assert column(made, "labels") == column(wanted, "labels")
    assert made["Parameters"] == found["Parameters"] | wanted["Parameters"]
    assert made["Parameters"]["owner"] == "photo team"
    assert not {"DatabaseName", "CreateTime"} & made.keys()


@pytest.mark.parametrize(
    ("name", "type_"),
    [
        ("size_bytes", "string"),
        ("labels", "array<struct<name:string,gone:double>>"),
        ("labels", "array<struct<name:bigint>>"),
        ("labels", "string"),
    ],
)
def test_a_column_of_another_type_is_an_error(
    found: dict[str, Any], wanted: dict[str, Any], name: str, type_: str
) -> None:
    column(found, name)["Type"] = type_
    with pytest.raises(QueryError, match=f"{name} as .*somebody changed it"):
        migrated(found, wanted)


def test_a_table_that_is_not_ours_is_not_touched(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    del found["Parameters"][VERSION_PROPERTY]
    with pytest.raises(QueryError, match=r"not made by this pipeline .*LABELS_DATABASE"):
        migrated(found, wanted)


def test_a_newer_releases_table_is_not_undone(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    found["Parameters"][VERSION_PROPERTY] = str(SCHEMA_VERSION + 1)
    with pytest.raises(QueryError, match="newer release"):
        migrated(found, wanted)


def test_another_deployments_table_is_not_taken_over(found: dict[str, Any], build_settings: BuildSettings) -> None:
    other = wanted_tables(build_settings(final_bucket="other-final"))[0]
    with pytest.raises(QueryError, match="another deployment"):
        migrated(found, other)


def test_other_partitions_cannot_be_changed(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    found["PartitionKeys"] = found["PartitionKeys"][1:]
    with pytest.raises(QueryError, match="is partitioned by"):
        migrated(found, wanted)
