"""Tables over files: what is read of them, and what is wrong with them."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from local_aws.process import LocalAws
from tests.local_aws.athena.client import Athena

_numbers = itertools.count(1)

PARQUET = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"
LABEL = pa.struct([("name", pa.string()), ("confidence", pa.float64()), ("note", pa.string())])
SYMLINKS = f"""
CREATE EXTERNAL TABLE images (key string, width int, at timestamp, absent double,
    labels array<struct<name:string,confidence:double,note:string>>)
PARTITIONED BY (analysis string, dt string)
ROW FORMAT SERDE '{PARQUET}'
STORED AS INPUTFORMAT 'org.apache.hadoop.hive.ql.io.SymlinkTextInputFormat'
OUTPUTFORMAT 'org.apache.hadoop.hive.ql.io.IgnoreKeyTextOutputFormat'
LOCATION 's3://{{bucket}}/files/'
TBLPROPERTIES ('projection.enabled'='true', 'projection.analysis.type'='enum', 'projection.analysis.values'='a,b',
    'projection.dt.type'='date', 'projection.dt.format'='yyyy-MM-dd', 'projection.dt.range'='2026-01-01,NOW+1DAYS',
    'storage.location.template'='s3://{{bucket}}/files/analysis=${{{{analysis}}}}/dt=${{{{dt}}}}/')
