"""Stage 7: what a run did, what the model was paid for, and how well that was used; one row in ``runs``."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow.parquet as pq

from include import layout
from include.archive.archives import ArchiveRun
from include.decide import INFER_TASKS, Decision, model_cost_usd
from include.infer import InferReport
from include.model_state import ModelStateStore
from include.pacing import BURST_SECONDS
from include.publish import PublishReport
from include.schema import RunReport, runs_table
from include.settings import Settings

# Below this many calls a rate says more about start and end than about the model.
CALLS_WORTH_LEARNING_FROM = 30


@dataclass(frozen=True, slots=True)
class ModelTimes:
    """When this run's model was asked for, seen RUNNING, told to stop and seen stopped (None: that did not happen).

    ``handed_over_at``: it was left running for the next run instead.
    """

    start_requested_at: datetime | None = None
    running_at: datetime | None = None
    stop_requested_at: datetime | None = None
    stopped_at: datetime | None = None
    handed_over_at: datetime | None = None

    def running_seconds(self, *, until: datetime) -> float:
        """Seconds RUNNING as far as the run knows: a stop that was not seen lasts until its end."""
        end = self.handed_over_at or self.stopped_at or self.stop_requested_at or until
        return (end - self.running_at).total_seconds() if self.running_at else 0.0

    @property
    def start_seconds(self) -> float | None:
        if self.running_at is None or self.start_requested_at is None:
            return None
        return (self.running_at - self.start_requested_at).total_seconds()


@dataclass(frozen=True, slots=True)
class CallTimes:
    """A run's inference as a whole, from the reports of its batches."""

    first: datetime | None = None
    up_to_speed: datetime | None = None
    out_of_images: datetime | None = None
    last: datetime | None = None

    @classmethod
    def of(cls, inferred: Sequence[InferReport]) -> CallTimes:
        called = sorted((each for each in inferred if each.last_call_at), key=lambda each: str(each.last_call_at))
        ends = [report.out_of_images_at for report in called[-INFER_TASKS:] if report.out_of_images_at]
        return cls(
            first=min((report.first_call_at for report in called if report.first_call_at), default=None),
            up_to_speed=min((report.up_to_speed_at for report in called if report.up_to_speed_at), default=None),
            # The first of the last tasks to have no more images: from then on, fewer call.
            out_of_images=min(ends, default=None),
            last=max((report.last_call_at for report in called if report.last_call_at), default=None),
        )

    @property
    def seconds(self) -> float:
        return (self.last - self.first).total_seconds() if self.first and self.last else 0.0


def build_report(
    settings: Settings,
    *,
    run_id: str,
    started_at: datetime,
    ended_at: datetime,
    trigger: str,
    decision: Decision,
    inferred: Sequence[InferReport],
    published: Sequence[PublishReport],
    times: ModelTimes,
    final_status: str,
    known_rate: float | None = None,
) -> RunReport:
    """Put a run's figures together.

    Utilisation is what was served, of what the model would have served while RUNNING: at the rate that is known of it, or
    kept in this run where that is higher.

    :param known_rate: images a second and inference unit, from earlier runs.
    """
    calls = CallTimes.of(inferred)
    first_call, last_call = calls.first, calls.last
    labelled = sum(report.labelled for report in inferred)
    served = labelled + sum(report.failed for report in inferred)
    calling = calls.seconds
    rate = max(served / calling if calling else 0.0, (known_rate or 0.0) * decision.inference_units)
    running = times.running_seconds(until=ended_at)
    cost = model_cost_usd(
        running,
        decision.inference_units,
        settings.price_per_unit_hour_usd,
        # The minute that the next run goes on with is begun once.
        begun_minutes=times.handed_over_at is None,
    )
    stop = times.handed_over_at or times.stop_requested_at
    return RunReport(
        run_id=run_id,
        started_at=started_at,
        ended_at=ended_at,
        trigger=trigger,
        decision=decision.reason,
        predicted_minutes=round(decision.predicted_minutes, 3),
        predicted_cost_usd=decision.predicted_cost_usd,
        images=sum(report.images for report in published if not report.pending),
        labelled=sum(report.labelled for report in published),
        rejected=sum(report.rejected for report in published),
        missing=sum(report.missing for report in published),
        failed=sum(report.failed for report in published),
        skipped=sum(report.skipped for report in published),
        labels=sum(report.labels for report in published),
        calls=sum(report.calls for report in inferred),
        throttled_calls=sum(report.throttled_calls for report in inferred),
        # Also of a run that only stopped what was left running for it: it has that time on its bill.
        inference_units=decision.inference_units if decision.start or times.running_at else 0,
        model_running_seconds=round(running, 3),
        idle_before_first_call_seconds=_gap(times.running_at, first_call),
        ramp_seconds=_gap(first_call, calls.up_to_speed),
        tail_seconds=_gap(calls.out_of_images, last_call),
        idle_after_last_call_seconds=_gap(last_call, stop),
        images_per_second=round(served / calling, 3) if calling else None,
        utilisation=round(min(1.0, served / rate / running), 4) if running and calling else None,
        cost_usd=cost,
        cost_usd_per_thousand_images=round(cost / labelled * 1000, 4) if labelled else None,
        model_final_status=final_status,
    )


