from __future__ import annotations

import io
import itertools
import threading
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from include import compact as compact_module
from include import layout, merge
from include.compact import GRACE, Compaction, compact_day, days_to_compact, remove_replaced
from include.errors import ResultsError
from include.file_lists import add_file, visible_files
from include.schema import ANALYSIS, IMAGE_LABELS, image_labels_table, image_row
from tests.include.memory_s3 import MODIFIED, Killed, MemoryS3
from tests.include.samples import AWKWARD_KEYS, FINAL, MODEL_ARN, custom_label, image, outcome

DAY = "2026-03-01"
FILES = layout.IMAGE_LABELS + "analysis="
NEXT_DAY = datetime(2026, 3, 2, 2, 30, tzinfo=UTC)
LABELS = (custom_label("CAP", 99.1, (0.1, 0.2, 0.3, 0.4)), custom_label("CAP", 60.0), custom_label("WATCH", 2.0))


def rows(batch_id: str, count: int, *, prefix: str = "") -> list[dict[str, Any]]:
    names = [f"{prefix or batch_id}/{number}-{AWKWARD_KEYS[number % len(AWKWARD_KEYS)]}" for number in range(count)]
    outcomes = [
        outcome(image(name), "LABELLED", custom_labels=LABELS) if number % 3 else outcome(image(name), "FAILED")
        for number, name in enumerate(reversed(names))
    ]
    return [
        image_row(
            each, batch_id=batch_id, model_arn=MODEL_ARN, model_version="v", thresholds={}, default_threshold=50.0
        )
        for each in outcomes
    ]


def key_of(batch_id: str, day: str = DAY) -> str:
    return layout.image_labels(analysis=ANALYSIS, day=day, batch_id=batch_id)


def publish(s3: MemoryS3, batch_id: str, count: int = 5, *, day: str = DAY, table: pa.Table | None = None) -> str:
    body = io.BytesIO()
    pq.write_table(table or image_labels_table(rows(batch_id, count)), body, compression="zstd")
    s3.put_object(Bucket=FINAL, Key=key_of(batch_id, day), Body=body.getvalue())
    add_file(s3, FINAL, analysis=ANALYSIS, day=day, key=key_of(batch_id, day))
    return key_of(batch_id, day)


def seen(s3: MemoryS3) -> list[str]:
    return [file.key for file in visible_files(s3, FINAL, analysis=ANALYSIS, threads=1)]


def content(s3: MemoryS3, keys: Sequence[str]) -> pa.Table:
    files = s3.contents(FINAL)
    return pa.concat_tables([pq.ParquetFile(io.BytesIO(files[key])).read() for key in keys])


def told(table: pa.Table) -> Counter[str]:
    return Counter(str(row) for row in table.replace_schema_metadata().to_pylist())


def shown(s3: MemoryS3) -> Counter[str]:
    """Every row that a reader sees, with how often."""
    return told(content(s3, seen(s3)))


def compact(s3: Any, day: str = DAY) -> Compaction:
    return compact_day(s3, FINAL, analysis=ANALYSIS, day=day, threads=1)


def remove(s3: Any, *, after: timedelta = GRACE + timedelta(hours=1)) -> int:
    return remove_replaced(s3, FINAL, analysis=ANALYSIS, now=MODIFIED + after, threads=1)


@pytest.fixture
def s3() -> MemoryS3:
    return MemoryS3(FINAL)


def test_many_files_become_one_with_the_same_rows(s3: MemoryS3) -> None:
    for number in range(4):
        publish(s3, f"{number:016x}", 5)
    before = shown(s3)
    done = compact(s3)
    assert (done.files_before, done.files_after, done.rows) == (4, 1, 20)
    assert [layout.is_merged(key) for key in seen(s3)] == [True]
    assert shown(s3) == before


def test_a_merged_file_is_sorted_by_image_and_has_the_types_of_a_batch(s3: MemoryS3) -> None:
    for number in range(3):
        publish(s3, f"{number:016x}", 9)
    compact(s3)
    table = content(s3, seen(s3))
    names = list(zip(table["source_bucket"].to_pylist(), table["source_key"].to_pylist(), strict=True))
    assert names == sorted(names)
    assert table.schema.remove_metadata() == IMAGE_LABELS


