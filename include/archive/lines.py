"""Lines of a list: which object each names, or what is wrong with it. A block of lines at a time, columns not lines.

What most lines look like, one regular expression reads for all; only the odd ones are looked at one by one.
"""

from __future__ import annotations

import csv
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from include.archive import percent
from include.layout import MAX_KEY_BYTES
from include.selection import SCHEME

# ``place`` is bucket/key: it sorts by bucket, then key, since no bucket's name holds a slash.
LISTED: Final = pa.schema(
    [
        pa.field("bucket", pa.string()),
        pa.field("key", pa.string()),
        pa.field("version_id", pa.string()),
        pa.field("place", pa.string()),
        pa.field("line", pa.int64()),
    ]
)

NO_UTF8: Final = "is not UTF-8"
_URI: Final = r"(?s)\As3://(?P<bucket>[^/]+)/(?P<key>.+)\z"
_ROW: Final = r'(?s)\A(?P<bucket>[^",/]+),(?P<key>[^",]+)(?P<version>(?:,[^",]*)?)\z'
_QUOTED_ROW: Final = r'(?s)\A"(?P<bucket>[^",/]+)","(?P<key>[^"]+)"(?P<version>(?:,"[^"]*")?)\z'
_HEADERS: Final = (("bucket", "key"), ("uri",), ("url",), ("s3_uri",), ("s3uri",), ("s3 uri",))

Broken: TypeAlias = tuple[int, str, str]
Rows: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Parsed:
    """A block of lines: ``table`` of ``LISTED``; ``broken`` as line number, problem, text."""

    lines: int
    table: pa.Table
    broken: list[Broken]


def parse_lines(block: bytes, first_line: int, *, allowed: Collection[str], url_encoded: bool | None) -> Parsed:
    """Blank lines, comments (``#``) and a header on the first line are passed over.

    :param block: whole lines.
    :param first_line: the number of its first one.
    :param url_encoded: whether keys are; None: those of rows are, those of URIs stand as they are.
    """
    raw = _split(block)
    broken: list[Broken] = []
    texts, good = _as_text(raw)
    is_comment = _bools(pc.starts_with(raw, "#"))
    wrong = np.flatnonzero(~good & ~is_comment)
    broken += [(first_line + row, NO_UTF8, _shown(raw[row].as_py())) for row in wrong.tolist()]
    is_blank = _bools(pc.match_substring_regex(texts, r"\A\s*\z"))
    rows = np.flatnonzero(good & ~is_comment & ~is_blank)
    if first_line == 1 and len(rows) and _is_header(texts[int(rows[0])].as_py()):
        rows = rows[1:]
    reader = _Reader(texts, rows)
    reader.read_all(_URI, is_uri=True)
    reader.read_all(_ROW)
    reader.read_all(_QUOTED_ROW)
    broken += [(first_line + row, problem, text) for row, problem, text in reader.read_the_rest()]
    table, bad = _decoded(reader, url_encoded)
    too_long = pc.greater(pc.binary_length(table["key"]), MAX_KEY_BYTES)
    is_allowed = pc.is_in(table["bucket"], pa.array(sorted(allowed), pa.string()))
    checks = [
        *bad,
        (_bools(too_long), "has a key that is longer than 1,024 bytes"),
        (~_bools(is_allowed), "names a bucket that is not allowed"),
    ]
    stays = np.ones(table.num_rows, dtype=np.bool_)
    for fails, problem in checks:
        for number in np.flatnonzero(fails & stays).tolist():
            row = table["line"][number].as_py()
            broken.append((first_line + row, problem, texts[row].as_py()))
        stays &= ~fails
    table = table.filter(pa.array(stays))
    places = pc.binary_join_element_wise(table["bucket"], table["key"], "/")
    numbers = pc.add(table["line"], first_line)
    table = pa.table([table["bucket"], table["key"], table["version_id"], places, numbers], schema=LISTED)
    return Parsed(len(raw), table, sorted(broken))


def _split(block: bytes) -> pa.Array:
    """Lines without their ends, whether these are LF or CRLF."""
    text = np.frombuffer(block, dtype=np.uint8)
    ends = np.flatnonzero(text == ord("\n"))
    kept = np.ones(len(text), dtype=np.bool_)
    kept[ends] = False
    before = ends[ends > 0] - 1
    kept[before[text[before] == ord("\r")]] = False
    if len(text) and text[-1] != ord("\n"):
        kept[-1] = text[-1] != ord("\r")
        ends = np.append(ends, len(text) - 1)
    offsets = np.concatenate([[0], np.cumsum(kept)[ends]]).astype(np.int32)
    return pa.Array.from_buffers(
        pa.binary(), len(ends), [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(text[kept].tobytes())]
    )


