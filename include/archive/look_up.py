"""What S3 says of objects that a list names: ETag, size, date. A listing where it answers for many, a HEAD for the rest."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from itertools import groupby
from os.path import commonprefix
from typing import Any, Final

import pyarrow as pa
from botocore.exceptions import ClientError

from include import objects
from include.archive.found import ARCHIVED, IN_GLACIER, NAMED_TWICE, Skipped

NOT_THE_LATEST: Final = "an older version of an object (the latest one is labelled)"
GONE: Final = "there is no such object"
DENIED: Final = "may not be read (403), or there is no such object"


@dataclass(slots=True)
class Looked:
    """What was found of one bucket's objects: a listing's items; ``gone`` as line number, problem, key."""

    bucket: str
    items: list[dict[str, Any]] = field(default_factory=list)
    gone: list[tuple[int, str, str]] = field(default_factory=list)
    skipped: Skipped = field(default_factory=Counter)


def look_up(s3: Any, rows: pa.Table) -> Looked:
    """Look up rows of ``LISTED``: of one bucket, sorted by key, all lines of an object together."""
    columns = (rows["key"].to_pylist(), rows["version_id"].to_pylist(), rows["line"].to_pylist())
    wanted = {key: list(lines) for key, lines in groupby(zip(*columns, strict=True), key=lambda row: str(row[0]))}
    looked = Looked(bucket=str(rows["bucket"][0].as_py()))
    plain = [key for key, lines in wanted.items() if not any(version for _, version, _ in lines)]
    listed, rest = _list(s3, looked.bucket, plain)
    heads = {key: _head(s3, looked.bucket, key) for key in [*rest, *(wanted.keys() - {*plain})]}
    for key, lines in wanted.items():
        _judge(looked, key, lines, listed.get(key) or heads.get(key, GONE))
    return looked


def _judge(looked: Looked, key: str, lines: list[tuple[str, str, int]], item: dict[str, Any] | str) -> None:
    """Where an object's lines go: one is taken, the others have been said before."""
    if isinstance(item, str):
        looked.gone += [(line, item, key) for _, _, line in lines]
        return
    current = [version for _, version, _ in lines if version in ("", item.get("VersionId", "null"))]
    looked.skipped[NOT_THE_LATEST] += len(lines) - len(current)
    looked.skipped[NAMED_TWICE] += max(0, len(current) - 1)
    if current and _is_archived(item):
        looked.skipped[IN_GLACIER] += 1
    elif current:
        looked.items.append(item)


def _list(s3: Any, bucket: str, keys: list[str]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """What listings say of the (sorted) keys, and those that they were not asked for.

    As many keys as a page is worth are left out wherever a page answers for fewer; twice as many the next time.
    """
    found: dict[str, dict[str, Any]] = {}
    rest, left_out = keys, list[str]()
    skips = objects.LISTING_IS_WORTH
    while len(rest) >= objects.LISTING_IS_WORTH:
        page = s3.list_objects_v2(Bucket=bucket, Prefix=commonprefix(rest), StartAfter=rest[0][:-1])
        items = {item["Key"]: item for item in page.get("Contents", [])}
        answered = bisect_right(rest, next(reversed(items))) if page["IsTruncated"] else len(rest)
        # An archived object may have been restored: its HEAD tells.
        left_out += [key for key in rest[:answered] if items.get(key, {}).get("StorageClass") in ARCHIVED]
        found.update({key: items[key] for key in rest[:answered] if key in items})
        rest = rest[answered:]
        if answered < objects.LISTING_IS_WORTH:
            left_out += rest[:skips]
            rest = rest[skips:]
            skips *= 2
    left_out += rest
    for key in left_out:
        found.pop(key, None)
    return found, left_out


def _head(s3: Any, bucket: str, key: str) -> dict[str, Any] | str:
    """As a listing's item, or what is wrong."""
    try:
        head = objects.head(s3, bucket, key)
    except ClientError as err:
        if objects.is_denied(err):
            return DENIED
        raise
    if head is None:
        return GONE
    return {"Key": key, "Size": head["ContentLength"]} | head


def _is_archived(item: dict[str, Any]) -> bool:
    """Whether GetObject would be refused (https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html)."""
    if item.get("ArchiveStatus"):
        return True
    return item.get("StorageClass") in ARCHIVED and 'ongoing-request="false"' not in item.get("Restore", "")
