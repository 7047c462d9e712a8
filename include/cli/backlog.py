"""What waits to be labelled, and what the next run would do about it.

Messages are as SQS counts them: about right, and up to a minute late. Pending batches are counted by their keys, by who asked for
them; up to 20 are read as well, more with --images (10,000 images take a quarter of a second). What is read shows images, batches
that were tried in vain, and what the next scheduled run would decide, each message counted as an image. Changes nothing.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table
from rich.text import Text

from include import layout
from include.archive.slices import next_slice, pending_archives
from include.batches import histories, read_pending
from include.cli.arguments import add_command
from include.cli.clients import client, model_state
from include.cli.output import Answer, ago, facts, line, progress, table
from include.decide import MAX_BATCHES_A_RUN, count_backlog, decide
from include.drain import dead_letter_queue_url
from include.ledger import month_cost_usd
from include.objects import list_keys
from include.settings import Settings, load_settings

if TYPE_CHECKING:
    from include.cli.arguments import Commands

# So many batches are read without being asked for.
READ_AT_ONCE: Final = 20
HISTORIES_TOGETHER: Final = 200
COUNTERS: Final = {
    "waiting": "ApproximateNumberOfMessages",
    "in_flight": "ApproximateNumberOfMessagesNotVisible",
    "delayed": "ApproximateNumberOfMessagesDelayed",
}
# A pending key begins with its priority, and holds when its oldest image came.
KEY: Final = re.compile(rf"{layout.PENDING}(?P<priority>\d+)-.*?(?P<created>\d{{8}}T\d{{6}}Z)")


@dataclass(frozen=True, slots=True)
class Pending:
    """Pending batches of one priority. ``images`` is None where they were not read."""

    origin: str
    batches: int
    oldest: datetime | None
    images: int | None = None


def add(commands: Commands) -> None:
    added = add_command(commands, "backlog", show, __doc__)
    added.add_argument("--images", action="store_true", help="read every pending batch, however many there are")


def show(chosen: argparse.Namespace) -> Answer:
    settings = load_settings()
    s3, now = client("s3", settings), datetime.now(UTC)
    messages = count_messages(client("sqs", settings), settings.queue_url)
    keys = list(list_keys(s3, settings.final_bucket, layout.PENDING))
    unreadable = sum(1 for _ in list_keys(s3, settings.final_bucket, layout.UNREADABLE))
    is_read = chosen.images or len(keys) <= READ_AT_ONCE
    images = _count_images(s3, settings, keys) if is_read else None
    pending = by_origin(keys, images)
    tried = _count_tried(s3, settings, keys) if is_read else None
    decision = None
    if images is not None:
        readable = [key for key in keys if key in images and not layout.archive_of(key)]
        decision = _next_decision(s3, settings, readable, messages["waiting"] or 0, now)
    document = {
        "messages": messages,
        "pending": [
            {"origin": each.origin, "batches": each.batches, "images": each.images, "oldest": each.oldest}
            for each in pending
        ],
        "batches": len(keys),
        "images": images.total() if images is not None else None,
        "unreadable_batches": unreadable,
        "tried_in_vain": tried,
        "next_run": decision,
    }
    return Answer(document, _shown(settings, document, pending, now))


def count_messages(sqs: Any, queue: str) -> dict[str, int | None]:
    """Messages of the queue by what becomes of them, and dead letters (None: there is no dead-letter queue)."""
    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=list(COUNTERS.values()))["Attributes"]
    counted: dict[str, int | None] = {name: int(attributes[counter]) for name, counter in COUNTERS.items()}
    dead = dead_letter_queue_url(sqs, queue)
    if dead is None:
        return counted | {"dead_letters": None}
    attributes = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=list(COUNTERS.values()))["Attributes"]
    return counted | {"dead_letters": sum(map(int, attributes.values()))}


def by_origin(keys: Iterable[str], images: Counter[str] | None) -> list[Pending]:
    """Pending batches in the order of work.

    :param images: by the key of the batch; None where they were not read.
    """
    origins: dict[str, list[str]] = defaultdict(list)
    for origin, priority in layout.PRIORITY.items():
        origins[str(priority)].append(
            {"upload": "uploads", "manual": "by hand", "redrive": "redriven"}.get(origin, "redriven of archives")
        )
    origins[str(layout.SLICED)].append("archives")
    groups: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        found = KEY.match(key)
        groups[found["priority"] if found else "?"].append(key)
    return [
        Pending(
            ", ".join(origins.get(priority, ["of an unknown name"])),
            len(of_priority),
            min((time for key in of_priority if (time := _created(key))), default=None),
            sum(images[key] for key in of_priority) if images is not None else None,
        )
        for priority, of_priority in sorted(groups.items())
    ]


def _created(key: str) -> datetime | None:
    found = KEY.match(key)
    try:
        return datetime.strptime(found["created"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) if found else None
    except ValueError:
        return None


def _count_images(s3: Any, settings: Settings, keys: Sequence[str]) -> Counter[str]:
    """Images by the key of the batch."""
    images: Counter[str] = Counter()
    with progress("batches read", len(keys)) as advance:
        for batch in read_pending(s3, settings.final_bucket, keys, threads=settings.threads, change=False):
            images[batch.key] = len(batch.images)
            advance(1)
    return images


def _count_tried(s3: Any, settings: Settings, keys: Sequence[str]) -> dict[str, int]:
    """Batches that runs took up and did not finish, and those of them that the next run gives up."""
    attempts: list[int] = []
    with progress("attempts looked up", len(keys)) as advance:
        for start in range(0, len(keys), HISTORIES_TOGETHER):
            some = keys[start : start + HISTORIES_TOGETHER]
            history = histories(s3, settings.final_bucket, some, threads=settings.threads)
            attempts += [each.attempts for each in history.values()]
            advance(len(some))
    return {
        "batches": sum(each > 0 for each in attempts),
        "last_attempt_made": sum(each >= settings.batch_attempts for each in attempts),
        "most_attempts": max(attempts, default=0),
    }


def _next_decision(s3: Any, settings: Settings, keys: Sequence[str], messages: int, now: datetime) -> str:
    """What a scheduled run would say if it began now."""
    known = model_state(settings).read()
    if known.lease and known.lease.is_held_against("", now):
        return f"A run is at work: {known.lease.holder} uses the model until {known.lease.expires_at:%H:%M} UTC."
    with progress("deciding"):
        archives = pending_archives(s3, settings)
        taken = next_slice(s3, settings, known, archives, most_batches=MAX_BATCHES_A_RUN - len(keys))
        backlog = count_backlog(s3, settings, [*keys, *taken.batches], now=now, run_id="", change=False)
    spent = 0.0
    if settings.monthly_budget_usd is not None:
        spent = month_cost_usd(s3, settings.final_bucket, now=now, threads=settings.threads)
    backlog = replace(backlog, announced=messages, archives_go_on=taken.goes_on)
    return decide(backlog, known, settings, now=now, month_cost_usd=spent).reason


def _shown(
    settings: Settings, document: dict[str, Any], pending: Sequence[Pending], now: datetime
) -> list[Text | Table]:
    messages = document["messages"]
    dead = messages["dead_letters"]
    values: dict[str, object] = {
        "messages": f"about {messages['waiting']:,} wait, {messages['in_flight']:,} in flight, {messages['delayed']:,} delayed",
        "dead letters": "the queue has no dead-letter queue" if dead is None else f"about {dead:,}",
    }
    if document["unreadable_batches"]:
        values["unreadable"] = f"{document['unreadable_batches']:,} batches, put aside below {layout.UNREADABLE}"
    if tried := document["tried_in_vain"]:
        values["tried in vain"] = (
            f"{tried['batches']:,} batches, at most {tried['most_attempts']} of {settings.batch_attempts} times; "
            f"{tried['last_attempt_made']:,} are given up next"
            if tried["batches"]
            else "none"
        )
    shown: list[Text | Table] = [facts(values), line("")]
    if pending:
        rows = [
            (
                each.origin,
                f"{each.batches:,}",
                None if each.images is None else f"{each.images:,}",
                ago(each.oldest, now) if each.oldest else None,
            )
            for each in pending
        ]
        shown.append(table("pending", "batches", "images", "oldest", rows=rows, right=("batches", "images")))
    else:
        shown.append(line("No batch is pending."))
    if document["next_run"] is None:
        said = (
            "Not read, since there are so many: --images counts their images and says what the next run would decide."
        )
    else:
        said = f"The next run: {document['next_run']}"
    return [*shown, line(""), line(said)]
