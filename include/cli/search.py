"""Find images by their labels, in the label index: newest first, with counts of what else they have in common.

All that is given must hold. A label counts where it passes its threshold, unless --below-threshold is given; dates are of the
upload (UTC). The index is kept in a folder of your own, and fetched again only when there is a newer one.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from include.cli.arguments import add_command, count, day
from include.cli.clients import client
from include.cli.output import Answer, line, table
from include.index.published import fetch_index
from include.index.query import Filter
from include.index.search import MOST_A_PAGE, Facets, FoundImage, LabelIndex, open_index
from include.schema import ANALYSIS
from include.settings import load_settings

if TYPE_CHECKING:
    from include.cli.arguments import Commands

LIMIT = 20
SHOWN_VALUES = 10
SHOWN_LABELS = 5
EXAMPLES = """examples:
  search --label mug --not bottle                 with a mug, without a bottle
  search --label mug --min-confidence 80 --facets and what else is on them
  search --none --since 2026-11-01 --prefix a/b   labelled, and nothing passes
  search --status FAILED --limit 100              what could not be labelled
  search --names mu                               labels that begin so
  --json search --label mug                       every column, all labels and boxes
"""


def add(commands: Commands) -> None:
    added = add_command(commands, "search", search, __doc__, examples=EXAMPLES)
    added.add_argument(
        "--label", action="append", default=[], metavar="NAME", help="has this label; several: all of them"
    )
    added.add_argument(
        "--not", action="append", default=[], dest="without", metavar="NAME", help="does not have this label"
    )
    added.add_argument("--none", action="store_true", help="labelled, and no label passes its threshold")
    added.add_argument("--min-confidence", type=confidence, default=0.0, metavar="N", help="of the labels, 0 to 100")
    added.add_argument("--max-confidence", type=confidence, default=100.0, metavar="N", help="of the labels, 0 to 100")
    added.add_argument("--below-threshold", action="store_true", help="labels that do not pass their threshold, too")
    added.add_argument("--since", type=day, metavar="YYYY-MM-DD", help="uploaded on this day or later")
    added.add_argument("--until", type=day, metavar="YYYY-MM-DD", help="uploaded on this day or earlier")
    added.add_argument("--prefix", default="", help="of the key")
    added.add_argument("--bucket", help="the bucket that they came from")
    added.add_argument("--status", choices=["LABELLED", "REJECTED", "MISSING", "FAILED"])
    added.add_argument("--model-version", metavar="NAME", help="labelled by this version of the model")
    added.add_argument("--analysis", default=ANALYSIS, help="default: %(default)s")
    added.add_argument(
        "--limit", type=count, default=LIMIT, metavar="N", help=f"up to {MOST_A_PAGE} (default: {LIMIT})"
    )
    added.add_argument("--cursor", help="go on where a page ended")
    added.add_argument("--facets", action="store_true", help="labels, statuses, days and models of all that match")
    added.add_argument("--names", metavar="PREFIX", help="instead of images: names of labels that begin so")
    added.add_argument("--folder", type=Path, default=_folder(), help="where the index is kept (default: %(default)s)")


def confidence(text: str) -> float:
    """A number from 0 to 100."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 100")
    return value


def search(chosen: argparse.Namespace) -> Answer:
    settings = load_settings()
    asked = _filter(chosen)
    path = fetch_index(client("s3", settings), settings.final_bucket, chosen.folder / settings.final_bucket)
    with closing(open_index(path)) as index:
        return _names(index, chosen) if chosen.names is not None else _images(index, chosen, asked)


def _filter(chosen: argparse.Namespace) -> Filter:
    asked = Filter(
        labels=tuple(chosen.label),
        without=tuple(chosen.without),
        nothing=chosen.none,
        min_confidence=chosen.min_confidence,
        max_confidence=chosen.max_confidence,
        below_threshold=chosen.below_threshold,
        prefix=chosen.prefix,
        bucket=chosen.bucket,
        status=chosen.status,
        model_version=chosen.model_version,
        analysis=chosen.analysis,
    )
    if chosen.since:
        asked = replace(asked, since=_midnight(chosen.since))
    return replace(asked, until=_midnight(chosen.until) + timedelta(days=1)) if chosen.until else asked


def _images(index: LabelIndex, chosen: argparse.Namespace, asked: Filter) -> Answer:
    page, found = index.page(asked, size=chosen.limit, cursor=chosen.cursor), index.count(asked)
    facets = index.facets(asked) if chosen.facets else None
    document: dict[str, Any] = {
        "images": [asdict(image) for image in page.images],
        "count": found.images,
        "count_is_exact": found.is_exact,
        "cursor": page.cursor,
    }
    at_least = "" if found.is_exact else "at least "
    shown: list[Text | Table] = [line(f"{at_least}{found.images:,} images; {len(page.images):,} of them:")]
    shown = [*shown, _table(page.images)] if page.images else [line("No such image.")]
    if page.cursor:
        shown.append(line(f"The next ones: --cursor {page.cursor}"))
    if facets:
        document["facets"] = asdict(facets)
        shown += _in_tables(facets)
    return Answer(document, shown)


def _names(index: LabelIndex, chosen: argparse.Namespace) -> Answer:
    names = index.names(chosen.names, analysis=chosen.analysis, limit=chosen.limit)
    rows = [(each.name, f"{each.passing:,}", f"{each.images:,}") for each in names]
    numbers = ("images", "with those below the threshold")
    return Answer({"names": [asdict(each) for each in names]}, [table("label", *numbers, right=numbers, rows=rows)])


def _table(images: Sequence[FoundImage]) -> Table:
    return table(
        "uploaded (UTC)",
        "image",
        "labels",
        whole=("uploaded (UTC)",),
        rows=[
            (f"{image.came_at:%Y-%m-%d %H:%M}", f"s3://{image.source_bucket}/{image.source_key}", _in_words(image))
            for image in images
        ],
    )


def _in_words(image: FoundImage) -> str:
    """Its labels, or why it has none."""
    if image.status != "LABELLED":
        return " ".join(filter(None, (image.status, image.error_code)))
    passing = [f"{label.name} {label.confidence or 0:.0f}" for label in image.labels if label.passes]
    more = f" and {len(passing) - SHOWN_LABELS} more" if len(passing) > SHOWN_LABELS else ""
    return ", ".join(passing[:SHOWN_LABELS]) + more if passing else "-"


def _in_tables(facets: Facets) -> list[Text | Table]:
    shown: list[Text | Table] = []
    if facets.of_newest:
        shown.append(line(f"Counted among the newest {facets.of_newest:,} of them:"))
    for name, values in (
        ("label", facets.labels),
        ("status", facets.statuses),
        ("day", facets.days),
        ("model version", facets.model_versions),
    ):
        rows = [(each.value, f"{each.images:,}") for each in values[:SHOWN_VALUES]]
        shown += [line(""), table(name, "images", right=("images",), rows=rows)]
    return shown


def _midnight(of_day: str) -> datetime:
    return datetime.fromisoformat(of_day).replace(tzinfo=UTC)


def _folder() -> Path:
    """https://specifications.freedesktop.org/basedir-spec/latest/"""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "label-index"
