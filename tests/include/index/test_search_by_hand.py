"""Any filter finds what going through all images one by one finds, in the same order, and its counts are those of that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from random import Random
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.index import search
from include.index.published import fetch_index
from include.index.query import Filter
from include.index.refresh import refresh_index
from include.index.search import FoundImage, LabelIndex, open_index
from tests.include.index.published_results import NOON, label, publish, row
from tests.include.memory_s3 import MemoryS3
from tests.include.samples import FINAL, NOW

NAMES: Final = ("mug", "cup", "plate")
CONFIDENCES: Final = (0.0, 20.0, 50.0, 70.0, 100.0)
IMAGES: Final = 200


def some_row(random: Random, number: int) -> dict[str, Any]:
    labels = [label(random.choice(NAMES), random.choice(CONFIDENCES)) for _ in range(random.randrange(5))]
    has_failed = random.random() < 0.1
    return row(
        f"{random.choice('ab')}/{number}.jpg",
        *([] if has_failed else labels),
        event_time=NOON + timedelta(hours=12 * random.randrange(5)),
        source_bucket=random.choice(["inbox", "other"]),
        model_version=random.choice(["shop.v1", "shop.v2"]),
        status="FAILED" if has_failed else "LABELLED",
    )


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelIndex]:
    s3, random = MemoryS3(FINAL), Random(7)
    publish(s3, "b1", [some_row(random, number) for number in range(IMAGES)])
    refresh_index(s3, FINAL, now=NOW, threads=1)
    with closing(open_index(fetch_index(s3, FINAL, tmp_path_factory.mktemp("index")))) as index:
        yield index


@pytest.fixture(scope="module")
def everything(index: LabelIndex) -> tuple[FoundImage, ...]:
    images = index.page(Filter(), size=search.MOST_A_PAGE).images
    assert len(images) == IMAGES
    return images


names = st.lists(st.sampled_from(NAMES), max_size=2).map(tuple)
ranges = st.sampled_from([(low, high) for low in CONFIDENCES for high in CONFIDENCES if low <= high])
moments = st.none() | st.integers(0, 10).map(lambda quarters: NOON + timedelta(hours=6 * quarters))
filters = st.builds(
    lambda within, **values: Filter(min_confidence=within[0], max_confidence=within[1], **values),
    st.just((0.0, 100.0)) | ranges,
    labels=names,
    without=names,
    nothing=st.sampled_from([False, False, False, True]),
    below_threshold=st.booleans(),
    since=moments,
    until=moments,
    prefix=st.sampled_from(["", "", "a/"]),
    bucket=st.sampled_from([None, None, "inbox"]),
    status=st.sampled_from([None, None, "LABELLED", "FAILED"]),
    model_version=st.sampled_from([None, None, "shop.v2"]),
)


def holds(asked: Filter, image: FoundImage) -> bool:
    counting = [each for each in image.labels if each.passes or asked.below_threshold]
    wanted = {each.name for each in counting if asked.min_confidence <= (each.confidence or 0) <= asked.max_confidence}
    return all(
        [
            wanted.issuperset(asked.labels),
            not {each.name for each in counting}.intersection(asked.without),
            not asked.without or image.status == "LABELLED",
            not asked.nothing or (image.status == "LABELLED" and not any(each.passes for each in image.labels)),
            asked.since is None or image.came_at >= asked.since,
            asked.until is None or image.came_at < asked.until,
            image.source_key.startswith(asked.prefix),
            asked.bucket in (None, image.source_bucket),
            asked.status in (None, image.status),
            asked.model_version in (None, image.model_version),
        ]
    )


def labels_on(images: list[FoundImage]) -> Counter[str]:
    return Counter(name for image in images for name in {each.name for each in image.labels if each.passes})


@settings(max_examples=100, deadline=None)
@given(asked=filters, candidates=st.sampled_from([3, search.CANDIDATES]))
def test_any_filter_finds_what_going_through_all_finds(
    index: LabelIndex, everything: tuple[FoundImage, ...], asked: Filter, candidates: int
) -> None:
    expected = [image for image in everything if holds(asked, image)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "CANDIDATES", candidates)
        first = index.page(asked, size=5)
        rest = index.page(asked, size=search.MOST_A_PAGE, cursor=first.cursor).images if first.cursor else ()
    assert [*first.images, *rest] == expected
    assert index.count(asked).images == len(expected)
    facets = index.facets(asked)
    assert {each.value: each.images for each in facets.labels} == labels_on(expected)
    assert {each.value: each.images for each in facets.statuses} == Counter(image.status for image in expected)
    days = Counter(f"{image.came_at:%Y-%m-%d}" for image in expected)
    assert {each.value: each.images for each in facets.days} == days
    boxes = [each for image in expected for each in image.labels if each.name == "mug"]
    assert sum(index.histogram("mug", asked)) == len(boxes)
