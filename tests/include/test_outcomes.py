from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from include import outcomes as outcomes_module
from include.outcomes import Checked, Outcome, read_outcomes, read_preflight, write_part, write_preflight
from include.parallel import in_parallel
from include.settings import Settings
from tests.include.memory_s3 import MemoryS3
from tests.include.samples import FINAL, custom_label, facts, image, images, outcome, ready

PARTS = "batches/outcomes/b/part-"


def test_outcomes_survive_json() -> None:
    some = [
        outcome(image("é 🦊.jpg", version_id="v1"), custom_labels=(custom_label("CAP", 98.7, (0.1, -0.2, 0.3, 1.1)),)),
        outcome(image("a"), "MISSING", facts=None, error_code="NoSuchKey", error_message="gone"),
        outcome(image("b"), facts=facts(exif_orientation=6, staged_key="staged/b/1.jpg"), request_id="r-1"),
    ]
    assert [Outcome.from_dict(each.to_dict()) for each in some] == some


def test_what_preflight_found_is_read_back(s3: MemoryS3) -> None:
    rejected = outcome(image("c"), "REJECTED", error_code="InvalidImageFormatException")
    checked = [ready(image("a")), Checked(image("b"), already_labelled=True), Checked(image("c"), facts(), rejected)]
    assert [each.is_ready for each in checked] == [True, False, False]
    write_preflight(s3, FINAL, "b", checked)
    assert read_preflight(s3, FINAL, "b") == checked


def test_without_preflight_there_is_nothing(s3: MemoryS3) -> None:
    assert read_preflight(s3, FINAL, "b") is None
    assert read_outcomes(s3, FINAL, "b") == {}


def test_parts_are_read_together(s3: MemoryS3) -> None:
    number = 0
    for each in images(5):
        number = write_part(s3, FINAL, "b", [outcome(each)], number=number)
    assert s3.keys(FINAL) == [f"{PARTS}{number:05d}.jsonl" for number in range(5)]
    assert set(read_outcomes(s3, FINAL, "b")) == {each.place for each in images(5)}


def test_another_batchs_parts_are_not_ours(s3: MemoryS3) -> None:
    write_part(s3, FINAL, "bb", [outcome(image("a"))], number=0)
    assert read_outcomes(s3, FINAL, "b") == {}


def test_a_part_is_never_written_over(s3: MemoryS3) -> None:
    assert write_part(s3, FINAL, "b", [outcome(image("first"))], number=0) == 1
    assert write_part(s3, FINAL, "b", [outcome(image("second"))], number=0) == 2
    assert {key for _, key, _ in read_outcomes(s3, FINAL, "b")} == {"first", "second"}


@pytest.mark.parametrize("where", ["memory", "local AWS"])
def test_two_writers_at_the_same_moment_lose_nothing(
    s3: MemoryS3, aws_s3: Any, aws_settings: Settings, where: str
) -> None:
    client, bucket = (s3, FINAL) if where == "memory" else (aws_s3, aws_settings.final_bucket)

    def attempt(writer: int) -> None:
        number = 0
        for part in range(5):
            number = write_part(client, bucket, "b", [outcome(image(f"{writer}-{part}"))], number=number)

    in_parallel(attempt, range(3), threads=3)
    assert len(read_outcomes(client, bucket, "b")) == 15


def test_where_two_attempts_paid_for_one_image_the_first_stands(s3: MemoryS3) -> None:
    first = outcome(image("a"), request_id="first")
    write_part(s3, FINAL, "b", [first], number=0)
    write_part(s3, FINAL, "b", [replace(first, request_id="second")], number=1)
    assert list(read_outcomes(s3, FINAL, "b").values()) == [first]


def test_versions_of_a_key_have_outcomes_of_their_own(s3: MemoryS3) -> None:
    both = [outcome(image("a", version_id=version)) for version in ("v1", "v2")]
    write_part(s3, FINAL, "b", both, number=0)
    assert len(read_outcomes(s3, FINAL, "b")) == 2


def test_parts_without_end_are_an_error(s3: MemoryS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes_module, "PART_WRITE_ATTEMPTS", 3)
    for _ in range(3):
        write_part(s3, FINAL, "b", [outcome(image("a"))], number=0)
    with pytest.raises(RuntimeError, match="batch b exist already"):
        write_part(s3, FINAL, "b", [outcome(image("a"))], number=0)
