from __future__ import annotations

import io
import itertools
import logging
import random
import struct
import zlib
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from include import preflight as preflight_module
from include.batches import Batch
from include.errors import TerminalError
from include.images import ImageRef
from include.outcomes import Checked, read_preflight, write_part
from include.preflight import HEADER_BYTES, MAX_BYTES, examine, preflight
from include.settings import Settings
from tests.include.conftest import BuildSettings
from tests.include.memory_s3 import MemoryS3, failure
from tests.include.samples import (
    AWKWARD_KEYS,
    FINAL,
    INBOX,
    MODEL_ARN,
    NOW,
    image,
    images,
    noise,
    outcome,
    picture,
    uploaded,
)

BATCH = "0123456789abcdef"


def check(s3: MemoryS3, settings: Settings, *images: ImageRef) -> list[Checked]:
    batch = Batch(f"batches/pending/1-20260301T120000Z-{BATCH}.jsonl.gz", images)
    return preflight(s3, settings, batch, run_id="manual__1", now=lambda: NOW)


def check_one(s3: MemoryS3, settings: Settings, body: bytes, **fields: Any) -> Checked:
    (found,) = check(s3, settings, uploaded(s3, image("a.jpg", **fields), body))
    return found


def refused(found: Checked) -> str:
    assert found.outcome is not None
    assert found.outcome.status == "REJECTED"
    return found.outcome.error_code


def look(body: bytes) -> Any:
    return examine(body, len(body), rest=lambda: body)


def header_of(width: int, height: int) -> bytes:
    """A PNG that claims to be of that size, in a few bytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


class TestLimits:
    """https://docs.aws.amazon.com/rekognition/latest/customlabels-dg/limits.html, each at its edge."""

    @pytest.mark.parametrize("size", [(64, 64), (4096, 4096), (64, 1280), (1280, 64), (4096, 205)])
    def test_what_the_service_takes_is_let_through(self, size: tuple[int, int]) -> None:
        facts, problem = look(header_of(*size))
        assert problem is None
        assert (facts.width_px, facts.height_px) == size

    @pytest.mark.parametrize(
        ("size", "code"),
        [
            ((63, 64), "InvalidParameterException"),
            ((64, 63), "InvalidParameterException"),
            ((4097, 4096), "ImageTooLargeException"),
            ((4096, 4097), "ImageTooLargeException"),
            ((64, 1281), "InvalidParameterException"),
            ((1281, 64), "InvalidParameterException"),
            ((30_000, 30_000), "ImageTooLargeException"),
            ((2**31 - 1, 2**31 - 1), "ImageTooLargeException"),
        ],
    )
    def test_what_it_would_refuse_is_not(self, size: tuple[int, int], code: str) -> None:
        _, problem = look(header_of(*size))
        assert problem is not None
        assert problem[0] == code

    def test_bytes(self) -> None:
        body = picture()
        assert examine(body, MAX_BYTES, rest=lambda: body)[1] is None
        _, problem = examine(body, MAX_BYTES + 1, rest=lambda: body)
        assert problem == ("ImageTooLargeException", "has 15,728,641 bytes; the service takes up to 15,728,640.")

    @pytest.mark.parametrize("format", ["JPEG", "PNG"])
    def test_both_formats_pass(self, format: str) -> None:
        facts, problem = look(picture(format, (100, 80)))
        assert (facts.format, facts.width_px, facts.height_px, problem) == (format, 100, 80, None)

    @pytest.mark.parametrize("format", ["WEBP", "GIF", "BMP", "TIFF"])
    def test_other_formats_are_named(self, format: str) -> None:
        facts, problem = look(picture(format))
        assert facts.format == format
        assert problem == ("InvalidImageFormatException", f"is {format}; the service takes JPEG and PNG.")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
