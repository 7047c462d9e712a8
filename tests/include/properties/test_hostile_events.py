from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.events import Parsed, parse_body
from include.images import ImageRef, sequencer_order, without_doubles
from tests.include.properties.strategies import json_values, keys
from tests.include.samples import FINAL, INBOX, VALUES, image
from tests.include.test_events import body, eventbridge, record, through_sns

KINDS = {"images", "test", "ignored", "refused", "unparseable"}


def parse(text: str) -> Parsed:
    return parse_body(text, source_bucket=INBOX)


def key_of(text: str) -> str:
    parsed = parse(text)
    assert parsed.kind == "images", parsed.problem
    return parsed.images[0].key


def encoded(key: str, quoting: Callable[..., str]) -> str:
    return body(record() | {"s3": {"bucket": {"name": INBOX}, "object": {"key": quoting(key), "size": 1}}})


@given(keys)
def test_every_key_comes_through_every_envelope_as_it_was_uploaded(key: str) -> None:
    plain = body(record(key))
    for text in (
        plain,
        through_sns(plain),
        through_sns(through_sns(plain)),
        eventbridge(key),
        through_sns(eventbridge(key)),
        encoded(key, lambda text: quote(text, safe="")),
        encoded(key, lambda text: quote_plus(text, safe="")),
        body(record("other.jpg", eventName="ObjectRemoved:Delete"), record(key)),
    ):
        assert key_of(text) == key
    assert ImageRef.from_dict(json.loads(json.dumps(parse(plain).images[0].to_dict()))).key == key


@given(st.lists(keys, min_size=1, max_size=8))
def test_every_record_of_a_message_is_an_image_in_order(some: list[str]) -> None:
    assert [found.key for found in parse(body(*map(record, some))).images] == some


@given(json_values)
def test_arbitrary_json_raises_nothing(value: Any) -> None:
    assert parse(json.dumps(value)).kind in KINDS


@given(st.text(st.characters()))
def test_arbitrary_text_raises_nothing(text: str) -> None:
    assert parse(text).kind in KINDS


@given(st.binary())
def test_arbitrary_bytes_raise_nothing(data: bytes) -> None:
    assert parse(data.decode(errors="surrogateescape")).kind in KINDS


# One field of an event, and what stands in its place.
PLACES = [
    ["Records"], ["Records", 0], ["Records", 0, "eventVersion"], ["Records", 0, "eventName"], ["Records", 0, "eventTime"],
    ["Records", 0, "s3"], ["Records", 0, "s3", "bucket"], ["Records", 0, "s3", "bucket", "name"],
    ["Records", 0, "s3", "object"],
    *(["Records", 0, "s3", "object", name] for name in ("key", "size", "eTag", "versionId", "sequencer")),
]  # fmt: skip


@given(st.sampled_from(PLACES), json_values)
def test_an_event_with_one_field_replaced_gives_images_that_can_be_stored_or_a_reason(
    path: list[Any], value: Any
) -> None:
    event: Any = {"Records": [record()]}
    place = event
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    parsed = parse(json.dumps(event))
    assert parsed.kind in KINDS
    assert bool(parsed.images) == (parsed.kind == "images")
    assert bool(parsed.problem) == (parsed.kind in ("refused", "unparseable"))
    for found in parsed.images:
        assert found.bucket == INBOX
        assert type(found.size_bytes) is int
        assert ImageRef.from_dict(json.loads(json.dumps(found.to_dict()))) == found


@given(keys, st.text(st.characters(), min_size=1).filter(lambda name: name != INBOX))
def test_only_the_source_bucket_is_taken_however_similar_another_is(key: str, bucket: str) -> None:
    assert parse(body(record(key, bucket=bucket))).images == ()
    mixed = parse(body(record("theirs.jpg", bucket=bucket), record("ours.jpg")))
    assert [found.key for found in mixed.images] in ([], ["ours.jpg"])  # none where the name is not even text


@pytest.mark.parametrize(
    "bucket", [f"{INBOX} ", INBOX.upper(), f"{INBOX}/", f"{INBOX}\0", FINAL, f"arn:aws:s3:::{INBOX}"]
)
def test_lookalikes_of_the_source_bucket_are_refused(bucket: str) -> None:
    assert VALUES["source_bucket"] == INBOX
    assert parse(body(record(bucket=bucket))).kind == "refused"


@pytest.mark.parametrize("key", ["../a.jpg", "..", "a/../../b.jpg", "/../a.jpg", "./../a.jpg", "a/./../../b", "//../x"])
@pytest.mark.parametrize("envelope", [lambda key: body(record(key)), eventbridge])
def test_a_key_that_climbs_out_of_the_bucket_is_no_image(envelope: Callable[[str], str], key: str) -> None:
    parsed = parse(envelope(key))
    assert parsed.kind == "unparseable"
    assert "../" in parsed.problem


@pytest.mark.parametrize("key", ["a/../b.jpg", "/a.jpg", "//a.jpg", "..a/b..jpg", "a/b/../../c.jpg", ".../a.jpg"])
def test_a_key_with_dots_that_s3_takes_is_an_image(key: str) -> None:
    assert key_of(body(record(key))) == key_of(eventbridge(key)) == key


@pytest.mark.parametrize(
    "text",
    [
        body(record(eTag="é" * 200_000)),
        body(record(bucket="b" * 200_000)),
        body(record(schema="9" * 200_000)),
        eventbridge(source="x" * 200_000),
        eventbridge("/.." + "x" * 500 + "/../../.."),
    ],
    ids=["etag", "bucket", "schema", "source", "key"],
)
def test_a_problem_is_a_sentence_and_not_the_message(text: str) -> None:
    problem = parse(text).problem
    assert 0 < len(problem) < 250


@pytest.mark.parametrize("size", [True, False])
def test_a_size_of_true_is_unknown(size: bool) -> None:
    assert parse(body(record(size=size))).images[0].size_bytes == 0
    assert type(parse(body(record(size=size))).images[0].size_bytes) is int


hexadecimal = st.text("0123456789abcdefABCDEF", max_size=30)


@given(hexadecimal, hexadecimal)
def test_sequencers_order_as_hexadecimal_numbers_of_one_length(first: str, second: str) -> None:
    def value(text: str) -> int:
        return int(text.ljust(64, "0"), 16)

    earlier, later = sequencer_order(image("a", sequencer=first)), sequencer_order(image("a", sequencer=second))
    assert (earlier < later) == (value(first) < value(second))


@given(st.permutations([("1", "v1", "0A"), ("2", "v2", "0B"), ("3", "v3", "0C"), ("1", "v4", "0D")]))
def test_versions_are_kept_whatever_the_order_of_arrival_and_repeated_content_once(
    arrived: list[tuple[str, str, str]],
) -> None:
    some = [image("a", etag=etag, version_id=version, sequencer=at) for etag, version, at in arrived]
    assert {found.version_id for found in without_doubles(some)} == {"v2", "v3", "v4"}
