"""Stage 2: from the exact backlog to one decision - start the model or not, with how many units, at what price, and why."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from include import layout
from include.batches import Batch, histories, keep_only, put_aside, read_pending
from include.images import ImageRef
from include.model_state import ModelState
from include.settings import Settings

log = logging.getLogger(__name__)

Digests: TypeAlias = npt.NDArray[np.uint64]

# Airflow maps at most 1,024 tasks (core.max_map_length); a margin, since the limit is the deployment's to lower.
MAX_BATCHES_A_RUN: Final = 1_000
# Mapped tasks that call at the same time, where there is work for long: one can use up any model, the second one goes on
# when the first one dies, and when it hands over to the next.
INFER_TASKS: Final = 2
# What one task does alone; and what a batch is worth at most, where several tasks take turns.
ONE_TASK_SECONDS: Final = 600.0
MOST_BATCH_SECONDS: Final = 600.0
# RUNNING time around the work itself: the poll that notices RUNNING, task start-up, the stop.
OVERHEAD_MINUTES: Final = 0.25


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is pending, counted image by image. ``announced``: images that are in no batch yet (a dry run)."""

    batches: tuple[str, ...] = ()
    images: int = 0
    doubles: int = 0
    oldest: datetime | None = None
    later_batches: int = 0
    given_up: int = 0
    announced: int = 0

    @property
    def all_images(self) -> int:
        return self.images + self.announced


@dataclass(frozen=True, slots=True)
class Decision:
    """What a run will do. ``reason`` is a sentence for the log and the UI; minutes are RUNNING (billed) minutes."""

    start: bool
    reason: str
    images: int = 0
    batches: tuple[str, ...] = ()
    inference_units: int = 0
    predicted_minutes: float = 0.0
    predicted_cost_usd: float = 0.0
    given_up: int = 0


def count_backlog(s3: Any, settings: Settings, keys: Sequence[str], *, change: bool = True) -> Backlog:
    """Read the pending batches in the order of work and take out images that an earlier batch holds already.

    Doubles appear when messages come again in other company; each image must be paid for once, so it stays in the batch
    that has paid already. Eight bytes an image are kept in memory, nothing else. A batch that several runs have taken up
    in vain is put aside: it must not start the model for ever.

    :param change: False only counts (a dry run).
    """
    seen: Digests = np.empty(0, dtype=np.uint64)
    batches: list[str] = []
    images = doubles = 0
    oldest: datetime | None = None
    history = histories(s3, settings.final_bucket, keys[:MAX_BATCHES_A_RUN], threads=settings.threads)
    given_up = [key for key, known in history.items() if known.attempts >= settings.batch_attempts]
    if change:
        _give_up(s3, settings, given_up)
    paid_first = sorted(history.keys() - set(given_up), key=lambda key: (not history[key].is_paid, key))
    for read in read_pending(s3, settings.final_bucket, paid_first, threads=settings.threads, change=change):
        fresh, seen = _fresh(seen, read.images)
        kept: Batch | None = read
        if len(fresh) < len(read.images):
            doubles += len(read.images) - len(fresh)
            left = [read.images[number] for number in fresh]
            kept = keep_only(s3, settings.final_bucket, read, left) if change else replace(read, images=tuple(left))
        if kept and kept.images:
            batches.append(kept.key)
            images += len(kept.images)
            first = min(image.event_time for image in kept.images)
            oldest = min(oldest, first) if oldest else first
    later = max(0, len(keys) - MAX_BATCHES_A_RUN)
    return Backlog(tuple(sorted(batches)), images, doubles, oldest, later, len(given_up))


def _give_up(s3: Any, settings: Settings, keys: Sequence[str]) -> None:
    for key in keys:
        aside = put_aside(s3, settings.final_bucket, key, layout.GIVEN_UP)
        log.error(
            "Batch s3://%s/%s is given up: %s runs took it up in vain (their logs say why). Its images are where they were. "
            "To try again, copy it back to %s and delete %s*.",
            settings.final_bucket,
            aside,
            settings.batch_attempts,
            layout.PENDING,
            layout.attempts(layout.batch_id_of(key)),
        )


def _fresh(seen: Digests, images: Sequence[ImageRef]) -> tuple[list[int], Digests]:
    """Positions of the images not seen before, and the sorted digests with theirs among them."""
    digests, first = np.unique(np.array([image.digest() for image in images], dtype=np.uint64), return_index=True)
    place = np.searchsorted(seen, digests)
    known = (
        np.isin(digests, seen[np.minimum(place, len(seen) - 1)]) if len(seen) else np.zeros(len(digests), dtype=bool)
    )
    return sorted(first[~known].tolist()), np.insert(seen, place[~known], digests[~known])


