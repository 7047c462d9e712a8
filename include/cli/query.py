"""Ask the results: a saved query with its parameters, or SQL of your own that only reads. Athena answers.

Without a name it lists the saved queries; docs/queries.md has tables, views and queries with answers. Each answer ends with what
it cost: Athena bills the bytes that it reads, and LABELS_QUERY_SCAN_LIMIT_GB stops a query that reads too many. Days are UTC.

CSV is exact, with text in quotes and null as nothing. A spreadsheet takes text that begins with = + - @ for a formula: where an
answer holds such text, it says so; import that file with its columns as text.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from include.cli.arguments import add_command
from include.cli.clients import client
from include.cli.output import Answer, line, table
from include.cli.rows import show
from include.queries import QueryError, athena, saved
from include.queries.setup import set_up
from include.queries.tokens import read_only
from include.settings import load_settings

if TYPE_CHECKING:
    from include.cli.arguments import Commands

EXAMPLES = """examples:
  query --setup                                       make workgroup, tables and views, or bring them up to date
  query                                               the saved queries
  query images_with_label --describe                  its parameters, and its SQL
  query images_with_label --param label=mug --param since=2026-11-01
  query failures_by_reason --format csv --out why.csv
  query --sql "SELECT status, count(*) FROM latest_labels GROUP BY status"
"""


def add(commands: Commands) -> None:
    added = add_command(commands, "query", run, __doc__, examples=EXAMPLES)
    what = added.add_mutually_exclusive_group()
    what.add_argument("name", nargs="?", metavar="NAME", help="a saved query")
    what.add_argument("--list", action="store_true", help="the saved queries (as without a name)")
    what.add_argument("--sql", help="a statement of your own: SELECT, WITH, VALUES, SHOW, DESCRIBE or EXPLAIN")
    what.add_argument("--file", type=Path, help="the same from a file")
    what.add_argument("--setup", action="store_true", help="make what queries need, or bring it up to date")
    added.add_argument(
        "--describe", action="store_true", help="say what NAME asks, its parameters and its SQL; run nothing"
    )
    added.add_argument(
        "--param",
        action="append",
        default=[],
        type=_pair,
        metavar="PARAMETER=VALUE",
        help="a value for a parameter of NAME",
    )
    added.add_argument("--format", choices=("table", "csv", "json"), help="default: table, or csv with --out")
    added.add_argument("--out", type=Path, metavar="FILE", help="write the rows there")


def run(chosen: argparse.Namespace) -> Answer:
    values = dict(chosen.param)
    if len(values) < len(chosen.param):
        chosen.refuse("argument --param: the same parameter twice")
    if (chosen.param or chosen.describe) and not chosen.name:
        chosen.refuse("--param and --describe belong to a saved query's NAME")
    if chosen.out and chosen.format == "table":
        chosen.refuse("--out takes csv or json; a table is for the screen")
    if chosen.json and chosen.format not in (None, "json"):
        chosen.refuse(f"--json, or --format {chosen.format}: not both")
    chosen.json = chosen.json or chosen.format == "json"
    if chosen.setup:
        return _set_up()
    if chosen.describe:
        return _described(saved.find(chosen.name))
    if chosen.name:
        return _ask(chosen, saved.find(chosen.name).bind(values, today=datetime.now(UTC).date()))
    if chosen.sql is None and chosen.file is None:
        return _listed()
    return _ask(chosen, saved.Bound("your statement", read_only(chosen.sql if chosen.file is None else _text(chosen))))


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is no PARAMETER=VALUE")
    return name, value


def _text(chosen: argparse.Namespace) -> str:
    try:
        return str(chosen.file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as err:
        raise QueryError(f"{chosen.file} cannot be read: {err}.") from err


def _set_up() -> Answer:
    settings = load_settings()
    athena_client, glue, s3 = (client(service, settings) for service in ("athena", "glue", "s3"))
    changed = set_up(athena_client, glue, s3, settings, sleep=time.sleep)
    ready = f"Ready: database {settings.database}, workgroup {settings.workgroup}."
    return Answer({"changed": changed}, [line(each) for each in [*changed, ready]])


def _listed() -> Answer:
    found = [saved.find(name) for name in saved.names()]
    rows = [(query.name, query.question, ", ".join(query.names)) for query in found]
    document = [{"name": query.name, "question": query.question, "parameters": query.names} for query in found]
    return Answer({"queries": document}, [table("query", "answers", "parameters", rows=rows, whole=("query",))])


def _described(query: saved.SavedQuery) -> Answer:
    rows = [
        (each.name, each.type, "(needed)" if each.default is None else each.default or "''", each.meaning)
        for each in query.parameters
    ]
    parameters = table("parameter", "type", "default", "meaning", rows=rows, whole=("parameter",))
    return Answer(
        asdict(query), [line(query.question), line(""), parameters, line(""), *map(line, query.sql.splitlines())]
    )


def _ask(chosen: argparse.Namespace, bound: saved.Bound) -> Answer:
    settings = load_settings()
    answering = client("athena", settings)
    with _stopped_by_sigterm():
        done = athena.run(answering, settings, bound.sql, bound.literals, name=bound.name, sleep=time.sleep)
    return show(done, athena.batches(answering, done.query_id), form=_form(chosen), out=chosen.out)


def _form(chosen: argparse.Namespace) -> str:
    return "json" if chosen.json else chosen.format or ("csv" if chosen.out else "table")


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """As Ctrl-C does, so that no query goes on (and bills) for nobody."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
