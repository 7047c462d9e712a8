from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest

from include.images import ImageRef, parse_time, sequencer_order, source_parameters, to_json_line, without_doubles
from tests.include.samples import AWKWARD_KEYS, NOW, image


def test_the_uri_is_the_plain_key() -> None:
    assert image("a b+c%.jpg").uri == "s3://inbox/a b+c%.jpg"


@pytest.mark.parametrize("key", AWKWARD_KEYS)
def test_json_and_back(key: str) -> None:
    full = image(key, version_id="v1", sequencer="00AF", origin="manual", force=True)
    assert ImageRef.from_dict(full.to_dict()) == full
    assert ImageRef.from_dict(image(key).to_dict()) == image(key)
    unknown = image(key, etag="", size_bytes=0)
    assert ImageRef.from_dict(unknown.to_dict()) == unknown


def test_s3_is_asked_for_the_version_where_there_is_one() -> None:
    assert source_parameters(image("a")) == {"Bucket": "inbox", "Key": "a"}
    assert source_parameters(image("a", version_id="v1")) == {"Bucket": "inbox", "Key": "a", "VersionId": "v1"}


def test_content_identifies_an_image_and_its_version_the_place() -> None:
    first, second = image("a", version_id="v1"), image("a", version_id="v2")
    assert first.identity == second.identity
    assert first.digest() == second.digest()
    assert first.place != second.place
    assert image("a").digest() != image("b").digest() != image("a", etag="1").digest()


def test_doubles_of_one_event_become_one_image() -> None:
    assert without_doubles([image("a"), image("b"), image("a")]) == [image("a"), image("b")]


def test_of_an_unversioned_key_only_the_last_write_is_left() -> None:
    writes = [image("a", etag=name, sequencer=name) for name in ("A1", "A3", "A2")]
    for some in itertools.permutations(writes):
        assert [found.etag for found in without_doubles(some)] == ["A3"]


def test_versions_with_different_content_are_different_images() -> None:
    versions = [image("a", etag="1", version_id="v1"), image("a", etag="2", version_id="v2", minutes=1)]
    assert without_doubles(versions) == versions


def test_versions_with_the_same_content_are_one_image() -> None:
    again = image("a", version_id="v2", sequencer="02")
    assert without_doubles([again, image("a", version_id="v1", sequencer="01")]) == [again]


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("617f08299329d189", "617f08299329d18a"),
        ("005FE3F1017ABEE7D9", "617f08299329d189"),  # 18 and 16 digits, both seen in the wild
        ("617f08299329d189", "617f08299329d18901"),
        ("00af", "00AFA"),
        ("09", "0a"),
        ("", "01"),
    ],
)
def test_sequencers_compare_as_hexadecimal_padded_on_the_right(earlier: str, later: str) -> None:
    first, second = image("a", etag="1", sequencer=earlier), image("a", etag="2", sequencer=later)
    assert sequencer_order(first) < sequencer_order(second)
    assert without_doubles([second, first]) == without_doubles([first, second]) == [second]


def test_equal_sequencers_of_different_length_are_told_apart_by_time() -> None:
    first, second = image("a", etag="1", sequencer="0A"), image("a", etag="2", sequencer="0a00", minutes=1)
    assert without_doubles([second, first]) == [second]


def test_the_oldest_event_comes_first_whatever_the_order_of_arrival() -> None:
    some = [image("c", minutes=2), image("b", minutes=1), image("a", minutes=1), image("d")]
    for arrived in itertools.permutations(some):
        assert [found.key for found in without_doubles(arrived)] == ["d", "a", "b", "c"]


def test_times_are_aware_utc() -> None:
    assert parse_time("2026-03-01T13:00:00+01:00", NOW) == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert parse_time("2026-03-01", NOW) == datetime(2026, 3, 1, tzinfo=UTC)
    assert parse_time("0001-01-01T00:00:00+01:00", NOW) == NOW
    assert parse_time("", NOW) == parse_time(None, NOW) == parse_time("noon", NOW) == NOW


def test_the_same_value_is_the_same_line() -> None:
    assert to_json_line({"b": "é🦊", "a": 1}) == to_json_line({"a": 1, "b": "é🦊"}) == '{"a":1,"b":"é🦊"}'
