"""The Glue catalog, as moto keeps it: databases, tables, partitions."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from moto.core.exceptions import JsonRESTError
from moto.glue.models import glue_backends

from local_aws.athena import types
from local_aws.athena.errors import QueryError, not_supported
from local_aws.athena.types import Type
from local_aws.moto_services import ACCOUNT_ID, MotoServices

_Result = TypeVar("_Result")
CATALOG = "awsdatacatalog"
VIEW = "VIRTUAL_VIEW"
_VIEW_HEAD, _VIEW_TAIL = "/* Presto View: ", " */"


@dataclass(frozen=True)
class Table:
    """A table or view. `columns` without the partition columns, which are `keys`."""

    database: str
    name: str
    columns: list[tuple[str, Type]]
    keys: list[tuple[str, Type]]
    location: str
    input_format: str
    serde: str
    serde_parameters: dict[str, str]
    parameters: dict[str, str]
    view_sql: str = ""
    view_database: str = ""
    partitions: list[tuple[list[str], str]] = field(default_factory=list)


class Catalog:
    """One Region's catalog. Every call runs on moto's thread, and may be made from any other."""

    def __init__(self, moto: MotoServices, region: str) -> None:
        self._moto = moto
        self._region = region

    def run(self, work: Callable[[Any], _Result]) -> _Result:
        """`work` with moto's backend; what it refuses is a QueryError."""

        def on_moto() -> _Result:
            return work(glue_backends[ACCOUNT_ID][self._region])

        try:
            return self._moto.call(on_moto)
        except JsonRESTError as error:
            raise QueryError("HIVE_METASTORE_ERROR", str(error.message)) from None

    def databases(self) -> list[dict[str, Any]]:
        """Every database, as Glue describes it, in order of names."""
        found = self.run(lambda glue: [each.as_dict() for each in glue.databases.values()])
        return sorted(found, key=lambda each: str(each["Name"]))

    def has_database(self, name: str) -> bool:
        """Whether there is such a database; names have no case."""
        return any(each["Name"].lower() == name.lower() for each in self.databases())

    def tables(self, database: str, at: str = "") -> list[dict[str, Any]]:
        """The tables and views of a database, as Glue describes them; SCHEMA_NOT_FOUND."""

        def read(glue: Any) -> list[dict[str, Any]] | None:
            for name, each in glue.databases.items():
                if name.lower() == database.lower():
                    return sorted((table.as_dict() for table in each.tables.values()), key=lambda one: str(one["Name"]))
            return None

        found = self.run(read)
        if found is None:
            raise QueryError("SCHEMA_NOT_FOUND", f"{at}Schema '{database}' does not exist")
        return found

    def described(self, database: str, name: str, at: str = "") -> dict[str, Any]:
        """One table as Glue describes it; TABLE_NOT_FOUND."""
        for each in self.tables(database, at):
            if each["Name"].lower() == name.lower():
                return each
        raise QueryError("TABLE_NOT_FOUND", f"{at}Table '{CATALOG}.{database}.{name}' does not exist")

    def table(self, catalog: str, database: str, name: str, at: str = "") -> Table:
        """One table to read; CATALOG_NOT_FOUND, SCHEMA_NOT_FOUND, TABLE_NOT_FOUND, HIVE_INVALID_METADATA."""
        if catalog not in ("", CATALOG):
            raise QueryError("CATALOG_NOT_FOUND", f"{at}Catalog '{catalog}' does not exist")
        if database == "information_schema" or "$" in name:
            raise not_supported(f"have the table {database}.{name}: ask SHOW TABLES, SHOW COLUMNS, SHOW PARTITIONS")
        if not database:
            raise QueryError("MISSING_SCHEMA_NAME", f"{at}Schema must be specified when session schema is not set")
        return _table(self.described(database, name, at), at)

    def partitions(self, database: str, name: str) -> list[tuple[list[str], str]]:
        """(values, location) of the partitions that are registered."""

        def read(glue: Any) -> list[tuple[list[str], str]]:
            table = _find(glue, database, name)
            return [
                (list(each.values), str((each.partition_input.get("StorageDescriptor") or {}).get("Location") or ""))
                for each in table.partitions.values()
            ]

        return self.run(read)

    # --- changes ------------------------------------------------------------------------------------------------------

    def create_database(self, name: str, given: dict[str, Any]) -> None:
        """A new database."""
        self.run(lambda glue: glue.create_database(name, {"Name": name, **given}))

    def drop_database(self, name: str) -> None:
        """Drop a database and what is in it."""
        self.run(lambda glue: glue.delete_database(name))

    def create_table(self, database: str, given: dict[str, Any]) -> None:
        """A new table or view."""
        self.run(lambda glue: glue.create_table(database, given["Name"], given))

    def replace_table(self, database: str, given: dict[str, Any]) -> None:
        """Change a table."""
        self.run(lambda glue: glue.update_table(database, given["Name"], given))

    def drop_table(self, database: str, name: str) -> None:
        """Drop a table or view."""
        self.run(lambda glue: glue.delete_table(database, name))

    def add_partition(self, database: str, name: str, values: list[str], location: str) -> bool:
        """Register a partition; False when it is there already."""

        def add(glue: Any) -> bool:
            table = _find(glue, database, name)
            if str(values) in table.partitions:
                return False
            storage = dict(table.as_dict().get("StorageDescriptor") or {})
            table.create_partition({"Values": values, "StorageDescriptor": {**storage, "Location": location}})
            return True

        return self.run(add)

    def drop_partition(self, database: str, name: str, values: list[str]) -> bool:
        """Unregister a partition; False when there is none."""

        def drop(glue: Any) -> bool:
            table = _find(glue, database, name)
            return table.partitions.pop(str(values), None) is not None

        return self.run(drop)


