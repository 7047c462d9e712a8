"""What a manual run asks for, turned into batches: a prefix or a list of S3 URIs of a bucket that it may read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from include import objects
from include.batches import Batch, plan_batches, write_batches
from include.errors import SelectionError
from include.images import ImageRef
from include.parallel import in_parallel, in_slices
from include.settings import Settings

EXTENSIONS: Final = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
URIS_SHOWN: Final = 5
SCHEME: Final = "s3://"


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of an S3 URI; keys are taken as they stand, never decoded.

    :raises SelectionError: where it is no S3 URI.
    """
    bucket, _, key = uri.removeprefix(SCHEME).partition("/")
    if not uri.startswith(SCHEME) or not bucket:
        raise SelectionError(f"{uri!r} is not an S3 URI (s3://bucket/key).")
    return bucket, key


def find_images(
    s3: Any, settings: Settings, *, prefix: str = "", uris: Sequence[str] = (), force: bool = False
) -> Iterator[ImageRef]:
    """The images of a prefix (an S3 URI; those with an image's extension) or of a list of S3 URIs.

    :raises SelectionError: for a bucket that is not allowed, and for listed objects that do not exist: all are named.
    """
    asked = [split_uri(uri) for uri in ([prefix] if prefix else uris)]
    foreign = sorted({bucket for bucket, _ in asked} - settings.readable_buckets)
    if foreign:
        raise SelectionError(
            f"Not allowed: bucket {', '.join(foreign)}. Allowed are {', '.join(sorted(settings.readable_buckets))}; "
            "LABELS_ALLOWED_BUCKETS adds more."
        )
    if prefix:
        return _below(s3, *asked[0], force=force)
    return iter(_listed(s3, settings, asked, force=force))


def _below(s3: Any, bucket: str, prefix: str, *, force: bool) -> Iterator[ImageRef]:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", []):
            if item["Key"].lower().endswith(EXTENSIONS):
                yield _image(bucket, item["Key"], item["ETag"], item["Size"], item["LastModified"], force)


def _listed(s3: Any, settings: Settings, asked: Iterable[tuple[str, str]], *, force: bool) -> list[ImageRef]:
    def look(place: tuple[str, str]) -> ImageRef | str:
        bucket, key = place
        head = objects.head(s3, bucket, key) if key else None
        if head is None:
            return f"s3://{bucket}/{key}"
        return _image(bucket, key, head["ETag"], head["ContentLength"], head["LastModified"], force)

    found = in_parallel(look, dict.fromkeys(asked), threads=settings.threads)
    missing = [uri for uri in found if isinstance(uri, str)]
    if missing:
        shown = ", ".join(missing[:URIS_SHOWN]) + (
            f" and {len(missing) - URIS_SHOWN} more" if len(missing) > URIS_SHOWN else ""
        )
        raise SelectionError(f"{len(missing)} of the listed images do not exist: {shown}.")
    return [image for image in found if isinstance(image, ImageRef)]


def _image(bucket: str, key: str, etag: str, size: int, modified: Any, force: bool) -> ImageRef:
    return ImageRef(bucket, key, etag.strip('"'), modified, size_bytes=size, origin="manual", force=force)


def queue_images(s3: Any, settings: Settings, images: Iterable[ImageRef], *, request_id: str) -> list[str]:
    """Write batches of the images; returns their keys in the order of work. The same request writes the same keys."""
    keys: list[str] = []
    for some in in_slices(images, settings.batch_size * settings.threads):
        batches: list[Batch] = plan_batches(some, batch_size=settings.batch_size, request_id=request_id)
        write_batches(s3, settings.final_bucket, batches, threads=settings.threads)
        keys.extend(batch.key for batch in batches)
    return sorted(keys)
