"""An image's identity, exactly: which object, which version of it, and how we came to hear of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

Origin = Literal["upload", "manual", "archive", "redrive"]


@dataclass(frozen=True, slots=True)
class ImageRef:
    """One object to label. ``version_id`` is empty in an unversioned bucket; ``etag`` has no quotes."""

    bucket: str
    key: str
    etag: str
    event_time: datetime
    version_id: str = ""
    size_bytes: int = 0
    sequencer: str = ""
    origin: Origin = "upload"
    force: bool = False

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    @property
    def identity(self) -> tuple[str, str, str]:
        """What makes it this image: two refs with the same identity are paid for once."""
        return self.bucket, self.key, self.etag or self.version_id

    @property
    def place(self) -> tuple[str, str, str]:
        """Where it lies: sets images of one batch apart."""
        return self.bucket, self.key, self.version_id

    def digest(self) -> int:
        """64 bits of the identity: eight bytes an image when a whole backlog is looked through for doubles."""
        return int.from_bytes(hashlib.blake2b("\0".join(self.identity).encode(), digest_size=8).digest(), "big")

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it, without what is empty. Spelt out: ``asdict`` copies deeply, at ten times the cost."""
        fields = {
            "bucket": self.bucket,
            "key": self.key,
            "etag": self.etag,
            "event_time": self.event_time.isoformat(),
            "version_id": self.version_id,
            "size_bytes": self.size_bytes,
            "sequencer": self.sequencer,
            "origin": self.origin,
            "force": self.force,
        }
        return {name: value for name, value in fields.items() if value not in ("", False) or name == "etag"}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> ImageRef:
        return cls(**fields | {"event_time": datetime.fromisoformat(fields["event_time"])})


def source_parameters(image: ImageRef) -> dict[str, str]:
    """``Bucket``, ``Key`` and, where there is one, ``VersionId``, for S3 calls."""
    return {"Bucket": image.bucket, "Key": image.key} | ({"VersionId": image.version_id} if image.version_id else {})


def sequencer_order(image: ImageRef) -> tuple[str, datetime]:
    """Sort key: later writes of the same key come later.

    Sequencers differ in length; S3 compares them as hexadecimal, the shorter padded with zeros on the right
    (https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html).
    """
    return image.sequencer.upper().ljust(64, "0"), image.event_time


def without_doubles(images: Iterable[ImageRef]) -> list[ImageRef]:
    """Each image once, oldest event first.

    An unversioned key holds only its last write, so earlier events of the key describe what is no longer there. In a
    versioned bucket each version is an image of its own, except where content repeats (the same ETag).
    """
    newest: dict[tuple[str, ...], ImageRef] = {}
    for image in images:
        name = image.identity if image.version_id else (image.bucket, image.key)
        known = newest.get(name)
        if known is None or sequencer_order(known) <= sequencer_order(image):
            newest[name] = image
    return sorted(newest.values(), key=lambda image: (image.event_time, image.bucket, image.key, image.version_id))


def parse_time(text: str | None, default: datetime) -> datetime:
    """An ISO 8601 time as aware UTC; the default where it is missing or no time."""
    try:
        time = datetime.fromisoformat(text) if text else default
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):  # the year 1 of a zone ahead of UTC is no time in UTC
        return default


def to_json_line(value: dict[str, Any]) -> str:
    """Compact JSON with sorted names: the same value is the same bytes.

    Half a character, as a service may answer with, has no UTF-8; it stays the escape that it came as.
    """
    line = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return line.encode(errors="backslashreplace").decode()
