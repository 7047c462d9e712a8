"""A plan of an archive backfill: exactly these images, at this price. Made once, read by a person, then queued or not.

In the final bucket, the last one being the commit (a plan without it does not exist)::

    archives/<archive_id>/plan/part-NNNNN.parquet   the images, as FOUND
    archives/<archive_id>/broken_lines.csv          lines of a list that were passed over
    archives/<archive_id>/plan.json                 Plan
"""

from __future__ import annotations

import io
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from include import objects
from include.archive.estimate import estimate
from include.archive.filters import Filter, build_filters, keep
from include.archive.found import Skipped
from include.archive.parts import Parts, Progress, broken_lines_key, plan_key
from include.archive.published import Known, read_published, selected
from include.archive.request import FOUND, ArchiveRequest
from include.archive.source import Source, check_readable, open_source
from include.archive.uri_list import BROKEN
from include.errors import SelectionError, TransientError
from include.images import ImageRef
from include.model_state import ModelState
from include.settings import PREFIX, Settings


@dataclass(frozen=True, slots=True)
class Plan:
    """What an archive backfill would queue. ``found`` = ``images`` + everything in ``skipped`` (reason -> count).

    ``parts`` are the keys of the Parquet files with the images. ``is_cut``: the limit was reached before the source's end,
    so more may lie behind. What follows it is an ``Estimate``'s.
    """

    archive_id: str
    request: ArchiveRequest
    planned_at: datetime
    found: int
    images: int
    size_bytes: int
    skipped: dict[str, int]
    parts: tuple[str, ...]
    is_cut: bool
    images_per_second: float
    is_measured: bool
    inference_units: int
    inference_unit_hours: float
    cost_usd: float
    hours: float
    monthly_budget_usd: float | None
    days_within_budget: float | None

    def to_json(self) -> bytes:
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        fields |= {"request": self.request.model_dump(mode="json")}
        return json.dumps(fields, default=datetime.isoformat, indent=1, sort_keys=True, ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, body: bytes) -> Plan:
        fields = json.loads(body)
        return cls(
            **fields
            | {
                "request": ArchiveRequest(**fields["request"]),
                "planned_at": datetime.fromisoformat(fields["planned_at"]),
                "parts": tuple(fields["parts"]),
            }
        )


def read_plan(s3: Any, bucket: str, archive_id: str) -> Plan | None:
    """The plan, or None where there is none (yet)."""
    found = objects.read(s3, bucket, plan_key(archive_id))
    return Plan.from_json(found[0]) if found else None


def read_part(s3: Any, bucket: str, key: str, *, force: bool = False) -> list[ImageRef]:
    """The images of one part of a plan.

    :param force: label them whether or not they have a result (``request.relabels``).
    """
    found = objects.read(s3, bucket, key)
    if found is None:
        raise SelectionError(f"s3://{bucket}/{key} has gone: the plan is not whole any more. Plan again.")
    table = pq.read_table(io.BytesIO(found[0]), schema=FOUND)
    rows = zip(*(table[name].to_pylist() for name in ("bucket", "key", "etag", "modified", "size_bytes")), strict=True)
    return [
        ImageRef(where, name, etag, modified, size_bytes=size, origin="archive", force=force)
        for where, name, etag, modified, size in rows
    ]


