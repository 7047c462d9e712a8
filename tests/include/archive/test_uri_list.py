from __future__ import annotations

import csv
import gzip
import io
from collections import Counter
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from include.archive import uri_list
from include.archive.found import IN_GLACIER, NAMED_TWICE
from include.archive.look_up import NOT_THE_LATEST
from include.archive.uri_list import BROKEN
from include.errors import SelectionError
from tests.include.archive.conftest import MakePlan, planned, planned_keys
from tests.include.archive.inventories import REPORTS
from tests.include.memory_s3 import MODIFIED, MemoryS3, failure
from tests.include.samples import AWKWARD_KEYS, FINAL, INBOX

LIST = f"s3://{REPORTS}/list.csv"
KEYS = [*AWKWARD_KEYS, 'quo"te,comma.jpg', "é" * 510 + ".jpg", "'=1+1.jpg", "\x1b[31m.jpg"]


@pytest.fixture
def asked(s3: MemoryS3) -> dict[str, Any]:
    for key in KEYS:
        s3.put_object(Bucket="archive", Key=key, Body=key.encode())
    return {"source": "list", "uri": LIST}


def put_list(s3: MemoryS3, *lines: str | bytes, end: bytes = b"\n") -> None:
    body = end.join(line.encode() if isinstance(line, str) else line for line in lines)
    s3.put_object(Bucket=REPORTS, Key="list.csv", Body=body)


