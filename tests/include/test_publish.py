from __future__ import annotations

import contextlib
import io
import itertools
import json
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pyarrow.parquet as pq
import pytest

from include import layout
from include import publish as publish_module
from include.batches import Batch, plan_batches, read_batch, write_batches
from include.images import ImageRef
from include.outcomes import Checked, Outcome, write_part, write_preflight
from include.preflight import preflight
from include.publish import PublishReport, publish
from include.settings import Settings, load_settings
from tests.include.conftest import BuildSettings
from tests.include.memory_s3 import Killed, MemoryS3, failure
from tests.include.samples import (
    AWKWARD_KEYS,
    FINAL,
    INBOX,
    MODEL_ARN,
    NOW,
    VALUES,
    custom_label,
    facts,
    image,
    images,
    outcome,
    picture,
    uploaded,
)

THRESHOLDS = {"CAP": 98.8, "WATCH": 1.4}
LABELS = (custom_label("CAP", 99.1, (0.1, 0.2, 0.3, 0.4)), custom_label("CAP", 60.0), custom_label("WATCH", 2.0))
DONE_DAY = "2026-03-01"


def ended(of: ImageRef, status: Any = "LABELLED", **fields: Any) -> Outcome:
    return outcome(of, status, **({"custom_labels": LABELS} if status == "LABELLED" else {}) | fields)


def pending(s3: Any, settings: Settings, entries: Sequence[Checked], paid: Sequence[Outcome]) -> Batch:
    """A batch as it lies there when inference is over."""
    (batch,) = plan_batches([entry.image for entry in entries], batch_size=10_000)
    write_batches(s3, settings.final_bucket, [batch], threads=1)
    write_preflight(s3, settings.final_bucket, batch.batch_id, entries)
    for number, start in enumerate(range(0, len(paid), 100)):
        write_part(s3, settings.final_bucket, batch.batch_id, paid[start : start + 100], number=number)
    return batch


def inferred(s3: Any, settings: Settings, *paid: Outcome) -> Batch:
    return pending(s3, settings, [Checked(each.image, each.facts) for each in paid], paid)


def run(s3: Any, settings: Settings, batch: Batch) -> PublishReport:
    return publish(s3, settings, batch, thresholds=THRESHOLDS)


def rows(s3: MemoryS3) -> list[dict[str, Any]]:
    """Every row of every Parquet file."""
    files = s3.contents(FINAL, "results/image_labels/analysis=")
    return [row for body in files.values() for row in pq.read_table(io.BytesIO(body)).to_pylist()]


def document(s3: MemoryS3, key: str) -> dict[str, Any]:
    return dict(json.loads(s3.contents(FINAL)[key]))


def everything(s3: MemoryS3) -> dict[str, dict[str, bytes]]:
    return {bucket: s3.contents(bucket) for bucket in (INBOX, FINAL, "archive")}


class TestDocuments:
    def test_a_labelled_image(self, s3: MemoryS3, settings: Settings) -> None:
        told = uploaded(s3, image("a b.jpg"), picture())
        batch = inferred(s3, settings, ended(told, request_id="r-1"))
        report = run(s3, settings, batch)
        assert report == PublishReport(images=1, labelled=1, labels=2)
        found = document(s3, "labels/inbox/a b.jpg.json")
        assert found["source_key"] == "a b.jpg"
        assert found["etag"] == told.etag
        assert found["model_arn"] == MODEL_ARN
        assert found["request"] == {"MinConfidence": 0}
        assert found["response"] == {"CustomLabels": list(LABELS), "RequestId": "r-1"}
        assert [
            (label["name"], label["confidence"], label["threshold"], label["passes"]) for label in found["labels"]
        ] == [
            ("CAP", 99.1, 98.8, True),
            ("CAP", 60.0, 98.8, False),
            ("WATCH", 2.0, 1.4, True),
        ]

    def test_its_headers_say_what_was_labelled_by_which_model(self, s3: MemoryS3, settings: Settings) -> None:
        told = uploaded(s3, image("a.jpg"), picture())
        run(s3, settings, inferred(s3, settings, ended(told)))
        head = s3.head_object(Bucket=FINAL, Key="labels/inbox/a.jpg.json")
        assert head["Metadata"] == {
            "etag": told.etag,
            "event-time": told.event_time.isoformat(),
            "sequencer": told.sequencer,
            "model-arn": MODEL_ARN,
            "status": "LABELLED",
        }
        assert head["ContentType"] == "application/json"

    @pytest.mark.parametrize("status", ["REJECTED", "MISSING", "FAILED"])
    def test_what_could_not_be_labelled_has_a_reason(self, s3: MemoryS3, settings: Settings, status: str) -> None:
        bad = ended(image("a.jpg"), status, error_code="SomeCode", error_message="because")
        run(s3, settings, inferred(s3, settings, bad))
        found = document(s3, "quarantine/inbox/a.jpg.error.json")
        assert (found["status"], found["error_code"], found["error_message"]) == (status, "SomeCode", "because")
        assert "labels" not in found
        assert s3.keys(FINAL, "labels/") == []

    @pytest.mark.parametrize("key", [*AWKWARD_KEYS, "é" * 512])
    def test_any_key(self, s3: MemoryS3, settings: Settings, key: str) -> None:
        told = uploaded(s3, image(key), picture())
        run(s3, settings, inferred(s3, settings, ended(told)))
        assert document(s3, layout.labels_document(INBOX, key))["source_key"] == key
        assert s3.contents(FINAL, "images/") == {layout.original(INBOX, key): picture()}
        assert s3.keys(INBOX) == []


