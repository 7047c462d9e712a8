from __future__ import annotations

import io
import threading
from collections.abc import Sequence

import pyarrow.parquet as pq
import pytest

from include import layout
from include.errors import ResultsError
from include.file_lists import (
    MERGED_FROM,
    ResultFile,
    add_file,
    ensure_file_lists,
    merged_from,
    swap_files,
    visible_files,
)
from include.schema import IMAGE_LABELS
from tests.include.memory_s3 import MemoryS3
from tests.include.samples import FINAL

DAY = "2026-03-01"
LIST = layout.FILE_LISTS + "analysis=custom_labels/dt=2026-03-01/files.txt"


def of_batch(name: str, *, day: str = DAY) -> str:
    return layout.image_labels(analysis="custom_labels", day=day, batch_id=name)


def put(s3: MemoryS3, key: str, *, took_over: Sequence[str] = ()) -> str:
    body = io.BytesIO()
    names = "\n".join(each.rpartition("/")[2] for each in took_over).encode()
    pq.write_table(IMAGE_LABELS.empty_table().replace_schema_metadata({MERGED_FROM: names}), body)
    s3.put_object(Bucket=FINAL, Key=key, Body=body.getvalue())
    return key


def put_merged(s3: MemoryS3, *took_over: str) -> str:
    key = layout.merged_image_labels(analysis="custom_labels", day=DAY, digest="0123456789abcdef")
    return put(s3, key, took_over=took_over)


def add(s3: MemoryS3, key: str) -> None:
    add_file(s3, FINAL, analysis="custom_labels", day=layout.day_of(key), key=key)


def swap(s3: MemoryS3, merged: str, *files: str) -> bool:
    return swap_files(s3, FINAL, analysis="custom_labels", day=DAY, merged=merged, files=files)


def seen(s3: MemoryS3, **options: Sequence[str]) -> list[str]:
    return [file.key for file in visible_files(s3, FINAL, analysis="custom_labels", threads=2, **options)]


@pytest.fixture
def s3() -> MemoryS3:
    return MemoryS3(FINAL)


def test_a_list_holds_a_uri_a_line_as_athena_reads_it(s3: MemoryS3) -> None:
    add(s3, put(s3, of_batch("b")))
    add(s3, put(s3, of_batch("a")))
    assert s3.contents(FINAL, layout.FILE_LISTS) == {
        LIST: f"s3://{FINAL}/{of_batch('a')}\ns3://{FINAL}/{of_batch('b')}\n".encode()
    }


def test_a_file_that_is_listed_is_not_listed_again(s3: MemoryS3) -> None:
    add(s3, put(s3, of_batch("a")))
    before = len(s3.calls)
    add(s3, of_batch("a"))
    assert [call[0] for call in s3.calls[before:]] == ["get_object"]


def test_the_first_list_of_a_day_names_what_lay_there_before_there_were_lists(s3: MemoryS3) -> None:
    put(s3, of_batch("old"))
    add(s3, put(s3, of_batch("new")))
    assert seen(s3) == [of_batch("new"), of_batch("old")]


def test_a_file_that_is_not_listed_is_not_seen(s3: MemoryS3) -> None:
    add(s3, put(s3, of_batch("a")))
    put(s3, of_batch("half-way"))
    assert seen(s3) == [of_batch("a")]


def test_days_without_a_list_show_what_lies_there(s3: MemoryS3) -> None:
    put(s3, of_batch("old", day="2026-02-01"))
    add(s3, put(s3, of_batch("a")))
    assert seen(s3) == [of_batch("old", day="2026-02-01"), of_batch("a")]
    assert seen(s3, days=["2026-02-01"]) == [of_batch("old", day="2026-02-01")]


def test_days_without_a_list_get_one(s3: MemoryS3) -> None:
    put(s3, of_batch("old", day="2026-02-01"))
    add(s3, put(s3, of_batch("a")))
    before = seen(s3)
    assert ensure_file_lists(s3, FINAL, analysis="custom_labels", threads=2) == 1
    assert ensure_file_lists(s3, FINAL, analysis="custom_labels", threads=2) == 0
    assert seen(s3) == before
    assert len(s3.keys(FINAL, layout.FILE_LISTS)) == 2


def test_a_swap_shows_the_merged_file_alone(s3: MemoryS3) -> None:
    for name in ("a", "b", "late"):
        add(s3, put(s3, of_batch(name)))
    merged = put_merged(s3, of_batch("a"), of_batch("b"))
    assert swap(s3, merged, of_batch("a"), of_batch("b"))
    assert seen(s3) == [of_batch("late"), merged]


def test_a_swap_of_what_is_not_shown_any_more_changes_nothing(s3: MemoryS3) -> None:
    add(s3, put(s3, of_batch("a")))
    assert not swap(s3, put_merged(s3, of_batch("a"), of_batch("gone")), of_batch("a"), of_batch("gone"))
    assert seen(s3) == [of_batch("a")]


def test_a_batch_that_is_published_again_after_the_swap_stays_in_the_merged_file(s3: MemoryS3) -> None:
    add(s3, put(s3, of_batch("a")))
    merged = put_merged(s3, of_batch("a"))
    swap(s3, merged, of_batch("a"))
    add(s3, put(s3, of_batch("a")))
    assert seen(s3) == [merged]