def decide(
    backlog: Backlog,
    state: ModelState,
    settings: Settings,
    *,
    now: datetime,
    units: int | None = None,
    by_hand: bool = False,
) -> Decision:
    """Whether this backlog is worth a start.

    Inference-unit minutes are the same for any number of units, the overhead is not: so the fewest units that meet the
    deadline.

    :param units: inference units asked for by hand; None chooses.
    :param by_hand: somebody asked for these images: minimum backlog and maximum wait do not apply.
    """
    given_up = f" {_counted(backlog.given_up, 'batch', 'batches')} given up, see the log." if backlog.given_up else ""
    if not backlog.all_images:
        return Decision(
            start=False, reason=f"Nothing is pending: the model stays off.{given_up}", given_up=backlog.given_up
        )
    plan = _plan(backlog, state, settings, units)
    waited_minutes = (now - backlog.oldest).total_seconds() / 60 if backlog.oldest else 0.0
    if not by_hand and backlog.all_images < settings.minimum_backlog and waited_minutes < settings.maximum_wait_minutes:
        reason = (
            f"Postponed: {_counted(backlog.all_images, 'image')} pending, fewer than the minimum of "
            f"{settings.minimum_backlog:,}, and the oldest has waited {waited_minutes:.0f} of at most "
            f"{settings.maximum_wait_minutes:.0f} minutes."
        )
        return Decision(start=False, reason=reason, images=backlog.all_images)
    return replace(plan, reason=plan.reason + given_up, given_up=backlog.given_up)


def _plan(backlog: Backlog, state: ModelState, settings: Settings, units: int | None) -> Decision:
    rate = state.images_per_second or settings.assumed_images_per_second
    unit_minutes = backlog.all_images / rate / 60
    work_minutes = max(settings.deadline_minutes - OVERHEAD_MINUTES, OVERHEAD_MINUTES)
    enough = math.ceil(unit_minutes / work_minutes)
    chosen = units or min(max(enough, settings.inference_units_min), settings.inference_units_max)
    minutes = unit_minutes / chosen + OVERHEAD_MINUTES
    cost = model_cost_usd(minutes * 60, chosen, settings.price_per_unit_hour_usd)
    batches = len(backlog.batches) + math.ceil(backlog.announced / batch_size(backlog.announced, state, settings))
    origin = "as measured before" if state.images_per_second else "assumed until measured"
    reason = (
        f"Start: {_counted(backlog.all_images, 'image')} in {_counted(batches, 'batch', 'batches')} with {chosen} inference "
        f"unit{'s' if chosen > 1 else ''}: about {minutes:.1f} model minutes, ${cost:.2f} "
        f"({rate:.1f} images a second and unit, {origin})."
    )
    if minutes > settings.deadline_minutes and units is None:
        reason += (
            f" Longer than the {settings.deadline_minutes:.0f} minutes wanted: {chosen} units are the most allowed."
        )
    if backlog.later_batches:
        reason += f" {backlog.later_batches:,} more batches follow in the next runs."
    return Decision(True, reason, backlog.all_images, backlog.batches, chosen, minutes, cost)


def batch_size(images: int, state: ModelState, settings: Settings) -> int:
    """Images a batch: all in one where that is ten minutes' work; else as many of one size as keep all tasks busy to the end."""
    rate = (state.images_per_second or settings.assumed_images_per_second) * settings.inference_units_min
    if images <= rate * ONE_TASK_SECONDS:
        return min(max(1, images), settings.batch_size)
    rounds = math.ceil(images / (rate * MOST_BATCH_SECONDS))
    return min(math.ceil(images / (INFER_TASKS * rounds)), settings.batch_size)


def model_cost_usd(running_seconds: float, units: int, price_per_unit_hour_usd: float) -> float:
    """Dollars for a time RUNNING: billed in minutes, begun ones in full.

    Custom Labels bills "the amount of time, in minutes, that the model is running" times inference units
    (https://docs.aws.amazon.com/rekognition/latest/customlabels-dg/running-model.html).
    """
    return round(math.ceil(running_seconds / 60) * units * price_per_unit_hour_usd / 60, 4)


def _counted(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"
