"""Statements that change the catalog. https://docs.aws.amazon.com/athena/latest/ug/ddl-reference.html"""

from __future__ import annotations

from typing import Any

from local_aws.athena import types
from local_aws.athena.catalog import VIEW, Catalog
from local_aws.athena.errors import QueryError, not_supported
from local_aws.athena.storage import Storage
from local_aws.athena.words import Words

Columns = list[dict[str, str]]

_PARQUET = (
    "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
    "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
    "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe",
)
_TEXT = (
    "org.apache.hadoop.mapred.TextInputFormat",
    "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat",
    "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe",
)
FORMATS = {"PARQUET": _PARQUET, "TEXTFILE": _TEXT}


def create_database(catalog: Catalog, words: Words) -> None:
    """CREATE DATABASE|SCHEMA [IF NOT EXISTS] name [COMMENT ..] [LOCATION ..] [WITH DBPROPERTIES (..)]"""
    lenient = words.accept("IF", "NOT", "EXISTS")
    name = words.name()
    given: dict[str, Any] = {"Parameters": {}}
    if words.accept("COMMENT"):
        given["Description"] = words.string()
    if words.accept("LOCATION"):
        given["LocationUri"] = words.string()
    if words.accept("WITH", "DBPROPERTIES"):
        given["Parameters"] = words.properties()
    words.done()
    if catalog.has_database(name):
        if not lenient:
            raise _failed(f"AlreadyExistsException(message:Database {name} already exists)")
        return
    catalog.create_database(name, given)


def drop_database(catalog: Catalog, words: Words) -> None:
    """DROP DATABASE|SCHEMA [IF EXISTS] name [RESTRICT|CASCADE]"""
    lenient = words.accept("IF", "EXISTS")
    name = words.name()
    cascade = words.accept("CASCADE")
    words.accept("RESTRICT")
    words.done()
    if not catalog.has_database(name):
        if not lenient:
            raise QueryError(
                "SCHEMA_NOT_FOUND", f"Database does not exist: {name}", prefix="FAILED: SemanticException "
            )
        return
    if catalog.tables(name) and not cascade:
        raise _failed(f"InvalidOperationException(message:Database {name} is not empty. One or more tables exist.)")
    catalog.drop_database(name)


def _failed(why: str) -> QueryError:
    prefix = "FAILED: Execution Error, return code 1 from org.apache.hadoop.hive.ql.exec.DDLTask. "
    return QueryError("HIVE_METASTORE_ERROR", why, prefix=prefix)


def create_table(catalog: Catalog, words: Words, database: str) -> None:
    """CREATE EXTERNAL TABLE in Hive's words."""
    lenient = words.accept("IF", "NOT", "EXISTS")
    database, name = words.table(database)
    given: dict[str, Any] = {"columns": _columns(words), "comment": "", "keys": [], "properties": {}, "location": ""}
    given["format"], given["serde"] = _TEXT, {}
    while not words.is_done:
        _clause(words, given)
    if not given["location"]:
        raise QueryError(
            "SYNTAX_ERROR", "No location was specified for table. An S3 location must be specified", prefix=""
        )
    if any(table["Name"].lower() == name for table in catalog.tables(database)):
        if not lenient:
            raise _failed(f"AlreadyExistsException(message:Table {name} already exists.)")
        return
    inputs, outputs, serde = given["format"]
    catalog.create_table(
        database,
        table_input(
            name,
            given["columns"],
            given["keys"],
            given["location"],
            inputs,
            outputs,
            serde,
            given["serde"],
            given["properties"],
            given["comment"],
        ),
    )


def table_input(
    name: str,
    columns: Columns,
    keys: Columns,
    location: str,
    inputs: str,
    outputs: str,
    serde: str,
    serde_parameters: dict[str, str],
    parameters: dict[str, str],
    comment: str = "",
) -> dict[str, Any]:
    """A table as Glue takes it."""
    return {
        "Name": name,
        "Description": comment,
        "TableType": "EXTERNAL_TABLE",
        "Parameters": {"EXTERNAL": "TRUE", **parameters},
        "PartitionKeys": keys,
        "StorageDescriptor": {
            "Columns": columns,
            "Location": location,
            "InputFormat": inputs,
            "OutputFormat": outputs,
            "SerdeInfo": {
                "SerializationLibrary": serde,
                "Parameters": serde_parameters or {"serialization.format": "1"},
            },
        },
    }


