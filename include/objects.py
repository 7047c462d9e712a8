"""S3 objects as the stages use them: read, write (on a condition), list, move one exact version."""

from __future__ import annotations

import gzip
import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from os.path import commonprefix
from typing import Any, Final

from botocore.exceptions import ClientError

from include.errors import error_code
from include.images import to_json_line

_MISSING = frozenset({"404", "NoSuchKey", "NotFound", "NoSuchVersion"})
# Two conditional writes at the same moment: one gets 412, or 409 while the other is still under way
# (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html).
_CONDITION_FAILED = frozenset({"412", "409", "PreconditionFailed", "ConditionalRequestConflict"})

# What S3 has and does not hand out: for lack of permission, archived in Glacier, a version id that is none, a delete
# marker (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html).
UNREADABLE: Final = frozenset({"AccessDenied", "InvalidObjectState", "InvalidArgument", "MethodNotAllowed"})

# A listing's page of 1,000 keys takes a client as long to read as 70 HeadObjects, and costs as much as twelve.
LISTING_IS_WORTH: Final = 100


def is_missing(error: ClientError) -> bool:
    """Whether the object (or that version of it) is not there."""
    return error_code(error) in _MISSING


def is_denied(error: ClientError) -> bool:
    """Whether the role may not read the object (or its key)."""
    return error_code(error) in {"403", "AccessDenied"}


def is_condition_failed(error: ClientError) -> bool:
    """Whether somebody wrote in between."""
    return error_code(error) in _CONDITION_FAILED


def read(s3: Any, bucket: str, key: str) -> tuple[bytes, str] | None:
    """Content and ETag (with its quotes, as conditions want it), or None where there is no such object."""
    try:
        answer = s3.get_object(Bucket=bucket, Key=key)
    except ClientError as err:
        if is_missing(err):
            return None
        raise
    return answer["Body"].read(), answer["ETag"]


def head(s3: Any, bucket: str, key: str) -> dict[str, Any] | None:
    """The object's headers, or None where there is no such object."""
    try:
        return dict(s3.head_object(Bucket=bucket, Key=key))
    except ClientError as err:
        if is_missing(err):
            return None
        raise


def write_if(s3: Any, bucket: str, key: str, body: bytes, *, etag: str | None) -> bool:
    """Write only over what was read (``etag``), or only where nothing is (None). False where somebody was faster."""
    condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
    try:
        s3.put_object(Bucket=bucket, Key=key, Body=body, **condition)
    except ClientError as err:
        if is_condition_failed(err) or (etag and is_missing(err)):
            return False
        raise
    return True


def list_keys(s3: Any, bucket: str, prefix: str) -> Iterator[str]:
    """Every key below the prefix, in order."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", []):
            yield item["Key"]


def perhaps_there(s3: Any, bucket: str, keys: Iterable[str]) -> set[str]:
    """Those of the keys that may exist: the others do not, for sure.

    What is looked for lies close together as a rule, or nothing lies there yet: then one page of a listing answers for
    a thousand keys. Where a page answers for few (a handful of keys here and there in a full bucket), the rest is left
    to be asked for one by one.
    """
    rest = sorted(set(keys))  # by code points, which is the order of S3's UTF-8
    there: set[str] = set()
    answered = LISTING_IS_WORTH
    while answered >= LISTING_IS_WORTH <= len(rest):
        # StartAfter leaves its own key out: so it is a little less than the first one looked for.
        page = s3.list_objects_v2(Bucket=bucket, Prefix=commonprefix(rest), StartAfter=rest[0][:-1])
        listed = [item["Key"] for item in page.get("Contents", [])]
        answered = bisect_right(rest, listed[-1]) if page["IsTruncated"] else len(rest)
        there.update(set(listed).intersection(rest[:answered]))
        rest = rest[answered:]
    return there.union(rest)


def pack_lines(values: Iterable[dict[str, Any]]) -> bytes:
    """Gzipped JSON Lines; the same values are the same bytes (no time in the gzip header)."""
    return gzip.compress("".join(to_json_line(value) + "\n" for value in values).encode(), compresslevel=6, mtime=0)


def unpack_lines(body: bytes) -> list[dict[str, Any]]:
    """JSON Lines, gzipped or not."""
    text = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
    return [json.loads(line) for line in text.splitlines() if line.strip()]
