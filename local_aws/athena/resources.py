"""Athena's operations on what outlives a query: workgroups, named queries, prepared statements, and the catalog."""

from __future__ import annotations

import asyncio
import re
import uuid
from typing import Any

from local_aws.athena import descriptions
from local_aws.athena.account import PRIMARY, AthenaAccount, WorkGroup, invalid
from local_aws.athena.executions import statement
from local_aws.json_service import Operation
from local_aws.moto_services import MotoServices
from local_aws.wire import AwsError, Request

Arguments = dict[str, Any]
_CATALOG = "AwsDataCatalog"
# https://docs.aws.amazon.com/athena/latest/APIReference/API_WorkGroupConfiguration.html
_LEAST_CUTOFF = 10_000_000


class Resources:
    """The operations by name."""

    def __init__(self, account: AthenaAccount, moto: MotoServices) -> None:
        self._account = account
        self._moto = moto

    def by_name(self) -> dict[str, Operation]:
        """For `JsonService`."""
        return {
            "BatchGetNamedQuery": self.batch_get_named_query,
            "CreateNamedQuery": self.create_named_query,
            "CreatePreparedStatement": self.create_prepared_statement,
            "CreateWorkGroup": self.create_work_group,
            "DeleteNamedQuery": self.delete_named_query,
            "DeletePreparedStatement": self.delete_prepared_statement,
            "DeleteWorkGroup": self.delete_work_group,
            "GetDataCatalog": self.get_data_catalog,
            "GetDatabase": self.get_database,
            "GetNamedQuery": self.get_named_query,
            "GetPreparedStatement": self.get_prepared_statement,
            "GetTableMetadata": self.get_table_metadata,
            "GetWorkGroup": self.get_work_group,
            "ListDataCatalogs": self.list_data_catalogs,
            "ListDatabases": self.list_databases,
            "ListEngineVersions": self.list_engine_versions,
            "ListNamedQueries": self.list_named_queries,
            "ListPreparedStatements": self.list_prepared_statements,
            "ListTableMetadata": self.list_table_metadata,
            "ListTagsForResource": self.list_tags_for_resource,
            "ListWorkGroups": self.list_work_groups,
            "TagResource": self.tag_resource,
            "UntagResource": self.untag_resource,
            "UpdateNamedQuery": self.update_named_query,
            "UpdatePreparedStatement": self.update_prepared_statement,
            "UpdateWorkGroup": self.update_work_group,
        }

    def _group(self, arguments: Arguments, request: Request) -> WorkGroup:
        return self._account.workgroup(request.region, arguments.get("WorkGroup", PRIMARY))

    # --- workgroups ---------------------------------------------------------------------------------------------------

    async def create_work_group(self, arguments: Arguments, request: Request) -> Arguments:
        name = arguments["Name"]
        if any(each.name == name for each in self._account.in_region(request.region)):
            raise invalid("WorkGroup is already created")
        configuration = _checked(arguments.get("Configuration") or {})
        tags = {each["Key"]: each.get("Value", "") for each in arguments.get("Tags") or []}
        group = WorkGroup(name, self._account.clock(), configuration, arguments.get("Description", ""), tags=tags)
        self._account.workgroups[request.region, name] = group
        return {}

    async def get_work_group(self, arguments: Arguments, request: Request) -> Arguments:
        return {"WorkGroup": descriptions.workgroup(self._group(arguments, request))}

    async def list_work_groups(self, arguments: Arguments, request: Request) -> Arguments:
        told = [descriptions.workgroup(each) for each in self._account.in_region(request.region)]
        for each in told:
            each["EngineVersion"] = each.pop("Configuration")["EngineVersion"]
        return descriptions.paged(told, "WorkGroups", arguments, 50)

    async def update_work_group(self, arguments: Arguments, request: Request) -> Arguments:
        group = self._group(arguments, request)
        configuration = dict(group.configuration)
        updates = dict(arguments.get("ConfigurationUpdates") or {})
        if updates.pop("RemoveBytesScannedCutoffPerQuery", False):
            configuration.pop("BytesScannedCutoffPerQuery", None)
        results = updates.pop("ResultConfigurationUpdates", None)
        if results is not None:
            kept = dict(configuration.get("ResultConfiguration") or {})
            for name in [each for each, value in results.items() if each.startswith("Remove") and value]:
                kept.pop(name.removeprefix("Remove"), None)
            given = {name: value for name, value in results.items() if not name.startswith("Remove")}
            configuration["ResultConfiguration"] = {**kept, **given}
        group.configuration = _checked({**configuration, **updates})
        group.description = arguments.get("Description", group.description)
        group.state = arguments.get("State", group.state)
        return {}

    async def delete_work_group(self, arguments: Arguments, request: Request) -> Arguments:
        group = self._group(arguments, request)
        if group.name == PRIMARY:
            raise invalid("The primary workgroup cannot be deleted")
        queries = [each for each in self._account.queries.values() if each.workgroup == group.name]
        if (queries or group.named or group.prepared) and not arguments.get("RecursiveDeleteOption"):
            raise invalid(f"WorkGroup {group.name} is not empty")
        for each in queries:
            del self._account.queries[each.id]
        del self._account.workgroups[request.region, group.name]
        return {}

    # --- named queries ------------------------------------------------------------------------------------------------

    async def create_named_query(self, arguments: Arguments, request: Request) -> Arguments:
        group = self._group(arguments, request)
        token = arguments.get("ClientRequestToken")
        for each in group.named.values():
            if token and each["token"] == token:
                return {"NamedQueryId": each["NamedQueryId"]}
        query_id = str(uuid.uuid4())
        kept: Arguments = {
            name: arguments[name] for name in ("Name", "Description", "Database", "QueryString") if name in arguments
        }
        group.named[query_id] = {**kept, "NamedQueryId": query_id, "WorkGroup": group.name, "token": token}
        return {"NamedQueryId": query_id}

    def _named(self, query_id: str, request: Request) -> tuple[WorkGroup, Arguments]:
        for group in self._account.in_region(request.region):
            if query_id in group.named:
                return group, group.named[query_id]
        raise invalid(f"NamedQuery {query_id} was not found")

    async def get_named_query(self, arguments: Arguments, request: Request) -> Arguments:
        return {"NamedQuery": _without_token(self._named(arguments["NamedQueryId"], request)[1])}

    async def batch_get_named_query(self, arguments: Arguments, request: Request) -> Arguments:
        found, missing = [], []
        for each in arguments["NamedQueryIds"]:
            try:
                found.append(_without_token(self._named(each, request)[1]))
            except AwsError as error:
                missing.append({"NamedQueryId": each, "ErrorCode": "INVALID_INPUT", "ErrorMessage": error.message})
        return {"NamedQueries": found, "UnprocessedNamedQueryIds": missing}

    async def list_named_queries(self, arguments: Arguments, request: Request) -> Arguments:
        return descriptions.paged(list(self._group(arguments, request).named), "NamedQueryIds", arguments, 50)

    async def update_named_query(self, arguments: Arguments, request: Request) -> Arguments:
        _, named = self._named(arguments["NamedQueryId"], request)
        named.update({name: arguments[name] for name in ("Name", "Description", "QueryString") if name in arguments})
        return {}

    async def delete_named_query(self, arguments: Arguments, request: Request) -> Arguments:
        group, named = self._named(arguments["NamedQueryId"], request)
        del group.named[named["NamedQueryId"]]
        return {}

    # --- prepared statements ------------------------------------------------------------------------------------------

    def _prepared(self, arguments: Arguments, request: Request) -> tuple[WorkGroup, str]:
        group, name = self._group(arguments, request), arguments["StatementName"]
        if name not in group.prepared:
            message = f"PreparedStatement {name} was not found in workGroup {group.name}"
            raise AwsError("ResourceNotFoundException", message)
        return group, name

    async def create_prepared_statement(self, arguments: Arguments, request: Request) -> Arguments:
        group, name = self._group(arguments, request), arguments["StatementName"]
        if name in group.prepared:
            raise invalid(f"PreparedStatement {name} already exists in WorkGroup {group.name}")
        sql, about = arguments["QueryStatement"], arguments.get("Description", "")
        group.prepared[name] = statement(group, name, sql, about, self._account.clock())
        return {}

    async def get_prepared_statement(self, arguments: Arguments, request: Request) -> Arguments:
        group, name = self._prepared(arguments, request)
        return {"PreparedStatement": group.prepared[name]}

    async def list_prepared_statements(self, arguments: Arguments, request: Request) -> Arguments:
        names = ("StatementName", "LastModifiedTime")
        told = [{name: each[name] for name in names} for each in self._group(arguments, request).prepared.values()]
        return descriptions.paged(told, "PreparedStatements", arguments, 50)

    async def update_prepared_statement(self, arguments: Arguments, request: Request) -> Arguments:
        group, name = self._prepared(arguments, request)
        about = arguments.get("Description", group.prepared[name]["Description"])
        group.prepared[name] = statement(group, name, arguments["QueryStatement"], about, self._account.clock())
        return {}

    async def delete_prepared_statement(self, arguments: Arguments, request: Request) -> Arguments:
        group, name = self._prepared(arguments, request)
        del group.prepared[name]
        return {}

    # --- tags ---------------------------------------------------------------------------------------------------------

    def _tagged(self, arguments: Arguments, request: Request) -> dict[str, str]:
        return self._account.workgroup(request.region, arguments["ResourceARN"].rpartition("/")[2]).tags

    async def tag_resource(self, arguments: Arguments, request: Request) -> Arguments:
        tags = {each["Key"]: each.get("Value", "") for each in arguments["Tags"]}
        self._tagged(arguments, request).update(tags)
        return {}

    async def untag_resource(self, arguments: Arguments, request: Request) -> Arguments:
        for key in arguments["TagKeys"]:
            self._tagged(arguments, request).pop(key, None)
        return {}

    async def list_tags_for_resource(self, arguments: Arguments, request: Request) -> Arguments:
        return {"Tags": [{"Key": key, "Value": value} for key, value in self._tagged(arguments, request).items()]}

    async def list_engine_versions(self, arguments: Arguments, request: Request) -> Arguments:
        name = "Athena engine version 3"
        return {
            "EngineVersions": [
                {"SelectedEngineVersion": each, "EffectiveEngineVersion": name} for each in ("AUTO", name)
            ]
        }

    # --- the catalog --------------------------------------------------------------------------------------------------

    async def list_data_catalogs(self, arguments: Arguments, request: Request) -> Arguments:
        return {"DataCatalogsSummary": [{"CatalogName": _CATALOG, "Type": "GLUE", "Status": "CREATE_COMPLETE"}]}

    async def get_data_catalog(self, arguments: Arguments, request: Request) -> Arguments:
        if arguments["Name"].lower() != _CATALOG.lower():
            raise invalid(f"Data catalog {arguments['Name']} was not found")
        return {
            "DataCatalog": {"Name": _CATALOG, "Type": "GLUE", "Parameters": {"catalog-id": self._account.account_id}}
        }

    async def _ask(self, arguments: Arguments, request: Request, name: str, *given: str) -> Any:
        """Ask the Glue catalog; MetadataException where it has no such thing."""
        from local_aws.athena.catalog import Catalog
        from local_aws.athena.errors import QueryError

        if arguments["CatalogName"].lower() != _CATALOG.lower():
            raise invalid(f"Data catalog {arguments['CatalogName']} was not found")
        try:
            return await asyncio.to_thread(getattr(Catalog(self._moto, request.region), name), *given)
        except QueryError as error:
            raise AwsError("MetadataException", f"EntityNotFoundException: {error}") from None

    async def list_databases(self, arguments: Arguments, request: Request) -> Arguments:
        found = [_database(each) for each in await self._ask(arguments, request, "databases")]
        return descriptions.paged(found, "DatabaseList", arguments, 50)

    async def get_database(self, arguments: Arguments, request: Request) -> Arguments:
        name = arguments["DatabaseName"].lower()
        for each in await self._ask(arguments, request, "databases"):
            if each["Name"].lower() == name:
                return {"Database": _database(each)}
        raise AwsError("MetadataException", f"EntityNotFoundException: Database {name} not found.")

    async def list_table_metadata(self, arguments: Arguments, request: Request) -> Arguments:
        tables = await self._ask(arguments, request, "tables", arguments["DatabaseName"])
        wanted = arguments.get("Expression", "").replace("*", ".*")
        found = [_table(each) for each in tables if not wanted or re.fullmatch(wanted, each["Name"])]
        return descriptions.paged(found, "TableMetadataList", arguments, 50)

    async def get_table_metadata(self, arguments: Arguments, request: Request) -> Arguments:
        given = arguments["DatabaseName"], arguments["TableName"]
        return {"TableMetadata": _table(await self._ask(arguments, request, "described", *given))}


