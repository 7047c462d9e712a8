from __future__ import annotations

import gzip
import itertools
from typing import Any

import pytest

from include import objects
from include.parallel import in_parallel, in_slices
from include.settings import Settings
from tests.include.memory_s3 import MemoryS3, failure
from tests.include.samples import AWKWARD_KEYS


def test_what_is_not_there_is_none(s3: MemoryS3) -> None:
    assert objects.read(s3, "final", "none") is None
    assert objects.head(s3, "final", "none") is None


@pytest.mark.parametrize("look", [objects.read, objects.head])
def test_what_may_not_be_seen_is_an_error_and_not_none(s3: MemoryS3, look: Any) -> None:
    operation = "get_object" if look is objects.read else "head_object"
    s3.refuse[operation, "key"] = failure("AccessDenied" if look is objects.read else "403", operation, 403)
    with pytest.raises(Exception, match=r"AccessDenied|403") as raised:
        look(s3, "final", "key")
    assert objects.is_denied(raised.value)


def test_a_bucket_that_is_missing_is_an_error_and_not_an_empty_answer(s3: MemoryS3) -> None:
    with pytest.raises(Exception, match="NoSuchBucket"):
        objects.read(s3, "nowhere", "key")


def test_only_the_first_of_two_writes_where_nothing_was(s3: MemoryS3) -> None:
    assert objects.write_if(s3, "final", "key", b"1", etag=None)
    assert not objects.write_if(s3, "final", "key", b"2", etag=None)
    assert s3.contents("final") == {"key": b"1"}


def test_a_write_over_what_was_read_fails_where_it_changed_or_went(s3: MemoryS3) -> None:
    objects.write_if(s3, "final", "key", b"1", etag=None)
    _, etag = objects.read(s3, "final", "key") or (b"", "")
    assert objects.write_if(s3, "final", "key", b"2", etag=etag)
    assert not objects.write_if(s3, "final", "key", b"3", etag=etag)
    s3.delete_object(Bucket="final", Key="key")
    assert not objects.write_if(s3, "final", "key", b"4", etag=etag)


@pytest.mark.parametrize("code", ["PreconditionFailed", "ConditionalRequestConflict", "412", "409"])
def test_both_answers_to_a_lost_race_are_known(s3: MemoryS3, code: str) -> None:
    s3.refuse["put_object", "key"] = failure(code, "PutObject", 409)
    assert objects.write_if(s3, "final", "key", b"", etag=None) is False


def test_any_other_error_of_a_write_is_raised(s3: MemoryS3) -> None:
    s3.refuse["put_object", "key"] = failure("AccessDenied", "PutObject", 403)
    with pytest.raises(Exception, match="AccessDenied"):
        objects.write_if(s3, "final", "key", b"", etag=None)


class TestPerhapsThere:
    KEYS = tuple(f"labels/inbox/{key}.json" for key in (*AWKWARD_KEYS, *(f"shop/{n:05d}.jpg" for n in range(2_500))))

    def test_one_listing_answers_for_a_thousand_keys(self, s3: MemoryS3) -> None:
        there = set(self.KEYS[::2])
        for key in there:
            s3.put_object(Bucket="final", Key=key, Body=b"")
        s3.calls.clear()
        assert objects.perhaps_there(s3, "final", self.KEYS) == there
        assert [operation for operation, _, _ in s3.calls] == ["list_objects_v2"] * 2

    def test_one_call_tells_that_nothing_is_there(self, s3: MemoryS3) -> None:
        s3.put_object(Bucket="final", Key="labels/elsewhere/shop/00001.jpg.json", Body=b"")
        s3.calls.clear()
        assert objects.perhaps_there(s3, "final", self.KEYS) == set()
        assert len(s3.calls) == 1

    def test_the_first_and_the_last_key_are_found(self, s3: MemoryS3) -> None:
        there = {min(self.KEYS), max(self.KEYS)}
        for key in there:
            s3.put_object(Bucket="final", Key=key, Body=b"")
        assert objects.perhaps_there(s3, "final", self.KEYS) == there

    def test_keys_scattered_over_a_full_bucket_are_left_to_be_asked_for(self, s3: MemoryS3) -> None:
        for key in self.KEYS:
            s3.put_object(Bucket="final", Key=key, Body=b"")
        s3.calls.clear()
        scattered = {f"{key}~" for key in self.KEYS[::20]}
        perhaps = objects.perhaps_there(s3, "final", scattered)
        assert 0 < len(scattered) - len(perhaps) < objects.LISTING_IS_WORTH, (
            "one page spoke for these, and no second was tried"
        )
        assert len(s3.calls) == 1

    def test_a_few_keys_are_left_to_be_asked_for(self, s3: MemoryS3) -> None:
        few = self.KEYS[: objects.LISTING_IS_WORTH - 1]
        assert objects.perhaps_there(s3, "final", few) == set(few)
        assert not s3.calls

    def test_local_aws_lists_in_the_same_order(self, aws_s3: Any, aws_settings: Settings) -> None:
        there = set(self.KEYS[:200:3])
        for key in there:
            aws_s3.put_object(Bucket=aws_settings.final_bucket, Key=key, Body=b"")
        assert objects.perhaps_there(aws_s3, aws_settings.final_bucket, self.KEYS) == there


def test_the_same_lines_are_the_same_bytes() -> None:
    lines = [{"b": "é\u2028🦊\nnext", "a": 1}, {}]
    packed = objects.pack_lines(lines)
    assert packed == objects.pack_lines(iter(lines))
    assert objects.unpack_lines(packed) == objects.unpack_lines(gzip.decompress(packed)) == lines


def test_results_come_in_order_whichever_is_ready_first() -> None:
    assert in_parallel(lambda n: n * n, range(50), threads=8) == [n * n for n in range(50)]


def test_an_error_of_one_is_raised_when_all_have_been_tried() -> None:
    tried: list[int] = []

    def work(number: int) -> int:
        tried.append(number)
        return 1 // (number - 3)

    with pytest.raises(ZeroDivisionError):
        in_parallel(work, range(10), threads=1)
    assert tried == list(range(10))


def test_slices_are_full_but_for_the_last() -> None:
    assert list(in_slices("abcdefg", 3)) == [tuple("abc"), tuple("def"), ("g",)]
    assert list(in_slices([], 3)) == []
    assert next(in_slices(itertools.count(), 2)) == (0, 1)
