"""Every object below a prefix, listed side by side.

A listing's pages come one after another, 1,000 keys each, since every page begins where the one before it ended
(https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html). So the keys are cut into ranges that are listed
next to each other: each from after one key up to another. Where to cut, a few listings of one key tell; wherever that
is, ranges that touch leave nothing out. It works on folders as on a flat heap of names.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

import pyarrow as pa

from include.archive.found import Skipped, found_table, readable
from include.layout import MAX_KEY_BYTES
from include.selection import split_uri

# A range that has given so many pages since it was cut may be cut again: looking for places costs some requests, too.
PAGES_BEFORE_A_CUT: Final = 8
_LAST_CHARACTER: Final = 0x10FFFF
_BEFORE_SURROGATES: Final = 0xD7FF


@dataclass(frozen=True, slots=True)
class KeyRange:
    """Keys after ``after``, up to ``upto`` and with it (None: to the end).

    ``pages``: given since it was cut. ``shared``: so many first characters are all its keys', as far as is known.
    """

    after: str
    upto: str | None
    shared: int
    pages: int = 0


def list_prefix(s3: Any, uri: str, threads: int, skipped: Skipped) -> Generator[pa.Table, None, None]:
    """Tables of ``FOUND``, a listing's page each, in an order that follows from what is there (but not the keys' order).

    Ranges take turns, and each reads one page ahead: so many pages are in memory at most, however many there are.

    :param uri: ``s3://bucket/prefix``; the prefix is taken as it stands, and may end within a name.
    :param skipped: counts objects that nobody can read.
    """
    bucket, prefix = split_uri(uri)

    def page(part: KeyRange) -> tuple[list[dict[str, Any]], KeyRange | None]:
        """What the range begins with, and what is left of it."""
        after = {"StartAfter": part.after} if part.after else {}
        answer = s3.list_objects_v2(Bucket=bucket, Prefix=prefix, **after)
        items = answer.get("Contents", [])
        inside = [item for item in items if part.upto is None or item["Key"] <= part.upto]
        if not answer["IsTruncated"] or len(inside) < len(items):
            return inside, None
        return inside, replace(part, after=items[-1]["Key"], pages=part.pages + 1)

    with ThreadPoolExecutor(max_workers=threads) as pool:
        waiting: deque[Future[tuple[list[dict[str, Any]], KeyRange | None]]] = deque(
            [pool.submit(page, KeyRange("", None, len(prefix), PAGES_BEFORE_A_CUT))]
        )
        while waiting:
            items, rest = waiting.popleft().result()
            if rest is not None:
                parts = [rest]
                if rest.pages > PAGES_BEFORE_A_CUT and len(waiting) < threads // 2:
                    parts = _cut(s3, bucket, prefix, rest, threads - len(waiting))
                waiting.extend(pool.submit(page, part) for part in parts)
            if items:
                yield found_table(bucket, readable(items, skipped))


def _cut(s3: Any, bucket: str, prefix: str, whole: KeyRange, most: int) -> list[KeyRange]:
    """Cut a range into at most so many, where names begin to differ: 2024/ from 2025/, image-1 from image-2.

    Code points order as S3's UTF-8 does.
    """
    places: list[str] = []
    depth = whole.shared
    while depth < len(whole.after) and not places:
        known = whole.after
        while len(places) < most - 1:
            beyond = _beyond(known, depth)
            first = beyond and _first(s3, bucket, prefix, beyond)
            if not first or (whole.upto is not None and first > whole.upto) or first[:depth] != known[:depth]:
                break
            places.append(first[: depth + 1])
            known = first
        depth += 1
    shared = [depth] * len(places) + [depth - 1 if len(places) == most - 1 else depth]
    ranges = zip([whole.after, *places], [*places, whole.upto], shared, strict=True)
    return [KeyRange(after, upto, characters) for after, upto, characters in ranges]


def _beyond(key: str, depth: int) -> str | None:
    """What every name comes before that begins with ``key[:depth + 1]``; None where there is no such thing."""
    character = ord(key[depth])
    if character == _LAST_CHARACTER:
        return None
    beyond = key[:depth] + ("\ue000" if character == _BEFORE_SURROGATES else chr(character + 1))
    return beyond if len(beyond.encode()) <= MAX_KEY_BYTES else None


def _first(s3: Any, bucket: str, prefix: str, after: str) -> str | None:
    answer = s3.list_objects_v2(Bucket=bucket, Prefix=prefix, StartAfter=after, MaxKeys=1)
    return next((str(item["Key"]) for item in answer.get("Contents", [])), None)