@pytest.mark.parametrize("limit", ["ROW_GROUP_BYTES", "GROUP_IN_MEMORY_BYTES"])
def test_more_than_a_row_group_goes_through_files_and_loses_nothing(
    s3: MemoryS3, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        publish(s3, f"{number:016x}", 40)
    before = shown(s3)
    monkeypatch.setattr(merge, limit, 8_000)
    assert compact(s3).rows == 240
    assert shown(s3) == before
    file = pq.ParquetFile(io.BytesIO(s3.contents(FINAL)[seen(s3)[0]]))
    assert file.num_row_groups > 2
    keys = file.read(columns=["source_key"])["source_key"].to_pylist()
    assert keys == sorted(keys)


def test_rows_of_one_image_stay_together_although_they_fill_a_row_group(
    s3: MemoryS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        publish(s3, f"{number:016x}", table=image_labels_table(rows(f"{number:016x}", 1, prefix="same") * 30))
    before = shown(s3)
    monkeypatch.setattr(merge, "ROW_GROUP_BYTES", 10_000)
    compact(s3)
    assert shown(s3) == before


def test_only_days_that_are_over_and_have_several_files_are_compacted(s3: MemoryS3) -> None:
    publish(s3, "a" * 16)
    publish(s3, "b" * 16)
    publish(s3, "c" * 16, day="2026-02-28")
    publish(s3, "d" * 16, day="2026-03-02")
    publish(s3, "e" * 16, day="2026-03-02")
    assert days_to_compact(s3, FINAL, analysis=ANALYSIS, now=NEXT_DAY, threads=1) == [DAY]
    compact(s3)
    assert days_to_compact(s3, FINAL, analysis=ANALYSIS, now=NEXT_DAY, threads=1) == []


def test_a_day_that_goes_on_is_compacted_once_it_has_very_many_files(
    s3: MemoryS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compact_module, "MANY_FILES", 2)
    for name in "ab":
        publish(s3, name * 16)
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert days_to_compact(s3, FINAL, analysis=ANALYSIS, now=noon, threads=1) == []
    publish(s3, "c" * 16)
    assert days_to_compact(s3, FINAL, analysis=ANALYSIS, now=noon, threads=1) == [DAY]


def test_what_comes_late_is_seen_at_once_and_merged_by_itself(s3: MemoryS3) -> None:
    for name in "ab":
        publish(s3, name * 16)
    compact(s3)
    first = seen(s3)
    late = [publish(s3, name * 16) for name in "cd"]
    assert seen(s3) == sorted(first + late)
    before = shown(s3)
    compact(s3)
    assert len(seen(s3)) == 2
    assert set(first) < set(seen(s3))
    assert shown(s3) == before


def test_compacting_what_is_compact_changes_nothing(s3: MemoryS3) -> None:
    for name in "ab":
        publish(s3, name * 16)
    compact(s3)
    before = s3.contents(FINAL)
    done = compact(s3)
    assert (done.files_before, done.files_after, done.rows) == (1, 1, 0)
    assert s3.contents(FINAL) == before


@pytest.mark.parametrize("after_the_effect", [False, True])
def test_killed_at_any_call_each_row_is_seen_once_and_the_next_run_ends_it(after_the_effect: bool) -> None:
    for call in itertools.count(1):
        s3 = MemoryS3(FINAL)
        for name in "abc":
            publish(s3, name * 16)
        before = shown(s3)
        s3.dies_at, s3.dies_after_the_effect = len(s3.calls) + call, after_the_effect
        try:
            compact(s3)
            remove(s3)
        except Killed:
            s3.dies_at = None
        else:
            break
        assert shown(s3) == before
        publish(s3, "b" * 16)  # the batch that was being published is published once more
        assert shown(s3) == before
        compact(s3)
        remove(s3)
        assert shown(s3) == before
        assert len(s3.keys(FINAL, FILES)) == 1
    assert call > 8


class Interrupting(MemoryS3):
    """Something else happens before the swap."""

    def __init__(self) -> None:
        super().__init__(FINAL)
        self.meanwhile: Any = None

    def put_object(self, **options: Any) -> dict[str, Any]:
        answer = super().put_object(**options)
        if layout.is_merged(options["Key"]) and self.meanwhile:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        return answer


def test_a_batch_that_is_published_during_the_merge_is_kept() -> None:
    s3 = Interrupting()
    for name in "ab":
        publish(s3, name * 16)
    s3.meanwhile = lambda: publish(s3, "c" * 16)
    compact(s3)
    assert len(seen(s3)) == 2
    assert shown(s3).total() == 15
    assert set(shown(s3).values()) == {1}


def test_two_that_compact_at_once_show_each_row_once() -> None:
    s3 = Interrupting()
    for name in "abc":
        publish(s3, name * 16)
    before = shown(s3)
    s3.meanwhile = lambda: compact(s3)
    compact(s3)
    assert shown(s3) == before


def test_one_that_merged_other_files_meanwhile_wins() -> None:
    s3 = Interrupting()
    for name in "ab":
        publish(s3, name * 16)

    def meanwhile() -> None:
        publish(s3, "c" * 16)
        compact(s3)

    s3.meanwhile = meanwhile
    compact(s3)
    assert shown(s3).total() == 15
    assert set(shown(s3).values()) == {1}
    assert remove(s3) == 4  # three batches, and the merged file that came too late
    assert shown(s3).total() == 15


@pytest.mark.parametrize("body", [b"", b"no parquet", b"PAR1 half of it"])
def test_a_damaged_file_is_named_and_left_where_it_is(s3: MemoryS3, body: bytes) -> None:
    for name in "abc":
        publish(s3, name * 16)
    s3.put_object(Bucket=FINAL, Key=key_of("b" * 16), Body=body)
    done = compact(s3)
    assert done.rows == 10
    assert [key_of("b" * 16) in each for each in done.unreadable] == [True]
    assert key_of("b" * 16) in seen(s3)
    remove(s3)
    assert s3.contents(FINAL)[key_of("b" * 16)] == body


def test_a_listed_file_that_is_gone_keeps_no_other_day_from_being_compacted(s3: MemoryS3) -> None:
    for day in ("2026-02-01", "2026-02-02", DAY):
        for name in "ab":
            publish(s3, name * 16, day=day)
    compact(s3, "2026-02-02")
    s3.delete_object(Bucket=FINAL, Key=key_of("a" * 16, "2026-02-01"))
    assert remove(s3) == 2
    days = days_to_compact(s3, FINAL, analysis=ANALYSIS, now=NEXT_DAY, threads=1)
    assert days == ["2026-02-01", DAY]
    assert compact(s3).rows == 10
    with pytest.raises(ResultsError, match="aaaa.parquet is listed .* and is gone: no query of 2026-02-01 works"):
        compact(s3, "2026-02-01")


def test_a_file_of_an_older_version_has_nulls_for_what_it_did_not_know(s3: MemoryS3) -> None:
    old = image_labels_table(rows("a" * 16, 5)).drop_columns(["exif_orientation", "model_version"])
    publish(s3, "a" * 16, table=old)
    publish(s3, "b" * 16)
    assert compact(s3).rows == 10
    table = content(s3, seen(s3))
    of_batch = {row["batch_id"]: row["model_version"] for row in table.to_pylist()}
    assert of_batch == {"a" * 16: None, "b" * 16: "v"}


def test_a_file_of_a_newer_version_is_not_cut_down(s3: MemoryS3) -> None:
    newer = image_labels_table(rows("a" * 16, 5)).append_column("caption", pa.array(["text"] * 5))
    publish(s3, "a" * 16, table=newer)
    publish(s3, "b" * 16)
    publish(s3, "c" * 16)
    done = compact(s3)
    assert done.rows == 10
    assert "caption" in done.unreadable[0]
    assert key_of("a" * 16) in seen(s3)


def with_a_newer_field(table: pa.Table) -> pa.Table:
    labels = table["labels"].combine_chunks()
    fields = labels.values.flatten()
    names = [*(field.name for field in labels.type.value_type), "polygon"]
    newer = pa.StructArray.from_arrays([*fields, pa.array(["text"] * len(labels.values))], names=names)
    return table.drop_columns("labels").append_column("labels", pa.ListArray.from_arrays(labels.offsets, newer))


def test_labels_of_a_newer_version_are_not_cut_down(s3: MemoryS3) -> None:
    newer = publish(s3, "a" * 16, table=with_a_newer_field(image_labels_table(rows("a" * 16, 5))))
    for name in "bc":
        publish(s3, name * 16)
    done = compact(s3)
    assert done.rows == 10
    assert "labels.polygon" in done.unreadable[0]
    assert newer in seen(s3)


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"source_key": pa.array([], pa.string())}),
        image_labels_table(rows("a" * 16, 5)).append_column("etag", pa.array(["twice"] * 5)),
    ],
    ids=["no columns and no rows", "a column twice"],
)
def test_another_ones_file_keeps_no_day_from_being_compacted(s3: MemoryS3, table: pa.Table) -> None:
    for name in "abc":
        publish(s3, name * 16)
    body = io.BytesIO()
    pq.write_table(table, body)
    s3.put_object(Bucket=FINAL, Key=key_of("a" * 16), Body=body.getvalue())
    done = compact(s3)
    assert done.rows == 10
    assert [key_of("a" * 16) in each for each in done.unreadable] == [True]


