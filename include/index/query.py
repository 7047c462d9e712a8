"""What people ask for, as SQL: names of tables and columns are ours, every value is bound."""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from include.errors import TerminalError
from include.index.rows import label_ids
from include.schema import ANALYSIS

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
FULL_RANGE: Final = (0.0, 100.0)
# Uncast, a number of 64 bits is compared as one of 128, which no index and no bound of a row group helps with.
NUMBER: Final = "?::UBIGINT"
_CURSOR: Final = struct.Struct(">qQ")


class SearchError(TerminalError):
    """Raised when a search asks for what cannot be: the message says what, and what can."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which images; everything that is given must hold.

    A label counts where it passes its threshold, unless ``below_threshold`` takes the others, too. ``since`` (inclusive) and
    ``until`` (exclusive) are of the moment an image came into its bucket (``event_time``), so that nothing changes its place
    when it is labelled again; where nobody noted it, of ``processed_at``. Images without a label are looked for among
    those that were labelled: of the others nobody knows.

    :param labels: an image has all of these, each within the range of confidence (0 to 100).
    :param without: and none of these, whatever their confidence.
    :param nothing: labelled, and no label passes.
    :param prefix: of the key.
    """

    labels: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    nothing: bool = False
    min_confidence: float = 0.0
    max_confidence: float = 100.0
    below_threshold: bool = False
    since: datetime | None = None
    until: datetime | None = None
    prefix: str = ""
    bucket: str | None = None
    status: str | None = None
    model_version: str | None = None
    analysis: str = ANALYSIS

    def __post_init__(self) -> None:
        if not 0 <= self.min_confidence <= self.max_confidence <= 100:
            raise SearchError(
                f"No confidence lies between {self.min_confidence} and {self.max_confidence}: give two numbers from 0 to 100."
            )
        texts = (*self.labels, *self.without, self.prefix, self.bucket, self.status, self.model_version, self.analysis)
        if halves := [text for text in texts if text and is_half(text)]:
            raise SearchError(f"{halves[0]!r} holds half a character, as no name does.")
        for name, moment in (("since", self.since), ("until", self.until)):
            if moment is not None and moment.tzinfo is None:
                raise SearchError(f"{name} {moment} has no time zone: give one, such as {moment}+00:00.")

    @property
    def is_of_days(self) -> bool:
        """Whether it asks for days (and the analysis) only: then roll-ups know the answer."""
        moments = [moment for moment in (self.since, self.until) if moment]
        whole = all((moment - EPOCH) % timedelta(days=1) == timedelta(0) for moment in moments)
        return whole and Filter(since=self.since, until=self.until, analysis=self.analysis) == self


def is_half(text: str) -> bool:
    """Whether half a character is in it: bytes of a shell that are no UTF-8, or a pair that was cut."""
    return text != text.encode(errors="replace").decode()


@dataclass(frozen=True, slots=True)
class Sql:
    """A piece of SQL and the values of its question marks, in order."""

    text: str
    values: tuple[Any, ...] = ()


def all_of(conditions: Iterable[Sql]) -> Sql:
    listed = list(conditions)
    if not listed:
        return Sql("true")
    return Sql(" AND ".join(each.text for each in listed), tuple(value for each in listed for value in each.values))


def matches(asked: Filter, rarest_first: list[int], *, after: tuple[int, int] | None = None) -> Sql:
    """A SELECT of ``came_at`` and ``image``, each image once.

    Of several labels the rarest is looked up first. Without any label the images themselves are.

    :param rarest_first: the numbers of ``asked.labels``.
    :param after: the last row of the page before: only what comes after it, newest first.
    """
    of_images = all_of(_of_images(asked))
    unwanted = [
        Sql(f"{{image}} NOT IN (SELECT image FROM labels WHERE {condition.text})", condition.values)
        for condition in (_has_label(asked, number, FULL_RANGE) for number in label_ids(asked.analysis, asked.without))
    ]
    if not rarest_first:
        found = all_of([of_images, *unwanted, *_after(after, "id")])
        return Sql(f"SELECT came_at, id AS image FROM images WHERE {found.text.format(image='id')}", found.values)
    within = (asked.min_confidence, asked.max_confidence)
    first, *others = (_has_label(asked, number, within) for number in rarest_first)
    conditions = [first, *unwanted, *_after(after, "image")]
    conditions += [Sql(f"image IN (SELECT image FROM labels WHERE {each.text})", each.values) for each in others]
    if _asks_of_images(asked):
        conditions.append(Sql(f"image IN (SELECT id FROM images WHERE {of_images.text})", of_images.values))
    found = all_of(conditions)
    # Within a range of confidence, several boxes of one image may match; else its best label stands for it.
    once = "" if "best" in first.text else "DISTINCT "
    return Sql(f"SELECT {once}came_at, image FROM labels WHERE {found.text.format(image='image')}", found.values)


