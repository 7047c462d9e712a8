from __future__ import annotations

import hashlib
import io
import json
import tracemalloc
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from include.batches import Batch, plan_batches, write_batches
from include.outcomes import Checked, ImageFacts, write_part
from include.preflight import HEADER_BYTES, examine, preflight
from include.publish import publish
from include.settings import Settings
from tests.include.conftest import BuildSettings
from tests.include.memory_s3 import MemoryS3
from tests.include.properties.ugly import (
    ACCEPTED,
    JPEG,
    REJECTED,
    chunk,
    every_body,
    png,
    seeds,
    segment,
    with_segments,
)
from tests.include.samples import FINAL, INBOX, NOW, custom_label, image, outcome, picture, uploaded

RUN = "manual__1"
SEEDS = seeds()


def look(body: bytes) -> tuple[ImageFacts, tuple[str, str] | None]:
    return examine(body[:HEADER_BYTES], len(body), rest=lambda: body)


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_the_service_takes_is_accepted(name: str) -> None:
    facts, problem = look(ACCEPTED[name])
    assert problem is None
    assert facts.format in ("JPEG", "PNG")
    assert facts.exif_orientation == (int(name[12]) if name.startswith("orientation") and name[12] != "9" else 1)


@pytest.mark.parametrize("name", REJECTED)
def test_what_the_service_refuses_is_rejected_in_words(name: str) -> None:
    body, code, words = REJECTED[name]
    facts, problem = look(body)
    assert facts.size_bytes == len(body)
    assert problem is not None
    assert problem[0].startswith(code)
    assert words in problem[1]
    assert problem[1].endswith(".")


