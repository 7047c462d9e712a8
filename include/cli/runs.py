"""What the runs have done and cost: a row each, and the totals.

A run writes its row when it ends, so a run under way has none, and what holds, crashed runs and people in the console cost beside
them stands in no row. Dollars are of begun minutes, as AWS bills them. Days and months are UTC.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from include.cli.arguments import add_command, count, day, month
from include.cli.clients import client
from include.cli.model_by_hand import ON
from include.cli.output import Answer, line, table
from include.ledger import read_runs
from include.schema import RunReport
from include.settings import load_settings

if TYPE_CHECKING:
    from include.cli.arguments import Commands

LAST = 20
EXAMPLES = """examples:
  runs                     the last 20
  runs --month 2026-03     all of March, with its total
  runs --since 2026-03-14  from that day on
  --json runs --last 1     the newest row, every column of it
"""


def add(commands: Commands) -> None:
    added = add_command(commands, "runs", show, __doc__, examples=EXAMPLES)
    which = added.add_mutually_exclusive_group()
    which.add_argument("--last", type=count, metavar="N", help=f"the newest N (default: {LAST})")
    which.add_argument("--since", type=day, metavar="YYYY-MM-DD", help="those that began on this day or later")
    which.add_argument("--month", type=month, metavar="YYYY-MM", help="those that began in this month")


def show(chosen: argparse.Namespace) -> Answer:
    settings = load_settings()
    last = chosen.last or (None if chosen.since or chosen.month else LAST)
    found = read_runs(
        client("s3", settings),
        settings.final_bucket,
        last=last,
        since=chosen.since or "",
        month=chosen.month or "",
        threads=settings.threads,
    )
    totals = _totals(found.runs)
    document = {"runs": [asdict(run) for run in found.runs], "totals": totals, "unreadable": list(found.unreadable)}
    shown: list[Text | Table] = [line("No such run.")]
    if found.runs:
        shown = [_table(found.runs), line(""), line(_in_words(totals))]
    if found.unreadable:
        shown += [line(f"s3://{settings.final_bucket}/{key} is no row of runs: left out.") for key in found.unreadable]
    return Answer(document, shown, status=1 if found.unreadable else 0)


def _totals(runs: Sequence[RunReport]) -> dict[str, Any]:
    labelled = sum(run.labelled for run in runs)
    cost = round(sum(run.cost_usd for run in runs), 4)
    return {
        "runs": len(runs),
        "starts": sum(run.inference_units > 0 for run in runs),
        "images": sum(run.images for run in runs),
        "labelled": labelled,
        "model_minutes": round(sum(run.model_running_seconds for run in runs) / 60, 2),
        "cost_usd": cost,
        "cost_usd_per_thousand_images": round(cost / labelled * 1_000, 4) if labelled else None,
    }


def _in_words(totals: dict[str, Any]) -> str:
    each = totals["cost_usd_per_thousand_images"]
    return (
        f"{totals['runs']:,} runs, {totals['starts']:,} of them started the model: {totals['images']:,} images, "
        f"{totals['labelled']:,} labelled; {totals['model_minutes']:,.1f} model minutes, ${totals['cost_usd']:,.2f}"
        + (f", ${each:,.2f} for a thousand labelled images." if each is not None else ".")
    )


def _table(runs: Sequence[RunReport]) -> Table:
    numbers = ("images", "labelled", "others", "units", "minutes", "used", "$", "$/1,000")
    return table(
        "began (UTC)",
        *numbers,
        "run",
        right=numbers,
        whole=("began (UTC)",),
        rows=[
            (
                f"{run.started_at:%Y-%m-%d %H:%M}",
                f"{run.images:,}",
                f"{run.labelled:,}",
                f"{run.rejected + run.failed + run.missing:,}",
                run.inference_units or None,
                f"{run.model_running_seconds / 60:.1f}",
                f"{run.utilisation:.0%}" if run.utilisation is not None else None,
                f"{run.cost_usd:.2f}",
                f"{run.cost_usd_per_thousand_images:.2f}" if run.cost_usd_per_thousand_images is not None else None,
                run.run_id + (f" (left the model {run.model_final_status})" if run.model_final_status in ON else ""),
            )
            for run in runs
        ],
    )