def _columns(words: Words) -> Columns:
    found: Columns = []
    words.expect("(")
    while not words.accept(")"):
        name, kind = words.name(), words.type().lower()
        types.parsed(kind)
        found.append({"Name": name, "Type": kind})
        if words.accept("COMMENT"):
            found[-1]["Comment"] = words.string()
        if not words.accept(",") and words.peek() != ")":
            raise words.wrong("expecting , or )")
    return found


def _clause(words: Words, given: dict[str, Any]) -> None:
    if words.accept("COMMENT"):
        given["comment"] = words.string()
    elif words.accept("PARTITIONED", "BY"):
        given["keys"] = _columns(words)
    elif words.accept("ROW", "FORMAT", "SERDE"):
        given["format"] = (*given["format"][:2], words.string())
        if words.accept("WITH", "SERDEPROPERTIES"):
            given["serde"] = words.properties()
    elif words.accept("ROW", "FORMAT", "DELIMITED"):
        given["serde"] = _delimited(words)
    elif words.accept("STORED", "AS"):
        given["format"] = _stored_as(words, given["format"])
    elif words.accept("LOCATION"):
        given["location"] = words.string()
    elif words.accept("TBLPROPERTIES"):
        given["properties"] = words.properties()
    else:
        raise words.wrong()


def _stored_as(words: Words, before: tuple[str, str, str]) -> tuple[str, str, str]:
    if words.accept("INPUTFORMAT"):
        inputs = words.string()
        words.expect("OUTPUTFORMAT")
        return inputs, words.string(), before[2]
    name = words.name().upper()
    if name not in FORMATS:
        raise not_supported(f"know STORED AS {name}")
    return FORMATS[name]


def _delimited(words: Words) -> dict[str, str]:
    found: dict[str, str] = {}
    while True:
        if words.accept("FIELDS", "TERMINATED", "BY"):
            found["field.delim"] = found["serialization.format"] = words.string()
        elif words.accept("ESCAPED", "BY"):
            raise not_supported("know ESCAPED BY: use OpenCSVSerde")
        elif words.accept("LINES", "TERMINATED", "BY"):
            if words.string() not in ("\n", "\\n"):
                raise not_supported("know LINES TERMINATED BY but a line's end")
        elif words.accept("NULL", "DEFINED", "AS"):
            found["serialization.null.format"] = words.string()
        else:
            return found


def drop_table(catalog: Catalog, words: Words, database: str, is_view: bool) -> None:
    """DROP TABLE|VIEW [IF EXISTS] name; the files stay."""
    lenient = words.accept("IF", "EXISTS")
    database, name = words.table(database)
    words.done()
    names = [each for each in catalog.tables(database) if each["Name"].lower() == name]
    if not names:
        if not lenient:
            what = "View" if is_view else "Table"
            raise QueryError("TABLE_NOT_FOUND", f"{what} 'awsdatacatalog.{database}.{name}' does not exist")
        return
    if is_view != (names[0].get("TableType") == VIEW):
        raise QueryError(
            "NOT_SUPPORTED",
            f"'{database}.{name}' is a {'table' if is_view else 'view'}: use DROP {'TABLE' if is_view else 'VIEW'}",
        )
    catalog.drop_table(database, names[0]["Name"])


