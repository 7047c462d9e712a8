"""Workgroup, database, tables, views and prepared queries: made where they are missing, brought up to date where they are not.

It may be repeated at any time, by several at once, and never drops data: tables and views are descriptions of files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from botocore.exceptions import ClientError

from include.errors import error_code, error_message
from include.file_lists import ensure_file_lists
from include.queries import QueryError, athena, saved
from include.queries.tables import migrated, wanted_tables
from include.queries.tokens import without_comments
from include.schema import ANALYSIS
from include.settings import PREFIX, Settings

# Each after those that it reads.
VIEWS: Final = ("latest_labels", "labels_flat", "problems", "cost_by_day")
# A workgroup with another description is somebody's own.
WORKGROUP: Final = "Questions to the results of label_images; made by its `query --setup`"


def set_up(athena_client: Any, glue: Any, s3: Any, settings: Settings, *, sleep: Callable[[float], None]) -> list[str]:
    """Everything that a query needs; a line for each thing that was made or changed.

    :raises QueryError: where something is in the way.
    """
    try:
        lists = ensure_file_lists(s3, settings.final_bucket, analysis=ANALYSIS, threads=settings.threads)
        said = [f"{lists} days of results from before file lists were listed."] if lists else []
        said += _workgroup(athena_client, settings) + _database(glue, settings) + _tables(glue, settings)
        for view in VIEWS:
            # A view keeps the types that its columns had when it was made, so it is made anew each time.
            text = (saved.SQL / "views" / f"{view}.sql").read_text(encoding="utf-8")
            athena.run(athena_client, settings, without_comments(text), name=f"view {view}", sleep=sleep)
        return said + _prepared(athena_client, settings)
    except ClientError as err:
        if error_code(err) in ("AccessDeniedException", "AccessDenied"):
            raise QueryError(f"Setting up: {error_message(err)}. docs/queries.md lists the permissions.") from err
        raise


def _workgroup(client: Any, settings: Settings) -> list[str]:
    name, limit = settings.workgroup, round(settings.query_scan_limit_gb * 1e9)
    wanted = {
        "EnforceWorkGroupConfiguration": True,
        "BytesScannedCutoffPerQuery": limit,
        "PublishCloudWatchMetricsEnabled": True,
    }
    location = {"OutputLocation": athena.results_location(settings)}
    try:
        found = client.get_work_group(WorkGroup=name)["WorkGroup"]
    except client.exceptions.InvalidRequestException as err:
        if "not found" not in error_message(err):
            raise
        client.create_work_group(
            Name=name, Description=WORKGROUP, Configuration={**wanted, "ResultConfiguration": location}
        )
        return [f"Workgroup {name} made: a query may scan {settings.query_scan_limit_gb:g} GB."]
    if found.get("Description") != WORKGROUP:
        return [f"Workgroup {name} is not ours: used as it is, {PREFIX}QUERY_SCAN_LIMIT_GB is of no account."]
    has = found.get("Configuration", {})
    # People may have set more of it, such as encryption.
    is_there = has.get("ResultConfiguration", {}).get("OutputLocation") == location["OutputLocation"]
    if is_there and all(has.get(key) == value for key, value in wanted.items()):
        return []
    client.update_work_group(WorkGroup=name, ConfigurationUpdates={**wanted, "ResultConfigurationUpdates": location})
    return [f"Workgroup {name} changed: a query may scan {settings.query_scan_limit_gb:g} GB."]


def _database(glue: Any, settings: Settings) -> list[str]:
    about = {"Name": settings.database, "Description": "Labels of images, and what they cost."}
    try:
        glue.create_database(DatabaseInput=about)
    except glue.exceptions.AlreadyExistsException:
        return []
    return [f"Database {settings.database} made."]


def _tables(glue: Any, settings: Settings) -> list[str]:
    said = []
    for wanted in wanted_tables(settings):
        where = {"DatabaseName": settings.database}
        try:
            glue.create_table(**where, TableInput=wanted)
        except glue.exceptions.AlreadyExistsException:
            found = glue.get_table(**where, Name=wanted["Name"])["Table"]
            changed = migrated(found, wanted)
            if changed:
                glue.update_table(**where, TableInput=changed)
                said.append(f"Table {wanted['Name']} brought up to date.")
        else:
            said.append(f"Table {wanted['Name']} made.")
    return said


def _prepared(client: Any, settings: Settings) -> list[str]:
    """The saved queries under their names in the workgroup: ``EXECUTE images_with_label USING ...`` in any SQL client."""
    said = []
    for name in saved.names():
        query = saved.find(name)
        statement = {
            "StatementName": name,
            "WorkGroup": settings.workgroup,
            "QueryStatement": query.positional,
            "Description": query.question,
        }
        try:
            there = client.get_prepared_statement(StatementName=name, WorkGroup=settings.workgroup)["PreparedStatement"]
        except client.exceptions.ResourceNotFoundException:
            client.create_prepared_statement(**statement)
            said.append(f"Query {name} prepared.")
        else:
            if any(
                there.get({"WorkGroup": "WorkGroupName"}.get(part, part)) != value for part, value in statement.items()
            ):
                client.update_prepared_statement(**statement)
                said.append(f"Query {name} brought up to date.")
    return said
