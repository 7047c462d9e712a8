"""Which of the found images are meant: name, date, size, and a sample of them. A column at a time; each row has one reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from include.archive.found import Skipped
from include.archive.hashes import hash_keys
from include.archive.request import ArchiveRequest
from include.errors import SelectionError
from include.selection import EXTENSIONS

# Reason in plain words, and which rows of a table stay.
Filter: TypeAlias = tuple[str, Callable[[Any], Any]]

HASHES: Final = 2.0**64


def build_filters(request: ArchiveRequest) -> list[Filter]:
    """The request's filters, in the order in which they are asked."""
    return list(_filters(request))


def keep(table: pa.Table, filters: Sequence[Filter], skipped: Skipped) -> pa.Table:
    """The rows that every filter keeps; the others are counted by the first one that does not."""
    for reason, stays in filters:
        kept = table.filter(stays(table))
        if kept.num_rows < table.num_rows:
            skipped[reason] += table.num_rows - kept.num_rows
        table = kept
    return table


def _filters(request: ArchiveRequest) -> Iterator[Filter]:
    yield "folder markers", lambda rows: pc.invert(pc.ends_with(rows["key"], "/"))
    if request.include:
        yield f"no name that matches {_listed(request.include)}", _matches(request.include)
    else:
        yield "without an image's extension", lambda rows: _has_extension(rows["key"])
    if request.exclude:
        matches = _matches(request.exclude)
        yield f"excluded by {_listed(request.exclude)}", lambda rows: pc.invert(matches(rows))
    if request.modified_from:
        first = _time(request.modified_from)
        yield (
            f"modified before {request.modified_from:%Y-%m-%d %H:%M}",
            lambda rows: pc.greater_equal(rows["modified"], first),
        )
    if request.modified_until:
        end = _time(request.modified_until)
        yield (
            f"modified on or after {request.modified_until:%Y-%m-%d %H:%M}",
            lambda rows: pc.less(rows["modified"], end),
        )
    if request.min_bytes is not None:
        least = request.min_bytes
        yield f"smaller than {least:,} bytes", lambda rows: pc.greater_equal(rows["size_bytes"], least)
    if request.max_bytes is not None:
        most = request.max_bytes
        yield f"larger than {most:,} bytes", lambda rows: pc.less_equal(rows["size_bytes"], most)
    if request.sample_percent is not None and request.sample_percent < 100:
        below = request.sample_percent / 100 * HASHES
        # A key's hash does not change: a sample of 20 % holds the sample of 10 %.
        yield (
            f"not in the sample of {request.sample_percent:g} %",
            lambda rows: pa.array(hash_keys(rows["key"]) < below),
        )


def _has_extension(keys: Any) -> Any:
    return pc.match_substring_regex(keys, rf"(?i:{'|'.join(map(re.escape, EXTENSIONS))})\z")


def _matches(globs: Sequence[str]) -> Callable[[Any], Any]:
    pattern = rf"(?s)\A(?:{'|'.join(map(glob_pattern, globs))})\z"
    try:
        pc.match_substring_regex(pa.array([""]), pattern)
    except pa.ArrowInvalid as err:
        raise SelectionError(f"{_listed(globs)} is no pattern of names: {err}.") from err
    return lambda rows: pc.match_substring_regex(rows["key"], pattern)


def glob_pattern(glob: str) -> str:
    """A glob over a whole key as RE2 reads it, case-sensitive as S3's keys are.

    ``*`` is anything, slashes too, ``?`` one character, ``[abc]``, ``[a-z]``, ``[!abc]`` one of (not of) them.
    """
    return "".join(_piece(piece) for piece in re.findall(r"\[!?\][^\]]*\]|\[!?[^\]]+\]|.", glob, re.DOTALL))


def _piece(piece: str) -> str:
    if piece in "*?":
        return ".*" if piece == "*" else "."
    if len(piece) == 1:
        return re.escape(piece)
    inner = re.sub(r"[\\\[\]^&~|]", r"\\\g<0>", piece[1:-1].removeprefix("!"))
    return f"[{'^' * piece.startswith('[!')}{inner}]"


def _time(value: Any) -> pa.Scalar:
    return pa.scalar(value, pa.timestamp("ms", tz="UTC"))


def _listed(globs: Sequence[str]) -> str:
    return ", ".join(globs)