def test_replaced_files_go_after_the_grace_and_nothing_else_does(s3: MemoryS3) -> None:
    for name in "ab":
        publish(s3, name * 16)
    compact(s3)
    half_way = key_of("f" * 16)  # of a batch whose publishing died before it was listed
    s3.put_object(Bucket=FINAL, Key=half_way, Body=b"rows")
    assert remove(s3, after=GRACE - timedelta(minutes=1)) == 0
    assert remove(s3) == 2
    assert remove(s3) == 0
    assert s3.keys(FINAL, FILES) == sorted([half_way, *seen(s3)])


def test_days_from_before_there_were_lists_are_compacted_as_well(s3: MemoryS3) -> None:
    for name in "ab":
        publish(s3, name * 16)
    s3.delete_object(Bucket=FINAL, Key=layout.file_list(analysis=ANALYSIS, day=DAY))
    before = shown(s3)
    assert compact(s3).rows == 10
    assert shown(s3) == before
    assert remove(s3) == 2


def test_readers_see_each_row_once_while_others_publish_and_compact(s3: MemoryS3) -> None:
    published: list[str] = []

    def publish_all() -> None:
        for number in range(40):
            publish(s3, f"{number:016x}", 2)
            published.append(f"{number:016x}")

    others = [
        threading.Thread(target=publish_all),
        *(threading.Thread(target=lambda: [compact(s3) for _ in range(25)]) for _ in range(2)),
    ]
    for other in others:
        other.start()
    looks = 0
    while any(other.is_alive() for other in others) or not looks:
        before = list(published)
        seen_now = Counter(content(s3, seen(s3))["batch_id"].to_pylist()) if seen(s3) else Counter[str]()
        assert {batch: seen_now[batch] for batch in before} == dict.fromkeys(before, 2)
        assert set(seen_now.values()) <= {2}
        looks += 1
    compact(s3)
    assert shown(s3).total() == 80


