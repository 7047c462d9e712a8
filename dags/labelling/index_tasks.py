"""The label index, after each run.

XCom carries counts.
"""

from __future__ import annotations

import logging
from typing import Any

from airflow.sdk import get_current_context, task

from include.index.refresh import refresh_index
from include.settings import load_settings
from labelling.clients import client
from labelling.tasks import now_utc

log = logging.getLogger(__name__)


@task(multiple_outputs=False)
def refresh() -> dict[str, Any]:
    """Publish an index of all results; what it holds, and how much was read for it.

    :raises ResultsError: naming a file of results that cannot be read.
    :raises IndexWrongError: what was made does not add up, and was not published.
    """
    settings, rebuild = load_settings(), bool(get_current_context()["params"]["rebuild"])
    done = refresh_index(
        client("s3", settings),
        settings.final_bucket,
        now=now_utc(),
        threads=settings.threads,
        rebuild=rebuild,
        verify=rebuild,
    )
    log.info(done.in_words())
    return {
        "images": done.pointer.images,
        "labels": done.pointer.labels,
        "files_read": done.files,
        "rows_read": done.rows,
    }