def _as_text(raw: pa.Array) -> tuple[pa.Array, npt.NDArray[np.bool_]]:
    """Strings, empty where the bytes are no UTF-8, and where they are."""
    try:
        return raw.cast(pa.string()), np.ones(len(raw), dtype=np.bool_)
    except pa.ArrowInvalid:
        texts = [_decode(each) for each in raw.to_pylist()]
        return pa.array([text or "" for text in texts], pa.string()), np.array([text is not None for text in texts])


def _decode(raw: bytes) -> str | None:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


def _shown(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")


def _bools(column: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    return np.asarray(column.to_pandas(), dtype=np.bool_)


def _is_header(text: str) -> bool:
    names = tuple(name.strip().strip('"').lower() for name in text.split(","))
    return names[:2] in _HEADERS or names[:1] in _HEADERS


class _Reader:
    """Reads lines form by form; each form takes its lines out of those that are left."""

    def __init__(self, texts: pa.Array, rows: Rows) -> None:
        self._texts, self._rows = texts, rows
        self.tables: list[pa.Table] = []

    def read_all(self, pattern: str, *, is_uri: bool = False) -> None:
        fields = pc.extract_regex(self._texts.take(pa.array(self._rows)), pattern)
        hits = _bools(pc.is_valid(fields))
        found = fields.filter(pa.array(hits))
        versions = pa.repeat("", len(found)) if is_uri else pc.utf8_trim(pc.struct_field(found, "version"), ',"')
        self._add(pc.struct_field(found, "bucket"), pc.struct_field(found, "key"), versions, self._rows[hits], is_uri)
        self._rows = self._rows[~hits]

    def read_the_rest(self) -> list[Broken]:
        """What no form fits, one by one; returns what cannot be read."""
        broken: list[Broken] = []
        read: dict[bool, list[tuple[str, str, str, int]]] = {True: [], False: []}
        for row in self._rows.tolist():
            text = self._texts[row].as_py()
            fields = _fields(text)
            if isinstance(fields, str):
                broken.append((row, fields, text))
            else:
                is_uri, *names = fields
                read[is_uri].append((*names, row))
        for is_uri, each in read.items():
            if each:
                buckets, keys, versions, rows = zip(*each, strict=True)
                self._add(pa.array(buckets), pa.array(keys), pa.array(versions), np.array(rows), is_uri)
        return broken

    def _add(self, buckets: pa.Array, keys: pa.Array, versions: pa.Array, rows: Rows, is_uri: bool) -> None:
        columns = [buckets, keys, versions, pa.array(rows, pa.int64()), pa.repeat(is_uri, len(rows))]
        self.tables.append(pa.table(columns, names=["bucket", "key", "version_id", "line", "is_uri"]))


def _fields(text: str) -> tuple[bool, str, str, str] | str:
    """Whether it is a URI, bucket, key, version id; or what is wrong."""
    if text.startswith(SCHEME):
        return _of_uri(text)
    try:
        fields = next(csv.reader([text], strict=True))
    except csv.Error as err:
        return f"is badly quoted ({err})"
    if len(fields) == 1:
        return _of_uri(fields[0]) if fields[0].startswith(SCHEME) else "is neither s3://bucket/key nor bucket,key"
    if len(fields) > 3:
        return f"has {len(fields)} columns instead of bucket,key[,versionId] (a comma of a key is %2C)"
    bucket, key, *version = fields
    if not bucket:
        return "has no bucket"
    return (False, bucket, key, "".join(version)) if key else "has no key"


def _of_uri(text: str) -> tuple[bool, str, str, str] | str:
    bucket, _, key = text.removeprefix(SCHEME).partition("/")
    if not bucket:
        return "has no bucket"
    return (True, bucket, key, "") if key else "has no key"


def _decoded(reader: _Reader, url_encoded: bool | None) -> tuple[pa.Table, list[tuple[npt.NDArray[np.bool_], str]]]:
    """All that was read, keys decoded where they are encoded; which of them are badly encoded, or not UTF-8 then."""
    table = pa.concat_tables(reader.tables)
    is_encoded = ~_bools(table["is_uri"]) if url_encoded is None else np.full(table.num_rows, url_encoded)
    as_they_are = table.filter(pa.array(~is_encoded))
    table = table.filter(pa.array(is_encoded))
    keys, broken = percent.decode(pa.concat_arrays([*table["key"].chunks, pa.array([], pa.string())]))
    texts, good = _as_text(keys)
    table = table.set_column(table.column_names.index("key"), "key", texts)
    table = pa.concat_tables([table, as_they_are])
    fine = np.zeros(as_they_are.num_rows, dtype=np.bool_)
    return table, [
        (np.concatenate([broken, fine]), "is badly URL-encoded (url_encoded=false takes keys as they stand)"),
        (np.concatenate([~good, fine]), "has a key that is not UTF-8 once decoded"),
    ]
