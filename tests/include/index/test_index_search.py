"""What people find: the searches themselves, on a few images whose answers can be counted by hand."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.index import query, search
from include.index.published import fetch_index
from include.index.query import Filter, SearchError
from include.index.refresh import refresh_index
from include.index.search import FacetValue, LabelIndex, open_index
from tests.include.index.conftest import Opened, Refresh
from tests.include.index.published_results import NOON, label, publish, row
from tests.include.memory_s3 import MemoryS3
from tests.include.samples import FINAL, NOW

ROWS = [
    row("a/1.jpg", label("mug", 95.0), label("mug", 60.0), label("bottle", 80.0), minutes=1),
    row("a/2.jpg", label("mug", 85.0), label("plate", 30.0), minutes=2),
    row("b/3.jpg", label("bottle", 99.0), minutes=3, model_version="shop.v2"),
    row("b/4.jpg", label("mug", 20.0), minutes=4),
    row("b/5.jpg", minutes=5),
    row("b/6.jpg", minutes=6, status="FAILED", error_code="InvalidImageFormatException", model_version=None),
    row("a/7.jpg", label("Müg 🦊", 70.0), minutes=-24 * 60, source_bucket="other"),
]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelIndex]:
    s3 = MemoryS3(FINAL)
    publish(s3, "b1", ROWS)
    refresh_index(s3, FINAL, now=NOW, threads=1)
    with closing(open_index(fetch_index(s3, FINAL, tmp_path_factory.mktemp("index")))) as index:
        yield index


def found(index: LabelIndex, **asked: object) -> list[str]:
    """Names of the images that match, newest first; their count agrees."""
    filter_ = Filter(**asked)  # type: ignore[arg-type]
    keys = [image.source_key[2] for image in index.page(filter_).images]
    assert index.count(filter_).images == len(keys)
    return keys


class TestFilters:
    @pytest.mark.parametrize(
        ("asked", "keys"),
        [
            ({}, "6543217"),
            ({"labels": ("mug",)}, "21"),
            ({"labels": ("mug",), "below_threshold": True}, "421"),
            ({"labels": ("mug", "bottle")}, "1"),
            ({"labels": ("mug", "unheard of")}, ""),
            ({"labels": ("mug",), "without": ("bottle",)}, "2"),
            ({"without": ("mug",)}, "5437"),
            ({"without": ("mug",), "below_threshold": True}, "537"),
            ({"nothing": True}, "54"),
            ({"nothing": True, "status": "FAILED"}, ""),
            ({"labels": ("mug",), "min_confidence": 90.0}, "1"),
            ({"labels": ("mug",), "min_confidence": 50.0, "max_confidence": 70.0}, "1"),
            ({"labels": ("mug",), "max_confidence": 50.0, "below_threshold": True}, "4"),
            ({"labels": ("mug",), "min_confidence": 10.0, "below_threshold": True}, "421"),
            ({"labels": ("Müg 🦊",)}, "7"),
            ({"labels": ("MUG",)}, ""),
            ({"prefix": "a/"}, "217"),
            ({"prefix": "a/", "labels": ("bottle",)}, "1"),
            ({"prefix": "%"}, ""),
            ({"bucket": "other"}, "7"),
            ({"bucket": "other", "labels": ("mug",)}, ""),
            ({"status": "FAILED"}, "6"),
            ({"model_version": "shop.v2"}, "3"),
            ({"model_version": "shop.v1", "labels": ("bottle",)}, "1"),
            ({"analysis": "faces"}, ""),
            ({"since": NOON + timedelta(minutes=2), "until": NOON + timedelta(minutes=4)}, "32"),
            ({"until": NOON + timedelta(minutes=2), "labels": ("mug",)}, "1"),
            ({"since": datetime(2026, 3, 1, tzinfo=UTC)}, "654321"),
            ({"labels": ("'; DROP TABLE images; --",)}, ""),
        ],
    )
    def test_what_is_asked_for_is_found_newest_first(
        self, index: LabelIndex, asked: dict[str, object], keys: str
    ) -> None:
        assert found(index, **asked) == list(keys)

    @pytest.mark.parametrize(
        "asked",
        [
            {"min_confidence": 80.0, "max_confidence": 20.0},
            {"max_confidence": 101.0},
            {"min_confidence": float("nan")},
            {"since": datetime(2026, 3, 1)},  # noqa: DTZ001
        ],
    )
    def test_what_cannot_be_is_refused(self, asked: dict[str, object]) -> None:
        with pytest.raises(SearchError):
            Filter(**asked)  # type: ignore[arg-type]


class TestPages:
    @pytest.mark.parametrize("asked", [Filter(), Filter(labels=("mug",)), Filter(labels=("mug",), max_confidence=99)])
    def test_page_after_page_shows_each_image_once(self, index: LabelIndex, asked: Filter) -> None:
        whole = index.page(asked).images
        pages, cursor = [], None
        while not pages or cursor:
            page = index.page(asked, size=1, cursor=cursor)
            pages += page.images
            cursor = page.cursor
        assert tuple(pages) == whole

    def test_images_of_one_moment_have_an_order_too(self, s3: MemoryS3, refresh: Refresh, opened: Opened) -> None:
        publish(s3, "b1", [row(f"{number}.jpg", label("mug")) for number in range(20)])
        refresh()
        index, asked = opened(), Filter(labels=("mug",))
        first = index.page(asked, size=7)
        second = index.page(asked, size=13, cursor=first.cursor)
        assert first.images + second.images == index.page(asked).images
        assert second.cursor is None

    def test_an_image_comes_with_all_of_its_row_and_labels(self, index: LabelIndex) -> None:
        (image,) = index.page(Filter(labels=("bottle", "mug"))).images
        assert (image.source_bucket, image.source_key, image.batch_id) == ("inbox", "a/1.jpg", "b1")
        assert image.event_time == image.came_at == NOON + timedelta(minutes=1)
        assert image.label_count == 3
        assert [(each.name, each.confidence, each.passes) for each in image.labels] == [
            ("mug", 95.0, True),
            ("mug", 60.0, True),
            ("bottle", 80.0, True),
        ]
        box = image.labels[0]
        assert (box.left, box.top, box.width, box.height) == pytest.approx((0.1, 0.2, 0.3, 0.4))
        assert image == index.image("inbox", "a/1.jpg")

    def test_an_image_that_was_never_analysed_has_no_detail(self, index: LabelIndex) -> None:
        assert index.image("other", "a/1.jpg") is None

    @pytest.mark.parametrize("damage", ["", "x", "🦊", "AAAA", "A" * 28, "A" * 5_000])
    def test_a_damaged_cursor_says_so(self, index: LabelIndex, damage: str) -> None:
        cursor = index.page(Filter(), size=1).cursor
        assert cursor is not None
        with pytest.raises(SearchError, match="first page"):
            query.from_cursor(damage + cursor[:-1] if damage else cursor[:-4])

    @pytest.mark.parametrize("microseconds", [2**63 - 1, -(2**63)])
    def test_a_cursor_at_a_moment_that_there_is_not_says_so(self, microseconds: int) -> None:
        packed = struct.pack(">qQ", microseconds, 1)
        cursor = base64.urlsafe_b64encode(packed + zlib.crc32(packed).to_bytes(4, "big")).decode()
        with pytest.raises(SearchError, match="first page"):
            query.from_cursor(cursor)

    @pytest.mark.parametrize("asked", [{"labels": ("\udcff",)}, {"without": ("\ud800",)}, {"prefix": "a/\udcff"}])
    def test_half_a_character_is_said_to_be_one(self, asked: dict[str, Any]) -> None:
        with pytest.raises(SearchError, match="half a character"):
            Filter(**asked)

    @pytest.mark.parametrize("size", [0, -1, search.MOST_A_PAGE + 1])
    def test_the_size_of_a_page_is_bounded(self, index: LabelIndex, size: int) -> None:
        with pytest.raises(SearchError, match=str(search.MOST_A_PAGE)):
            index.page(Filter(), size=size)

    def test_several_threads_may_ask(self, index: LabelIndex) -> None:
        with ThreadPoolExecutor(8) as pool:
            asked = [Filter(labels=("mug",)), Filter(without=("mug",)), Filter()] * 10
            pages = list(pool.map(index.page, asked))
            facets = list(pool.map(index.facets, asked))
        assert pages == [index.page(each) for each in asked]
        assert facets == [index.facets(each) for each in asked]


class TestCounts:
    def test_facets_of_everything(self, index: LabelIndex) -> None:
        facets = index.facets(Filter())
        assert [(each.value, each.images) for each in facets.labels] == [("bottle", 2), ("mug", 2), ("Müg 🦊", 1)]
        assert facets.statuses == (FacetValue("LABELLED", 6), FacetValue("FAILED", 1))
        assert facets.days == (FacetValue("2026-03-01", 6), FacetValue("2026-02-28", 1))
        assert facets.model_versions == (FacetValue("shop.v1", 5), FacetValue(None, 1), FacetValue("shop.v2", 1))
        assert facets.of_newest is None

    @pytest.mark.parametrize(
        "asked",
        [Filter(), Filter(since=datetime(2026, 3, 1, tzinfo=UTC)), Filter(until=datetime(2026, 3, 1, tzinfo=UTC))],
    )
    def test_roll_ups_say_what_counting_says(
        self, index: LabelIndex, monkeypatch: pytest.MonkeyPatch, asked: Filter
    ) -> None:
        rolled_up = index.facets(asked), index.count(asked)
        monkeypatch.setattr(Filter, "is_of_days", False)
        assert (index.facets(asked), index.count(asked)) == rolled_up

    def test_facets_of_a_filter(self, index: LabelIndex) -> None:
        facets = index.facets(Filter(labels=("mug",)))
        assert facets.labels == (FacetValue("mug", 2), FacetValue("bottle", 1))
        assert facets.days == (FacetValue("2026-03-01", 2),)

    def test_facets_of_very_many_are_of_the_newest_and_say_so(
        self, index: LabelIndex, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(search, "MOST_IN_FACETS", 2)
        facets = index.facets(Filter(prefix="b/"))
        assert facets.of_newest == 2
        assert facets.statuses == (FacetValue("FAILED", 1), FacetValue("LABELLED", 1))

    def test_a_count_of_very_many_is_at_least(self, index: LabelIndex, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(search, "MOST_COUNTED", 2)
        assert index.count(Filter(prefix="b/")) == search.Count(2, is_exact=False)
        assert index.count(Filter(labels=("mug",))) == search.Count(2)

    def test_a_histogram_counts_boxes_below_the_threshold_too(self, index: LabelIndex) -> None:
        bins = index.histogram("mug")
        assert {number * 5: count for number, count in enumerate(bins) if count} == {20: 1, 60: 1, 85: 1, 95: 1}
        assert sum(index.histogram("mug", Filter(labels=("bottle",)))) == 2
        assert sum(index.histogram("unheard of")) == 0

    def test_full_confidence_has_a_bin(self, s3: MemoryS3, refresh: Refresh, opened: Opened) -> None:
        publish(s3, "b1", [row("1.jpg", label("mug", 100.0), label("mug", 0.0))])
        refresh()
        assert opened().histogram("mug") == (1, *[0] * 18, 1)

    def test_names_are_completed_in_capitals_or_not(self, index: LabelIndex) -> None:
        assert [each.name for each in index.names("MÜ")] == ["Müg 🦊"]
        assert [(each.name, each.images, each.passing) for each in index.names("m")] == [
            ("mug", 3, 2),
            ("Müg 🦊", 1, 1),
        ]
        assert [each.name for each in index.names()] == ["mug", "bottle", "Müg 🦊", "plate"]
        assert index.names("%") == index.names(analysis="faces") == ()