def plan_archive(
    s3: Any,
    settings: Settings,
    request: ArchiveRequest,
    *,
    archive_id: str,
    now: datetime,
    model_state: ModelState,
    month_cost_usd: float,
    monotonic: Callable[[], float] = time.monotonic,
) -> Plan:
    """Find the images of an archive, choose those that are asked for, and write them down. Nothing is queued.

    A repeated call finds the plan that is there.

    :raises SelectionError: where the source is not what the request says; then there is no plan.
    """
    bucket = settings.final_bucket
    known_plan = read_plan(s3, bucket, archive_id)
    if known_plan:
        return _same(known_plan, request)
    filters = build_filters(request)
    skipped: Skipped = Counter()
    progress = Progress(monotonic)
    parts = Parts(s3, bucket, archive_id)
    with open_source(s3, settings, request, skipped) as source:
        known = read_published(
            s3,
            bucket,
            model_arn=settings.project_version_arn,
            select=request.select,
            threads=settings.threads,
            said=lambda rows: progress.say("%s published results read", rows),
        )
        is_cut = False
        for table in _chosen(source, filters, request, known, skipped):
            if not parts.images and table.num_rows:
                check_readable(s3, *(table[name][0].as_py() for name in ("bucket", "key")))
            room = (request.limit or parts.images + table.num_rows) - parts.images
            skipped[f"beyond the limit of {request.limit or 0:,}"] += max(0, table.num_rows - room)
            parts.add(table.slice(0, room))
            progress.say("%s images found, %s of them chosen", parts.images + skipped.total(), parts.images)
            if request.limit and parts.images >= request.limit:
                is_cut = True
                break
        if source.listed and source.listed.broken.count:
            source.listed.refuse_broken_lines()
            skipped[BROKEN] = source.listed.broken.count
            s3.put_object(Bucket=bucket, Key=broken_lines_key(archive_id), Body=source.listed.broken.to_csv())
        if not parts.images and not skipped.total():
            raise SelectionError(source.nothing)
        parts.close()
    plan = Plan(
        archive_id=archive_id,
        request=request,
        planned_at=now,
        found=parts.images + skipped.total(),
        images=parts.images,
        size_bytes=parts.size_bytes,
        skipped=dict(+skipped),
        parts=tuple(parts.keys),
        is_cut=is_cut,
        **asdict(estimate(parts.images, model_state, settings, now=now, month_cost_usd=month_cost_usd)),
    )
    if objects.write_if(s3, bucket, plan_key(archive_id), plan.to_json(), etag=None):
        return plan
    raise TransientError(
        f"Archive {archive_id} has been planned by somebody else meanwhile: ask again, and it is found."
    )


def _same(plan: Plan, request: ArchiveRequest) -> Plan:
    if plan.request != request:
        raise SelectionError(
            f"Archive {plan.archive_id} was planned on {plan.planned_at:%Y-%m-%d %H:%M} for something else. Use another name."
        )
    return plan


def _chosen(
    source: Source, filters: Sequence[Filter], request: ArchiveRequest, known: Known, skipped: Skipped
) -> Iterator[pa.Table]:
    for table in source.tables:
        yield selected(keep(table, filters, skipped), known, request.select, skipped)


def in_words(plan: Plan, *, is_dry_run: bool = True) -> str:
    """The plan as a person reads it before anything is paid for."""
    lines = [
        f"Archive {plan.archive_id}: {plan.images:,} of {plan.found:,} images found are chosen, {_size(plan.size_bytes)}.",
        f"  Looked for: {plan.request.source} {plan.request.uri}, select={plan.request.select}",
    ]
    lines += [f"  {count:>13,} left out: {reason}" for reason, count in _largest_first(plan.skipped)]
    if plan.is_cut:
        lines.append(f"  The search ended at the limit of {plan.request.limit:,}; more may lie behind.")
    if not plan.images:
        return "\n".join([*lines, "Nothing is left to label."])
    origin = "as measured before" if plan.is_measured else "assumed until measured"
    rate = f"{plan.images_per_second:.1f} images a second and unit, {origin}"
    lines.append(
        f"  Takes {plan.inference_unit_hours:,.1f} inference-unit hours ({rate}): about ${plan.cost_usd:,.2f}."
    )
    units = f"{plan.inference_units} inference unit{'s' * (plan.inference_units > 1)}"
    lines.append(f"  With {units} at once: {_duration(plan.hours)} of model time.")
    lines += _budget(plan)
    if BROKEN in plan.skipped:
        lines.append(
            f"  The broken lines, with their numbers: {broken_lines_key(plan.archive_id)} in the final bucket."
        )
    if is_dry_run:
        lines.append(
            "Nothing was queued. To queue exactly these images: trigger backfill_archive without dry run and with "
            f"plan={plan.archive_id}"
        )
    return "\n".join(lines)


def _budget(plan: Plan) -> list[str]:
    if plan.monthly_budget_usd is None:
        return []
    budget = f"{PREFIX}MONTHLY_BUDGET_USD={plan.monthly_budget_usd:g}"
    if plan.days_within_budget is None:
        return [f"  {budget} lets none of it through."]
    return [f"  Within {budget}, and with nothing else to label: {_counted_days(plan.days_within_budget)}."]


def _counted_days(days: float) -> str:
    return "a day" if days <= 1 else f"{math.ceil(days):,} days"


def _duration(hours: float) -> str:
    return f"{hours:,.1f} hours" if hours >= 1 else f"some {max(2, math.ceil(hours * 60))} minutes"


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:,.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:,.1f} MB"


def _largest_first(skipped: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(skipped.items(), key=lambda item: (-item[1], item[0]))
