from __future__ import annotations

import csv
import io
from collections import Counter
from typing import Any
from urllib.parse import quote, quote_plus

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from include.archive import percent
from include.archive.inventory import read_inventory
from include.archive.lines import parse_lines
from include.archive.listing import list_prefix
from include.archive.manifest import read_manifest
from tests.include.archive.inventories import FORMATS, REPORTS, put_inventory, row
from tests.include.memory_s3 import MemoryS3
from tests.include.properties.strategies import keys, raw_keys

some_keys = st.lists(keys, unique=True, min_size=1, max_size=12)


@given(st.lists(raw_keys, max_size=20), st.sampled_from([quote, quote_plus, lambda key: quote(key, safe="")]))
def test_encoded_keys_are_decoded(some: list[str], encode: object) -> None:
    assert callable(encode)
    decoded, broken = percent.decode(pa.array([encode(key) for key in some], pa.string()))
    assert decoded.to_pylist() == [key.encode() for key in some]
    assert not broken.any()


@given(st.lists(st.text("%+0aFgé", max_size=6), max_size=20))
def test_what_is_badly_encoded_is_known_row_by_row(texts: list[str]) -> None:
    decoded, broken = percent.decode(pa.array(["before", *texts, "after"], pa.string()))
    assert decoded[0].as_py() == b"before"
    assert decoded[-1].as_py() == b"after"
    hexes = set("0123456789abcdefABCDEF")
    for text, is_broken in zip(texts, broken[1:-1], strict=True):
        escapes = [text[place + 1 : place + 3] for place, letter in enumerate(text) if letter == "%"]
        assert is_broken == any(len(escape) < 2 or not set(escape) <= hexes for escape in escapes)


@given(some_keys, st.sampled_from([b"\n", b"\r\n"]))
def test_rows_of_a_list_name_exactly_these_keys(some: list[str], end: bytes) -> None:
    block = end.join(f"archive,{quote_plus(key)}".encode() for key in some)
    parsed = parse_lines(block, 2, allowed={"archive"}, url_encoded=None)
    assert parsed.broken == []
    named = sorted(zip(parsed.table["line"].to_pylist(), parsed.table["key"].to_pylist(), strict=True))
    assert named == list(enumerate(some, 2))


@given(
    st.lists(
        st.binary(max_size=30) | st.text(st.sampled_from('ab,"%+/:s3\r #'), max_size=20).map(str.encode), max_size=12
    )
)
def test_any_line_is_a_key_or_a_broken_line_or_nothing(lines: list[bytes]) -> None:
    lines = [line.replace(b"\n", b"") for line in lines]
    parsed = parse_lines(b"".join(line + b"\n" for line in lines), 2, allowed={"a", "b"}, url_encoded=None)
    told = sorted([number for number, _, _ in parsed.broken] + parsed.table["line"].to_pylist())
    assert parsed.lines == len(lines)
    assert told == sorted(set(told))
    for number, line in enumerate(lines, 2):
        says_something = bool(line.strip(b" \t\r\f")) and not line.startswith(b"#")
        assert (number in told) == says_something, line


@given(some_keys)
def test_quoted_rows_are_read_as_csv(some: list[str]) -> None:
    some = [key for key in some if not set(key) & {"\n", "\r"}] or ["plain.jpg"]
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(["archive", key] for key in some)
    parsed = parse_lines(text.getvalue().encode(), 2, allowed={"archive"}, url_encoded=False)
    assert sorted(parsed.table["key"].to_pylist()) == sorted(some)


@given(some_keys, st.sampled_from(FORMATS))
def test_inventories_name_exactly_these_keys(some: list[str], file_format: str) -> None:
    s3 = MemoryS3(REPORTS)
    uri = put_inventory(s3, file_format, [row(key) for key in some])
    tables = read_inventory(s3, read_manifest(s3, uri), Counter())
    assert [key for table in tables for key in table["key"].to_pylist()] == some


class SmallPages(MemoryS3):
    """So that few keys are many pages, and ranges are cut."""

    def list_objects_v2(self, *, MaxKeys: int = 1_000, **asked: Any) -> dict[str, Any]:
        return super().list_objects_v2(MaxKeys=min(MaxKeys, 2), **asked)


@given(st.lists(keys, unique=True, min_size=1, max_size=40), st.data())
def test_prefixes_list_exactly_these_keys(some: list[str], data: st.DataObject) -> None:
    s3 = SmallPages("archive")
    for key in some:
        s3.put_object(Bucket="archive", Key=key, Body=b"")
    key = data.draw(st.sampled_from(some))
    prefix = key[: data.draw(st.integers(0, len(key)))]
    tables = list_prefix(s3, f"s3://archive/{prefix}", 8, Counter())
    found = [key for table in tables for key in table["key"].to_pylist()]
    assert sorted(found) == sorted(key for key in some if key.startswith(prefix))
