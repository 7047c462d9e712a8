"""SHOW and DESCRIBE: what the catalog holds, as lines of text. https://docs.aws.amazon.com/athena/latest/ug/ddl-reference.html"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from local_aws.athena.catalog import VIEW, Catalog, view_of
from local_aws.athena.errors import QueryError, not_supported
from local_aws.athena.partitions import partitions
from local_aws.athena.words import Words

# Names of an answer's columns, and its lines; several columns are parted by tabs.
Answer = tuple[list[str], list[str]]


def show(catalog: Catalog, words: Words, database: str, now: datetime) -> Answer:
    """SHOW ..."""
    if words.accept("DATABASES") or words.accept("SCHEMAS"):
        return ["database_name"], _like(words, [str(each["Name"]) for each in catalog.databases()])
    if words.accept("TABLES"):
        database = words.name() if words.accept("IN") or words.accept("FROM") else database
        return ["tab_name"], _like(words, [str(each["Name"]) for each in catalog.tables(database)])
    if words.accept("VIEWS"):
        database = words.name() if words.accept("IN") or words.accept("FROM") else database
        names = [str(each["Name"]) for each in catalog.tables(database) if each.get("TableType") == VIEW]
        return ["views"], _like(words, names)
    if words.accept("COLUMNS"):
        return ["field"], [name.ljust(20) for name, _, _ in _all_columns(_named(catalog, words, database))]
    if words.accept("PARTITIONS"):
        return ["partition"], _partitions(catalog, words, database, now)
    if words.accept("TBLPROPERTIES"):
        return ["prpt_name", "prpt_value"], _properties(catalog.described(*words.table(database)), words)
    if words.accept("CREATE", "VIEW"):
        return ["Create View"], _create_view(catalog.described(*words.table(database)))
    if words.accept("CREATE", "TABLE"):
        return ["createtab_stmt"], _create_table(catalog.described(*words.table(database)))
    raise not_supported(f"know SHOW {words.peek()}")


def _like(words: Words, names: list[str]) -> list[str]:
    """[LIKE] 'pattern', where * is anything and | is or; in order."""
    words.accept("LIKE")
    if words.is_done:
        return sorted(names)
    pattern = words.string()
    words.done()
    wanted = "|".join(".*".join(re.escape(piece) for piece in each.split("*")) for each in pattern.split("|"))
    return sorted(each for each in names if re.fullmatch(wanted, each, re.IGNORECASE))


def _named(catalog: Catalog, words: Words, database: str) -> dict[str, Any]:
    if not (words.accept("IN") or words.accept("FROM")):
        raise words.wrong("expecting IN or FROM")
    database, name = words.table(database)
    if words.accept("IN") or words.accept("FROM"):
        database = words.name()
    words.done()
    return catalog.described(database, name)


def _all_columns(table: dict[str, Any]) -> list[tuple[str, str, str]]:
    columns = [*((table.get("StorageDescriptor") or {}).get("Columns") or []), *(table.get("PartitionKeys") or [])]
    return [(each["Name"], each.get("Type", ""), each.get("Comment", "")) for each in columns]


def _partitions(catalog: Catalog, words: Words, database: str, now: datetime) -> list[str]:
    database, name = words.table(database)
    words.done()
    table = catalog.table("", database, name)
    if not table.keys:
        reason = f"Table {name} is not a partitioned table"
        raise QueryError("SYNTAX_ERROR", reason, prefix="FAILED: Execution Error, return code 1 from DDLTask. ")
    # Projected partitions are in no catalog, and SHOW PARTITIONS does not list them.
    is_projected = table.parameters.get("projection.enabled", "").lower() == "true"
    registered = [] if is_projected else catalog.partitions(database, name)
    found = [] if is_projected else partitions(table, registered, [], lambda names, each: each, now)
    keys = [key for key, _ in table.keys]
    return ["/".join(f"{key}={value}" for key, value in zip(keys, each.values, strict=True)) for each in found]


def _properties(table: dict[str, Any], words: Words) -> list[str]:
    given = {str(key): str(value) for key, value in (table.get("Parameters") or {}).items()}
    if words.accept("("):
        name = words.string()
        return [given.get(name, f"Table {table['DatabaseName']}.{table['Name']} does not have property: {name}")]
    return [f"{key}\t{value}" for key, value in sorted(given.items())]


def _create_view(table: dict[str, Any]) -> list[str]:
    if table.get("TableType") != VIEW:
        raise QueryError("NOT_SUPPORTED", f"Relation '{table['DatabaseName']}.{table['Name']}' is a table, not a view")
    return [f"CREATE VIEW {table['DatabaseName']}.{table['Name']} AS", *view_of(table)["originalSql"].splitlines()]


def _create_table(table: dict[str, Any]) -> list[str]:
    storage = table.get("StorageDescriptor") or {}
    serde = storage.get("SerdeInfo") or {}
    if table.get("TableType") == VIEW:
        raise QueryError("NOT_SUPPORTED", f"'{table['DatabaseName']}.{table['Name']}' is a view: use SHOW CREATE VIEW")
    lines = [
        f"CREATE EXTERNAL TABLE `{table['DatabaseName']}.{table['Name']}`(",
        *_listed(storage.get("Columns") or []),
    ]
    if table.get("PartitionKeys"):
        lines += ["PARTITIONED BY ( ", *_listed(table["PartitionKeys"])]
    lines += ["ROW FORMAT SERDE ", f"  '{serde.get('SerializationLibrary', '')}' "]
    parameters = {key: value for key, value in (serde.get("Parameters") or {}).items() if key != "serialization.format"}
    if parameters:
        lines += ["WITH SERDEPROPERTIES ( ", *_pairs(parameters)]
    lines += ["STORED AS INPUTFORMAT ", f"  '{storage.get('InputFormat', '')}' "]
    lines += ["OUTPUTFORMAT ", f"  '{storage.get('OutputFormat', '')}'"]
    lines += ["LOCATION", f"  '{storage.get('Location', '')}'"]
    properties = {key: value for key, value in (table.get("Parameters") or {}).items() if key != "EXTERNAL"}
    return [*lines, "TBLPROPERTIES (", *_pairs(properties)] if properties else lines


def _listed(columns: list[dict[str, str]]) -> list[str]:
    written = [f"  `{each['Name']}` {each.get('Type', '')}{_comment(each)}" for each in columns]
    return [f"{each}, " for each in written[:-1]] + [f"{written[-1]})"] if written else [")"]


def _comment(column: dict[str, str]) -> str:
    return f" COMMENT '{column['Comment']}'" if column.get("Comment") else ""


def _pairs(given: dict[str, str]) -> list[str]:
    written = [f"  '{key}'='{value}'" for key, value in sorted(given.items())]
    return [f"{each}, " for each in written[:-1]] + [f"{written[-1]})"]


def describe(catalog: Catalog, words: Words, database: str) -> Answer:
    """DESCRIBE [EXTENDED|FORMATTED] table or view."""
    if words.accept("EXTENDED") or words.accept("FORMATTED"):
        raise not_supported("know DESCRIBE EXTENDED and FORMATTED")
    table = catalog.described(*words.table(database))
    words.done()
    lines = [f"{name.ljust(20)}\t{kind.ljust(20)}\t{comment.ljust(20)}" for name, kind, comment in _all_columns(table)]
    keys = table.get("PartitionKeys") or []
    if keys:
        lines += [
            "\t \t ",
            "# Partition Information\t \t ",
            f"# {'col_name'.ljust(22)}\t{'data_type'.ljust(20)}\t{'comment'.ljust(20)}",
            "\t \t ",
        ]
        lines += [
            f"{each['Name'].ljust(20)}\t{each['Type'].ljust(20)}\t{each.get('Comment', '').ljust(20)}" for each in keys
        ]
    return ["col_name", "data_type", "comment"], lines