class TestRows:
    def test_every_image_has_exactly_one_row(self, s3: MemoryS3, settings: Settings) -> None:
        report = run(s3, settings, inferred(s3, settings, *map(ended, images(50))))
        assert report.labelled == 50
        assert sorted(row["source_key"] for row in rows(s3)) == [each.key for each in images(50)]

    def test_rows_are_sorted_by_event_time(self, s3: MemoryS3, settings: Settings) -> None:
        shuffled = [*images(30)[::2], *images(30)[1::2]]
        run(s3, settings, inferred(s3, settings, *map(ended, shuffled)))
        assert [row["source_key"] for row in rows(s3)] == [each.key for each in images(30)]

    def test_the_partition_is_the_day_of_processing(self, s3: MemoryS3, settings: Settings) -> None:
        told = image("a.jpg", minutes=-10 * 24 * 60)
        batch = inferred(s3, settings, ended(told))
        run(s3, settings, batch)
        assert s3.keys(FINAL, "results/image_labels/analysis=") == [
            f"results/image_labels/analysis=custom_labels/dt=2026-03-01/{batch.batch_id}.parquet"
        ]

    def test_labelled_again_an_image_is_as_new_as_its_upload_and_the_later_result_is_the_newest(
        self, s3: MemoryS3, settings: Settings
    ) -> None:
        upload = image("a.jpg", minutes=0.02)
        run(s3, settings, inferred(s3, settings, ended(upload)))
        by_hand = replace(upload, event_time=NOW, origin="manual", force=True)  # as S3 has it: when the upload began
        run(s3, settings, inferred(s3, settings, ended(by_hand, processed_at=NOW + timedelta(hours=1))))
        found = sorted(rows(s3), key=lambda row: (row["event_time"], row["processed_at"], row["batch_id"]))
        assert {row["event_time"] for row in found} == {upload.event_time.replace(microsecond=200_000)}
        assert [row["origin"] for row in found] == ["upload", "manual"]

    def test_a_batch_around_midnight_has_a_file_a_day(self, s3: MemoryS3, settings: Settings) -> None:
        two = [ended(image("a.jpg")), ended(image("b.jpg"), processed_at=NOW + timedelta(days=1))]
        batch = inferred(s3, settings, *two)
        run(s3, settings, batch)
        assert [key.split("/")[3] for key in s3.keys(FINAL, "results/image_labels/analysis=")] == [
            "dt=2026-03-01",
            "dt=2026-03-02",
        ]
        assert [row["source_key"] for row in rows(s3)] == ["a.jpg", "b.jpg"]
        assert s3.keys(FINAL, "batches/done/") == [f"batches/done/2026-03-02/{batch.batch_id}.jsonl.gz"]

    def test_nothing_found_is_a_row_with_no_labels(self, s3: MemoryS3, settings: Settings) -> None:
        run(s3, settings, inferred(s3, settings, ended(image("a.jpg"), custom_labels=())))
        (row,) = rows(s3)
        assert (row["status"], row["labels"], row["label_count"], row["max_confidence"]) == ("LABELLED", [], 0, None)

    def test_what_was_labelled_before_gets_no_second_row(self, s3: MemoryS3, settings: Settings) -> None:
        before = Checked(image("a.jpg"), already_labelled=True)
        report = run(s3, settings, pending(s3, settings, [before], []))
        assert report == PublishReport(images=1, skipped=1)
        assert rows(s3) == []

    def test_versions_of_a_key_have_rows_of_their_own_and_the_newest_has_the_document(self, settings: Settings) -> None:
        s3 = MemoryS3(FINAL, versioned=(INBOX,))
        first = uploaded(s3, image("a.jpg", sequencer="01"), picture(seed=1))
        second = uploaded(s3, image("a.jpg", sequencer="02"), picture(seed=2))
        run(s3, settings, inferred(s3, settings, ended(second), ended(first)))
        assert {row["version_id"] for row in rows(s3)} == {"v1", "v2"}
        assert document(s3, "labels/inbox/a.jpg.json")["etag"] == second.etag
        filed = s3.contents(FINAL, "images/")
        assert filed == {"images/inbox/a.jpg": picture(seed=2), f"images/inbox/a.jpg~{first.etag}": picture(seed=1)}


