from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.archive.filters import build_filters, keep
from include.archive.request import FOUND, parse_request
from include.errors import SelectionError
from tests.include.properties.strategies import keys
from tests.include.samples import AWKWARD_KEYS, NOW

few = settings(derandomize=True, database=None, deadline=None, max_examples=150)


def found(some: Iterable[str], **fields: Any) -> pa.Table:
    values = {"bucket": "archive", "etag": "e", "size_bytes": 10, "modified": NOW} | fields
    return pa.Table.from_pylist([values | {"key": key} for key in some], schema=FOUND)


def kept(table: pa.Table, **asked: Any) -> tuple[list[str], dict[str, int]]:
    skipped: Counter[str] = Counter()
    request = parse_request(source="prefix", uri="s3://archive/", **asked)
    return keep(table, build_filters(request), skipped)["key"].to_pylist(), dict(skipped)


def test_without_globs_images_by_their_extension() -> None:
    names = ["a.jpg", "b.JPEG", "c.Png", "d.webp", "e.txt", "f", "g.jpg.bak", "h.jpg\n", "i/", "j.jpg/", "k.tiff"]
    assert kept(found(names)) == (
        ["a.jpg", "b.JPEG", "c.Png", "d.webp", "k.tiff"],
        {"folder markers": 2, "without an image's extension": 4},
    )


def test_folder_markers_are_never_images() -> None:
    assert kept(found(["a/", "a/b"]), include=("*",)) == (["a/b"], {"folder markers": 1})


@pytest.mark.parametrize(
    ("glob", "names"),
    [
        ("*.jpg", ["a.jpg", "b/a.jpg", "b/c/a.jpg", "x.JPG.jpg", "n\nl.jpg"]),
        ("b/*", ["b/a.jpg", "b/c/a.jpg"]),
        ("?.jpg", ["a.jpg"]),
        ("*.[jJ]*", ["a.jpg", "b/a.jpg", "b/c/a.jpg", "A.JPG", "x.JPG.jpg", "n\nl.jpg"]),
        ("[!a-z].*", ["A.JPG"]),
        ("[[]x]^.png", ["[x]^.png"]),
        ("a.jp", []),
        ("(a|b).jpg", []),
    ],
)
def test_globs_are_over_the_whole_key(glob: str, names: list[str]) -> None:
    every = ["a.jpg", "b/a.jpg", "b/c/a.jpg", "A.JPG", "x.JPG.jpg", "n\nl.jpg", "[x]^.png"]
    assert kept(found(every), include=(glob,))[0] == names
    assert kept(found(every), include=("*",), exclude=(glob,))[0] == [name for name in every if name not in names]


@few
@given(
    st.lists(keys, min_size=1, max_size=5),
    st.lists(st.sampled_from(["*", "?", "[", "]", "!", "a", "a-z", "!-.", "\\", "^", "."]), max_size=6),
)
def test_globs_read_keys_as_fnmatch_does(some: list[str], pieces: list[str]) -> None:
    glob = "".join(pieces)
    expected = [key for key in some if not key.endswith("/") and fnmatch.fnmatchcase(key, glob)]
    assert kept(found(some), include=(glob,))[0] == (expected if glob else kept(found(some), include=("",))[0])


@pytest.mark.parametrize("glob", ["[z-a].jpg", "a[9-0]"])
def test_what_is_no_glob_is_said_not_to_be_one(glob: str) -> None:
    with pytest.raises(SelectionError, match=r"\[(z-a|9-0)\].* is no pattern of names"):
        kept(found(["a.jpg"]), exclude=(glob,))


def test_any_of_several_globs() -> None:
    names, skipped = kept(
        found(["a.raw", "b.jpg", "c.png", "old/d.jpg"]), include=("*.raw", "*.jpg"), exclude=("old/*",)
    )
    assert names == ["a.raw", "b.jpg"]
    assert skipped == {"no name that matches *.raw, *.jpg": 1, "excluded by old/*": 1}


def test_dates_from_the_first_until_before_the_last() -> None:
    rows = pa.concat_tables([found([f"{hour}.jpg"], modified=NOW + timedelta(hours=hour)) for hour in range(5)])
    names, skipped = kept(rows, modified_from=NOW + timedelta(hours=1), modified_until=NOW + timedelta(hours=3))
    assert names == ["1.jpg", "2.jpg"]
    assert skipped == {"modified before 2026-03-01 13:00": 1, "modified on or after 2026-03-01 15:00": 2}


def test_sizes_with_both_ends() -> None:
    rows = pa.concat_tables([found([f"{size}.jpg"], size_bytes=size) for size in (0, 9, 10, 15, 16)])
    assert kept(rows, min_bytes=10, max_bytes=15) == (
        ["10.jpg", "15.jpg"],
        {"smaller than 10 bytes": 2, "larger than 15 bytes": 1},
    )


class TestSample:
    NAMES = [f"stock/{number:05d}.jpg" for number in range(10_000)]

    def test_about_as_many_as_asked_for(self) -> None:
        assert len(kept(found(self.NAMES), sample_percent=20)[0]) == pytest.approx(2_000, rel=0.1)

    def test_a_larger_one_holds_the_smaller_one(self) -> None:
        some = [set(kept(found(self.NAMES), sample_percent=percent)[0]) for percent in (0.5, 10, 20, 99.9)]
        assert all(smaller < larger for smaller, larger in zip(some, some[1:], strict=False))

    def test_it_is_the_same_in_any_order_and_on_any_day(self) -> None:
        first = kept(found(self.NAMES[:100]), sample_percent=10)[0]
        assert first == kept(found(self.NAMES[:100][::-1]), sample_percent=10)[0][::-1]
        # Last year's sample can be extended: these must not change.
        assert first[:3] == ["stock/00007.jpg", "stock/00014.jpg", "stock/00036.jpg"]

    def test_all_of_them(self) -> None:
        assert kept(found(self.NAMES[:100]), sample_percent=100) == (self.NAMES[:100], {})


def test_each_row_has_one_reason() -> None:
    rows = found([*AWKWARD_KEYS, "a.txt", "b/"], size_bytes=99)
    names, skipped = kept(rows, max_bytes=50, exclude=("*",))
    assert names == []
    assert sum(skipped.values()) == rows.num_rows
