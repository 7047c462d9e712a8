"""The conditions of CopyObject, most of which moto does not look at.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from moto.s3.exceptions import MissingKey, PreconditionFailed
from moto.s3.responses import S3Response


def install() -> None:
    """Have moto's S3 check a copy's conditions before it copies."""
    moto_copy_object = S3Response.copy_object

    def copy_object(response: Any) -> Any:
        _check_source(response)
        _check_destination(response)
        return moto_copy_object(response)

    S3Response.copy_object = copy_object


def _check_source(response: Any) -> None:
    """`x-amz-copy-source-if-match`; moto itself looks at `-if-none-match` and at whether there is a source."""
    wanted = response.headers.get("x-amz-copy-source-if-match")
    if not wanted:
        return
    source = urlsplit(response.headers["x-amz-copy-source"])
    bucket, _, key = unquote(source.path).lstrip("/").partition("/")
    version_id = parse_qs(source.query).get("versionId", [None])[0]
    found = response.backend.get_object(bucket, key, version_id=version_id)
    if found is not None and not _matches(wanted, found):
        raise PreconditionFailed("x-amz-copy-source-If-Match")


def _check_destination(response: Any) -> None:
    """`If-None-Match: *` and `If-Match` on the object that the copy would overwrite."""
    found = response.backend.get_object(response.bucket_name, response.parse_key_name())
    if response.headers.get("If-None-Match") == "*" and found is not None:
        raise PreconditionFailed("If-None-Match")
    wanted = response.headers.get("If-Match")
    if wanted and found is None:
        raise MissingKey
    if wanted and not _matches(wanted, found):
        raise PreconditionFailed("If-Match")


def _matches(wanted: str, found: Any) -> bool:
    return bool(wanted.strip('"') == found.etag.strip('"'))
