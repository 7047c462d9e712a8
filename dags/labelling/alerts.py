"""Tell people what needs a person, in one line each that says what to do: LABELS_ALERTS names who is told.

An SNS topic is told through the amazon provider's notifier. Anything else is the import path of a function that takes the line
and returns an Airflow notifier, such as ``lambda line: SlackNotifier(text=line)``.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import Any

from airflow.providers.amazon.aws.notifications.sns import SnsNotifier

from include.errors import SettingsError
from include.settings import Settings, load_settings
from labelling.defaults import AWS_CONN_ID

log = logging.getLogger(__name__)

SUBJECT_CHARACTERS = 99  # of ASCII: https://docs.aws.amazon.com/sns/latest/api/API_Publish.html


def alert(context: Any, line: str) -> None:
    """Tell everyone who is to be told. One who cannot be told keeps neither the others nor the run from going on."""
    log.warning("Alert: %s", line)
    try:
        settings = load_settings()
    except SettingsError as err:
        log.error("Nobody could be told, since the settings do not say whom: %s", err)
        return
    for target in settings.alerts:
        try:
            # Not called as a function, which would render the line as a template: it may hold what a stranger has written.
            _notifier(target, line, settings).notify(context)
        except Exception:  # a notifier may raise anything
            log.exception("%s could not be told: %s", target, line)


def alert_of_failed_task(context: Any) -> None:
    """Task-level failure callback: the error's first line says what happened."""
    error = str(context.get("exception") or "its process was killed").split("\n")[0]
    alert(context, f"{context['dag'].dag_id}: {context['ti'].task_id} failed. {error}")


def alert_of_failed_run(context: Any) -> None:
    """Dag-level failure callback."""
    dag_id, run_id = context["dag"].dag_id, context["run_id"]
    alert(
        context,
        f"{dag_id}: run {run_id} failed. No image is lost: the next run takes up what is left. The log of its task report "
        "says what is incomplete.",
    )


def _notifier(target: str, line: str, settings: Settings) -> Any:
    if target.startswith("arn:"):
        subject = line.partition(". ")[0].encode("ascii", "replace").decode()[:SUBJECT_CHARACTERS]
        return SnsNotifier(
            aws_conn_id=AWS_CONN_ID, region_name=settings.region, target_arn=target, message=line, subject=subject
        )
    module, _, name = target.rpartition(".")
    return getattr(import_module(module), name)(line)
