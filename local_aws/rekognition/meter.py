"""What running models have cost, and what they did for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# https://aws.amazon.com/rekognition/pricing/ (us-east-1): per inference unit and hour, from RUNNING until STOPPED.
USD_PER_UNIT_HOUR = 4.0


@dataclass(slots=True)
class Run:
    """One time that a model ran. Times are epoch seconds, None while not yet.

    AWS does not say whether STOPPING bills; it does here, so that a bill errs to the high side.
    """

    inference_units: int
    running_at: float
    stopped_at: float | None = None
    calls_served: int = 0
    calls_throttled: int = 0
    first_call_at: float | None = None
    last_call_at: float | None = None


class Meter:
    """The runs of every model, by ARN, kept also when the model is deleted."""

    def __init__(self) -> None:
        self._runs: dict[str, list[Run]] = {}

    def opened(self, arn: str, inference_units: int, at: float) -> None:
        """The model is RUNNING from `at`; nothing new when it was already."""
        if self._current(arn) is None:
            self._runs.setdefault(arn, []).append(Run(inference_units, at))

    def closed(self, arn: str, at: float) -> None:
        """The model is STOPPED from `at`; nothing new when it did not run."""
        run = self._current(arn)
        if run is not None:
            run.stopped_at = at

    def served(self, arn: str, at: float) -> None:
        """A call was let in."""
        run = self._current(arn)
        if run is not None:
            run.calls_served += 1
            run.first_call_at = run.first_call_at or at
            run.last_call_at = at

    def throttled(self, arn: str) -> None:
        """A call was turned away for its rate."""
        run = self._current(arn)
        if run is not None:
            run.calls_throttled += 1

    def bill(self, now: float) -> dict[str, Any]:
        """{"models": [one dictionary a model, its runs included], "cost_usd": of all}, runs going on counted up to `now`."""
        models = [self._model_bill(arn, runs, now) for arn, runs in self._runs.items()]
        return {"models": models, "cost_usd": sum(model["cost_usd"] for model in models)}

    def _model_bill(self, arn: str, runs: list[Run], now: float) -> dict[str, Any]:
        lines: list[dict[str, Any]] = []
        for run in runs:
            seconds = (now if run.stopped_at is None else run.stopped_at) - run.running_at
            unit_seconds = seconds * run.inference_units
            lines.append(
                {
                    "inference_units": run.inference_units,
                    "running_at": run.running_at,
                    "stopped_at": run.stopped_at,
                    "running_seconds": seconds,
                    "unit_seconds": unit_seconds,
                    "cost_usd": unit_seconds / 3600 * USD_PER_UNIT_HOUR,
                    "calls_served": run.calls_served,
                    "calls_throttled": run.calls_throttled,
                    "first_call_at": run.first_call_at,
                    "last_call_at": run.last_call_at,
                }
            )
        summed = ("running_seconds", "unit_seconds", "cost_usd", "calls_served", "calls_throttled")
        totals = {name: sum(line[name] for line in lines) for name in summed}
        return {"project_version_arn": arn, **totals, "runs": lines}

    def _current(self, arn: str) -> Run | None:
        runs = self._runs.get(arn)
        return runs[-1] if runs and runs[-1].stopped_at is None else None
