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

from include.batches import Batch, histories, keep_only, read_pending
from include.images import ImageRef
from include.model_state import ModelState
from include.outcomes import end_as_failed, without_outcome
from include.settings import PREFIX, Settings

log = logging.getLogger(__name__)

Digests: TypeAlias = npt.NDArray[np.uint64]

# Three mapped tasks each: fewer than a thousand tasks in all, with which the scheduler stays quick (and Airflow maps at most
# 1,024, core.max_map_length). In batches of ten minutes it is two days' work.
MAX_BATCHES_A_RUN: Final = 300
# Mapped tasks that call at the same time, where there is work for long: one can use up any model, the second one goes on
# when the first one dies, and when it hands over to the next.
INFER_TASKS: Final = 2
# What one task does alone; and what a batch is worth at most, where several tasks take turns.
ONE_TASK_SECONDS: Final = 600.0
MOST_BATCH_SECONDS: Final = 600.0
# The error code of images that are given up.
GIVEN_UP: Final = "GivenUp"
# RUNNING time around the work itself: the poll that notices RUNNING, task start-up, the stop.
OVERHEAD_MINUTES: Final = 0.25


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is pending, counted image by image.

    ``ended`` are the batches whose images all have an outcome, and only have to be published; ``outcomes`` counts all images
    that have one. ``announced``: images that are in no batch yet (a dry run). ``archives_go_on``: what they have left does not
    fit into this run.
    """

    batches: tuple[str, ...] = ()
    images: int = 0
    doubles: int = 0
    oldest: datetime | None = None
    later_batches: int = 0
    given_up: int = 0
    announced: int = 0
    ended: tuple[str, ...] = ()
    outcomes: int = 0
    archives_go_on: bool = False

    @property
    def to_label(self) -> int:
        return self.images - self.outcomes + self.announced


@dataclass(frozen=True, slots=True)
class Decision:
    """What a run will do. ``reason`` is a sentence for the log and the UI; minutes are RUNNING (billed) minutes.

    ``limit_minutes``: calling ends then, whatever is left. ``is_over_budget``: the model was not started for that.
    ``goes_on``: another run is to follow at once, for what archives have left.
    """

    start: bool
    reason: str
    images: int = 0
    batches: tuple[str, ...] = ()
    inference_units: int = 0
    predicted_minutes: float = 0.0
    predicted_cost_usd: float = 0.0
    given_up: int = 0
    limit_minutes: float | None = None
    is_over_budget: bool = False
    goes_on: bool = False


def count_backlog(
    s3: Any, settings: Settings, keys: Sequence[str], *, now: datetime, run_id: str, change: bool = True
) -> Backlog:
    """Read the pending batches in the order of work and take out images that an earlier batch holds already.

    Doubles appear when messages come again in other company; each image must be paid for once, so it stays in the batch
    that has paid already. Eight bytes an image are kept in memory, nothing else. A batch that several runs have taken up
    in vain is given up: it must not start the model for ever.

    :param change: False only counts (a dry run).
    """
    seen: Digests = np.empty(0, dtype=np.uint64)
    batches: list[str] = []
    ended: list[str] = []
    images = doubles = outcomes = given_up = 0
    oldest: datetime | None = None
    history = histories(s3, settings.final_bucket, keys[:MAX_BATCHES_A_RUN], threads=settings.threads)
    for key in [key for key, known in history.items() if known.is_done]:
        # Its messages came again after it was done: the same images, so the same batch.
        del history[key]
        if change:
            s3.delete_object(Bucket=settings.final_bucket, Key=key)
    paid_first = sorted(history, key=lambda key: (not history[key].is_paid, key))
    for read in read_pending(s3, settings.final_bucket, paid_first, threads=settings.threads, change=change):
        fresh, seen = _fresh(seen, read.images)
        kept: Batch | None = read
        if len(fresh) < len(read.images):
            doubles += len(read.images) - len(fresh)
            left = [read.images[number] for number in fresh]
            kept = keep_only(s3, settings.final_bucket, read, left) if change else replace(read, images=tuple(left))
        if kept is None or not kept.images:
            continue
        was_begun = history[read.key].attempts or history[read.key].is_paid
        open_images = without_outcome(s3, settings.final_bucket, kept) if was_begun else kept.images
        if open_images and history[read.key].attempts >= settings.batch_attempts:
            given_up += 1
            if change:
                _give_up(s3, settings, kept, open_images, now=now, run_id=run_id)
            open_images = ()
        if not open_images:
            ended.append(kept.key)
        batches.append(kept.key)
        images += len(kept.images)
        outcomes += len(kept.images) - len(open_images)
        first = min(image.event_time for image in kept.images)
        oldest = min(oldest, first) if oldest else first
    later = max(0, len(keys) - MAX_BATCHES_A_RUN)
    return Backlog(
        batches=tuple(sorted(batches)),
        images=images,
        doubles=doubles,
        oldest=oldest,
        later_batches=later,
        given_up=given_up,
        ended=tuple(sorted(ended)),
        outcomes=outcomes,
    )


def _give_up(
    s3: Any, settings: Settings, batch: Batch, images: Sequence[ImageRef], *, now: datetime, run_id: str
) -> None:
    """Let these images end as FAILED: they are published like any other, which puts them into quarantine."""
    message = f"{settings.batch_attempts} runs took up batch {batch.batch_id} in vain; their logs say why."
    end_as_failed(s3, settings.final_bucket, batch, images, code=GIVEN_UP, message=message, now=now, run_id=run_id)
    log.error(
        "Batch %s is given up: %s runs took it up in vain (their logs say why). %s of its %s images go into quarantine, with the "
        "reason %s.",
        batch.batch_id,
        settings.batch_attempts,
        len(images),
        len(batch.images),
        GIVEN_UP,
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
    month_cost_usd: float = 0.0,
) -> Decision:
    """Whether this backlog is worth a start.

    Inference-unit minutes are the same for any number of units, the overhead is not: so the fewest units that meet the
    deadline.

    :param units: inference units asked for by hand; None chooses.
    :param by_hand: somebody asked for these images: minimum backlog and maximum wait do not apply.
    :param month_cost_usd: what the model has cost this month, for the budget.
    """
    given_up = f" {_counted(backlog.given_up, 'batch', 'batches')} given up, see the log." if backlog.given_up else ""
    off = Decision(False, "", backlog.images + backlog.announced, backlog.ended, given_up=backlog.given_up)
    if not off.images:
        return replace(off, reason="Nothing is pending: the model stays off.")
    if not backlog.to_label:
        reason = f"{_counted(backlog.outcomes, 'image')} to publish, none to label: the model stays off.{given_up}"
        return replace(off, reason=reason)
    waited_minutes = (now - backlog.oldest).total_seconds() / 60 if backlog.oldest else 0.0
    if not by_hand and backlog.to_label < settings.minimum_backlog and waited_minutes < settings.maximum_wait_minutes:
        reason = (
            f"Postponed: {_counted(backlog.to_label, 'image')} pending, fewer than the minimum of "
            f"{settings.minimum_backlog:,}, and the oldest has waited {waited_minutes:.0f} of at most "
            f"{settings.maximum_wait_minutes:.0f} minutes.{given_up}"
        )
        return replace(off, reason=reason)
    plan = _plan(backlog, state, settings, units, month_cost_usd)
    if plan.limit_minutes is not None and plan.limit_minutes < 1:
        reason = (
            f"Refused: the model has cost ${month_cost_usd:.2f} this month, and {PREFIX}MONTHLY_BUDGET_USD is "
            f"{settings.monthly_budget_usd or 0:g}. {_counted(backlog.to_label, 'image')} stay pending until the month is over "
            f"or it is raised.{given_up}"
        )
        return replace(off, reason=reason, is_over_budget=True)
    return replace(plan, reason=plan.reason + given_up, given_up=backlog.given_up)


def _plan(
    backlog: Backlog, state: ModelState, settings: Settings, units: int | None, month_cost_usd: float
) -> Decision:
    rate = state.images_per_second or settings.assumed_images_per_second
    unit_minutes = backlog.to_label / rate / 60
    # An archive that takes many runs ends sooner with more units, at the same price.
    deadline = (
        min(settings.deadline_minutes, settings.archive_minutes)
        if backlog.archives_go_on
        else settings.deadline_minutes
    )
    work_minutes = max(deadline - OVERHEAD_MINUTES, OVERHEAD_MINUTES)
    enough = math.ceil(unit_minutes / work_minutes)
    chosen = units or min(max(enough, settings.inference_units_min), settings.inference_units_max)
    wanted = unit_minutes / chosen + OVERHEAD_MINUTES
    limit, why = _limit_minutes(settings, chosen, month_cost_usd)
    minutes = wanted if limit is None else min(wanted, limit)
    cost = model_cost_usd(minutes * 60, chosen, settings.price_per_unit_hour_usd)
    batches = len(backlog.batches) + math.ceil(backlog.announced / batch_size(backlog.announced, state, settings))
    origin = "as measured before" if state.images_per_second else "assumed until measured"
    reason = (
        f"Start: {_counted(backlog.to_label, 'image')} in {_counted(batches, 'batch', 'batches')} with {chosen} inference "
        f"unit{'s' if chosen > 1 else ''}: about {minutes:.1f} model minutes, ${cost:.2f} "
        f"({rate:.1f} images a second and unit, {origin})."
    )
    if limit is not None and wanted > limit:
        reason += f" It would take {wanted:.0f}; calling ends before, for {why}, and the rest stays pending."
    elif wanted > settings.deadline_minutes and units is None:
        reason += (
            f" Longer than the {settings.deadline_minutes:.0f} minutes wanted: {chosen} units are the most allowed."
        )
    if backlog.later_batches:
        reason += f" {backlog.later_batches:,} more batches follow in the next runs."
    if backlog.archives_go_on:
        reason += " Archives have more: another run follows at once, and the model stays up for it."
    return Decision(
        start=True,
        reason=reason,
        images=backlog.images + backlog.announced,
        batches=backlog.batches,
        inference_units=chosen,
        predicted_minutes=minutes,
        predicted_cost_usd=cost,
        limit_minutes=limit,
        goes_on=backlog.archives_go_on,
    )


def _limit_minutes(settings: Settings, units: int, month_cost_usd: float) -> tuple[float | None, str]:
    """RUNNING minutes that a run may have, and the setting that says so; None without a limit."""
    limits = []
    if settings.max_model_minutes is not None:
        limits.append((settings.max_model_minutes, f"{PREFIX}MAX_MODEL_MINUTES={settings.max_model_minutes:g}"))
    if settings.monthly_budget_usd is not None and settings.price_per_unit_hour_usd:
        left = settings.monthly_budget_usd - month_cost_usd
        minutes = math.floor(left / (units * settings.price_per_unit_hour_usd / 60) + 1e-9)
        limits.append(
            (float(minutes), f"${left:.2f} are left of {PREFIX}MONTHLY_BUDGET_USD={settings.monthly_budget_usd:g}")
        )
    return min(limits, default=(None, ""))


def batch_size(images: int, state: ModelState, settings: Settings) -> int:
    """Images a batch: all in one where that is ten minutes' work; else as many of one size as keep all tasks busy to the end."""
    rate = (state.images_per_second or settings.assumed_images_per_second) * settings.inference_units_min
    if images <= rate * ONE_TASK_SECONDS:
        return min(max(1, images), settings.batch_size)
    rounds = math.ceil(images / (rate * MOST_BATCH_SECONDS))
    return min(math.ceil(images / (INFER_TASKS * rounds)), settings.batch_size)


def model_cost_usd(
    running_seconds: float, units: int, price_per_unit_hour_usd: float, *, begun_minutes: bool = True
) -> float:
    """Dollars for a time RUNNING: billed in minutes, begun ones in full.

    Custom Labels bills "the amount of time, in minutes, that the model is running" times inference units
    (https://docs.aws.amazon.com/rekognition/latest/customlabels-dg/running-model.html).

    :param begun_minutes: False where the model goes on running, for somebody else's account.
    """
    minutes = math.ceil(running_seconds / 60) if begun_minutes else running_seconds / 60
    return round(minutes * units * price_per_unit_hour_usd / 60, 4)


def _counted(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"
