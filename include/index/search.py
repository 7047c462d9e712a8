"""Search in an opened index: pages of images, facets, histograms, names of labels. Nothing else is asked, not even S3."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from include.index import database
from include.index.query import NUMBER, Filter, SearchError, Sql, candidates, from_cursor, matches, naive, to_cursor
from include.index.rows import image_id, label_ids
from include.schema import ANALYSIS

if TYPE_CHECKING:
    import duckdb

PAGE: Final = 60
MOST_A_PAGE: Final = 500
# Beyond that a count is "at least".
MOST_COUNTED: Final = 1_000_000
# Beyond that facets are of the newest matches.
MOST_IN_FACETS: Final = 100_000
VALUES_A_FACET: Final = 50
# Looked at before all others. Of two labels that a fiftieth of these have in common, a page is found here.
CANDIDATES: Final = 3_000
BIN: Final = 5  # points of confidence


@dataclass(frozen=True, slots=True)
class FoundLabel:
    """Confidence and threshold 0 to 100; the box as ratios of the image, to seven digits; None for a label of the whole image."""

    name: str
    confidence: float | None
    threshold: float | None
    passes: bool
    left: float | None
    top: float | None
    width: float | None
    height: float | None
    parents: tuple[str, ...]
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class FoundImage:
    """An image's newest row, all its labels with it. Times are UTC; ``came_at`` is what pages are sorted by."""

    analysis: str
    source_bucket: str
    source_key: str
    came_at: datetime
    event_time: datetime | None
    processed_at: datetime | None
    version_id: str | None
    etag: str | None
    size_bytes: int | None
    width_px: int | None
    height_px: int | None
    format: str | None
    exif_orientation: int | None
    origin: str | None
    run_id: str | None
    batch_id: str | None
    model_arn: str | None
    model_version: str | None
    status: str | None
    error_code: str | None
    error_message: str | None
    label_count: int
    max_confidence: float | None
    labels: tuple[FoundLabel, ...]


@dataclass(frozen=True, slots=True)
class Count:
    """How many of something; ``is_exact`` is False where it is at least that many."""

    images: int
    is_exact: bool = True


