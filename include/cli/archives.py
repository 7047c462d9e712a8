"""Archives: how far each one is, what it has cost, when it will end; pause one, let it go on, cancel it.

Archives are planned and queued by the Dag backfill_archive. `archives` alone lists them all; with --open those that have
something left.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from include.archive.archives import Going, Progress, list_archives, read_progress, set_going
from include.cli.arguments import add_command
from include.cli.clients import client
from include.cli.output import Answer, line, progress, table
from include.settings import Settings, load_settings

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from include.cli.arguments import Commands

SHOW = "How far an archive is, in a sentence."
PAUSE = """Pause an archive: what is being labelled of it at the moment ends within seconds, all else waits.

What was labelled is kept and published; the model stops unless other work is left. `archives resume` lets it go on."""
RESUME = "Let a paused archive go on, with the next run of label_images (trigger it, or wait for the hour)."
CANCEL = """Cancel an archive, for good: the next run takes what is left of it off the pending batches.

What was labelled is kept and published. Its plan stays: backfill_archive takes only what has no result, so nothing is paid
for twice when it is planned again."""
ACTIONS: dict[str, tuple[Going, str]] = {
    "pause": ("paused", PAUSE),
    "resume": ("on", RESUME),
    "cancel": ("cancelled", CANCEL),
}


def add(commands: Commands) -> None:
    added = add_command(commands, "archives", show_all, __doc__)
    added.add_argument("--open", action="store_true", help="only those with something left")
    actions = added.add_subparsers(metavar="ACTION", title="actions")
    add_command(actions, "show", show_one, SHOW).add_argument("archive", help="its id, as `archives` lists it")
    for name, (going, about) in ACTIONS.items():
        action = add_command(actions, name, change, about)
        action.add_argument("archive", help="its id, as `archives` lists it")
        action.set_defaults(going=going)


def show_all(chosen: argparse.Namespace) -> Answer:
    settings = load_settings()
    s3 = client("s3", settings)
    ids = list_archives(s3, settings.final_bucket)
    found = []
    with progress("archives read", len(ids)) as advance:
        for archive_id in ids:
            found.append(read_progress(s3, settings.final_bucket, archive_id, threads=settings.threads))
            advance(1)
    if chosen.open:
        found = [each for each in found if each.pending_batches or not each.archive.is_queued]
    shown: list[Text | Table] = [_table(found) if found else line("No archive.")]
    return Answer({"archives": [_document(each) for each in found]}, shown)


def show_one(chosen: argparse.Namespace) -> Answer:
    return _answer(load_settings(), chosen.archive)


def change(chosen: argparse.Namespace) -> Answer:
    settings = load_settings()
    set_going(client("s3", settings), settings.final_bucket, chosen.archive, chosen.going)
    return _answer(settings, chosen.archive)


def _answer(settings: Settings, archive_id: str) -> Answer:
    found = read_progress(client("s3", settings), settings.final_bucket, archive_id, threads=settings.threads)
    return Answer(_document(found), [line(found.in_words())])


def _document(found: Progress) -> dict[str, Any]:
    return {
        **asdict(found.archive),
        "state": found.state,
        "pending_batches": found.pending_batches,
        "left": found.left,
        "done": asdict(found.done),
        "runs": found.runs,
        "expected_end": found.expected_end,
    }


def _table(found: Sequence[Progress]) -> Table:
    rows = [
        (
            each.archive.archive_id,
            each.state,
            f"{each.archive.images:,}",
            f"{each.done.images:,}",
            f"{each.left:,}",
            f"{each.done.failed + each.done.rejected + each.done.missing:,}",
            f"${each.done.cost_usd:,.2f}",
            f"{each.expected_end:%Y-%m-%d %H:%M} UTC" if each.expected_end else None,
        )
        for each in found
    ]
    numbers = ("images", "done", "left", "not labelled", "cost")
    return table("archive", "state", *numbers, "expected end", rows=rows, right=numbers)
