from __future__ import annotations

import gzip
import itertools
from typing import Any

import pytest

from include import objects
from include.parallel import in_parallel, in_slices
from tests.include.memory_s3 import MemoryS3, failure


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