def _find(glue: Any, database: str, name: str) -> Any:
    return glue.get_table(database, name)


def _table(described: dict[str, Any], at: str) -> Table:
    storage = described.get("StorageDescriptor") or {}
    serde = storage.get("SerdeInfo") or {}
    parameters = {str(name): str(value) for name, value in (described.get("Parameters") or {}).items()}
    if parameters.get("table_type", "").upper() == "ICEBERG":
        raise QueryError("NOT_SUPPORTED", f"local Athena does not read Iceberg tables: {described['Name']}")
    view_sql, view_database = "", ""
    if described.get("TableType") == VIEW:
        view = view_of(described, at)
        view_sql, view_database = view["originalSql"], view.get("schema", "")
    return Table(
        database=described["DatabaseName"].lower(),
        name=described["Name"].lower(),
        columns=_columns(storage.get("Columns") or [], described, is_view=bool(view_sql)),
        keys=_columns(described.get("PartitionKeys") or [], described),
        location=storage.get("Location") or "",
        input_format=storage.get("InputFormat") or "",
        serde=serde.get("SerializationLibrary") or "",
        serde_parameters={str(key): str(value) for key, value in (serde.get("Parameters") or {}).items()},
        parameters=parameters,
        view_sql=view_sql,
        view_database=view_database,
    )


def _columns(given: list[dict[str, str]], described: dict[str, Any], is_view: bool = False) -> list[tuple[str, Type]]:
    if is_view:
        return [(each["Name"].lower(), types.UNKNOWN) for each in given]
    return [(each["Name"].lower(), types.parsed(each.get("Type") or "string")) for each in given]


def view_of(described: dict[str, Any], at: str = "") -> dict[str, Any]:
    """What a view's text holds: {"originalSql", "catalog", "schema", "columns"}; HIVE_INVALID_VIEW_DATA."""
    text = str(described.get("ViewOriginalText") or "")
    if text.startswith(_VIEW_HEAD) and text.endswith(_VIEW_TAIL):
        try:
            found: dict[str, Any] = json.loads(base64.b64decode(text[len(_VIEW_HEAD) : -len(_VIEW_TAIL)]))
        except (binascii.Error, ValueError):
            found = {}
        if found.get("originalSql"):
            return found
    raise QueryError("HIVE_INVALID_VIEW_DATA", f"{at}View data is not that of a Presto view: {described['Name']}")


def view_text(sql: str, database: str, columns: list[tuple[str, Type]]) -> str:
    """A view as Athena keeps it in Glue's ViewOriginalText."""
    view = {
        "originalSql": sql,
        "catalog": CATALOG,
        "schema": database,
        "columns": [{"name": name, "type": str(kind)} for name, kind in columns],
    }
    return f"{_VIEW_HEAD}{base64.b64encode(json.dumps(view).encode()).decode()}{_VIEW_TAIL}"