class Lasting(MemoryS3):
    """Objects have the time at which they were written; something else happens at a listing."""

    def __init__(self) -> None:
        super().__init__(FINAL)
        self.now = MODIFIED
        self.modified: dict[str, datetime] = {}
        self.meanwhile: dict[str, Any] = {}

    def put_object(self, **options: Any) -> dict[str, Any]:
        self.modified[options["Key"]] = self.now
        return super().put_object(**options)

    def paginate(self, **options: Any) -> Any:
        for page in super().paginate(**options):
            for item in page.get("Contents", []):
                item["LastModified"] = self.modified[item["Key"]]
            yield page
        self.meanwhile.pop(options["Prefix"], lambda: None)()


@pytest.mark.parametrize("listing", [layout.IMAGE_LABELS, layout.FILE_LISTS])
def test_files_that_another_one_replaces_meanwhile_stay_for_those_who_read_them(listing: str) -> None:
    s3 = Lasting()
    being_read = [publish(s3, name * 16) for name in "ab"]
    s3.now += timedelta(hours=14)
    s3.meanwhile[f"{listing}analysis={ANALYSIS}/"] = lambda: compact(s3)
    assert remove(s3, after=timedelta(hours=14)) == 0
    assert [layout.is_merged(key) for key in seen(s3)] == [True]
    assert {*being_read} < {*s3.keys(FINAL, FILES)}


def test_a_merged_file_that_somebody_may_be_about_to_show_stays() -> None:
    s3 = Interrupting()
    for name in "ab":
        publish(s3, name * 16)
    s3.meanwhile = lambda: remove(s3)
    before = shown(s3)
    compact(s3)
    assert shown(s3) == before
    assert remove(s3) == 2
