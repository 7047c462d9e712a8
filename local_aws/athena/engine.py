"""Runs one statement: the catalog's ones by `ddl` and `shows`, queries by DuckDB."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import duckdb

from local_aws.athena import catalog as catalogs
from local_aws.athena import ddl, shows, storing, types
from local_aws.athena.analysis import Analysis
from local_aws.athena.catalog import Catalog
from local_aws.athena.duck import connect
from local_aws.athena.errors import QueryError, not_supported
from local_aws.athena.failures import explained
from local_aws.athena.parsing import parse
from local_aws.athena.queries import Query, named_columns
from local_aws.athena.rendering import cell, column_info, csv_lines
from local_aws.athena.results import Result
from local_aws.athena.scan import Context, Meter, Scan
from local_aws.athena.statements import Kind, arguments, kind_of, with_parameters
from local_aws.athena.storage import Storage
from local_aws.athena.types import VARCHAR, Type
from local_aws.athena.words import Words

_ROWS = 8_192


@dataclass
class Prepared:
    """The prepared statements of a workgroup, as EXECUTE, PREPARE and DEALLOCATE PREPARE use them."""

    get: Callable[[str], str]
    put: Callable[[str, str], None]
    drop: Callable[[str], None]


@dataclass
class Engine:
    """Runs one statement of one query."""

    catalog: Catalog
    storage: Storage
    prepared: Prepared
    now: datetime
    meter: Meter
    database: str
    query_id: str
    output: str
    connection: Any = None
    ended: threading.Event = field(default_factory=threading.Event)

    def run(self, sql: str, parameters: list[str]) -> Result:
        """QueryError when it fails, Cancelled when it is stopped."""
        kind = kind_of(sql)
        if kind is None:
            raise QueryError("NOT_SUPPORTED", "Queries of this type are not supported")
        if kind.sub == "EXECUTE":
            sql, parameters = self._executed(sql, parameters)
            kind = kind_of(sql) or kind
        if kind.type == "DML" or kind.sub == "CREATE_TABLE_AS_SELECT":
            sql = with_parameters(sql, parameters)
        try:
            return self._dispatch(kind, sql)
        finally:
            if self.connection is not None:
                self.connection.close()

    def stop(self, reason: str) -> None:
        """End it from another thread."""
        self.meter.reason = self.meter.reason or reason
        connection = self.connection
        if connection is not None:
            connection.interrupt()

    def _dispatch(self, kind: Kind, sql: str) -> Result:
        words = Words(sql, hive=kind.type != "DML" and kind.sub not in ("CREATE_VIEW", "PREPARE"))
        if kind.sub == "SELECT":
            return self._select(sql)
        writes = {"CREATE_TABLE_AS_SELECT": storing.create_as, "INSERT": storing.insert, "UNLOAD": storing.unload}
        if kind.sub in writes:
            return writes[kind.sub](self, sql)
        if kind.sub == "EXPLAIN":
            return self._explain(sql)
        if kind.type == "UTILITY":
            return self._shown(kind, words)
        if kind.sub in ("CREATE_VIEW", "PREPARE", "DEALLOCATE"):
            return {"CREATE_VIEW": self._create_view, "PREPARE": self._prepare, "DEALLOCATE": self._deallocate}[
                kind.sub
            ](words)
        return self._changed(kind, words)

    # --- the catalog --------------------------------------------------------------------------------------------------

    def _changed(self, kind: Kind, words: Words) -> Result:
        lines: list[str] = []
        if kind.sub == "CREATE_DATABASE":
            _skip(words, "CREATE")
            ddl.create_database(self.catalog, words)
        elif kind.sub == "DROP_DATABASE":
            _skip(words, "DROP")
            ddl.drop_database(self.catalog, words)
        elif kind.sub == "CREATE_TABLE":
            if not words.accept("CREATE", "EXTERNAL", "TABLE"):
                if "ICEBERG" in words.sql.upper():
                    raise not_supported("make Iceberg tables")
                raise QueryError(
                    "SYNTAX_ERROR", "External keyword is missing: CREATE EXTERNAL TABLE, or CREATE TABLE AS", prefix=""
                )
            ddl.create_table(self.catalog, words, self.database)
        elif kind.sub in ("DROP_TABLE", "DROP_VIEW"):
            _skip(words, "DROP")
            ddl.drop_table(self.catalog, words, self.database, kind.sub == "DROP_VIEW")
        elif kind.sub == "ALTER_TABLE":
            words.expect("ALTER", "TABLE")
            ddl.alter_table(self.catalog, self.storage, words, self.database)
        elif kind.sub == "MSCK_REPAIR":
            words.expect("MSCK", "REPAIR", "TABLE")
            lines = ddl.repair(self.catalog, self.storage, words, self.database)
        else:
            raise not_supported(f"run {kind.sub}: its tables are no Iceberg tables")
        return _lines([], lines)

    def _shown(self, kind: Kind, words: Words) -> Result:
        if kind.sub == "DESCRIBE_TABLE":
            if not words.accept("DESCRIBE"):
                words.expect("DESC")
            return _lines(*shows.describe(self.catalog, words, self.database))
        words.expect("SHOW")
        return _lines(*shows.show(self.catalog, words, self.database, self.now))

    def _create_view(self, words: Words) -> Result:
        words.expect("CREATE")
        replaces = words.accept("OR", "REPLACE")
        words.expect("VIEW")
        database, name = words.table(self.database)
        words.expect("AS")
        sql = words.rest()
        query, _ = self.analysed(sql, database)
        columns = named_columns(query)
        before = [each for each in self.catalog.tables(database) if each["Name"].lower() == name]
        if before and (not replaces or before[0].get("TableType") != catalogs.VIEW):
            raise QueryError("SYNTAX_ERROR", f"line 1:1: View already exists: 'awsdatacatalog.{database}.{name}'")
        given = {
            "Name": name,
            "TableType": catalogs.VIEW,
            "Parameters": {"presto_view": "true", "comment": "Presto View"},
            "PartitionKeys": [],
            "ViewOriginalText": catalogs.view_text(sql, database, columns),
            "ViewExpandedText": "/* Presto View */",
            "StorageDescriptor": {
                "Columns": [{"Name": each, "Type": _hive(kind)} for each, kind in columns],
                "Location": "",
                "SerdeInfo": {},
            },
        }
        (self.catalog.replace_table if before else self.catalog.create_table)(database, given)
        return _lines([], [])

    def _prepare(self, words: Words) -> Result:
        words.expect("PREPARE")
        name = words.name()
        words.expect("FROM")
        self.prepared.put(name, words.rest())
        return _lines([], [])

    def _deallocate(self, words: Words) -> Result:
        words.expect("DEALLOCATE", "PREPARE")
        self.prepared.drop(words.name())
        return _lines([], [])

    def _executed(self, sql: str, parameters: list[str]) -> tuple[str, list[str]]:
        words = Words(sql)
        words.expect("EXECUTE")
        statement = self.prepared.get(words.name())
        if words.accept("USING"):
            return statement, arguments(words)
        words.done()
        return statement, parameters

    # --- queries ------------------------------------------------------------------------------------------------------

    def analysed(self, sql: str, database: str) -> tuple[Query, Iterator[Any]]:
        """A query and its batches, which are computed when they are asked for."""
        if self.connection is None:
            self.connection = connect()
        context = Context(self.catalog, self.storage, self.now, self.meter, lambda: self.connection.cursor())
        analysis = Analysis(self.catalog.table, lambda table, alias: Scan(table, alias, context), self.now)
        query, write = analysis.run(parse(sql), database)
        return query, self._batches(write, analysis, context)

    def _batches(self, write: Callable[[], str], analysis: Analysis, context: Context) -> Iterator[Any]:
        written = write()
        for scan in analysis.scans:
            self.connection.register(f"scan_{scan.alias}", scan.reader())
        try:
            self.meter.check()
            yield from self.connection.sql(written).to_arrow_reader(_ROWS)
        except (duckdb.Error, OSError, RuntimeError) as error:
            raise explained(error, context) from None

    def _select(self, sql: str) -> Result:
        query, batches = self.analysed(sql, self.database)
        names = result_names(query)
        kinds = [each.value.type for each in query.outputs]
        out = io.BytesIO()
        out.writelines(csv_lines(iter([list(names)])))
        for batch in batches:
            out.writelines(csv_lines(_rows(batch, kinds)))
        infos = [column_info(name, kind) for name, kind in zip(names, kinds, strict=True)]
        return Result(infos, out.getvalue(), "csv")

    def _explain(self, sql: str) -> Result:
        words = Words(sql)
        words.expect("EXPLAIN")
        if words.accept("ANALYZE") or words.peek() == "(":
            raise not_supported("know EXPLAIN ANALYZE or EXPLAIN with options")
        query, _ = self.analysed(words.rest(), self.database)
        names = ", ".join(result_names(query))
        return _lines(
            ["Query Plan"], ["Query Plan", f"Output[columnNames = [{names}]] (by local Athena, which runs DuckDB)"]
        )


def _skip(words: Words, first: str) -> None:
    words.expect(first)
    words.name()


def _lines(names: list[str], lines: list[str]) -> Result:
    infos = [column_info(name, VARCHAR) for name in names]
    return Result([{**each, "Type": "string"} for each in infos], "".join(f"{line}\n" for line in lines).encode())


def _rows(batch: Any, kinds: list[Type]) -> Iterator[list[str | None]]:
    try:
        columns = [each.to_pylist() for each in batch.columns]
    except OverflowError:
        raise not_supported("write dates before the year 1 or after 9999") from None
    for row in zip(*columns, strict=True):
        yield [cell(value, kind) for value, kind in zip(row, kinds, strict=True)]


def result_names(query: Query) -> list[str]:
    """The columns' names in a result; `_col0` where there is none."""
    return [each.name or f"_col{n}" for n, each in enumerate(query.outputs)]


def _hive(kind: Type) -> str:
    """A view's column as Glue shows it: what Hive has no word for is a string or a timestamp."""
    return {"timestamp with time zone": "timestamp", "json": "string"}.get(kind.name) or (
        "string" if kind.name.startswith("interval") else types.hive(kind)
    )