class TestLateMessages:
    """An older image of a name is labelled after a newer one: it has its row, and takes nothing away."""

    @pytest.mark.parametrize(
        ("newer", "older"),
        [
            ({"sequencer": "0A", "minutes": 1}, {"sequencer": "09", "minutes": 5}),
            ({"sequencer": "0A", "minutes": 5}, {"minutes": 1}),
            ({"minutes": 5}, {"minutes": 1}),
        ],
        ids=["by sequencers", "by time, where one has no sequencer", "by time"],
    )
    def test_the_newest_keeps_its_document_and_its_place(
        self, settings: Settings, newer: dict[str, Any], older: dict[str, Any]
    ) -> None:
        s3 = MemoryS3(FINAL, versioned=(INBOX,))
        first = uploaded(s3, image("a.jpg", **older), picture(seed=1))
        second = uploaded(s3, image("a.jpg", **newer), picture(seed=2))
        for late in (second, first, second):
            run(s3, settings, inferred(s3, settings, ended(late)))
        assert document(s3, "labels/inbox/a.jpg.json")["etag"] == second.etag
        filed = s3.contents(FINAL, "images/")
        assert filed == {"images/inbox/a.jpg": picture(seed=2), f"images/inbox/a.jpg~{first.etag}": picture(seed=1)}
        assert {row["etag"] for row in rows(s3)} == {first.etag, second.etag}
        assert s3.keys(INBOX) == []

    def test_one_that_cannot_be_labelled_has_its_reason_all_the_same(self, settings: Settings) -> None:
        s3 = MemoryS3(FINAL, versioned=(INBOX,))
        first = uploaded(s3, image("a.jpg", sequencer="01"), b"no image")
        second = uploaded(s3, image("a.jpg", sequencer="02"), picture())
        run(s3, settings, inferred(s3, settings, ended(second)))
        run(s3, settings, inferred(s3, settings, ended(first, "REJECTED", error_code="X")))
        assert document(s3, "quarantine/inbox/a.jpg.error.json")["etag"] == first.etag
        assert s3.contents(FINAL, "quarantine/")["quarantine/inbox/a.jpg"] == b"no image"


def test_what_an_earlier_run_left_of_other_images_finishes_no_batch(s3: MemoryS3, settings: Settings) -> None:
    """Two images went to another batch since, and preflight did not get to the two that are left."""
    paid = [ended(image("a.jpg")), ended(image("b.jpg"))]
    before = inferred(s3, settings, *paid)
    now = Batch(before.key, (image("c.jpg"), image("d.jpg")))
    write_batches(s3, FINAL, [now], threads=1)
    assert run(s3, settings, now) == PublishReport(images=2, pending=2)
    assert s3.keys(FINAL, "batches/pending/") == [before.key]
    assert s3.keys(FINAL, "batches/done/") == []