def csv_text(*rows: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows(rows)
    return text.getvalue()


def broken_lines(s3: MemoryS3) -> list[list[str]]:
    (body,) = s3.contents(FINAL, "archives/20260301T120000Z.stock/broken_lines.csv").values()
    return list(csv.reader(io.StringIO(body.decode())))


class TestForms:
    def test_uris_as_they_stand(self, s3: MemoryS3, make_plan: MakePlan, asked: dict[str, Any]) -> None:
        put_list(s3, *(f"s3://archive/{key}" for key in KEYS))
        assert planned_keys(s3, make_plan(**asked)) == sorted(KEYS)

    @pytest.mark.parametrize("encode", [quote, quote_plus])
    def test_rows_as_batch_operations_wants_them(
        self, s3: MemoryS3, make_plan: MakePlan, asked: dict[str, Any], encode: Any
    ) -> None:
        put_list(s3, *(f"archive,{encode(key)}" for key in KEYS))
        assert planned_keys(s3, make_plan(**asked)) == sorted(KEYS)

    def test_quoted_rows(self, s3: MemoryS3, make_plan: MakePlan, asked: dict[str, Any]) -> None:
        put_list(s3, csv_text(*(["archive", quote_plus(key)] for key in KEYS)))
        assert planned_keys(s3, make_plan(**asked)) == sorted(KEYS)

    def test_rows_whose_keys_stand_as_they_are(self, s3: MemoryS3, make_plan: MakePlan, asked: dict[str, Any]) -> None:
        put_list(s3, csv_text(*(["archive", key] for key in KEYS)))
        assert planned_keys(s3, make_plan(**asked, url_encoded=False)) == sorted(KEYS)

    def test_uris_that_are_encoded(self, s3: MemoryS3, make_plan: MakePlan, asked: dict[str, Any]) -> None:
        put_list(s3, *(f"s3://archive/{quote(key)}" for key in KEYS))
        assert planned_keys(s3, make_plan(**asked, url_encoded=True)) == sorted(KEYS)

    def test_quoted_uris(self, s3: MemoryS3, make_plan: MakePlan, asked: dict[str, Any]) -> None:
        put_list(s3, csv_text(*([f"s3://archive/{key}"] for key in KEYS)))
        assert planned_keys(s3, make_plan(**asked)) == sorted(KEYS)

    @pytest.mark.parametrize("end", [b"\n", b"\r\n"])
    @pytest.mark.parametrize(
        "around",
        [
            (),
            ("", "  ", "# from the shop"),
            ("bucket,key",),
            ('"Bucket","Key","VersionId"', ""),
            ("# exported", "uri"),
        ],
    )
    @pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
    def test_what_surrounds_the_lines_is_passed_over(
        self, s3: MemoryS3, make_plan: MakePlan, asked: dict[str, Any], around: tuple[str, ...], end: bytes, mark: bytes
    ) -> None:
        put_list(s3, *around, "archive,plain.jpg", "", "s3://archive/with space.jpg", "", end=end)
        body = s3.get_object(Bucket=REPORTS, Key="list.csv")["Body"].read()
        s3.put_object(Bucket=REPORTS, Key="list.csv", Body=mark + body)
        assert planned_keys(s3, make_plan(**asked)) == ["plain.jpg", "with space.jpg"]

    def test_a_comment_may_be_in_any_encoding(self, s3: MemoryS3, make_plan: MakePlan, asked: dict[str, Any]) -> None:
        put_list(s3, "# für den Laden".encode("latin-1"), "archive,plain.jpg")
        assert planned_keys(s3, make_plan(**asked)) == ["plain.jpg"]

    def test_gzipped(self, s3: MemoryS3, make_plan: MakePlan, asked: dict[str, Any]) -> None:
        # In two members, as tools write it that append.
        put_list(s3, gzip.compress(b"archive,plain.jpg\n") + gzip.compress(b"archive,with+space.jpg"), end=b"")
        assert planned_keys(s3, make_plan(**asked)) == ["plain.jpg", "with space.jpg"]

    def test_what_is_planned_says_what_s3_says(self, s3: MemoryS3, make_plan: MakePlan, asked: dict[str, Any]) -> None:
        put_list(s3, "archive,plain.jpg")
        (image,) = planned(s3, make_plan(**asked))
        head = s3.head_object(Bucket="archive", Key="plain.jpg")
        assert (image.bucket, image.etag, image.size_bytes, image.event_time, image.origin, image.force) == (
            "archive",
            head["ETag"].strip('"'),
            len("plain.jpg"),
            MODIFIED,
            "archive",
            False,
        )


class TestBrokenLines:
    BROKEN = (
        (b"archive,\xff\xfe.jpg", "is not UTF-8"),
        (b"elsewhere,a.jpg", "names a bucket that is not allowed"),
        (b"s3://elsewhere/a.jpg", "names a bucket that is not allowed"),
        (b"archive,", "has no key"),
        (b'"archive",""', "has no key"),
        (b"s3://archive/", "has no key"),
        (b"s3://archive", "has no key"),
        (b",a.jpg", "has no bucket"),
        (b"s3:///a.jpg", "has no bucket"),
        (b"a.jpg", "is neither s3://bucket/key nor bucket,key"),
        (b"https://archive.s3.amazonaws.com/a.jpg", "is neither s3://bucket/key nor bucket,key"),
        (b'archive,"a.jpg', "is badly quoted"),
        (b'"archive"x,a.jpg', "is badly quoted"),
        (b"archive,a%2.jpg", "is badly URL-encoded"),
        (b"archive,100%", "is badly URL-encoded"),
        (b"archive,a%zzb.jpg", "is badly URL-encoded"),
        (b"archive,%ff.jpg", "has a key that is not UTF-8 once decoded"),
        (b"archive,a.jpg,v1,what", "has 4 columns instead of bucket,key[,versionId]"),
        (b"archive," + b"k" * 1_025, "has a key that is longer than 1,024 bytes"),
        (b"archive,gone.jpg", "there is no such object"),
        (b"=cmd|' /C calc'!A0", "is neither s3://bucket/key nor bucket,key"),
    )

    @pytest.mark.parametrize(("line", "problem"), BROKEN)
    def test_each_is_told_with_its_number(
        self, s3: MemoryS3, make_plan: MakePlan, asked: dict[str, Any], line: bytes, problem: str
    ) -> None:
        put_list(s3, "# comment", "archive,plain.jpg", line, "archive,with+space.jpg")
        with pytest.raises(SelectionError, match=r"(?s)1 of the lines of .*list\.csv.*skip_broken_lines=true") as told:
            make_plan(**asked)
        assert f"line 3: {problem}" in str(told.value)
        assert s3.keys(FINAL) == []

    def test_the_first_few_are_shown_and_all_counted(
        self, s3: MemoryS3, make_plan: MakePlan, asked: dict[str, Any]
    ) -> None:
        put_list(s3, *(line for line, _ in self.BROKEN))
        with pytest.raises(SelectionError) as told:
            make_plan(**asked)
        # Whether the object is there is not asked of a list that is broken already.
        assert f"{len(self.BROKEN) - 1} of the lines" in str(told.value)
        assert str(told.value).count("  line ") == 5
        assert f"and {len(self.BROKEN) - 6} more" in str(told.value)

    def test_they_are_kept_beside_the_plan_when_asked_to_go_on(
        self, s3: MemoryS3, make_plan: MakePlan, asked: dict[str, Any]
    ) -> None:
        put_list(s3, "archive,plain.jpg", *(line for line, _ in self.BROKEN), "archive,with+space.jpg")
        plan = make_plan(**asked, skip_broken_lines=True)
        assert planned_keys(s3, plan) == ["plain.jpg", "with space.jpg"]
        assert plan.skipped == {BROKEN: len(self.BROKEN)}
        header, *rows = sorted(broken_lines(s3), key=lambda row: int(row[0]) if row[0].isdigit() else 0)
        assert header == ["line", "problem", "text"]
        for number, (row, (line, problem)) in enumerate(zip(rows, self.BROKEN, strict=True), 2):
            assert row[0] == str(number)
            assert row[1].startswith(problem)
            assert row[2] in (line.decode(errors="backslashreplace"), "s3://archive/gone.jpg")

    def test_a_list_of_nothing_but_broken_lines_can_be_gone_on_without(
        self, s3: MemoryS3, make_plan: MakePlan, asked: dict[str, Any]
    ) -> None:
        put_list(s3, "nonsense", "more of it")
        plan = make_plan(**asked, skip_broken_lines=True)
        assert (plan.images, plan.found, plan.skipped) == (0, 2, {BROKEN: 2})

    def test_what_may_not_be_read_is_a_broken_line(
        self, s3: MemoryS3, make_plan: MakePlan, asked: dict[str, Any]
    ) -> None:
        put_list(s3, "archive,plain.jpg")
        s3.refuse["head_object", "plain.jpg"] = failure("403", "HeadObject", 403)
        with pytest.raises(SelectionError, match=r"line 1: may not be read \(403\)"):
            make_plan(**asked)

    def test_s3_failing_is_no_broken_line(self, s3: MemoryS3, make_plan: MakePlan, asked: dict[str, Any]) -> None:
        put_list(s3, "archive,plain.jpg")
        error = s3.refuse["head_object", "plain.jpg"] = failure("500", "HeadObject", 500)
        with pytest.raises(type(error)):
            make_plan(**asked, skip_broken_lines=True)

    @pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "bucket,key\n", "\ufeff"])
    def test_a_list_of_nothing(self, s3: MemoryS3, make_plan: MakePlan, asked: dict[str, Any], text: str) -> None:
        put_list(s3, text)
        with pytest.raises(SelectionError, match="names no objects"):
            make_plan(**asked)

    def test_no_list(self, make_plan: MakePlan, asked: dict[str, Any]) -> None:
        with pytest.raises(SelectionError, match="there is no such list"):
            make_plan(**asked)

    def test_a_list_that_may_not_be_read(self, s3: MemoryS3, make_plan: MakePlan, asked: dict[str, Any]) -> None:
        s3.refuse["get_object", "list.csv"] = failure("AccessDenied", "GetObject", 403)
        with pytest.raises(SelectionError, match="may not be read .* s3:GetObject"):
            make_plan(**asked)

    def test_half_a_list(self, s3: MemoryS3, make_plan: MakePlan, asked: dict[str, Any]) -> None:
        put_list(s3, gzip.compress(b"archive,plain.jpg\n" * 1_000)[:-20])
        with pytest.raises(SelectionError, match="ends early or is no gzip"):
            make_plan(**asked)

    def test_utf_16(self, s3: MemoryS3, make_plan: MakePlan, asked: dict[str, Any]) -> None:
        put_list(s3, "archive,plain.jpg".encode("utf-16"))
        with pytest.raises(SelectionError, match="is UTF-16: save it as UTF-8"):
            make_plan(**asked)

    def test_something_without_lines(self, s3: MemoryS3, make_plan: MakePlan, asked: dict[str, Any]) -> None:
        put_list(s3, b"\x01" * (3 * uri_list.BLOCK_BYTES))
        with pytest.raises(SelectionError, match="without a line's end: it is no list"):
            make_plan(**asked)