def alter_table(catalog: Catalog, storage: Storage, words: Words, database: str) -> None:
    """ALTER TABLE. https://docs.aws.amazon.com/athena/latest/ug/ddl-reference.html"""
    database, name = words.table(database)
    table = catalog.described(database, name)
    name = table["Name"]
    given = {key: value for key, value in table.items() if key in _KEPT}
    given["StorageDescriptor"] = dict(given.get("StorageDescriptor") or {})
    if words.accept("ADD", "COLUMNS"):
        columns = given["StorageDescriptor"].get("Columns") or []
        given["StorageDescriptor"]["Columns"] = [*columns, *_columns(words)]
    elif words.accept("REPLACE", "COLUMNS"):
        given["StorageDescriptor"]["Columns"] = _columns(words)
    elif words.accept("SET", "TBLPROPERTIES"):
        given["Parameters"] = {**(given.get("Parameters") or {}), **words.properties()}
    elif words.accept("SET", "LOCATION"):
        given["StorageDescriptor"]["Location"] = words.string()
    elif words.accept("ADD"):
        return _add_partitions(catalog, words, database, name, table)
    elif words.accept("DROP"):
        return _drop_partitions(catalog, words, database, name, table)
    else:
        raise words.wrong()
    words.done()
    catalog.replace_table(database, given)
    return None


_KEPT = ("Name", "Description", "TableType", "Parameters", "PartitionKeys", "StorageDescriptor", "ViewOriginalText")


def _spec(words: Words, table: dict[str, Any]) -> list[str]:
    """PARTITION (dt='2026-11-21', ...)"""
    words.expect("PARTITION")
    given = words.properties()
    keys = [each["Name"].lower() for each in table.get("PartitionKeys") or []]
    if set(given) != set(keys):
        raise QueryError(
            "SYNTAX_ERROR", f"Partition spec {given} does not name {keys}", prefix="FAILED: SemanticException "
        )
    return [given[key] for key in keys]


def _add_partitions(catalog: Catalog, words: Words, database: str, name: str, table: dict[str, Any]) -> None:
    lenient = words.accept("IF", "NOT", "EXISTS")
    while not words.is_done:
        values = _spec(words, table)
        location = words.string() if words.accept("LOCATION") else _default(table, values)
        words.accept(",")
        if not catalog.add_partition(database, name, values, location) and not lenient:
            raise _failed("AlreadyExistsException(message:Partition already exists.)")


def _default(table: dict[str, Any], values: list[str]) -> str:
    keys = [each["Name"] for each in table.get("PartitionKeys") or []]
    path = "/".join(f"{key}={value}" for key, value in zip(keys, values, strict=True))
    return f"{table['StorageDescriptor']['Location'].rstrip('/')}/{path}"


def _drop_partitions(catalog: Catalog, words: Words, database: str, name: str, table: dict[str, Any]) -> None:
    lenient = words.accept("IF", "EXISTS")
    while not words.is_done:
        values = _spec(words, table)
        words.accept(",")
        if not catalog.drop_partition(database, name, values) and not lenient:
            raise QueryError(
                "SYNTAX_ERROR", f"Partition not found {values}", prefix="FAILED: SemanticException [Error 10006]: "
            )


def repair(catalog: Catalog, storage: Storage, words: Words, database: str) -> list[str]:
    """MSCK REPAIR TABLE: registers every folder named as the partition columns are; its lines of answer."""
    database, name = words.table(database)
    words.done()
    table = catalog.described(database, name)
    keys = [each["Name"].lower() for each in table.get("PartitionKeys") or []]
    root = table["StorageDescriptor"]["Location"].rstrip("/") + "/"
    found: dict[tuple[str, ...], str] = {}
    for file in storage.files([root])[root]:
        parts = file.uri[len(root) :].split("/")[: len(keys)]
        pairs = [part.partition("=") for part in parts]
        if [pair[0].lower() for pair in pairs] == keys:
            found[tuple(pair[2] for pair in pairs)] = root + "/".join(parts)
    lines = []
    for values, location in found.items():
        if catalog.add_partition(database, table["Name"], list(values), location):
            spec = "/".join(f"{key}={value}" for key, value in zip(keys, values, strict=True))
            lines.append(f"{name}:{spec}")
    if not lines:
        return []
    return [
        f"Partitions not in metastore:\t{chr(9).join(lines)}",
        *(f"Repair: Added partition to metastore {each}" for each in lines),
    ]
