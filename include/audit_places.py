"""Where the audit looks for originals and documents: every key of the data layout told anew, eight bytes kept of each.

Shares nothing with the stages that it judges: a mistake in their keys is to be found, not repeated.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

Digests: TypeAlias = npt.NDArray[np.uint64]

MAX_KEY_BYTES: Final = 1024  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
# Where an original was filed under a name that a newer image took since: <key>~<its ETag>.
_ASIDE: Final = re.compile(r"~([0-9a-f]{32}(?:-\d+)?)$")


@dataclass(frozen=True, slots=True)
class Listed:
    """One object of a listing; ``etag`` has no quotes."""

    key: str
    etag: str
    size_bytes: int
    modified: datetime


def listed(s3: Any, bucket: str, prefix: str = "") -> Iterator[Listed]:
    """Every object below the prefix (of a versioned bucket: its current versions), a page of 1,000 in memory."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", []):
            yield Listed(item["Key"], item["ETag"].strip('"'), item["Size"], item["LastModified"])


def in_slices(items: Iterable[Listed], size: int = 10_000) -> Iterator[list[Listed]]:
    """Lists of ``size`` objects, the last one shorter: looked up together, since one by one takes much longer."""
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some


def digest(*parts: str) -> int:
    """64 bits of the parts. Of 10 million, one pair is the same with a probability of 3 in a million."""
    return int.from_bytes(hashlib.blake2b("\0".join(parts).encode(), digest_size=8).digest(), "big")


class Collected:
    """Digests as they come, eight bytes each, and sorted when first looked through."""

    def __init__(self) -> None:
        self._coming = array("Q")
        self._sorted: Digests = np.empty(0, dtype=np.uint64)

    def add(self, value: int) -> None:
        self._coming.append(value)

    def sorted(self) -> Digests:
        if self._coming:
            coming = np.frombuffer(self._coming, dtype=np.uint64)
            merged = np.concatenate([self._sorted, coming])
            merged.sort()
            self._sorted, self._coming = merged, array("Q")
        return self._sorted

    def holds(self, wanted: Digests | Sequence[int]) -> npt.NDArray[np.bool_]:
        """Of each wanted digest, whether it is among these."""
        return are_in(self.sorted(), wanted)

    def repeated(self) -> Digests:
        """Digests that were added more than once."""
        found = self.sorted()
        return np.unique(found[1:][found[1:] == found[:-1]])


def are_in(known: Digests, wanted: Digests | Sequence[int]) -> npt.NDArray[np.bool_]:
    """Of each wanted digest, whether it is among the known ones, which are sorted."""
    looked_for = np.asarray(wanted, dtype=np.uint64)
    if not len(known) or not len(looked_for):
        return np.zeros(len(looked_for), dtype=bool)
    place = np.minimum(np.searchsorted(known, looked_for), len(known) - 1)
    return np.asarray(known[place] == looked_for)


_TAKEN_ENDING: Final = re.compile(r"(~[0-9a-f]{16}|\.error\.json)\Z")


def filed_key(folder: str, bucket: str, key: str, ending: str = "") -> str:
    """A source key below a folder of the final bucket.

    What would be too long ends in 16 digits of its SHA-256; so does a key that looks like such a one, or like a reason.
    """
    start, whole = f"{folder}/{bucket}/", f"{folder}/{bucket}/{key}{ending}"
    if len(whole.encode()) <= MAX_KEY_BYTES and not _TAKEN_ENDING.search(key):
        return whole
    tail = f"~{hashlib.sha256(key.encode()).hexdigest()[:16]}{ending}"
    room = MAX_KEY_BYTES - len(start.encode()) - len(tail)
    return start + key.encode()[:room].decode(errors="ignore") + tail


def aside_key(filed: str, etag: str) -> str:
    """Where an original went when a newer one took its name."""
    tail = f"~{etag}"
    return filed.encode()[: MAX_KEY_BYTES - len(tail)].decode(errors="ignore") + tail


def original_keys(bucket: str, key: str, etag: str) -> tuple[str, str, str, str]:
    """Every key of the final bucket that an original may be filed under."""
    kept, refused = filed_key("images", bucket, key), filed_key("quarantine", bucket, key)
    return kept, aside_key(kept, etag), refused, aside_key(refused, etag)


