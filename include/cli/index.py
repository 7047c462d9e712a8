"""The label index: what is published, bring it up to the results, build it anew, count it against the results.

The Dag index_labels refreshes it after each run. Nothing here touches the index that readers have until a new one is whole.
"""

from __future__ import annotations

import argparse
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from include.cli.arguments import add_command
from include.cli.clients import client
from include.cli.output import Answer, ago, facts, line
from include.errors import TerminalError
from include.file_lists import visible_files
from include.index.database import open_to_read
from include.index.published import fetch_index, read_pointer
from include.index.refresh import ANALYSES, refresh_index
from include.index.rows import read_rows
from include.index.verify import differences
from include.scratch import scratch_folder
from include.settings import load_settings

if TYPE_CHECKING:
    from include.cli.arguments import Commands

INFO = "What is published: how much it holds, and how old it is."
REFRESH = "Take up the results that are not in the index yet; seconds."
BUILD = """Read all results again and publish a new index, whatever there is.

Half a minute for ten million labels. With --verify the new index is counted against the results before it is published."""
VERIFY = """Count the published index against every row of the results; changes nothing.

Results that came since the index was published differ, of course: refresh it first. Exit status 1 where a day differs."""
# Of a thousand days, the first ones say what is wrong.
SHOWN_DAYS = 20


def add(commands: Commands) -> None:
    actions = add_command(commands, "index", info, __doc__).add_subparsers(metavar="ACTION", title="actions")
    add_command(actions, "info", info, INFO)
    add_command(actions, "refresh", refresh, REFRESH).set_defaults(rebuild=False, verify=False)
    building = add_command(actions, "build", refresh, BUILD)
    building.add_argument("--verify", action="store_true", help="count it against the results first")
    building.set_defaults(rebuild=True)
    add_command(actions, "verify", verify, VERIFY)


def info(_chosen: argparse.Namespace) -> Answer:
    settings = load_settings()
    pointer, _ = read_pointer(client("s3", settings), settings.final_bucket)
    if pointer is None:
        raise TerminalError("There is no label index yet. The Dag index_labels builds it, and so does: index build.")
    shown = {
        "images": f"{pointer.images:,}",
        "labels": f"{pointer.labels:,}",
        "files_of_results": f"{pointer.files:,}",
        "size": f"{pointer.size_bytes / 1e6:,.1f} MB",
        "built": ago(pointer.built_at, datetime.now(UTC)),
        "lies_in": f"s3://{settings.final_bucket}/{pointer.key}",
    }
    return Answer(asdict(pointer), [facts(shown)])


def refresh(chosen: argparse.Namespace) -> Answer:
    settings = load_settings()
    done = refresh_index(
        client("s3", settings),
        settings.final_bucket,
        now=datetime.now(UTC),
        threads=settings.threads,
        rebuild=chosen.rebuild,
        verify=chosen.verify,
    )
    return Answer(asdict(done), [line(done.in_words())])


def verify(_chosen: argparse.Namespace) -> Answer:
    settings = load_settings()
    s3, bucket = client("s3", settings), settings.final_bucket
    with scratch_folder() as folder:
        files = [
            file
            for analysis in ANALYSES
            for file in visible_files(s3, bucket, analysis=analysis, threads=settings.threads)
        ]
        with closing(open_to_read(fetch_index(s3, bucket, folder))) as con:
            found = differences(con, read_rows(s3, bucket, files, threads=settings.threads), spill=folder / "spill")
    document = {"files": len(files), "differences": [asdict(each) for each in found]}
    if not found:
        return Answer(document, [line(f"The label index is what {len(files):,} files of results say.")])
    shown = [line(each) for each in found[:SHOWN_DAYS]]
    if len(found) > SHOWN_DAYS:
        shown.append(line(f"and {len(found) - SHOWN_DAYS:,} days more"))
    return Answer(document, [*shown, line("index refresh takes up what is new; index build mends all else.")], status=1)