class TestLookingUp:
    def test_doubled_lines_count_once(self, s3: MemoryS3, make_plan: MakePlan, asked: dict[str, Any]) -> None:
        put_list(s3, "archive,a%2Bb.jpg", "s3://archive/plain.jpg", "s3://archive/a+b.jpg", '"archive","a%2bb.jpg"')
        plan = make_plan(**asked)
        assert planned_keys(s3, plan) == ["a+b.jpg", "plain.jpg"]
        assert (plan.found, plan.skipped) == (4, {NAMED_TWICE: 2})

    def test_images_of_several_buckets(self, s3: MemoryS3, make_plan: MakePlan, asked: dict[str, Any]) -> None:
        s3.put_object(Bucket=INBOX, Key="plain.jpg", Body=b"x")
        put_list(s3, "archive,plain.jpg", "inbox,plain.jpg")
        assert sorted(image.bucket for image in planned(s3, make_plan(**asked))) == ["archive", "inbox"]

    def test_many_keys_that_lie_together_are_listed(
        self, s3: MemoryS3, make_plan: MakePlan, asked: dict[str, Any]
    ) -> None:
        keys = [f"stock/{number:05d}.jpg" for number in range(3_000)]
        for key in keys:
            s3.put_object(Bucket="archive", Key=key, Body=b"x")
        put_list(s3, *(f"archive,{key}" for key in reversed(keys)))
        s3.calls.clear()
        assert planned_keys(s3, make_plan(**asked)) == keys
        assert Counter(operation for operation, bucket, _ in s3.calls if bucket == "archive")["head_object"] <= 1

    def test_a_few_among_many_are_asked_for_one_by_one(
        self, s3: MemoryS3, make_plan: MakePlan, asked: dict[str, Any]
    ) -> None:
        for number in range(20_000):
            s3.put_object(Bucket="archive", Key=f"stock/{number:05d}.jpg", Body=b"x")
        keys = [f"stock/{number:05d}.jpg" for number in range(0, 20_000, 100)]
        put_list(s3, *(f"archive,{key}" for key in keys), "archive,stock/none.jpg")
        s3.calls.clear()
        assert planned_keys(s3, make_plan(**asked, skip_broken_lines=True)) == keys
        calls = Counter(operation for operation, bucket, _ in s3.calls if bucket == "archive")
        assert calls["list_objects_v2"] <= 10
        assert calls["head_object"] <= 201

    def test_a_list_that_does_not_fit_into_memory(
        self, s3: MemoryS3, make_plan: MakePlan, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(uri_list, "LINES_IN_MEMORY", 400)
        monkeypatch.setattr(uri_list, "BLOCK_BYTES", 2_000)
        keys = [f"{number * 7_919 % 3_001:04d} é.jpg" for number in range(1, 3_001)]
        for key in keys:
            s3.put_object(Bucket="archive", Key=key, Body=b"x")
        put_list(s3, *(f"archive,{quote_plus(key)}" for key in [*keys, *keys[::10]]), b"archive,gone.jpg", b"nonsense")
        plan = make_plan(**asked, skip_broken_lines=True)
        assert [image.key for image in planned(s3, plan)] == sorted(keys)
        assert plan.skipped == {NAMED_TWICE: 300, BROKEN: 2}
        assert {row[0] for row in broken_lines(s3)} == {"line", "3301", "3302"}

    def test_what_lies_in_glacier_counts_only_once_it_is_restored(
        self, s3: MemoryS3, make_plan: MakePlan, asked: dict[str, Any]
    ) -> None:
        restored = 'ongoing-request="false", expiry-date="Fri, 21 Dec 2026 00:00:00 GMT"'
        states: dict[str, dict[str, str]] = {
            "cold.jpg": {"StorageClass": "GLACIER"},
            "thawing.jpg": {"StorageClass": "DEEP_ARCHIVE", "Restore": 'ongoing-request="true"'},
            "warm.jpg": {"StorageClass": "GLACIER", "Restore": restored},
            "instant.jpg": {"StorageClass": "GLACIER_IR"},
            "tier.jpg": {"StorageClass": "INTELLIGENT_TIERING", "ArchiveStatus": "ARCHIVE_ACCESS"},
        }
        for key, headers in states.items():
            s3.put_object(Bucket="archive", Key=key, Body=b"x", **headers)
        put_list(s3, *(f"archive,{key}" for key in states))
        plan = make_plan(**asked)
        assert planned_keys(s3, plan) == ["instant.jpg", "warm.jpg"]
        assert plan.skipped == {IN_GLACIER: 3}


def test_only_the_latest_version_of_an_object_is_taken(
    settings: Any, asked: dict[str, Any], make_plan: MakePlan, s3: MemoryS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_versioned", frozenset({"archive"}))
    first = s3.put_object(Bucket="archive", Key="twice.jpg", Body=b"first")["VersionId"]
    latest = s3.put_object(Bucket="archive", Key="twice.jpg", Body=b"second")["VersionId"]
    old = s3.put_object(Bucket="archive", Key="old.jpg", Body=b"first")["VersionId"]
    s3.put_object(Bucket="archive", Key="old.jpg", Body=b"second")
    put_list(s3, f"archive,twice.jpg,{first}", f"archive,twice.jpg,{latest}", f'"archive","old.jpg","{old}"')
    plan = make_plan(**asked)
    (image,) = planned(s3, plan)
    assert (image.key, image.size_bytes) == ("twice.jpg", len(b"second"))
    assert plan.skipped == {NOT_THE_LATEST: 2}
