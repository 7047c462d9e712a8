"""The manifest of an S3 Inventory: which files it has, where they lie, and whether they are what it says.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from typing import IO, Any, Final

from include.archive.fetch import open_object
from include.errors import SelectionError
from include.parallel import in_parallel
from include.selection import split_uri

log = logging.getLogger(__name__)

FORMATS: Final = ("CSV", "ORC", "PARQUET")
CHUNK_BYTES: Final = 1024**2


@dataclass(frozen=True, slots=True)
class DataFile:
    key: str
    size: int
    md5: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """A manifest. ``columns``: names of the columns in the order of CSV's, empty for files that tell themselves."""

    uri: str
    source_bucket: str
    data_bucket: str
    file_format: str
    columns: tuple[str, ...]
    files: tuple[DataFile, ...]


def read_manifest(s3: Any, uri: str) -> Inventory:
    """Read a manifest, and see that it is whole.

    :param uri: of its ``manifest.json``.
    :raises SelectionError: where it is missing, changed, or of a kind that nobody knows.
    """
    inventory = _parsed(uri, _manifest(s3, uri))
    if inventory.file_format not in FORMATS:
        raise SelectionError(f"{uri}: fileFormat {inventory.file_format!r} is none of CSV, ORC and Parquet.")
    return inventory


def check_files(s3: Any, inventory: Inventory, threads: int) -> None:
    """Read every file to its end, before anything of them is used: a plan of half an inventory is worse than none.

    :raises SelectionError: naming a file that is missing, or not what the manifest says.
    """
    log.info(
        "%s names %s files with %.1f MB, which are checked first.",
        inventory.uri,
        f"{len(inventory.files):,}",
        sum(file.size for file in inventory.files) / 1e6,
    )
    in_parallel(lambda file: fetch(s3, inventory, file, None), inventory.files, threads=threads)


def _manifest(s3: Any, uri: str) -> bytes:
    bucket, key = split_uri(uri)
    if not key.endswith("manifest.json"):
        raise SelectionError(
            f"{uri} is no manifest.json: give the one of the inventory to use (there is one a day or week)."
        )
    body = open_object(s3, bucket, key, missing="the first inventory takes up to 48 hours.").read()
    not_whole = "it is written last, so the inventory is not whole yet."
    checksum = open_object(s3, bucket, key.removesuffix("json") + "checksum", missing=not_whole).read()
    if _md5(body).hexdigest() != checksum.decode(errors="replace").strip().lower():
        raise SelectionError(
            f"{uri} is not what manifest.checksum beside it says: it was changed or cut short. Take another inventory."
        )
    return bytes(body)


def _parsed(uri: str, body: bytes) -> Inventory:
    try:
        manifest = json.loads(body)
        file_format = str(manifest["fileFormat"]).upper()
        return Inventory(
            uri=uri,
            source_bucket=str(manifest["sourceBucket"]),
            data_bucket=str(manifest["destinationBucket"]).rpartition(":")[2],
            file_format=file_format,
            columns=tuple(name.strip() for name in manifest["fileSchema"].split(",")) if file_format == "CSV" else (),
            files=tuple(DataFile(str(of["key"]), int(of["size"]), str(of["MD5checksum"])) for of in manifest["files"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise SelectionError(f"{uri} is no manifest of an S3 Inventory ({type(err).__name__}: {err}).") from err


def fetch(s3: Any, inventory: Inventory, file: DataFile, to: IO[bytes] | None) -> None:
    """Read a data file to its end, and compare.

    :param to: where to keep it; None only compares.
    :raises SelectionError: where it is missing, or something else than the manifest says.
    """
    uri = f"s3://{inventory.data_bucket}/{file.key}"
    missing = (
        f"but {inventory.uri} names it. A lifecycle rule may have deleted it (take a newer inventory), or the inventory's "
        "destination prefix ends with a slash (S3 then writes // and names /)."
    )
    body = open_object(s3, inventory.data_bucket, file.key, missing=missing)
    digest, size = _md5(), 0
    while chunk := body.read(CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
        if to is not None:
            to.write(chunk)
    if digest.hexdigest() != file.md5.lower():
        raise SelectionError(
            f"{uri} is not what {inventory.uri} says: MD5 {digest.hexdigest()} of {size:,} bytes instead of {file.md5} of "
            f"{file.size:,}. It was changed or cut short: take another inventory."
        )


def _md5(body: bytes = b"") -> Any:
    return hashlib.md5(body, usedforsecurity=False)
