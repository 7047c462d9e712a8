from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include import layout
from tests.include.properties.strategies import in_the_bucket, keys, relatives

PLACES = [layout.labels_document, layout.original, layout.quarantined, layout.quarantine_reason]
Place = Callable[[str, str], str]
buckets = st.sampled_from(["inbox", "b" * 63])


def every_place(bucket: str, key: str) -> list[str]:
    return [place(bucket, key) for place in PLACES]


@given(buckets, keys)
def test_every_place_fits_and_stays_below_its_prefix(bucket: str, key: str) -> None:
    prefixes = ("labels", "images", "quarantine", "quarantine")
    for made, prefix in zip(every_place(bucket, key), prefixes, strict=True):
        assert len(made.encode()) <= layout.MAX_KEY_BYTES
        assert made.startswith(f"{prefix}/{bucket}/")
        assert in_the_bucket(made.removeprefix(f"{prefix}/{bucket}/"))
        # A reader that takes keys for paths stays below the prefix, too.
        assert os.path.normpath(made.replace("\0", "")).startswith(f"{prefix}/{bucket}")


@given(buckets, keys)
def test_keys_that_look_alike_have_places_of_their_own(bucket: str, key: str) -> None:
    alike = {other for other in [key, *relatives(key)] if len(other.encode()) <= layout.MAX_KEY_BYTES}
    made = [place for other in alike for place in every_place(bucket, other)]
    assert len(set(made)) == len(made)


@given(buckets, st.lists(keys, unique=True, max_size=20))
def test_no_two_keys_share_a_place(bucket: str, some: list[str]) -> None:
    made = [place for key in some for place in every_place(bucket, key)]
    assert len(set(made)) == len(made)


@pytest.mark.parametrize("place", PLACES)
def test_nobody_can_take_the_place_of_a_long_key_by_guessing_its_digest(place: Place) -> None:
    long = "k" * 1024
    prefix, ending = place("inbox", "@").split("@")
    forged = place("inbox", long).removeprefix(prefix).removesuffix(ending)
    assert len(forged) <= 1024
    assert place("inbox", forged) != place("inbox", long)


@pytest.mark.parametrize("key", ["a.jpg", "k" * 1024, "k" * 1000, "é" * 500])
def test_nobody_can_upload_over_another_images_reason(key: str) -> None:
    forged = layout.quarantine_reason("inbox", key).removeprefix("quarantine/inbox/")
    assert layout.quarantined("inbox", forged) != layout.quarantine_reason("inbox", key)
    assert layout.quarantined("inbox", f"{key[:1000]}.error.json").endswith(".error.json") is False


@given(keys, st.binary())
def test_names_of_earlier_versions_fit(key: str, content: bytes) -> None:
    etag = hashlib.md5(content).hexdigest()
    made = layout.earlier(layout.original("inbox", key), etag)
    assert len(made.encode()) <= layout.MAX_KEY_BYTES
    assert made.endswith(f"~{etag}")
