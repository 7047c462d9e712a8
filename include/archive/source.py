"""An archive's source, opened and checked: may its images be read, can the model read them, is there anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from botocore.exceptions import ClientError

from include import objects
from include.archive.found import Skipped
from include.archive.inventory import read_inventory
from include.archive.listing import list_prefix
from include.archive.manifest import check_files, read_manifest
from include.archive.request import ArchiveRequest
from include.archive.uri_list import UriList, find_listed, open_list
from include.errors import SelectionError, error_code
from include.selection import split_uri
from include.settings import PREFIX, Settings


@dataclass(frozen=True, slots=True)
class Source:
    """Tables of ``FOUND`` that are read as they are taken; ``nothing`` says that there are none, and what to look at."""

    tables: Iterator[pa.Table]
    nothing: str
    listed: UriList | None = None


@contextmanager
def open_source(s3: Any, settings: Settings, request: ArchiveRequest, skipped: Skipped) -> Iterator[Source]:
    """Open what the request names, and look at everything that can be looked at before its images are read.

    :raises SelectionError: where something is wrong with it, and what to do.
    """
    if request.source == "prefix":
        check_buckets(s3, settings, [split_uri(request.uri)[0]])
        nothing = f"Nothing lies below {request.uri}. A prefix is taken as it stands: look at its case and slashes."
        with closing(list_prefix(s3, request.uri, settings.threads, skipped)) as tables:
            yield Source(tables, nothing)
    elif request.source == "inventory":
        inventory = read_manifest(s3, request.uri)
        check_buckets(s3, settings, [inventory.source_bucket])
        check_files(s3, inventory, settings.threads)
        nothing = f"The inventory {request.uri} holds no objects. Look at the prefix that it is configured for."
        with closing(read_inventory(s3, inventory, skipped)) as tables:
            yield Source(tables, nothing)
    else:
        with open_list(
            s3,
            request.uri,
            allowed=settings.readable_buckets,
            url_encoded=request.url_encoded,
            skip_broken_lines=request.skip_broken_lines,
        ) as listed:
            check_buckets(s3, settings, listed.buckets)
            with closing(find_listed(s3, listed, settings.threads, skipped)) as tables:
                yield Source(tables, f"The list {request.uri} names no objects.", listed)


def check_buckets(s3: Any, settings: Settings, buckets: Iterable[str]) -> None:
    """May these buckets' images be labelled, and can they be?

    :raises SelectionError: for a bucket that is not allowed, not there, not readable, or not in the model's region.
    """
    foreign = sorted({*buckets} - settings.readable_buckets)
    if foreign:
        raise SelectionError(
            f"Not allowed: bucket {', '.join(foreign)}. Allowed are {', '.join(sorted(settings.readable_buckets))}; "
            f"{PREFIX}ALLOWED_BUCKETS adds more."
        )
    for bucket in buckets:
        region = _region(s3, bucket)
        if region not in ("", settings.region):
            raise SelectionError(
                f"Bucket {bucket} is in {region}, the model in {settings.region}: it reads images of its own region only "
                "(https://docs.aws.amazon.com/rekognition/latest/customlabels-dg/limits.html). Copy the images there, or the "
                "model here."
            )


def check_readable(s3: Any, bucket: str, key: str) -> None:
    """Try it with one image: listing a bucket is another permission than reading what is in it.

    :raises SelectionError: where it may not be read.
    """
    try:
        objects.head(s3, bucket, key)
    except ClientError as err:
        if not objects.is_denied(err):
            raise
        raise SelectionError(
            f"s3://{bucket}/{key} may not be read by the role of the Airflow connection: it needs s3:GetObject for the images."
        ) from err


def _region(s3: Any, bucket: str) -> str:
    """Empty where S3 does not say."""
    try:
        answer = s3.head_bucket(Bucket=bucket)
    except ClientError as err:
        code = error_code(err)
        headers = err.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        if code in ("301", "PermanentRedirect"):
            return str(headers.get("x-amz-bucket-region", "another region"))
        if code in ("404", "NoSuchBucket"):
            raise SelectionError(f"Bucket {bucket} does not exist.") from err
        if code in ("403", "AccessDenied"):
            raise SelectionError(
                f"Bucket {bucket} may not be used by the role of the Airflow connection ({code}); "
                "README.md lists the permissions."
            ) from err
        raise
    return str(answer.get("BucketRegion") or "")