class TestOddImages:
    @pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "1"])
    def test_every_kind_of_jpeg(self, mode: str) -> None:
        assert look(picture(mode=mode))[1] is None

    @pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"])
    def test_every_kind_of_png(self, mode: str) -> None:
        assert look(picture("PNG", mode=mode))[1] is None

    def test_a_progressive_jpeg(self) -> None:
        assert look(picture(progressive=True))[1] is None

    def test_an_animation_counts_as_its_format(self) -> None:
        more = [Image.new("RGB", (100, 80), (n, n, n)) for n in (9, 99)]
        assert look(picture("PNG", save_all=True, append_images=more))[1] is None
        assert look(picture("GIF", save_all=True, append_images=more))[1] is not None

    def test_a_jpeg_with_a_second_picture_behind_it_as_phones_write_them(self) -> None:
        facts, problem = look(picture("MPO", save_all=True, append_images=[Image.new("RGB", (100, 80))]))
        assert (facts.format, problem) == ("JPEG", None)

    def test_a_cut_off_image_is_left_to_the_service(self) -> None:
        body = noise("JPEG", (300, 300))
        assert look(body[: len(body) // 2])[1] is None

    @pytest.mark.parametrize(
        "body", [b"hello, I am a text", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"\0" * 500, b"GIF89a"]
    )
    def test_what_is_no_image_is_said_not_to_be_one(self, body: bytes) -> None:
        assert look(body)[1] == ("InvalidImageFormatException", "is not an image that can be read.")

    def test_an_empty_object(self) -> None:
        assert look(b"")[1] == ("InvalidImageFormatException", "is empty.")

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_orientation_is_noted_and_sizes_are_as_stored(self, orientation: int) -> None:
        exif = Image.Exif()
        exif[preflight_module.EXIF_ORIENTATION] = orientation
        facts, _ = look(picture(size=(100, 80), exif=exif))
        assert (facts.exif_orientation, facts.width_px, facts.height_px) == (orientation, 100, 80)

    @pytest.mark.parametrize("orientation", [0, 9, 65_535])
    def test_an_orientation_that_is_none_is_upright(self, orientation: int) -> None:
        exif = Image.Exif()
        exif[preflight_module.EXIF_ORIENTATION] = orientation
        assert look(picture(exif=exif))[0].exif_orientation == 1

    @pytest.mark.parametrize(
        "exif", [b"Exif\0\0garbage", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\0\x01"]
    )
    def test_broken_exif_is_no_reason_to_refuse_an_image(self, exif: bytes) -> None:
        facts, problem = look(picture(exif=exif))
        assert (facts.exif_orientation, problem) == (1, None)

    def test_no_damage_makes_it_raise(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.CRITICAL, logger="PIL")
        dice = random.Random(7)
        exif = Image.Exif()
        exif[preflight_module.EXIF_ORIENTATION] = 6
        whole = [picture(exif=exif), picture("PNG", exif=exif), *map(picture, ("WEBP", "GIF", "TIFF", "BMP"))]
        for body in itertools.chain.from_iterable(itertools.repeat(whole, 150)):
            damaged = bytearray(body)
            for _ in range(dice.choice((1, 4, 16))):
                damaged[dice.randrange(min(len(damaged), 200))] = dice.randrange(256)
            look(bytes(damaged[: dice.randrange(1, len(damaged))] if dice.random() < 0.2 else damaged))


class TestReading:
    def test_only_the_first_bytes_of_an_image_are_fetched(self, s3: MemoryS3, settings: Settings) -> None:
        for format in ("JPEG", "PNG"):
            body = noise(format, (900, 900))
            assert len(body) > 2 * HEADER_BYTES
            s3.calls.clear()
            assert check_one(s3, settings, body).is_ready
            assert [operation for operation, bucket, _ in s3.calls if bucket == INBOX] == ["put_object", "get_object"]

    @pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "MPO"])
    def test_no_pixel_is_decoded(self, monkeypatch: pytest.MonkeyPatch, format: str) -> None:
        body = picture(format)

        def decode(*_: object) -> None:
            raise AssertionError("decoded")

        monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
        assert look(body)[0].width_px == 100

    def test_a_header_longer_than_the_first_bytes_is_fetched_whole(self, s3: MemoryS3, settings: Settings) -> None:
        body = picture(size=(200, 100))
        filler = b"\xff\xe5" + struct.pack(">H", 60_000) + b"x" * 59_998
        found = check_one(s3, settings, body[:2] + filler * 3 + body[2:])
        assert found.is_ready
        assert found.facts is not None
        assert (found.facts.width_px, found.facts.height_px) == (200, 100)

    def test_nothing_larger_than_the_limit_is_ever_fetched_whole(self) -> None:
        def never() -> bytes:
            raise AssertionError("fetched")

        assert examine(b"\xff\xd8\xff", MAX_BYTES + 1, rest=never)[1] is not None

    def test_size_and_etag_are_what_s3_says_now(self, s3: MemoryS3, settings: Settings) -> None:
        body = noise("JPEG", (600, 600))
        told = uploaded(s3, image("a.jpg"), body)
        (found,) = check(s3, settings, replace(told, size_bytes=1, etag=""))
        assert found.image == told
        assert found.facts is not None
        assert found.facts.size_bytes == len(body)

    def test_an_empty_object_is_rejected(self, s3: MemoryS3, settings: Settings) -> None:
        assert refused(check_one(s3, settings, b"")) == "InvalidImageFormatException"

    @pytest.mark.parametrize("key", AWKWARD_KEYS)
    def test_any_key(self, s3: MemoryS3, settings: Settings, key: str) -> None:
        (found,) = check(s3, settings, uploaded(s3, image(key), picture()))
        assert found.is_ready

    def test_a_version_is_read_as_it_was(self, settings: Settings) -> None:
        s3 = MemoryS3(FINAL, versioned=(INBOX,))
        first = uploaded(s3, image("a.jpg"), picture(size=(100, 80)))
        uploaded(s3, image("a.jpg"), picture(size=(300, 200)))
        (found,) = check(s3, settings, first)
        assert found.facts is not None
        assert found.facts.width_px == 100


class TestGone:
    def test_a_deleted_image_is_missing(self, s3: MemoryS3, settings: Settings) -> None:
        (found,) = check(s3, settings, image("gone.jpg"))
        assert found.outcome is not None
        assert (found.outcome.status, found.outcome.error_code) == ("MISSING", "NoSuchKey")
        assert "s3://inbox/gone.jpg is gone" in found.outcome.error_message

    def test_an_overwritten_image_is_missing_and_says_why(self, s3: MemoryS3, settings: Settings) -> None:
        old = uploaded(s3, image("a.jpg"), picture())
        uploaded(s3, image("a.jpg"), picture(seed=9))
        (found,) = check(s3, settings, old)
        assert found.outcome is not None
        assert (found.outcome.status, found.outcome.error_code) == ("MISSING", "Overwritten")

    @pytest.mark.parametrize("code", ["AccessDenied", "InvalidObjectState", "InvalidArgument", "MethodNotAllowed"])
    def test_one_image_that_cannot_be_read_does_not_stop_the_others(
        self, s3: MemoryS3, settings: Settings, code: str
    ) -> None:
        s3.refuse["get_object", "bad.jpg"] = failure(code, "GetObject", 403)
        bad, good = check(s3, settings, image("bad.jpg"), uploaded(s3, image("good.jpg"), picture()))
        assert good.is_ready
        assert bad.outcome is not None
        assert (bad.outcome.status, bad.outcome.error_code) == ("FAILED", code)

    def test_where_nothing_may_be_read_it_is_the_permissions(self, s3: MemoryS3, settings: Settings) -> None:
        some = [image(f"{number}.jpg") for number in range(3)]
        for each in some:
            s3.refuse["get_object", each.key] = failure("AccessDenied", "GetObject", 403)
        with pytest.raises(TerminalError, match=r"any of the 3 images .*s3://inbox/0\.jpg.*s3:GetObject"):
            check(s3, settings, *some)
        assert read_preflight(s3, FINAL, BATCH) is None

    @pytest.mark.parametrize("code", ["SlowDown", "InternalError", "ExpiredToken", "NoSuchBucket"])
    def test_what_is_wrong_with_s3_itself_is_not_blamed_on_the_image(
        self, s3: MemoryS3, settings: Settings, code: str
    ) -> None:
        s3.refuse["get_object", "a.jpg"] = failure(code, "GetObject", 503)
        with pytest.raises(Exception, match=code):
            check(s3, settings, image("a.jpg"))
        assert read_preflight(s3, FINAL, BATCH) is None


class TestEarlierResults:
    def labelled(self, s3: MemoryS3, key: str, etag: str, model: str = MODEL_ARN) -> None:
        s3.put_object(
            Bucket=FINAL, Key=f"labels/inbox/{key}.json", Body=b"{}", Metadata={"etag": etag, "model-arn": model}
        )

    def test_what_this_model_labelled_is_not_labelled_again(self, s3: MemoryS3, settings: Settings) -> None:
        told = uploaded(s3, image("a.jpg"), picture())
        self.labelled(s3, "a.jpg", told.etag)
        (found,) = check(s3, settings, told)
        assert found.already_labelled
        assert not found.is_ready

    @pytest.mark.parametrize("force", [False, True])
    @pytest.mark.parametrize("other", ["etag", "model"])
    def test_other_content_or_another_model_is(self, s3: MemoryS3, settings: Settings, other: str, force: bool) -> None:
        told = uploaded(s3, image("a.jpg", force=force), picture())
        self.labelled(
            s3, "a.jpg", "other" if other == "etag" else told.etag, "other" if other == "model" else MODEL_ARN
        )
        assert check(s3, settings, told)[0].is_ready

    def test_force_labels_again(self, s3: MemoryS3, settings: Settings) -> None:
        told = uploaded(s3, image("a.jpg", force=True), picture())
        self.labelled(s3, "a.jpg", told.etag)
        assert check(s3, settings, told)[0].is_ready

    def test_one_in_quarantine_that_is_announced_again_is_not_called_missing(
        self, s3: MemoryS3, settings: Settings
    ) -> None:
        gone = image("a.jpg", etag="e1")
        reason = {"etag": "e1", "status": "FAILED", "model-arn": MODEL_ARN}
        s3.put_object(Bucket=FINAL, Key="quarantine/inbox/a.jpg.error.json", Body=b"{}", Metadata=reason)
        (found,) = check(s3, settings, gone)
        assert found.already_labelled
        assert found.outcome is None

    @pytest.mark.parametrize(("status", "again"), [("REJECTED", False), ("FAILED", True), ("MISSING", True)])
    def test_what_was_rejected_stays_rejected_and_what_failed_is_tried_again(
        self, s3: MemoryS3, settings: Settings, status: str, again: bool
    ) -> None:
        told = uploaded(s3, image("a.jpg"), picture())
        reason = {"etag": told.etag, "model-arn": MODEL_ARN, "status": status}
        s3.put_object(Bucket=FINAL, Key="quarantine/inbox/a.jpg.error.json", Body=b"{}", Metadata=reason)
        assert check(s3, settings, told)[0].is_ready is again

    def test_in_a_large_batch_only_images_with_a_result_are_asked_for(self, s3: MemoryS3, settings: Settings) -> None:
        told = [uploaded(s3, each, picture()) for each in images(300)]
        self.labelled(s3, told[7].key, told[7].etag)
        self.labelled(s3, told[8].key, "other")
        reason = {"etag": told[9].etag, "model-arn": MODEL_ARN, "status": "REJECTED"}
        s3.put_object(Bucket=FINAL, Key=f"quarantine/inbox/{told[9].key}.error.json", Body=b"{}", Metadata=reason)
        self.labelled(s3, told[10].key, told[10].etag)
        s3.calls.clear()
        found = check(s3, settings, *told[:10], replace(told[10], force=True), *told[11:])
        assert [number for number, entry in enumerate(found) if entry.already_labelled] == [7, 9]
        assert sum(operation == "head_object" for operation, _, _ in s3.calls) == 1 + 2 + 2


class TestConversion:
    @pytest.fixture
    def converting(self, build_settings: BuildSettings) -> Settings:
        return build_settings(convert_images=True)

    @pytest.mark.parametrize(
        "body",
        [
            picture("WEBP"),
            picture("GIF"),
            picture("BMP"),
            picture("TIFF"),
            picture("PNG", (5000, 400)),
            picture("WEBP", mode="RGBA"),
        ],
        ids=["webp", "gif", "bmp", "tiff", "large", "transparent"],
    )
    def test_what_would_be_refused_is_staged_as_a_jpeg(
        self, s3: MemoryS3, settings: Settings, converting: Settings, body: bytes
    ) -> None:
        assert not check_one(s3, settings, body).is_ready
        s3.delete_object(Bucket=FINAL, Key=f"batches/outcomes/{BATCH}/preflight.jsonl")
        found = check_one(s3, converting, body)
        assert found.is_ready
        assert found.facts is not None
        assert found.facts.staged_key.startswith(f"staged/{BATCH}/")
        staged = s3.contents(FINAL)[found.facts.staged_key]
        assert look(staged)[1] is None

    def test_a_jpeg_too_large_in_bytes_is_staged(
        self, s3: MemoryS3, converting: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        body = picture("PNG", (800, 800), "RGB", compress_level=0)
        monkeypatch.setattr(preflight_module, "MAX_BYTES", len(body) - 1)
        assert check_one(s3, converting, body).is_ready

    def test_exif_orientation_is_applied_to_the_copy(self, s3: MemoryS3, converting: Settings) -> None:
        exif = Image.Exif()
        exif[preflight_module.EXIF_ORIENTATION] = 6
        found = check_one(s3, converting, picture("WEBP", (200, 100), exif=exif))
        assert found.facts is not None
        with Image.open(io.BytesIO(s3.contents(FINAL)[found.facts.staged_key])) as staged:
            assert staged.size == (100, 200)
        assert (found.facts.width_px, found.facts.height_px, found.facts.exif_orientation) == (200, 100, 6)

    @pytest.mark.parametrize(
        "body", [picture(size=(63, 63)), picture("PNG", (2_000, 70)), b"hello", picture("WEBP")[:30]]
    )
    def test_what_cannot_be_mended_is_rejected(self, s3: MemoryS3, converting: Settings, body: bytes) -> None:
        assert refused(check_one(s3, converting, body))
        assert s3.keys(FINAL, "staged/") == []

    def test_what_fits_is_never_converted(self, s3: MemoryS3, converting: Settings) -> None:
        found = check_one(s3, converting, picture())
        assert found.facts is not None
        assert found.facts.staged_key == ""


class TestRepeated:
    def test_a_second_check_says_the_same(self, s3: MemoryS3, settings: Settings) -> None:
        some = [
            uploaded(s3, image("good.jpg"), picture()),
            uploaded(s3, image("bad.jpg"), b"hello"),
            image("gone.jpg"),
        ]
        first = check(s3, settings, *some)
        before = s3.contents(FINAL)
        assert check(s3, settings, *some) == first == read_preflight(s3, FINAL, BATCH)
        assert s3.contents(FINAL) == before

    def test_an_outcome_once_recorded_stands(self, s3: MemoryS3, settings: Settings) -> None:
        gone = image("late.jpg")
        first = check(s3, settings, gone)
        uploaded(s3, gone, picture())
        assert check(s3, settings, gone) == first

    def test_what_is_paid_for_is_not_looked_at_again(self, s3: MemoryS3, settings: Settings) -> None:
        told = uploaded(s3, image("a.jpg"), picture())
        (first,) = check(s3, settings, told)
        write_part(s3, FINAL, BATCH, [outcome(first.image)], number=0)
        s3.delete_object(Bucket=INBOX, Key="a.jpg")
        assert check(s3, settings, told) == [first]

    def test_what_is_not_paid_for_yet_is_looked_at_again(self, s3: MemoryS3, settings: Settings) -> None:
        told = uploaded(s3, image("a.jpg"), picture())
        check(s3, settings, told)
        s3.delete_object(Bucket=INBOX, Key="a.jpg")
        (found,) = check(s3, settings, told)
        assert found.outcome is not None
        assert found.outcome.status == "MISSING"

    def test_the_order_of_the_batch_is_kept(self, s3: MemoryS3, build_settings: BuildSettings) -> None:
        some = [uploaded(s3, image(f"{number}.jpg"), picture(seed=number)) for number in range(40)]
        assert [found.image for found in check(s3, build_settings(threads=8), *some)] == some


def test_on_local_aws(aws_s3: Any, aws_settings: Settings) -> None:
    inbox = aws_settings.source_bucket
    bodies = {
        "ready é (1)+%.jpg": noise("JPEG", (600, 600)),
        "empty.jpg": b"",
        "text.jpg": b"hello",
        "small.png": picture("PNG", (10, 10)),
    }
    told = [uploaded(aws_s3, image(key, bucket=inbox), body) for key, body in bodies.items()]
    found = check(aws_s3, aws_settings, *told, image("gone.jpg", bucket=inbox))
    assert [entry.outcome.status if entry.outcome else "ready" for entry in found] == [
        "ready",
        "REJECTED",
        "REJECTED",
        "REJECTED",
        "MISSING",
    ]
