"""What an archive would cost and how long it would take, as ``decide`` would decide on it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from include.decide import Backlog, decide
from include.model_state import ModelState
from include.settings import Settings

HOURS_A_DAY: Final = 24.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """``hours`` of model time with so many inference units at once; ``days_within_budget`` until the month's budget has
    let the last image through (None without a budget, or with one of nothing)."""

    images_per_second: float
    is_measured: bool
    inference_units: int
    inference_unit_hours: float
    cost_usd: float
    hours: float
    monthly_budget_usd: float | None
    days_within_budget: float | None


def estimate(images: int, state: ModelState, settings: Settings, *, now: datetime, month_cost_usd: float) -> Estimate:
    """Price and time of so many images, were nothing else to label.

    :param month_cost_usd: what the model has cost this month.
    """
    # What runs may take at a time cuts the work into pieces, which makes it neither more nor less.
    unlimited = settings.model_copy(update={"monthly_budget_usd": None, "max_model_minutes": None})
    decision = decide(Backlog(announced=images), state, unlimited, now=now, by_hand=True)
    rate = state.images_per_second or settings.assumed_images_per_second
    hours = decision.predicted_minutes / 60
    return Estimate(
        images_per_second=rate,
        is_measured=state.images_per_second is not None,
        inference_units=decision.inference_units,
        inference_unit_hours=images / rate / 3600,
        cost_usd=decision.predicted_cost_usd,
        hours=hours,
        monthly_budget_usd=settings.monthly_budget_usd,
        days_within_budget=days_within_budget(
            decision.predicted_cost_usd, hours, settings.monthly_budget_usd, now=now, month_cost_usd=month_cost_usd
        ),
    )


def days_within_budget(
    cost_usd: float, hours: float, budget_usd: float | None, *, now: datetime, month_cost_usd: float
) -> float | None:
    """Days until the last image is labelled, where each calendar month (UTC) pays for its budget's worth and no more."""
    if budget_usd is None:
        return None
    left_usd = max(0.0, budget_usd - month_cost_usd)
    if cost_usd <= left_usd:
        return hours / HOURS_A_DAY
    if not budget_usd:
        return None
    later_usd = cost_usd - left_usd
    months = math.ceil(later_usd / budget_usd)
    last_usd = later_usd - (months - 1) * budget_usd
    years, month = divmod(now.month - 1 + months, 12)
    last_month = now.replace(year=now.year + years, month=month + 1, day=1, hour=0, minute=0, second=0, microsecond=0)
    return (last_month - now) / timedelta(days=1) + hours / HOURS_A_DAY * last_usd / cost_usd