def for_archives(
    report: RunReport,
    called: Sequence[tuple[str, InferReport]],
    published: Sequence[tuple[str, PublishReport]],
) -> dict[str, ArchiveRun]:
    """What a run did for each archive. The model's cost is shared out by images that it was called for.

    :param called: each batch's key with what ``infer`` counted; ``published``: with what ``publish`` did.
    """
    images = sum(counts.images for _, counts in called)
    ids = {archive_id for key, _ in (*called, *published) if (archive_id := layout.archive_of(key))}

    def run(archive_id: str) -> ArchiveRun:
        mine = sum(counts.images for key, counts in called if layout.archive_of(key) == archive_id)
        # A batch is published whole, or not at all.
        done = [counts for key, counts in published if layout.archive_of(key) == archive_id and not counts.pending]
        return ArchiveRun(
            ended_at=report.ended_at,
            images=sum(each.images for each in done),
            labelled=sum(each.labelled for each in done),
            rejected=sum(each.rejected for each in done),
            missing=sum(each.missing for each in done),
            failed=sum(each.failed for each in done),
            skipped=sum(each.skipped for each in done),
            cost_usd=round(report.cost_usd * mine / images, 4) if images else 0.0,
        )

    return {archive_id: run(archive_id) for archive_id in sorted(ids)}


def in_a_sentence(report: RunReport) -> str:
    """The run for the log: what became of the images, and what the model cost."""
    outcomes = {
        "labelled": report.labelled,
        "rejected": report.rejected,
        "missing": report.missing,
        "failed": report.failed,
        "labelled before": report.skipped,
    }
    told = ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.items() if count) or "nothing to do"
    if not report.inference_units:
        return f"{report.images:,} images: {told}. The model was not started: $0."
    units = f"{report.inference_units} inference unit" + ("s" if report.inference_units > 1 else "")
    return (
        f"{report.images:,} images: {told}. The model was RUNNING for {report.model_running_seconds:.0f} s with {units} and is "
        f"{report.model_final_status}: ${report.cost_usd:.2f} (predicted ${report.predicted_cost_usd:.2f}); "
        f"{report.throttled_calls:,} of {report.calls:,} calls were throttled."
    )


def worth_telling(
    settings: Settings, report: RunReport, decision: Decision, inferred: Sequence[InferReport], *, dead_letters: int
) -> list[str]:
    """What a person should hear of although the run went well: a line each, that says what to do."""
    lines = []
    if decision.is_over_budget:
        lines.append(decision.reason)
    if left := sum(each.left for each in inferred):
        lines.append(
            f"{left:,} images stay pending: the model's {decision.limit_minutes:g} minutes were up. The next run goes on with "
            "them; LABELS_MAX_MODEL_MINUTES and LABELS_MONTHLY_BUDGET_USD say how many a run has."
        )
    if unlabelled := report.rejected + report.failed:
        lines.append(
            f"{unlabelled:,} images could not be labelled. Below s3://{settings.final_bucket}/{layout.QUARANTINE} a file "
            "<key>.error.json says why, for each; mend the image and upload it again."
        )
    if dead_letters:
        lines.append(
            f"{dead_letters:,} messages lie in the dead-letter queue of {settings.queue_url}. Those with an attribute `reason` "
            f"announce no image of {settings.source_bucket}: see who sends them, and delete them. Move the others back."
        )
    return lines


def _gap(earlier: datetime | None, later: datetime | None) -> float:
    return round(max(0.0, (later - earlier).total_seconds()), 3) if earlier and later else 0.0


def write_report(s3: Any, settings: Settings, report: RunReport) -> str:
    """One Parquet file a run; returns its key."""
    body = io.BytesIO()
    pq.write_table(runs_table(report), body, compression="zstd")
    key = layout.run(day=f"{report.started_at:%Y-%m-%d}", run_id=report.run_id)
    s3.put_object(Bucket=settings.final_bucket, Key=key, Body=body.getvalue())
    return key


def learn(store: ModelStateStore, report: RunReport, inferred: Sequence[InferReport], times: ModelTimes) -> None:
    """Keep what this run measured for the next decision.

    The rate leaves out what a full token bucket gave on top (`include.pacing`): a second's worth.
    """
    seconds = CallTimes.of(inferred).seconds
    served = report.calls - report.throttled_calls
    worth = report.inference_units and seconds and served >= CALLS_WORTH_LEARNING_FROM
    latencies = [each.latency_seconds for each in inferred if each.latency_seconds is not None]
    store.update(
        lambda state: state.learn(
            images_per_second=served / (seconds + BURST_SECONDS) / report.inference_units if worth else None,
            latency_seconds=sum(latencies) / len(latencies) if latencies else None,
            start_seconds=times.start_seconds,
        )
    )