def _checked(configuration: Arguments) -> Arguments:
    cutoff = configuration.get("BytesScannedCutoffPerQuery")
    if cutoff is not None and cutoff < _LEAST_CUTOFF:
        raise invalid(f"BytesScannedCutoffPerQuery should be at least {_LEAST_CUTOFF}")
    return configuration


def _without_token(named: Arguments) -> Arguments:
    return {name: value for name, value in named.items() if name != "token"}


def _database(glue: Arguments) -> Arguments:
    told = {"Name": glue["Name"], "Description": glue.get("Description"), "Parameters": glue.get("Parameters") or {}}
    return {name: value for name, value in told.items() if value is not None}


def _table(glue: Arguments) -> Arguments:
    """https://docs.aws.amazon.com/athena/latest/APIReference/API_TableMetadata.html"""
    storage = glue.get("StorageDescriptor") or {}
    serde = storage.get("SerdeInfo") or {}
    parameters = {
        **(glue.get("Parameters") or {}),
        "inputformat": storage.get("InputFormat") or "",
        "outputformat": storage.get("OutputFormat") or "",
        "location": storage.get("Location") or "",
        "serde.serialization.lib": serde.get("SerializationLibrary") or "",
        **{f"serde.param.{name}": value for name, value in (serde.get("Parameters") or {}).items()},
    }
    return {
        "Name": glue["Name"],
        "CreateTime": glue["CreateTime"].timestamp(),
        "LastAccessTime": 0,
        "TableType": glue.get("TableType") or "",
        "Columns": [_column(each) for each in storage.get("Columns") or []],
        "PartitionKeys": [_column(each) for each in glue.get("PartitionKeys") or []],
        "Parameters": parameters,
    }


def _column(glue: Arguments) -> Arguments:
    return {name: glue[name] for name in ("Name", "Type", "Comment") if glue.get(name)}