class TestOriginals:
    def filed(self, s3: MemoryS3, settings: Settings, found: Outcome) -> tuple[list[str], list[str], list[str]]:
        """Keys left at the source, kept as labelled, kept in quarantine."""
        run(s3, settings, inferred(s3, settings, found))
        quarantined = [key for key in s3.keys(FINAL, "quarantine/") if not key.endswith(".error.json")]
        return s3.keys(found.image.bucket), s3.keys(FINAL, "images/"), quarantined

    def test_a_labelled_upload_is_moved(self, s3: MemoryS3, settings: Settings) -> None:
        told = uploaded(s3, image("f/a.jpg"), picture())
        assert self.filed(s3, settings, ended(told)) == ([], ["images/inbox/f/a.jpg"], [])
        assert s3.contents(FINAL, "images/") == {"images/inbox/f/a.jpg": picture()}

    def test_a_name_that_is_free_is_not_asked_for_first(self, s3: MemoryS3, settings: Settings) -> None:
        batch = inferred(s3, settings, ended(uploaded(s3, image("a.jpg"), picture())))
        s3.calls.clear()
        run(s3, settings, batch)
        asked = [key for operation, _, key in s3.calls if operation == "head_object"]
        assert asked == ["labels/inbox/a.jpg.json"]  # whether a newer image has the name by now

    @pytest.mark.parametrize("code", ["PreconditionFailed", "ConditionalRequestConflict"])
    def test_what_takes_the_name_at_the_same_moment_is_not_overwritten(
        self, s3: MemoryS3, settings: Settings, monkeypatch: pytest.MonkeyPatch, code: str
    ) -> None:
        copy = s3.copy_object

        def too_late(**parameters: Any) -> Any:
            if parameters.get("IfNoneMatch"):
                s3.put_object(Bucket=FINAL, Key="images/inbox/a.jpg", Body=b"another")
                raise failure(code, "CopyObject", 412)
            return copy(**parameters)

        monkeypatch.setattr(s3, "copy_object", too_late)
        told = uploaded(s3, image("a.jpg"), picture())
        run(s3, settings, inferred(s3, settings, ended(told)))
        assert sorted(s3.contents(FINAL, "images/").values()) == sorted([picture(), b"another"])

    @pytest.mark.parametrize("status", ["REJECTED", "FAILED"])
    def test_what_could_not_be_labelled_goes_to_quarantine(self, s3: MemoryS3, settings: Settings, status: str) -> None:
        told = uploaded(s3, image("a.jpg"), b"hello")
        assert self.filed(s3, settings, ended(told, status)) == ([], [], ["quarantine/inbox/a.jpg"])

    def test_where_settings_say_so_it_stays(self, s3: MemoryS3, build_settings: BuildSettings) -> None:
        told = uploaded(s3, image("a.jpg"), picture())
        assert self.filed(s3, build_settings(originals="leave"), ended(told)) == (["a.jpg"], [], [])

    def test_an_archive_is_left_as_it_is(self, s3: MemoryS3, settings: Settings) -> None:
        told = uploaded(s3, image("a.jpg", bucket="archive", origin="archive"), picture())
        assert self.filed(s3, settings, ended(told)) == (["a.jpg"], [], [])

    def test_so_is_an_archive_within_the_inbox(self, s3: MemoryS3, settings: Settings) -> None:
        told = uploaded(s3, image("a.jpg", origin="archive"), picture())
        assert self.filed(s3, settings, ended(told)) == (["a.jpg"], [], [])

    def test_so_is_another_bucket_asked_for_by_hand(self, s3: MemoryS3, settings: Settings) -> None:
        told = uploaded(s3, image("a.jpg", bucket="archive", origin="manual"), picture())
        assert self.filed(s3, settings, ended(told)) == (["a.jpg"], [], [])

    def test_an_image_overwritten_since_stays(self, s3: MemoryS3, settings: Settings) -> None:
        told = uploaded(s3, image("a.jpg"), picture())
        uploaded(s3, image("a.jpg"), picture(seed=9))
        assert self.filed(s3, settings, ended(told)) == (["a.jpg"], [], [])
        assert s3.contents(INBOX) == {"a.jpg": picture(seed=9)}

    def test_an_image_overwritten_between_copy_and_deletion_stays(self, s3: MemoryS3, settings: Settings) -> None:
        told = uploaded(s3, image("a.jpg"), picture())
        copy = s3.copy_object

        def then_overwritten(**call: Any) -> Any:
            answer = copy(**call)
            s3.put_object(Bucket=INBOX, Key="a.jpg", Body=picture(seed=9))
            return answer

        s3.copy_object = then_overwritten  # type: ignore[method-assign]
        self.filed(s3, settings, ended(told))
        assert s3.contents(INBOX) == {"a.jpg": picture(seed=9)}
        assert s3.contents(FINAL, "images/") == {"images/inbox/a.jpg": picture()}

    def test_only_the_version_that_was_analysed_is_moved(self, settings: Settings) -> None:
        s3 = MemoryS3(FINAL, versioned=(INBOX,))
        told = uploaded(s3, image("a.jpg"), picture())
        uploaded(s3, image("a.jpg"), picture(seed=9))
        assert self.filed(s3, settings, ended(told)) == (["a.jpg"], ["images/inbox/a.jpg"], [])
        assert s3.contents(INBOX) == {"a.jpg": picture(seed=9)}
        assert s3.contents(FINAL, "images/") == {"images/inbox/a.jpg": picture()}

    def test_a_missing_image_moves_nothing(self, s3: MemoryS3, settings: Settings) -> None:
        gone = ended(image("a.jpg"), "MISSING", error_code="NoSuchKey")
        assert self.filed(s3, settings, gone) == ([], [], [])

    @pytest.mark.parametrize("code", ["AccessDenied", "InvalidObjectState", "InvalidArgument"])
    def test_what_s3_does_not_let_us_read_is_not_touched(self, s3: MemoryS3, settings: Settings, code: str) -> None:
        told = uploaded(s3, image("a.jpg"), picture())
        s3.refuse["copy_object", "quarantine/inbox/a.jpg"] = failure(code, "CopyObject", 403)
        assert self.filed(s3, settings, ended(told, "FAILED", error_code=code)) == (["a.jpg"], [], [])

    def test_what_s3_cannot_copy_at_once_stays_where_it_is(
        self, s3: MemoryS3, settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        told = uploaded(s3, image("a.jpg"), picture())
        huge = replace(told, size_bytes=publish_module.MAX_COPY_BYTES + 1)
        assert self.filed(s3, settings, ended(huge, "REJECTED")) == (["a.jpg"], [], [])
        assert "stays where it is" in caplog.text
        assert s3.keys(FINAL, "batches/pending/") == []

    def test_any_other_error_of_s3_leaves_the_batch_pending(self, s3: MemoryS3, settings: Settings) -> None:
        told = uploaded(s3, image("a.jpg"), picture())
        s3.refuse["copy_object", "images/inbox/a.jpg"] = failure("SlowDown", "CopyObject", 503)
        batch = inferred(s3, settings, ended(told))
        with pytest.raises(Exception, match="SlowDown"):
            run(s3, settings, batch)
        assert s3.keys(FINAL, "batches/pending/") == [batch.key]
        assert s3.keys(FINAL, "batches/done/") == []

    def test_the_same_upload_again_joins_the_one_that_was_labelled(self, s3: MemoryS3, settings: Settings) -> None:
        self.filed(s3, settings, ended(uploaded(s3, image("a.jpg"), picture())))
        again = uploaded(s3, image("a.jpg", minutes=5), picture())
        self.skipped(s3, settings, again)
        assert s3.keys(INBOX) == []
        assert s3.keys(FINAL, "images/") == ["images/inbox/a.jpg"]
        assert len(rows(s3)) == 1

    def test_the_same_upload_again_joins_the_one_that_was_rejected(self, s3: MemoryS3, settings: Settings) -> None:
        self.filed(s3, settings, ended(uploaded(s3, image("a.jpg"), b"hello"), "REJECTED"))
        again = uploaded(s3, image("a.jpg", minutes=5), b"hello")
        self.skipped(s3, settings, again)
        assert s3.keys(INBOX) == []
        assert s3.keys(FINAL, "images/") == []
        assert s3.keys(FINAL, "quarantine/") == ["quarantine/inbox/a.jpg", "quarantine/inbox/a.jpg.error.json"]
        assert len(rows(s3)) == 1

    def skipped(self, s3: MemoryS3, settings: Settings, again: ImageRef) -> None:
        (batch,) = plan_batches([again], batch_size=1)
        write_batches(s3, FINAL, [batch], threads=1)
        (checked,) = preflight(s3, settings, batch, run_id="manual__2", now=lambda: NOW)
        assert checked.already_labelled
        assert run(s3, settings, batch) == PublishReport(images=1, skipped=1)


class TestGoneOrNotReadable:
    """The service says InvalidS3ObjectException of both; S3 is asked once the model is stopped."""

    def unreadable(self, of: ImageRef) -> Outcome:
        return ended(of, "FAILED", error_code="InvalidS3ObjectException", error_message="Unable to get object metadata")

    def test_what_is_gone_is_missing(self, s3: MemoryS3, settings: Settings) -> None:
        report = run(s3, settings, inferred(s3, settings, self.unreadable(image("a.jpg"))))
        assert (report.missing, report.failed) == (1, 0)
        (row,) = rows(s3)
        assert (row["status"], row["error_code"]) == ("MISSING", "NoSuchKey")

    def test_what_is_there_has_failed(self, s3: MemoryS3, settings: Settings) -> None:
        told = uploaded(s3, image("a.jpg"), picture())
        report = run(s3, settings, inferred(s3, settings, self.unreadable(told)))
        assert (report.missing, report.failed) == (0, 1)
        assert s3.contents(FINAL, "quarantine/inbox/a.jpg")["quarantine/inbox/a.jpg"] == picture()


class TestTheBatch:
    def test_it_is_done_and_pending_no_more(self, s3: MemoryS3, settings: Settings) -> None:
        batch = inferred(s3, settings, *map(ended, images(3)))
        run(s3, settings, batch)
        assert s3.keys(FINAL, "batches/pending/") == []
        done = f"batches/done/2026-03-01/{batch.batch_id}.jsonl.gz"
        assert s3.keys(FINAL, "batches/done/") == [done]
        found = read_batch(s3, FINAL, done)
        assert found is not None
        assert found.images == batch.images

    @pytest.mark.parametrize("checked", [0, 2, 3])
    def test_it_stays_pending_while_an_image_has_no_outcome(
        self, s3: MemoryS3, settings: Settings, checked: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        (batch,) = plan_batches(images(3), batch_size=10)
        write_batches(s3, FINAL, [batch], threads=1)
        write_preflight(s3, FINAL, batch.batch_id, [Checked(each, facts()) for each in images(checked)])
        write_part(s3, FINAL, batch.batch_id, list(map(ended, images(checked)[:2])), number=0)
        before = s3.contents(FINAL)
        report = run(s3, settings, batch)
        assert report == PublishReport(images=3, pending=3 - min(checked, 2))
        assert s3.contents(FINAL) == before
        assert "stays pending" in caplog.text

    def test_one_without_preflight_stays_pending(self, s3: MemoryS3, settings: Settings) -> None:
        (batch,) = plan_batches(images(3), batch_size=10)
        write_batches(s3, FINAL, [batch], threads=1)
        assert run(s3, settings, batch).pending == 3

    def test_staged_copies_are_gone(self, s3: MemoryS3, settings: Settings) -> None:
        (batch,) = plan_batches([image("a.webp")], batch_size=1)
        staged = f"staged/{batch.batch_id}/0000000000000001.jpg"
        s3.put_object(Bucket=FINAL, Key=staged, Body=picture())
        s3.put_object(Bucket=FINAL, Key="staged/another/1.jpg", Body=picture())
        run(s3, settings, inferred(s3, settings, ended(image("a.webp"), facts=facts(staged_key=staged))))
        assert s3.keys(FINAL, "staged/") == ["staged/another/1.jpg"]


def world() -> MemoryS3:
    """Every kind of image there is, in one batch that inference has ended."""
    s3 = MemoryS3(INBOX, FINAL, "archive")
    for key, body in (("a.jpg", 1), ("empty hand.jpg", 2), ("unreadable.jpg", 3), ("broken.jpg", 4), ("again.jpg", 5)):
        s3.put_object(Bucket=INBOX, Key=key, Body=picture(seed=body))
    for key in ("text.jpg", "text again.jpg"):
        s3.put_object(Bucket=INBOX, Key=key, Body=b"hello")
    s3.put_object(Bucket="archive", Key="old.jpg", Body=picture(seed=6))
    s3.put_object(Bucket=INBOX, Key="overwritten.jpg", Body=picture(seed=8))
    return s3


def told(s3: MemoryS3, key: str, **fields: Any) -> ImageRef:
    ref = image(key, **fields)
    head = s3.head_object(Bucket=ref.bucket, Key=key)
    return replace(ref, etag=head["ETag"].strip('"'), size_bytes=head["ContentLength"])


def one_of_each(s3: MemoryS3, settings: Settings) -> Batch:
    unreadable = {"error_code": "InvalidS3ObjectException", "error_message": "Unable to get object metadata"}
    paid = [
        ended(told(s3, "a.jpg")),
        ended(told(s3, "empty hand.jpg"), custom_labels=()),
        ended(told(s3, "unreadable.jpg"), "FAILED", **unreadable),
        ended(image("gone.jpg"), "FAILED", **unreadable),
        ended(told(s3, "broken.jpg"), "FAILED", error_code="InvalidImageFormatException"),
        ended(told(s3, "old.jpg", bucket="archive", origin="archive")),
        ended(image("overwritten.jpg", etag="1" * 32)),
        ended(image("late.jpg"), processed_at=NOW + timedelta(days=1)),
    ]
    text = told(s3, "text.jpg")
    rejected = ended(text, "REJECTED", error_code="InvalidImageFormatException")
    for again, place, status in (("again.jpg", "labels", "LABELLED"), ("text again.jpg", "quarantine", "REJECTED")):
        ending = ".json" if place == "labels" else ".error.json"
        headers = {"etag": told(s3, again).etag, "model-arn": MODEL_ARN, "status": status}
        s3.put_object(Bucket=FINAL, Key=f"{place}/inbox/{again}{ending}", Body=b"{}", Metadata=headers)
    entries = [
        *(Checked(each.image, each.facts) for each in paid),
        Checked(text, rejected.facts, rejected),
        Checked(told(s3, "again.jpg"), already_labelled=True),
        Checked(told(s3, "text again.jpg"), already_labelled=True),
    ]
    batch = pending(s3, settings, entries, paid)
    s3.put_object(Bucket=FINAL, Key=layout.staged(batch.batch_id, 1), Body=b"staged")
    s3.calls.clear()
    return batch


@pytest.fixture(scope="module")
def undisturbed() -> tuple[dict[str, dict[str, bytes]], int]:
    """What publishing leaves behind, and how many calls it takes."""
    s3, settings = world(), load_settings(**VALUES)
    report = run(s3, settings, one_of_each(s3, settings))
    assert report == PublishReport(images=11, labelled=5, rejected=1, missing=1, failed=2, skipped=2, labels=8)
    calls = len(s3.calls)
    return everything(s3), calls


class TestRepeated:
    def test_every_source_image_is_in_exactly_one_place(self, undisturbed: tuple[Any, int]) -> None:
        left = undisturbed[0]
        assert sorted(left[INBOX]) == ["overwritten.jpg"]
        assert sorted(left["archive"]) == ["old.jpg"]
        assert [key for key in left[FINAL] if key.startswith("images/")] == [
            f"images/inbox/{key}" for key in ("a.jpg", "again.jpg", "empty hand.jpg")
        ]
        assert [key for key in left[FINAL] if key.startswith("quarantine/") and not key.endswith(".json")] == [
            f"quarantine/inbox/{key}" for key in ("broken.jpg", "text again.jpg", "text.jpg", "unreadable.jpg")
        ]

    def test_publishing_again_changes_nothing(self, settings: Settings, undisturbed: tuple[Any, int]) -> None:
        s3 = world()
        batch = one_of_each(s3, settings)
        run(s3, settings, batch)
        write_batches(s3, FINAL, [batch], threads=1)
        run(s3, settings, batch)
        assert everything(s3) == undisturbed[0]

    @pytest.mark.parametrize("after_the_effect", [False, True])
    def test_killed_at_any_call_and_run_again_it_ends_the_same(
        self, settings: Settings, undisturbed: tuple[Any, int], after_the_effect: bool
    ) -> None:
        expected, calls = undisturbed
        for call in range(1, calls + 1):
            s3 = world()
            batch = one_of_each(s3, settings)
            s3.dies_at, s3.dies_after_the_effect = call, after_the_effect
            with pytest.raises(Killed):
                run(s3, settings, batch)
            s3.dies_at = None
            still = read_batch(s3, FINAL, batch.key)
            if still:
                run(s3, settings, still)
            assert everything(s3) == expected, f"killed at call {call}"

    def test_killed_twice_it_ends_the_same(self, settings: Settings, undisturbed: tuple[Any, int]) -> None:
        expected, calls = undisturbed
        for first, second in itertools.product(range(1, calls + 1, 5), range(1, calls + 1, 7)):
            s3 = world()
            batch = one_of_each(s3, settings)
            for call in (first, second):
                s3.calls.clear()
                s3.dies_at = call
                with contextlib.suppress(Killed):  # the second time there is less left to do
                    run(s3, settings, batch)
                s3.dies_at = None
            run(s3, settings, batch)
            assert everything(s3) == expected, f"killed at call {first}, then at {second}"

    @pytest.mark.parametrize("threads", [2, 16])
    def test_any_number_of_threads_leaves_the_same(
        self, build_settings: BuildSettings, undisturbed: tuple[Any, int], threads: int
    ) -> None:
        s3, settings = world(), build_settings(threads=threads)
        run(s3, settings, one_of_each(s3, settings))
        assert everything(s3) == undisturbed[0]


def test_memory_does_not_grow_with_the_number_of_images(s3: MemoryS3, build_settings: BuildSettings) -> None:
    """Outcomes in batches, each published as a mapped task publishes it: the peak is that of one batch."""

    class Forgetful(MemoryS3):
        """Keeps batches and checkpoints, and of the rest nothing: what is measured is the stage, not the bucket."""

        def put_object(self, *, Bucket: str, Key: str, **call: Any) -> dict[str, Any]:
            if not Key.startswith(("labels/", "results/", "batches/done/")):
                return super().put_object(Bucket=Bucket, Key=Key, **call)
            return {"ETag": '"forgotten"'}

    s3, settings = Forgetful(INBOX, FINAL), build_settings(originals="leave", threads=4)
    labels = tuple(custom_label(f"label-{number}", number, (0.1, 0.2, 0.3, 0.4)) for number in range(5))
    batches = [
        inferred(s3, settings, *(ended(each, custom_labels=labels) for each in images(1_800)[start : start + 300]))
        for start in range(0, 1_800, 300)
    ]
    peaks = []
    tracemalloc.start()
    for batch in batches:
        tracemalloc.reset_peak()
        assert run(s3, settings, batch).labelled == 300
        peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert max(peaks) < 20_000_000
    assert max(peaks[1:]) < 1.3 * peaks[0]


def test_on_local_aws(aws_s3: Any, aws_settings: Settings) -> None:
    inbox, final = aws_settings.source_bucket, aws_settings.final_bucket
    good = uploaded(aws_s3, image("é (1)+%.jpg", bucket=inbox), picture())
    bad = uploaded(aws_s3, image("text.jpg", bucket=inbox), b"hello")
    newer = uploaded(aws_s3, image("newer.jpg", bucket=inbox), picture(seed=1))
    aws_s3.put_object(Bucket=inbox, Key="newer.jpg", Body=picture(seed=2))
    found = [ended(good), ended(bad, "REJECTED"), ended(newer), ended(image("gone.jpg", bucket=inbox), "MISSING")]
    batch = inferred(aws_s3, aws_settings, *found)

    def listing(bucket: str) -> dict[str, str]:
        return {item["Key"]: item["ETag"] for item in aws_s3.list_objects_v2(Bucket=bucket).get("Contents", [])}

    assert run(aws_s3, aws_settings, batch).labelled == 2
    first = listing(inbox), listing(final)
    assert list(first[0]) == ["newer.jpg"]
    assert f"images/{inbox}/é (1)+%.jpg" in first[1]
    assert f"quarantine/{inbox}/text.jpg" in first[1]
    assert f"images/{inbox}/newer.jpg" not in first[1]
    write_batches(aws_s3, final, [batch], threads=1)
    run(aws_s3, aws_settings, batch)
    assert (listing(inbox), listing(final)) == first
