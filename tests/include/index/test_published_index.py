"""What readers fetch: whole or not at all, once, and the index before stays for those who still read it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from include import layout
from include.errors import TerminalError, TransientError
from include.index import published
from include.index.database import IndexUnusableError
from include.index.published import GRACE, fetch_index, forget_replaced, read_pointer
from include.index.search import open_index
from tests.include.index.conftest import Refresh
from tests.include.index.published_results import label, publish, row
from tests.include.memory_s3 import MODIFIED, MemoryS3
from tests.include.samples import FINAL, NOW


@pytest.fixture
def add(s3: MemoryS3, refresh: Refresh) -> Callable[[int], str]:
    """One more image, and the index that has it; the index's key."""

    def run(number: int) -> str:
        publish(s3, f"b{number}", [row(f"{number}.jpg", label("mug"))])
        return refresh().pointer.key

    return run


Add = Callable[[int], str]


class TestFetching:
    def test_what_is_there_already_is_not_fetched_again(self, s3: MemoryS3, add: Add, tmp_path: Path) -> None:
        add(1)
        path = fetch_index(s3, FINAL, tmp_path)
        before = len(s3.calls)
        assert fetch_index(s3, FINAL, tmp_path) == path
        assert s3.calls[before:] == [("get_object", FINAL, layout.INDEX_POINTER)]

    def test_the_one_before_stays_and_those_before_it_go(self, s3: MemoryS3, add: Add, tmp_path: Path) -> None:
        paths = []
        for number in range(4):
            add(number)
            paths.append(fetch_index(s3, FINAL, tmp_path))
            os.utime(paths[-1], (number, number))
        assert sorted(tmp_path.iterdir()) == sorted(paths[-2:])

    def test_an_open_index_goes_on_answering_when_it_is_deleted(self, s3: MemoryS3, add: Add, tmp_path: Path) -> None:
        add(1)
        path = fetch_index(s3, FINAL, tmp_path)
        index = open_index(path)
        path.unlink()
        assert index.image("inbox", "1.jpg") is not None

    @pytest.mark.parametrize("damage", [lambda body: body[:-1], lambda body: body[:-1] + b"?", lambda body: b""])
    def test_what_is_not_what_was_published_never_gets_its_name(
        self, s3: MemoryS3, add: Add, tmp_path: Path, damage: Callable[[bytes], bytes]
    ) -> None:
        key = add(1)
        s3.put_object(Bucket=FINAL, Key=key, Body=damage(s3.contents(FINAL)[key]))
        with pytest.raises(IndexUnusableError, match="not what was published.*index build"):
            fetch_index(s3, FINAL, tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_what_somebody_was_killed_while_fetching_goes_with_the_next_index(
        self, s3: MemoryS3, add: Add, tmp_path: Path
    ) -> None:
        left, going_on = tmp_path / "fetching-1", tmp_path / "fetching-2"
        left.write_bytes(b"half")
        os.utime(left, (0, 0))
        going_on.write_bytes(b"half")
        add(1)
        path = fetch_index(s3, FINAL, tmp_path)
        assert sorted(tmp_path.iterdir()) == sorted([path, going_on])

    def test_one_that_is_replaced_at_that_moment_is_to_be_tried_again(
        self, s3: MemoryS3, add: Add, tmp_path: Path
    ) -> None:
        s3.delete_object(Bucket=FINAL, Key=add(1))
        with pytest.raises(TransientError, match="is gone"):
            fetch_index(s3, FINAL, tmp_path)

    def test_without_an_index_it_says_how_to_get_one(self, s3: MemoryS3, tmp_path: Path) -> None:
        with pytest.raises(TerminalError, match="no label index.*index_labels.*index build"):
            fetch_index(s3, FINAL, tmp_path)

    def test_another_version_is_refused_before_it_is_fetched(self, s3: MemoryS3, add: Add, tmp_path: Path) -> None:
        add(1)
        pointer = json.loads(s3.contents(FINAL)[layout.INDEX_POINTER])
        s3.put_object(Bucket=FINAL, Key=layout.INDEX_POINTER, Body=json.dumps(pointer | {"schema_version": 99}))
        with pytest.raises(IndexUnusableError, match="version 99"):
            fetch_index(s3, FINAL, tmp_path)


class TestOpening:
    def test_another_version_is_refused(self, tmp_path: Path) -> None:
        with duckdb.connect(str(tmp_path / "a.duckdb")) as con:
            con.execute("CREATE TABLE facts AS SELECT 99 AS schema_version, 0 AS unsorted")
        with pytest.raises(IndexUnusableError, match="version 99.*index build"):
            open_index(tmp_path / "a.duckdb")

    @pytest.mark.parametrize("body", [b"", b"no database", b"\0" * 8_192])
    def test_what_is_no_index_is_refused(self, tmp_path: Path, body: bytes) -> None:
        (tmp_path / "a.duckdb").write_bytes(body)
        with pytest.raises(IndexUnusableError, match="no label index"):
            open_index(tmp_path / "a.duckdb")

    def test_readers_cannot_write(self, s3: MemoryS3, add: Add, tmp_path: Path) -> None:
        add(1)
        index = open_index(fetch_index(s3, FINAL, tmp_path))
        with pytest.raises(duckdb.InvalidInputException, match="read-only"):
            index._con.execute("DELETE FROM images")


class TestRemovingReplaced:
    def test_what_the_pointer_names_stays_and_the_one_before_and_what_is_young(self, s3: MemoryS3, add: Add) -> None:
        keys = [add(number) for number in range(4)]
        assert forget_replaced(s3, FINAL, now=MODIFIED + GRACE) == 0
        assert forget_replaced(s3, FINAL, now=MODIFIED + GRACE + timedelta(seconds=1)) == 2
        assert s3.keys(FINAL, layout.INDEX) == sorted([*keys[-2:], layout.INDEX_POINTER])

    def test_nothing_is_deleted_where_no_pointer_can_be_read(self, s3: MemoryS3, add: Add) -> None:
        key = add(1)
        s3.put_object(Bucket=FINAL, Key=layout.INDEX_POINTER, Body="{}")
        assert forget_replaced(s3, FINAL, now=NOW + timedelta(days=9)) == 0
        assert key in s3.keys(FINAL)

    def test_a_pointer_says_what_it_points_to(self, s3: MemoryS3, add: Add) -> None:
        first, second = add(1), add(2)
        pointer, _ = read_pointer(s3, FINAL)
        assert pointer is not None
        assert (pointer.key, pointer.previous, pointer.images, pointer.labels, pointer.files) == (
            second,
            first,
            2,
            2,
            2,
        )
        assert pointer.size_bytes == len(s3.contents(FINAL)[second])
        assert replace(pointer, built_at=NOW) == pointer


def test_an_index_that_no_upload_takes_is_an_error(
    s3: MemoryS3, refresh: Refresh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "MOST_BYTES", 10)
    with pytest.raises(TerminalError, match="one upload takes 10"):
        refresh()
    assert s3.keys(FINAL) == []
