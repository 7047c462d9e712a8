from __future__ import annotations

from pathlib import Path

import pytest

from include import layout
from local_stack.seed import FINAL_BUCKET
from tests.include.cli.conftest import Account, document, typed
from tests.include.index.published_results import label, publish, row

ROWS = [
    row("a/1.jpg", label("mug", 95.0), label("bottle", 80.0), minutes=1),
    row("a/2.jpg", label("mug", 55.0), minutes=2),
    row("b/3.jpg", minutes=3),
    row("b/\x1b[2J4.jpg", minutes=4, status="FAILED", error_code="Broken"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the index is kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "label-index" / FINAL_BUCKET


@pytest.fixture
def searchable(account: Account, folder: Path) -> Account:
    publish(account.s3, "b1", ROWS, bucket=FINAL_BUCKET)
    assert typed("index", "refresh").status == 0
    return account


class TestIndex:
    def test_without_one_it_says_how_to_get_one(self, account: Account, folder: Path) -> None:
        for command in (["index"], ["index", "info"], ["search"], ["index", "verify"]):
            said = typed(*command)
            assert said.status == 1
            assert "index build" in said.err

    def test_a_refresh_takes_up_what_is_new(self, searchable: Account) -> None:
        publish(searchable.s3, "b2", [row("c/5.jpg", label("mug"))], bucket=FINAL_BUCKET)
        said = document("index", "refresh")
        assert (said["files"], said["rows"], said["is_built_anew"], said["pointer"]["images"]) == (1, 1, False, 5)
        assert "has all results already" in typed("index", "refresh").out

    def test_building_reads_everything(self, searchable: Account) -> None:
        said = document("index", "build", "--verify")
        assert (said["rows"], said["is_built_anew"]) == (4, True)

    def test_what_is_published_is_told(self, searchable: Account) -> None:
        assert document("index", "info")["labels"] == 3
        assert f"s3://{FINAL_BUCKET}/{layout.INDEX}" in typed("index", "info").out

    def test_verifying_finds_what_differs(self, searchable: Account) -> None:
        assert typed("index", "verify").status == 0
        publish(searchable.s3, "b2", [row("c/5.jpg", label("mug"))], bucket=FINAL_BUCKET)
        said = typed("index", "verify")
        assert said.status == 1
        assert "2026-03-01: 5 images with 4 labels in the results, 4 images with 3 labels in the index" in said.out
        assert "index refresh" in said.out

    def test_a_damaged_file_of_results_is_named(self, searchable: Account) -> None:
        key = publish(searchable.s3, "b2", [row("c/5.jpg")], bucket=FINAL_BUCKET)
        searchable.s3.put_object(Bucket=FINAL_BUCKET, Key=key, Body=b"PAR1")
        said = typed("index", "refresh")
        assert (said.status, key in said.err) == (1, True)


class TestSearch:
    @pytest.mark.parametrize(
        ("asked", "keys"),
        [
            ([], ["b/\x1b[2J4.jpg", "b/3.jpg", "a/2.jpg", "a/1.jpg"]),
            (["--label", "mug", "--label", "bottle"], ["a/1.jpg"]),
            (["--label", "mug", "--not", "bottle"], ["a/2.jpg"]),
            (["--label", "mug", "--min-confidence", "80"], ["a/1.jpg"]),
            (["--none"], ["b/3.jpg"]),
            (["--status", "FAILED", "--prefix", "b/"], ["b/\x1b[2J4.jpg"]),
            (["--since", "2026-03-01", "--until", "2026-03-01", "--prefix", "a/"], ["a/2.jpg", "a/1.jpg"]),
            (["--since", "2026-03-02"], []),
            (["--until", "2026-02-28"], []),
        ],
    )
    def test_what_is_asked_for_is_found(self, searchable: Account, asked: list[str], keys: list[str]) -> None:
        found = document("search", *asked)
        assert [image["source_key"] for image in found["images"]] == keys
        assert (found["count"], found["count_is_exact"], found["cursor"]) == (len(keys), True, None)

    def test_people_read_a_line_an_image_and_nothing_acts_on_their_terminal(self, searchable: Account) -> None:
        said = typed("search").out
        assert "4 images; 4 of them:" in said
        assert "s3://inbox/a/1.jpg " in said
        assert " mug 95, bottle 80\n" in said
        assert "FAILED Broken" in said
        assert "\x1b" not in said
        assert "No such image" in typed("search", "--label", "unheard of").out

    def test_the_next_page_is_a_cursor_away(self, searchable: Account) -> None:
        first = document("search", "--limit", "3")
        (last,) = document("search", "--limit", "3", "--cursor", first["cursor"])["images"]
        assert last["source_key"] == "a/1.jpg"
        assert f"--cursor {first['cursor']}" in typed("search", "--limit", "3").out
        assert typed("search", "--cursor", "nonsense").status == 1

    def test_facets_say_what_else_there_is(self, searchable: Account) -> None:
        facets = document("search", "--label", "mug", "--facets")["facets"]
        assert [(each["value"], each["images"]) for each in facets["labels"]] == [("mug", 2), ("bottle", 1)]
        assert "bottle" in typed("search", "--label", "mug", "--not", "plate", "--facets", "--limit", "1").out

    def test_names_are_completed(self, searchable: Account) -> None:
        assert document("search", "--names", "BO")["names"] == [{"name": "bottle", "images": 1, "passing": 1}]
        assert "mug" in typed("search", "--names", "").out

    def test_the_index_is_fetched_once_and_again_when_there_is_a_newer_one(
        self, searchable: Account, folder: Path
    ) -> None:
        typed("search")
        (fetched,) = folder.iterdir()
        modified = fetched.stat().st_mtime_ns
        typed("search")
        assert [path.stat().st_mtime_ns for path in folder.iterdir()] == [modified]
        publish(searchable.s3, "b2", [row("c/5.jpg")], bucket=FINAL_BUCKET)
        typed("index", "refresh")
        assert document("search")["count"] == 5

    @pytest.mark.parametrize("wrong", [["--min-confidence", "101"], ["--limit", "0"], ["--since", "yesterday"]])
    def test_wrong_usage_is_refused(self, wrong: list[str]) -> None:
        assert typed("search", *wrong).status == 2

    @pytest.mark.parametrize("wrong", [["--limit", "501"], ["--min-confidence", "80", "--max-confidence", "20"]])
    def test_what_cannot_be_is_said(self, searchable: Account, wrong: list[str]) -> None:
        assert typed("search", *wrong).status == 1
