"""The two steps of an archive backfill as tasks: plan it, which changes nothing but is kept, and queue what was planned."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from functools import partial
from typing import Any

from airflow.sdk import get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException

from include import model
from include.access import check_access
from include.archive.archives import Archive, queue_archive
from include.archive.plan import in_words, plan_archive, read_part, read_plan
from include.archive.request import ArchiveRequest, archive_id, parse_request
from include.decide import batch_size
from include.errors import SelectionError
from include.ledger import month_cost_usd
from include.settings import load_settings
from labelling.clients import client
from labelling.model_session import model_state

log = logging.getLogger(__name__)

NOT_OF_THE_REQUEST = ("name", "plan", "dry_run")


@task
def plan() -> str:
    """Find, select and count an archive's images; the plan's id. A plan that was asked for by its id is only read."""
    context, settings = get_current_context(), load_settings()
    s3, params = client("s3", settings), dict(context["params"])
    if params["plan"]:
        found = read_plan(s3, settings.final_bucket, params["plan"])
        if found is None:
            raise SelectionError(f"There is no plan {params['plan']!r}: take the id that a dry run's log ends with.")
    else:
        check_access(s3, client("sqs", settings), settings)
        # A plan for a model that does not exist would be priced in vain.
        model.describe(client("rekognition", settings), project_arn=settings.project_arn, name=settings.model)
        request = _request(context, params)
        now = datetime.now(UTC)
        found = plan_archive(
            s3,
            settings,
            request,
            # A task that is repeated goes on with its run's plan.
            archive_id=archive_id(params["name"] or _name(request), now=context["dag_run"].start_date or now),
            now=now,
            model_state=model_state(settings).read(),
            month_cost_usd=month_cost_usd(s3, settings.final_bucket, now=now, threads=settings.threads),
        )
    log.info(in_words(found, is_dry_run=params["dry_run"]))
    return found.archive_id


@task
def queue(plan_id: str) -> str:
    """Write the batches of a plan, unless it was a dry run; the archive's id."""
    settings = load_settings()
    if get_current_context()["params"]["dry_run"]:
        raise AirflowSkipException("Dry run: nothing was queued.")
    s3 = client("s3", settings)
    found = read_plan(s3, settings.final_bucket, plan_id)
    if found is None:
        raise SelectionError(f"There is no plan {plan_id!r} any more.")
    if not found.images:
        raise AirflowSkipException("The plan holds no images: nothing was queued.")
    archive = Archive(
        archive_id=found.archive_id,
        source=found.request.uri,
        queued_at=datetime.now(UTC),
        images=found.images,
        size_bytes=found.size_bytes,
        batch_size=batch_size(found.images, model_state(settings).read(), settings),
    )
    parts = [partial(read_part, s3, settings.final_bucket, part, force=found.request.relabels) for part in found.parts]
    return queue_archive(s3, settings, archive, parts).archive_id


def _request(context: Any, params: dict[str, Any]) -> ArchiveRequest:
    """What the form says; a backfill's run adds its interval.

    :raises SelectionError: naming every field that is wrong.
    """
    fields = {name: value for name, value in params.items() if name not in NOT_OF_THE_REQUEST}
    if context["dag_run"].run_type == "backfill":
        start, end = context["data_interval_start"], context["data_interval_end"]
        fields |= {"modified_from": start, "modified_until": end, "uri": _dated(fields["uri"], start)}
        params["name"] = f"{params['name'] or 'day'}_{start:%Y%m%d}"  # many begin in the same second
    return parse_request(**fields | {"uri": fields["uri"] or ""})


def _dated(uri: str | None, day: Any) -> str:
    try:
        return (uri or "").format(date=day) if "{date" in (uri or "") else uri or ""
    except (ValueError, KeyError, IndexError) as err:
        raise SelectionError(f"{uri!r}: {{date:%Y/%m/%d}} is the only thing that braces may hold ({err}).") from err


def _name(request: ArchiveRequest) -> str:
    """The last two names of where the images are told."""
    return "_".join(request.uri.removeprefix("s3://").rstrip("/").removesuffix("/manifest.json").split("/")[-2:])
