"""Queue once more what was given up: images in quarantine, or messages in the dead-letter queue.

Without --dead-letters: images in quarantine go back where they came from and into pending batches; the next run labels them.
Those of archives stay where they are, and are queued behind uploads. One that a newer upload has replaced is left out, and said
so. This needs s3:PutObject on the source bucket, which the pipeline itself does not have.

With --dead-letters: messages that SQS moved there (drain died with them) go back into the queue. Those with a `reason` announce
no image of the source bucket: they stay, and are listed with it. This needs sqs:SendMessage on the queue, and sqs:ReceiveMessage,
sqs:DeleteMessage and sqs:ChangeMessageVisibility on the dead-letter queue.

Interrupted anywhere, nothing is lost: type it again. What was queued twice is paid for once. Mend the cause first: what failed
five times fails a sixth time, and costs again. Begin with --dry-run, then a few with --limit.
"""

from __future__ import annotations

import argparse
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from include.cli.arguments import add_command, count
from include.cli.clients import client
from include.cli.output import Answer, line, progress, table
from include.dead_letters import redrive_dead_letters
from include.redrive import Quarantined, find_quarantined, redrive
from include.settings import Settings, load_settings

if TYPE_CHECKING:
    from include.cli.arguments import Commands

EXAMPLES = """examples:
  redrive --dry-run                             how many, by error code
  redrive --code GivenUp --limit 10             a few first
  redrive --run scheduled__2026-03-01T12:00:00  what one run could not label
  redrive --bucket stock --prefix 2019/         of an archive
  redrive --dead-letters --dry-run
"""
NAMES = {"code": "--code", "bucket": "--bucket", "prefix": "--prefix", "run_id": "--run"}


def add(commands: Commands) -> None:
    added = add_command(commands, "redrive", run, __doc__, examples=EXAMPLES)
    added.add_argument("--dead-letters", action="store_true", help="messages of the dead-letter queue, not images")
    added.add_argument("--bucket", default="", help="where the images lie (default: any bucket that may be labelled)")
    added.add_argument("--prefix", default="", help="only keys that begin like this")
    added.add_argument(
        "--code", action="append", default=[], help="only this error code, such as GivenUp or AccessDenied; repeatable"
    )
    added.add_argument("--run", dest="run_id", default="", metavar="RUN_ID", help="only what this run could not label")
    added.add_argument("--limit", type=count, metavar="N", help="so many at most")
    added.add_argument("--dry-run", action="store_true", help="say what would be queued, and change nothing")


def run(chosen: argparse.Namespace) -> Answer:
    if chosen.dead_letters:
        if wrong := [option for name, option in NAMES.items() if getattr(chosen, name)]:
            chosen.refuse(f"--dead-letters are messages, which have no {', '.join(wrong)}")
        return _messages(load_settings(), chosen)
    return _images(load_settings(), chosen)


def _images(settings: Settings, chosen: argparse.Namespace) -> Answer:
    s3 = client("s3", settings)
    found = find_quarantined(
        s3, settings, bucket=chosen.bucket, prefix=chosen.prefix, codes=chosen.code, run_id=chosen.run_id
    )
    codes: Counter[str] = Counter()
    now = datetime.now(UTC)
    with progress("images in quarantine", chosen.limit) as advance:
        images = _counted(itertools.islice(found, chosen.limit), codes, advance)
        if chosen.dry_run:
            queued = sum(1 for _ in images)
        else:
            queued = redrive(s3, settings, images, now=now, request_id=f"redrive {now.isoformat()}")
    by_code = table("error code", "images", right=("images",), rows=codes.most_common())
    if chosen.dry_run:
        said = f"{queued:,} images would be queued once more." if queued else "No such image is in quarantine."
        return Answer({"would_queue": queued, "by_code": codes}, [by_code, line(said)] if queued else [line(said)])
    left_out = codes.total() - queued
    said = f"{queued:,} images are queued once more: the next run labels them."
    said += f" {left_out:,} were left out, see above." if left_out else ""
    document = {"queued": queued, "left_out": left_out, "by_code": codes}
    return Answer(document, [by_code, line(said)] if codes else [line("No such image is in quarantine.")])


def _counted(
    images: Iterator[Quarantined], codes: Counter[str], advance: Callable[[int], None]
) -> Iterator[Quarantined]:
    for image in images:
        codes[image.code or "none"] += 1
        advance(1)
        yield image


def _messages(settings: Settings, chosen: argparse.Namespace) -> Answer:
    with progress("dead letters") as advance:
        found = redrive_dead_letters(
            client("sqs", settings), settings, limit=chosen.limit, dry_run=chosen.dry_run, seen=advance
        )
    moved = {"would_move" if chosen.dry_run else "moved": found.moved}
    left = [{"message_id": each.message_id, "reason": each.reason} for each in found.left]
    document = moved | {"left": left, "left_by_reason": found.reasons}
    verb = "would go" if chosen.dry_run else "went"
    shown: list[Text | Table] = [line(f"{found.moved:,} messages {verb} back into the queue.")]
    if found.left:
        more = found.reasons.total() - len(found.left)
        said = "These announce no image of the source bucket, and stay" + (f" (and {more:,} more):" if more else ":")
        rows = [(each.message_id, each.reason) for each in found.left]
        shown += [line(said), table("message", "reason", rows=rows)]
    return Answer(document, shown)