def test_a_day_is_not_read_without_the_rows_of_a_merged_file_that_was_deleted(s3: MemoryS3) -> None:
    for name in ("a", "b"):
        add(s3, put(s3, of_batch(name)))
    merged = put_merged(s3, of_batch("a"), of_batch("b"))
    swap(s3, merged, of_batch("a"), of_batch("b"))
    s3.delete_object(Bucket=FINAL, Key=merged)
    with pytest.raises(ResultsError, match=f"{merged} is listed .* and is gone"):
        seen(s3)
    add(s3, of_batch("a"))  # put back
    with pytest.raises(ResultsError, match=f"{merged} is listed .* and is gone"):
        seen(s3)
    add(s3, of_batch("b"))
    s3.put_object(
        Bucket=FINAL, Key=LIST, Body=s3.contents(FINAL)[LIST].replace(f"s3://{FINAL}/{merged}\n".encode(), b"")
    )
    assert seen(s3) == [of_batch("a"), of_batch("b")]


def test_a_damaged_merged_file_is_named(s3: MemoryS3) -> None:
    merged = put_merged(s3)
    etag = s3.put_object(Bucket=FINAL, Key=merged, Body=b"PAR1 half")["ETag"]
    with pytest.raises(ResultsError, match=f"{merged} is no Parquet file of results"):
        merged_from(s3, FINAL, ResultFile(merged, 9, etag, "custom_labels", DAY))


@pytest.mark.parametrize("footer", [None, {}, {MERGED_FROM: b"\xff"}])
def test_a_merged_file_that_another_program_wrote_anew_is_an_error_and_shows_no_row_twice(
    s3: MemoryS3, footer: dict[bytes, bytes] | None
) -> None:
    merged = put_merged(s3)
    body = io.BytesIO()
    pq.write_table(IMAGE_LABELS.empty_table().replace_schema_metadata(footer), body)
    etag = s3.put_object(Bucket=FINAL, Key=merged, Body=body.getvalue())["ETag"]
    with pytest.raises(ResultsError, match=f"{merged} is no Parquet file of results"):
        merged_from(s3, FINAL, ResultFile(merged, len(body.getvalue()), etag, "custom_labels", DAY))


def test_tasks_that_publish_at_once_all_get_their_line(s3: MemoryS3) -> None:
    names = [of_batch(f"{number:016x}") for number in range(24)]
    threads = [threading.Thread(target=add, args=(s3, put(s3, name))) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen(s3) == sorted(names)


@pytest.mark.parametrize("text", ["{a}\r\n{b}\r\n", "\n{a}\n\n  \n{b}", "{a} \n{b}\t\n", "{b}\n{a}\n{b}\n"])
def test_a_list_that_somebody_edited_shows_each_file_once(s3: MemoryS3, text: str) -> None:
    a, b = (put(s3, of_batch(name)) for name in "ab")
    s3.put_object(Bucket=FINAL, Key=LIST, Body=text.format(a=f"s3://{FINAL}/{a}", b=f"s3://{FINAL}/{b}"))
    assert seen(s3) == [a, b]


@pytest.mark.parametrize("line", [b"s3://elsewhere/a.parquet", b"a.parquet", b"\xff\xfe"])
def test_a_line_that_names_no_file_of_the_bucket_is_an_error(s3: MemoryS3, line: bytes) -> None:
    s3.put_object(Bucket=FINAL, Key=LIST, Body=line)
    with pytest.raises(ResultsError, match=f"is gone: no query of {DAY} works"):
        seen(s3)


def test_copies_and_backups_that_somebody_left_are_not_seen(s3: MemoryS3) -> None:
    add(s3, put(s3, of_batch("a")))
    put(s3, of_batch("old", day="2026-02-01"))
    before = seen(s3)
    for folder in (f"backup-of-{DAY}", f"{DAY}/backup", "2026-02-01/backup"):
        put(s3, of_batch("a", day=folder))
    for name in (f"{LIST}.bak", f"{LIST}/", LIST.removesuffix("files.txt"), LIST.replace(DAY, "2026-02-01/old")):
        s3.put_object(Bucket=FINAL, Key=name, Body=b"")
    assert seen(s3) == before
    assert ensure_file_lists(s3, FINAL, analysis="custom_labels", threads=1) == 1
    assert seen(s3) == before


def test_a_list_that_was_lost_after_files_were_merged_is_an_error_and_not_made_up(s3: MemoryS3) -> None:
    for name in ("a", "b"):
        add(s3, put(s3, of_batch(name)))
    merged = put_merged(s3, of_batch("a"), of_batch("b"))
    swap(s3, merged, of_batch("a"), of_batch("b"))
    s3.delete_object(Bucket=FINAL, Key=LIST)
    for reading in (lambda: seen(s3), lambda: add(s3, put(s3, of_batch("c")))):
        with pytest.raises(
            ResultsError, match=f"{LIST} is gone, and without it the rows of {merged} would be there twice"
        ):
            reading()
    s3.delete_object(Bucket=FINAL, Key=merged)
    assert seen(s3) == [of_batch("a"), of_batch("b"), of_batch("c")]