@pytest.mark.parametrize("name", [name for name in every_body() if "bomb" in name or "large in" in name])
def test_a_bomb_is_neither_decoded_nor_unpacked(name: str) -> None:
    body = every_body()[name]
    tracemalloc.start()
    look(body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * 1024 * 1024


@pytest.mark.parametrize(
    "body",
    [JPEG, picture("PNG"), picture(progressive=True), ACCEPTED["orientation 6.jpg"], ACCEPTED["two pictures.mpo"]],
    ids=["jpeg", "png", "progressive", "exif", "mpo"],
)
def test_an_image_cut_off_anywhere_is_measured_rightly_or_rejected(body: bytes) -> None:
    for end in range(0, len(body), max(1, len(body) // 150)):
        facts, problem = look(body[:end])
        assert problem or (facts.width_px, facts.height_px) == (100, 80)


@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=12))
def test_damage_anywhere_is_an_answer_and_never_an_error(body: bytes, damage: list[tuple[float, int]]) -> None:
    damaged = bytearray(body)
    for place, value in damage:
        damaged[int(place * len(damaged))] = value
    facts, problem = look(bytes(damaged))
    assert problem or facts.format in ("JPEG", "PNG")


@given(st.binary(max_size=300))
@example(b"")
def test_exif_of_any_bytes_is_upright_or_a_turn(data: bytes) -> None:
    for body in (
        with_segments(JPEG, segment(0xE1, b"Exif\0\0" + data)),
        with_segments(JPEG, segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0" + data)),
        with_segments(JPEG, segment(0xE2, b"MPF\0" + data)),
        with_segments(JPEG, segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + data)),
        with_segments(JPEG, segment(0xED, b"Photoshop 3.0\x008BIM" + data)),
        png(100, 80, chunk(b"eXIf", data)),
        png(100, 80, chunk(b"iCCP", data)),
        png(100, 80, chunk(b"tEXt", data), chunk(b"zTXt", data), chunk(b"iTXt", data)),
    ):
        facts, problem = look(body)
        assert problem or facts.exif_orientation in range(1, 9)


def batch_of_ugly_ones(s3: MemoryS3) -> Batch:
    told = [uploaded(s3, image(f"in/{name}", minutes=n), body) for n, (name, body) in enumerate(every_body().items())]
    told.append(image("in/gone.jpg", minutes=-1))
    told.append(replace(uploaded(s3, image("in/overwritten.jpg", minutes=-2), JPEG + b"newer"), etag="1" * 32))
    # Named as another image's reason is filed.
    told.append(uploaded(s3, image("in/empty.jpg.error.json", minutes=-3), b"{}"))
    (batch,) = plan_batches(told, batch_size=10_000)
    write_batches(s3, FINAL, [batch], threads=1)
    return batch


def label(s3: MemoryS3, batch: Batch, checked: list[Checked]) -> None:
    """What inference leaves: an answer for each image that preflight let pass."""
    labels = (custom_label("=cmd|' /C calc'!A0", 99.0), custom_label("half \ud800", float("nan")))
    paid = [outcome(entry.image, facts=entry.facts, custom_labels=labels) for entry in checked if entry.is_ready]
    write_part(s3, FINAL, batch.batch_id, paid, number=0)


def test_all_ugly_images_at_once_have_one_outcome_each_and_lie_in_one_place(s3: MemoryS3, settings: Settings) -> None:
    batch = batch_of_ugly_ones(s3)
    bodies = s3.contents(INBOX)
    checked = preflight(s3, settings, batch, run_id=RUN, now=lambda: NOW)
    label(s3, batch, checked)
    report = publish(s3, settings, batch, thresholds={})

    assert (report.labelled, report.rejected, report.missing) == (len(ACCEPTED), len(REJECTED) + 1, 2)
    assert (report.pending, report.failed, report.skipped) == (0, 0, 0)
    (results,) = s3.contents(FINAL, "results/image_labels/analysis=").values()
    rows = {row["source_key"]: row for row in pq.read_table(io.BytesIO(results)).to_pylist()}
    assert set(rows) == {each.key for each in batch.images}
    for key, row in rows.items():
        if row["status"] != "LABELLED":
            assert row["error_message"].startswith(f"s3://{INBOX}/{key} ")
            assert row["error_message"].endswith(".")

    filed = s3.contents(FINAL, "images/") | s3.contents(FINAL, "quarantine/")
    originals = [body for key, body in filed.items() if not key.endswith(".error.json")]
    assert sorted(originals) == sorted(body for key, body in bodies.items() if key != "in/overwritten.jpg")
    assert s3.keys(INBOX) == ["in/overwritten.jpg"]
    reasons = [json.loads(body) for key, body in filed.items() if key.endswith(".error.json")]
    assert sorted(reason["source_key"] for reason in reasons) == sorted(
        key for key, row in rows.items() if row["status"] != "LABELLED"
    )


def test_converting_ugly_images_never_stops_the_batch_either(s3: MemoryS3, build_settings: BuildSettings) -> None:
    settings = build_settings(convert_images=True)
    batch = batch_of_ugly_ones(s3)
    checked = preflight(s3, settings, batch, run_id=RUN, now=lambda: NOW)
    mended = {entry.image.key for entry in checked if entry.facts and entry.facts.staged_key}
    assert {"in/gif.jpg", "in/webp.jpg", "in/tiff.jpg", "in/bmp.jpg", "in/4097 px.png"} <= mended
    assert not any("bomb" in key for key in mended)
    label(s3, batch, checked)
    report = publish(s3, settings, batch, thresholds={})
    assert report.pending == 0
    assert report.labelled + report.rejected + report.missing == len(batch.images)


@given(st.sampled_from(SEEDS), st.floats(0, 1, exclude_max=True), st.integers(0, 255))
def test_converting_a_damaged_image_never_stops_the_batch(
    build_settings: BuildSettings, body: bytes, place: float, value: int
) -> None:
    s3, damaged = MemoryS3(INBOX, FINAL), bytearray(body)
    damaged[int(place * len(damaged))] = value
    (batch,) = plan_batches([uploaded(s3, image("a.jpg"), bytes(damaged))], batch_size=1)
    (entry,) = preflight(s3, build_settings(convert_images=True), batch, run_id=RUN, now=lambda: NOW)
    assert entry.is_ready or entry.outcome


def test_making_room_does_not_overwrite_an_image_that_is_called_like_the_room(s3: MemoryS3, settings: Settings) -> None:
    first, second, stranger = picture(seed=1), picture(seed=2), picture(seed=3)
    etag = hashlib.md5(first).hexdigest()
    for key, body in (("a.jpg", first), (f"a.jpg~{etag}", stranger), ("a.jpg", second)):
        (batch,) = plan_batches([uploaded(s3, image(key), body)], batch_size=1)
        write_batches(s3, FINAL, [batch], threads=1)
        label(s3, batch, preflight(s3, settings, batch, run_id=RUN, now=lambda: NOW))
        assert publish(s3, settings, batch, thresholds={}).labelled == 1
    assert sorted(s3.contents(FINAL, "images/").values()) == sorted([first, second, stranger])