def document_key(bucket: str, key: str, *, is_labelled: bool) -> str:
    """The JSON document of an image: its labels, or why it has none."""
    if is_labelled:
        return filed_key("labels", bucket, key, ".json")
    return filed_key("quarantine", bucket, key, ".error.json")


def without_aside(key: str) -> str:
    """The name that an original was filed under before it made way."""
    return _ASIDE.sub("", key)


@dataclass(slots=True)
class Places:
    """What lies where, as digests.

    ``originals``: (bucket, key, ETag) of every original; ``waiting`` and ``fresh``: of uploads in the inbox for longer than
    the grace period, and for less; ``documents``: keys below ``labels/`` and ``quarantine/``. ``copies_differ``: S3 gives
    copies in the final bucket ETags of their own, since it encrypts with a key of KMS.
    """

    final_bucket: str
    originals: Collected = field(default_factory=Collected)
    fresh: Collected = field(default_factory=Collected)
    waiting: Collected = field(default_factory=Collected)
    documents: Collected = field(default_factory=Collected)
    listed_buckets: set[str] = field(default_factory=set)
    copies_differ: bool = False
    inbox: int = 0
    filed: int = 0

    def list_inbox(self, s3: Any, bucket: str, *, settled_before: datetime) -> None:
        """The source bucket. What came before ``settled_before`` should be known by now."""
        self.listed_buckets.add(bucket)
        for item in listed(s3, bucket):
            if is_folder(item):
                continue
            self.inbox += 1
            place = digest(bucket, item.key, item.etag)
            self.originals.add(place)
            (self.waiting if item.modified < settled_before else self.fresh).add(place)

    def list_buckets(self, s3: Any, buckets: Iterable[str]) -> None:
        """Other buckets that images were labelled from, each once."""
        for bucket in set(buckets) - self.listed_buckets:
            self.listed_buckets.add(bucket)
            for item in listed(s3, bucket):
                self.originals.add(digest(bucket, item.key, item.etag))

    def list_filed(self, s3: Any) -> None:
        """Originals and documents of the final bucket.

        A copy of what was uploaded in parts has another ETag than the parts had, and so has one that S3 encrypts with a key
        of KMS (https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html): these are known by name and size.
        """
        for item in listed(s3, self.final_bucket, "images/"):
            headers = s3.head_object(Bucket=self.final_bucket, Key=item.key)
            self.copies_differ = str(headers.get("ServerSideEncryption", "")).startswith("aws:kms")
            break
        for folder in ("images/", "quarantine/", "labels/"):
            for item in listed(s3, self.final_bucket, folder):
                if folder != "images/":
                    self.documents.add(digest(item.key))
                if folder != "labels/":
                    self.filed += not (folder == "quarantine/" and item.key.endswith(".error.json"))
                    self.originals.add(digest(self.final_bucket, item.key, item.etag))
                    self.originals.add(_by_size(self.final_bucket, without_aside(item.key), item.size_bytes))

    def found(self, images: Sequence[tuple[str, str, str]]) -> npt.NDArray[np.bool_]:
        """Of each image (bucket, key, ETag), which places hold it: source, kept, aside, quarantine, aside there."""
        wanted = [
            place
            for bucket, key, etag in images
            for place in (
                digest(bucket, key, etag),
                *(digest(self.final_bucket, filed, etag) for filed in original_keys(bucket, key, etag)),
            )
        ]
        return self.originals.holds(wanted).reshape(len(images), 5)

    def is_filed_by_size(self, bucket: str, key: str, etag: str, size_bytes: int) -> bool:
        """Whether an original whose copy has another ETag is filed, to go by its name and size."""
        if "-" not in etag and not self.copies_differ:
            return False
        keys = (filed_key(folder, bucket, key) for folder in ("images", "quarantine"))
        return bool(self.originals.holds([_by_size(self.final_bucket, each, size_bytes) for each in keys]).any())


def _by_size(bucket: str, key: str, size_bytes: int) -> int:
    return digest(bucket, key, "", str(size_bytes))


def is_folder(item: Listed) -> bool:
    """The console's "create folder" writes an empty object whose key ends in a slash: nothing to label."""
    return item.key.endswith("/") and item.size_bytes == 0