@dataclass(frozen=True, slots=True)
class Page:
    """``cursor`` asks for the next page; None at the end."""

    images: tuple[FoundImage, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class FacetValue:
    value: str | None
    images: int


@dataclass(frozen=True, slots=True)
class Facets:
    """Counts of images, the most frequent first, days the newest first. Labels are those that pass.

    ``of_newest``: counted among so many of the newest matches only; None where they are of all.
    """

    labels: tuple[FacetValue, ...]
    statuses: tuple[FacetValue, ...]
    days: tuple[FacetValue, ...]
    model_versions: tuple[FacetValue, ...]
    of_newest: int | None = None


@dataclass(frozen=True, slots=True)
class LabelName:
    """``images`` have it; on ``passing`` of them it passes its threshold."""

    name: str
    images: int
    passing: int


_COLUMNS: Final = ", ".join(["id", *(field.name for field in fields(FoundImage))])


class LabelIndex:
    """An opened index. May be asked from several threads at a time."""

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        self._con = con
        self._lock = threading.Lock()

    def close(self) -> None:
        """What is being asked in other threads ends first."""
        self._con.close()

    def page(self, asked: Filter, *, size: int = PAGE, cursor: str | None = None) -> Page:
        """Images that match, the newest first.

        :raises SearchError: a cursor that is none, or a size that is too large.
        """
        if not 1 <= size <= MOST_A_PAGE:
            raise SearchError(f"A page of {size:,} images cannot be: from 1 to {MOST_A_PAGE}.")
        places = self._newest(asked, size + 1, after=from_cursor(cursor) if cursor else None)
        shown = places[:size]
        if not shown:
            return Page((), None)
        listed = ", ".join([NUMBER] * len(shown))
        rows = self._ask(
            Sql(f"SELECT {_COLUMNS} FROM images WHERE id IN ({listed})", tuple(image for _, image in shown))
        )
        images = {row[0]: _image(row[1:]) for row in rows}
        is_last = len(places) <= size
        return Page(tuple(images[image] for _, image in shown), None if is_last else to_cursor(*shown[-1]))

    def count(self, asked: Filter) -> Count:
        """How many images match."""
        if asked.is_of_days:
            days = _days(asked)
            ((images,),) = self._ask(
                Sql(
                    f"SELECT coalesce(sum(images), 0) FROM image_days WHERE analysis = ? AND {days.text}",
                    (asked.analysis, *days.values),
                )
            )
            return Count(int(images))
        found = matches(asked, self._rarest_first(asked))
        ((images,),) = self._ask(Sql(f"SELECT count(*) FROM ({found.text} LIMIT {MOST_COUNTED + 1})", found.values))
        return Count(min(images, MOST_COUNTED), images <= MOST_COUNTED)

    def facets(self, asked: Filter) -> Facets:
        """What the matching images have in common, counted; of very many matches, of the newest ones."""
        if asked.is_of_days:
            return self._facets_of_days(asked)
        found = matches(asked, self._rarest_first(asked))
        newest = _in_order(found, MOST_IN_FACETS + 1)
        con = self._cursor()
        try:
            con.execute(f"CREATE OR REPLACE TEMP TABLE newest AS {newest.text}", newest.values).fetchall()
            ((images,),) = con.execute("SELECT count(*) FROM newest").fetchall()
            labels = con.execute(
                "SELECT name, c FROM (SELECT label, count(*) AS c FROM labels "
                f"WHERE best AND passes AND image IN (SELECT image FROM newest WHERE rowid < {MOST_IN_FACETS}) GROUP BY label) "
                f"JOIN names USING (label) ORDER BY c DESC, name LIMIT {VALUES_A_FACET}"
            ).fetchall()
            others = con.execute(
                "SELECT status, model_version, came_at::DATE, count(*) FROM images "
                f"WHERE id IN (SELECT image FROM newest WHERE rowid < {MOST_IN_FACETS}) GROUP BY ALL"
            ).fetchall()
        finally:
            con.close()
        return _facets(labels, others, MOST_IN_FACETS if images > MOST_IN_FACETS else None)

    def histogram(self, label: str, asked: Filter | None = None) -> tuple[int, ...]:
        """Boxes (or labels of the whole image) by their confidence, 20 bins of 5 points; those below the threshold, too.

        :param asked: among these images only.
        """
        asked = asked or Filter()
        (number,) = label_ids(asked.analysis, [label])
        among = Sql("true")
        if asked != Filter(analysis=asked.analysis):
            found = matches(asked, self._rarest_first(asked))
            among = Sql(f"image IN (SELECT image FROM ({found.text}))", found.values)
        bins = self._ask(
            Sql(
                f"SELECT least(floor(confidence / {BIN}), {100 // BIN - 1})::INT, count(*) FROM labels "
                f"WHERE label = {NUMBER} AND confidence BETWEEN 0 AND 100 AND {among.text} GROUP BY ALL",
                (number, *among.values),
            )
        )
        counted = dict(bins)
        return tuple(counted.get(number, 0) for number in range(100 // BIN))

    def names(self, prefix: str = "", *, analysis: str = ANALYSIS, limit: int = 20) -> tuple[LabelName, ...]:
        """Names of labels that begin so, in capitals or not; the most frequent first."""
        rows = self._ask(
            Sql(
                "SELECT name, images, passing FROM names WHERE analysis = ? AND starts_with(lower(name), lower(?)) "
                "ORDER BY passing DESC, images DESC, name LIMIT ?",
                (analysis, prefix, limit),
            )
        )
        return tuple(LabelName(*row) for row in rows)

    def image(self, bucket: str, key: str, *, analysis: str = ANALYSIS) -> FoundImage | None:
        """One image with all its labels; None where it was never analysed."""
        rows = self._ask(Sql(f"SELECT {_COLUMNS} FROM images WHERE id = {NUMBER}", (image_id(analysis, bucket, key),)))
        return _image(rows[0][1:]) if rows else None

    def _newest(self, asked: Filter, limit: int, *, after: tuple[int, int] | None) -> list[tuple[datetime, int]]:
        """The newest matches. Where several things must hold, among the newest candidates first: mostly these are enough."""
        numbers = self._rarest_first(asked)
        if first := candidates(asked, numbers, after=after):
            ((count, oldest),) = self._ask(
                Sql(
                    f"SELECT count(*), min(came_at) FROM ({first.text} ORDER BY came_at DESC LIMIT {CANDIDATES})",
                    first.values,
                )
            )
            if count == CANDIDATES:
                newest = replace(asked, since=oldest.replace(tzinfo=UTC))
                found = self._ask(_in_order(matches(newest, numbers, after=after), limit))
                if len(found) == limit:
                    return found
        return self._ask(_in_order(matches(asked, numbers, after=after), limit))

    def _facets_of_days(self, asked: Filter) -> Facets:
        days = _days(asked)
        labels = self._ask(
            Sql(
                f"SELECT name, sum(d.passing)::BIGINT AS c FROM label_days AS d JOIN names USING (label) "
                f"WHERE analysis = ? AND {days.text} GROUP BY name HAVING c > 0 ORDER BY c DESC, name LIMIT {VALUES_A_FACET}",
                (asked.analysis, *days.values),
            )
        )
        others = self._ask(
            Sql(
                f"SELECT status, model_version, day, sum(images)::BIGINT FROM image_days WHERE analysis = ? AND {days.text} "
                "GROUP BY ALL",
                (asked.analysis, *days.values),
            )
        )
        return _facets(labels, others, None)

    def _rarest_first(self, asked: Filter) -> list[int]:
        numbers = label_ids(asked.analysis, asked.labels)
        if len(numbers) < 2:
            return numbers
        known = self._ask(
            Sql(
                f"SELECT label, images FROM names WHERE label IN ({', '.join([NUMBER] * len(numbers))})", tuple(numbers)
            )
        )
        images = dict(known)
        return sorted(numbers, key=lambda number: (images.get(number, 0), number))

    def _ask(self, query: Sql) -> list[tuple[Any, ...]]:
        con = self._cursor()
        try:
            found: list[tuple[Any, ...]] = con.execute(query.text, query.values).fetchall()
            return found
        finally:
            con.close()

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        with self._lock:
            return self._con.cursor()


def open_index(
    path: Path, *, threads: int = database.THREADS, memory_mb: int = database.READER_MEMORY_MB
) -> LabelIndex:
    """Open a fetched index to read.

    :raises IndexUnusableError: it is none, or of another version.
    """
    return LabelIndex(database.open_to_read(path, threads=threads, memory_mb=memory_mb))


def _in_order(found: Sql, limit: int) -> Sql:
    return Sql(f"{found.text} ORDER BY came_at DESC, image DESC LIMIT {limit}", found.values)


def _days(asked: Filter) -> Sql:
    bounds = (("day >= ?", asked.since), ("day < ?", asked.until))
    found = [(text, naive(moment).date()) for text, moment in bounds if moment]
    return Sql(" AND ".join(["true", *(text for text, _ in found)]), tuple(day for _, day in found))


def _facets(
    labels: Sequence[tuple[Any, ...]], others: Sequence[tuple[str | None, str | None, date, int]], of_newest: int | None
) -> Facets:
    return Facets(
        labels=tuple(FacetValue(name, images) for name, images in labels),
        statuses=_summed((row[0], row[3]) for row in others),
        days=tuple(
            sorted(
                _summed((row[2].isoformat(), row[3]) for row in others), key=lambda each: each.value or "", reverse=True
            )
        ),
        model_versions=_summed((row[1], row[3]) for row in others),
        of_newest=of_newest,
    )


def _summed(counted: Iterable[tuple[str | None, int]]) -> tuple[FacetValue, ...]:
    sums: dict[str | None, int] = {}
    for value, images in counted:
        sums[value] = sums.get(value, 0) + images
    return tuple(FacetValue(*each) for each in sorted(sums.items(), key=lambda each: (-each[1], each[0] or "")))


def _image(row: Sequence[Any]) -> FoundImage:
    values = dict(zip((field.name for field in fields(FoundImage)), row, strict=True))
    for name in ("came_at", "event_time", "processed_at"):
        values[name] = values[name].replace(tzinfo=UTC) if values[name] else None
    values["labels"] = tuple(
        FoundLabel(
            **{field.name: label[field.name] for field in fields(FoundLabel)}
            | {"parents": tuple(label["parents"] or ()), "attributes": dict(label["attributes"] or {})}
        )
        for label in values["labels"] or ()
    )
    return FoundImage(**values)