"""


def images(count: int, *, first: int = 0) -> pa.Table:
    """Images with two labels each, and a column that no table has."""
    at = datetime(2026, 11, 20, 10, 0, 0, 123_000, tzinfo=UTC)
    return pa.table(
        {
            "labels": pa.array(
                [[{"name": n, "confidence": 50.0 + i, "note": "n" * 50} for n in ("cat", "dog")] for i in range(count)],
                pa.list_(LABEL),
            ),
            "Width": pa.array(range(first, first + count), pa.int32()),
            "key": [f"image {i}" for i in range(count)],
            "at": pa.array([at] * count, pa.timestamp("us", tz="UTC")),
            "extra": [b"x"] * count,
        }
    )


@pytest.fixture(scope="module")
def athena(server: LocalAws) -> Athena:
    """Two days of `images`, listed in file lists."""
    server.clear_faults()
    made = Athena(server, f"athena-tables-{next(_numbers)}")
    made.run(
        SYMLINKS.replace("{{bucket}}", made.name).replace("{bucket}", made.name).replace("{{", "{").replace("}}", "}")
    )
    for day, first in (("2026-05-01", 0), ("2026-05-02", 1000)):
        made.put_parquet(f"data/{day}.parquet", images(100, first=first), row_group_size=50)
        made.put(f"files/analysis=a/dt={day}/files.txt", f"s3://{made.name}/data/{day}.parquet\n")
    return made


def test_a_file_list_says_which_files_are_read(athena: Athena) -> None:
    assert athena.run("SELECT dt, count(*) FROM images GROUP BY 1 ORDER BY 1")[1:] == [
        ["2026-05-01", "100"],
        ["2026-05-02", "100"],
    ]
    [[path]] = athena.run("SELECT DISTINCT \"$path\" FROM images WHERE dt = '2026-05-02'")[1:]
    assert path == f"s3://{athena.name}/data/2026-05-02.parquet"


def test_columns_are_found_by_name_and_what_a_file_lacks_is_null(athena: Athena) -> None:
    sql = "SELECT key, width, at, absent, labels[1].name FROM images WHERE width = 1007"
    assert athena.run(sql)[1:] == [["image 7", "1007", "2026-11-20 10:00:00.123", None, "cat"]]


def test_labels_are_unnested_a_column_for_each_field(athena: Athena) -> None:
    sql = "SELECT name, count(*), max(confidence) FROM images CROSS JOIN UNNEST(labels) AS l(name, confidence, note) GROUP BY 1"
    assert sorted(athena.run(sql)[1:]) == [["cat", "200", "149.0"], ["dog", "200", "149.0"]]


def test_days_outside_the_range_or_without_files_are_empty(athena: Athena) -> None:
    assert athena.run("SELECT count(*) FROM images WHERE dt IN ('2020-01-01', '2026-05-03')")[1:] == [["0"]]


def test_only_what_is_needed_is_scanned(athena: Athena) -> None:
    metadata = athena.put_parquet("scanned/x.parquet", images(100), row_group_size=50)
    sizes: dict[str, int] = {}
    for group in range(metadata.num_row_groups):
        for n in range(metadata.num_columns):
            column = metadata.row_group(group).column(n)
            sizes[column.path_in_schema] = sizes.get(column.path_in_schema, 0) + column.total_compressed_size
    athena.run(
        "CREATE EXTERNAL TABLE scanned (key string, width int, labels array<struct<name:string,confidence:double>>) "
        f"STORED AS PARQUET LOCATION 's3://{athena.name}/scanned/'"
    )
    assert athena.scanned("SELECT count(*) FROM scanned") == 0
    assert athena.scanned("SELECT max(key) FROM scanned") == sizes["key"]
    # Of an array, Trino reads every field.
    whole = sum(size for path, size in sizes.items() if path.startswith("labels."))
    assert athena.scanned("SELECT any_match(labels, l -> l.name = 'cat') FROM scanned") == whole
    # Half of the row groups hold no such width.
    assert athena.scanned("SELECT width FROM scanned WHERE width > 60") < sizes["Width"]
    assert athena.scanned("SELECT width FROM scanned WHERE width > 600") == 0


def test_other_days_are_not_read(athena: Athena) -> None:
    one = athena.scanned("SELECT key FROM images WHERE dt = '2026-05-01'")
    assert 0 < one < athena.scanned("SELECT key FROM images")
    athena.run(
        "CREATE OR REPLACE VIEW keys AS SELECT dt AS day, key, name FROM images CROSS JOIN UNNEST(labels) AS l(name, c, n)"
    )
    through = athena.scanned("SELECT key FROM (SELECT * FROM keys) WHERE day <= '2026-05-01'")
    assert one < through < 0.6 * athena.scanned("SELECT key FROM keys")
    # Counting each day's rows by number may not be asked of the table first.
    ranked = "SELECT dt FROM (SELECT dt, row_number() OVER (ORDER BY dt, key) n FROM images) WHERE dt > '2026-05-01' AND n = 101"
    assert athena.run(ranked)[1:] == [["2026-05-02"]]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("missing", None, "HIVE_CANNOT_OPEN_SPLIT: Error opening Hive split {uri}"),
        ("corrupt", b"no parquet, but long enough", "HIVE_CANNOT_OPEN_SPLIT: Error opening Hive split {uri}"),
        (
            "other",
            pa.table({"width": ["wide"]}),
            "HIVE_BAD_DATA: Field width's type BYTE_ARRAY in parquet file {uri} is incompatible",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    athena: Athena, name: str, content: bytes | pa.Table | None, reason: str
) -> None:
    key = f"bad/{name}.parquet"
    if isinstance(content, pa.Table):
        athena.put_parquet(key, content)
    elif content is not None:
        athena.s3.put_object(Bucket=athena.name, Key=key, Body=content)
    listed = "files/analysis=b/dt=2026-05-01/files.txt"
    athena.put(listed, f"s3://{athena.name}/{key}\n")
    try:
        failure = athena.failure("SELECT sum(width) FROM images WHERE analysis = 'b'")
        assert failure.startswith(reason.format(uri=f"s3://{athena.name}/{key}"))
    finally:
        athena.s3.delete_object(Bucket=athena.name, Key=listed)


def test_registered_partitions_are_read_and_others_are_not(athena: Athena) -> None:
    athena.run(
        "CREATE EXTERNAL TABLE hive (key string) PARTITIONED BY (dt date) STORED AS PARQUET "
        f"LOCATION 's3://{athena.name}/hive/'"
    )
    athena.put_parquet("hive/dt=2026-05-01/deep/x.parquet", pa.table({"key": ["a"]}))
    athena.put_parquet("hive/dt=2026-05-01/_hidden.parquet", pa.table({"key": ["no"]}))
    athena.put_parquet("elsewhere/y.parquet", pa.table({"key": ["b"]}))
    assert athena.run("SELECT * FROM hive")[1:] == []
    athena.run("MSCK REPAIR TABLE hive")
    athena.run(f"ALTER TABLE hive ADD PARTITION (dt='2026-05-02') LOCATION 's3://{athena.name}/elsewhere/'")
    assert athena.run("SHOW PARTITIONS hive") == [["dt=2026-05-01"], ["dt=2026-05-02"]]
    assert athena.run("SELECT * FROM hive ORDER BY key")[1:] == [["a", "2026-05-01"], ["b", "2026-05-02"]]
    athena.run("ALTER TABLE hive DROP PARTITION (dt='2026-05-01')")
    assert athena.run("SELECT key FROM hive")[1:] == [["b"]]


def test_injected_integer_and_hourly_projection(athena: Athena) -> None:
    athena.run(
        "CREATE EXTERNAL TABLE projected (key string) PARTITIONED BY (who string, n int, hour string) STORED AS PARQUET "
        f"LOCATION 's3://{athena.name}/projected/' TBLPROPERTIES ('projection.enabled'='true', "
        "'projection.who.type'='injected', 'projection.n.type'='integer', 'projection.n.range'='0,9', "
        "'projection.n.digits'='2', 'projection.hour.type'='date', 'projection.hour.format'='yyyy/MM/dd/HH', "
        "'projection.hour.range'='2026/05/01/00,2026/05/01/23', 'projection.hour.interval'='1', "
        f"'projection.hour.interval.unit'='HOURS', 'storage.location.template'='s3://{athena.name}/projected/${{who}}/${{n}}/${{hour}}/')"
    )
    athena.put_parquet("projected/me/07/2026/05/01/13/x.parquet", pa.table({"key": ["a"]}))
    sql = "SELECT * FROM projected WHERE who = 'me' AND n > 5 AND hour LIKE '2026/05/01/1%'"
    assert athena.run(sql)[1:] == [["a", "me", "7", "2026/05/01/13"]]
    assert athena.failure("SELECT * FROM projected").startswith(
        "CONSTRAINT_VIOLATION: For the injected projected partition column who"
    )


def test_json_and_csv_are_read(athena: Athena) -> None:
    athena.put("json/x.json", '{"Id": 1, "tags": ["a"], "of": {"x": 1.5}}\n{"id": 2}\n')
    athena.run(
        "CREATE EXTERNAL TABLE lines (id int, tags array<string>, of struct<x:double>) "
        f"ROW FORMAT SERDE 'org.openx.data.jsonserde.JsonSerDe' LOCATION 's3://{athena.name}/json/'"
    )
    assert athena.run("SELECT id, tags, of.x FROM lines ORDER BY id")[1:] == [["1", "[a]", "1.5"], ["2", None, None]]
    athena.put("csv/x.csv", "id,name\n1,a\nx,\\N\n")
    athena.run(
        "CREATE EXTERNAL TABLE fields (id int, name string) ROW FORMAT DELIMITED FIELDS TERMINATED BY ',' "
        f"LOCATION 's3://{athena.name}/csv/' TBLPROPERTIES ('skip.header.line.count'='1')"
    )
    assert athena.run("SELECT * FROM fields")[1:] == [["1", "a"], [None, None]]


def test_a_query_s_rows_become_a_table_grow_and_are_unloaded(athena: Athena) -> None:
    athena.run(
        f"CREATE TABLE made WITH (format='PARQUET', external_location='s3://{athena.name}/made/', partitioned_by=ARRAY['dt']) "
        "AS SELECT key, labels, at, dt FROM images"
    )
    athena.run("INSERT INTO made SELECT key, labels, at, '2026-06-01' FROM images WHERE width = 3")
    answer = athena.run("SELECT dt, count(*), sum(cardinality(labels)), max(at) FROM made GROUP BY 1 ORDER BY 1")[1:]
    assert [each[:3] for each in answer] == [
        ["2026-05-01", "100", "200"],
        ["2026-05-02", "100", "200"],
        ["2026-06-01", "1", "2"],
    ]
    assert answer[2][3] == "2026-11-20 10:00:00.123"
    again = athena.failure(f"CREATE TABLE more WITH (external_location='s3://{athena.name}/made/') AS SELECT 1 AS x")
    assert again.startswith("HIVE_PATH_ALREADY_EXISTS")
    query = athena.ended(f"UNLOAD (SELECT key FROM images) TO 's3://{athena.name}/unloaded/' WITH (format='PARQUET')")
    bucket, _, key = query["Statistics"]["DataManifestLocation"].removeprefix("s3://").partition("/")
    [uri] = athena.s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode().split()
    assert uri.startswith(f"s3://{athena.name}/unloaded/")


def test_a_view_is_kept_as_athena_keeps_it(athena: Athena) -> None:
    athena.run("CREATE VIEW wide AS SELECT key, width, now() AS read_at FROM images WHERE width > 1050")
    kept = athena.glue.get_table(DatabaseName=athena.database, Name="wide")["Table"]
    assert kept["TableType"] == "VIRTUAL_VIEW"
    assert kept["ViewOriginalText"].startswith("/* Presto View: ")
    assert [each["Type"] for each in kept["StorageDescriptor"]["Columns"]] == ["string", "int", "timestamp"]
    assert athena.run("SELECT count(*) FROM wide")[1:] == [["49"]]
    assert ["wide"] in athena.run("SHOW VIEWS")
    assert athena.run("SHOW CREATE VIEW wide")[0] == [f"CREATE VIEW {athena.database}.wide AS"]
    athena.run("DROP VIEW wide")
    assert athena.failure("SELECT * FROM wide") == (
        f"TABLE_NOT_FOUND: line 1:15: Table 'awsdatacatalog.{athena.database}.wide' does not exist"
    )


def test_tables_made_through_glue_are_seen_and_described(athena: Athena) -> None:
    athena.put_parquet("glue/x.parquet", pa.table({"id": [1]}))
    athena.glue.create_table(
        DatabaseName=athena.database,
        TableInput={
            "Name": "from_glue",
            "TableType": "EXTERNAL_TABLE",
            "StorageDescriptor": {
                "Columns": [{"Name": "id", "Type": "bigint", "Comment": "which"}],
                "Location": f"s3://{athena.name}/glue/",
                "SerdeInfo": {"SerializationLibrary": PARQUET},
            },
        },
    )
    assert athena.run("SELECT * FROM from_glue") == [["id"], ["1"]]
    assert [each[0] for each in athena.run("SHOW TABLES 'from*'")] == ["from_glue"]
    assert [cell.strip() for cell in athena.run("DESCRIBE from_glue")[0] if cell] == ["id", "bigint", "which"]
    assert athena.run("SHOW CREATE TABLE from_glue")[0] == [f"CREATE EXTERNAL TABLE `{athena.database}.from_glue`("]
    athena.run("ALTER TABLE from_glue ADD COLUMNS (more array<struct<a:int>>)")
    assert athena.run("SELECT id, more FROM from_glue")[1:] == [["1", None]]


def test_a_filter_drops_no_row_group_that_has_what_it_asks_for(athena: Athena) -> None:
    at = [datetime(2026, 5, 1, 1, 2, 3, 456_789, tzinfo=UTC)]
    table = pa.table({"r": pa.array([1.1], pa.float32()), "at": pa.array(at, pa.timestamp("us", tz="UTC")), "s": ["x"]})
    athena.put_parquet("rounded/a.parquet", table)
    columns, place = "r float, at timestamp, s string", f"s3://{athena.name}/rounded/"
    athena.run(f"CREATE EXTERNAL TABLE rounded ({columns}) STORED AS PARQUET LOCATION '{place}'")
    # Statistics have the double next to a real, microseconds, and all of a text that a cast cuts.
    for test in ("r = 1.1", "at = timestamp '2026-05-01 01:02:03.457'", "s = CAST('xyz' AS varchar(1))"):
        assert athena.run(f"SELECT count(*) FROM rounded WHERE {test}")[1:] == [["1"]], test