def candidates(asked: Filter, rarest_first: list[int], *, after: tuple[int, int] | None = None) -> Sql | None:
    """What one table alone says of ``matches``: these and more. None where hardly anything else is to be looked up."""
    if len(rarest_first) < 2 and not (rarest_first and _asks_of_images(asked)):
        return None
    alone = Filter(since=asked.since, until=asked.until, below_threshold=asked.below_threshold, analysis=asked.analysis)
    return matches(alone, rarest_first[:1], after=after)


def _has_label(asked: Filter, number: int, confidence: tuple[float, float]) -> Sql:
    conditions = [Sql(f"label = {NUMBER}", (number,))]
    if not asked.below_threshold:
        conditions.append(Sql("passes"))
    if confidence == FULL_RANGE or (confidence[1] == FULL_RANGE[1] and not asked.below_threshold):
        conditions.append(Sql("best"))  # if any box is confident enough, the best one is
    if confidence != FULL_RANGE:
        conditions.append(Sql("confidence BETWEEN ? AND ?", confidence))
    return all_of([*conditions, *_of_moments(asked)])


def _of_images(asked: Filter) -> list[Sql]:
    """Conditions that only ``images`` can answer."""
    conditions = [Sql("analysis = ?", (asked.analysis,))]
    for column, value in (
        ("source_bucket", asked.bucket),
        ("status", asked.status),
        ("model_version", asked.model_version),
    ):
        if value is not None:
            conditions.append(Sql(f"{column} = ?", (value,)))
    if asked.prefix:
        conditions.append(Sql("starts_with(source_key, ?)", (asked.prefix,)))
    if asked.nothing or asked.without:
        conditions.append(Sql("status = 'LABELLED'"))
    if asked.nothing:
        conditions.append(Sql("label_count = 0"))
    return [*conditions, *_of_moments(asked)]


def _asks_of_images(asked: Filter) -> bool:
    # What has a label was labelled: `without` asks nothing more of it.
    return bool(asked.bucket is not None or asked.status or asked.model_version or asked.prefix or asked.nothing)


def _of_moments(asked: Filter) -> list[Sql]:
    """Wherever something is looked up: an image's moment stands in all of its rows, and the fewer rows the better."""
    bounds = (("came_at >= ?", asked.since), ("came_at < ?", asked.until))
    return [Sql(text, (naive(moment),)) for text, moment in bounds if moment is not None]


def _after(place: tuple[int, int] | None, image: str) -> list[Sql]:
    if place is None:
        return []
    moment = naive(EPOCH + place[0] * MICROSECOND)
    return [Sql(f"came_at <= ? AND (came_at < ? OR {image} < {NUMBER})", (moment, moment, place[1]))]


def naive(moment: datetime) -> datetime:
    """UTC without saying so, as the index holds times."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def to_cursor(came_at: datetime, image: int) -> str:
    """Where a page ends, for whoever asks for the next one: it stays good when the index is renewed."""
    packed = _CURSOR.pack((came_at.replace(tzinfo=UTC) - EPOCH) // MICROSECOND, image)
    return base64.urlsafe_b64encode(packed + zlib.crc32(packed).to_bytes(4, "big")).decode()


def from_cursor(cursor: str) -> tuple[int, int]:
    """:raises SearchError: it is none that a page ended with."""
    try:
        raw = base64.b64decode(cursor.encode(), altchars=b"-_", validate=True)
        packed, checksum = raw[:-4], raw[-4:]
        if zlib.crc32(packed).to_bytes(4, "big") != checksum:
            raise ValueError("checksum")
        came_at, image = _CURSOR.unpack(packed)
        naive(EPOCH + came_at * MICROSECOND)  # a moment that there is
    except (binascii.Error, ValueError, OverflowError, struct.error) as err:
        raise SearchError(
            f"{cursor[:80]!r} is no place to go on from: leave it out to begin with the first page."
        ) from err
    return came_at, image
