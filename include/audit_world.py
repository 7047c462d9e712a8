"""What the audit has read so far, and what it found not to add up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from botocore.exceptions import ClientError

from include.audit_places import Collected, Places
from include.audit_records import MISSING_CODES, Record
from include.errors import error_code
from include.settings import Settings

MOST_EXAMPLES: Final = 5
# What seems to be missing is asked for one by one, so many at most: where more is wrong, the listings' word will do.
MOST_LOOKS: Final = 10_000


@dataclass(slots=True)
class Notes:
    """Findings by kind: how many, and the first few of them by name."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    _seen: set[tuple[str, int]] = field(default_factory=set)

    def add(self, kind: str, example: str, *, once: int | None = None) -> None:
        """Note a finding; of those with the same ``once``, the first."""
        if once is not None:
            if (kind, once) in self._seen:
                return
            self._seen.add((kind, once))
        self.counts[kind] += 1
        some = self.examples.setdefault(kind, [])
        if len(some) < MOST_EXAMPLES:
            some.append(example)


@dataclass(slots=True)
class World:
    """What has been read so far. Images are kept as digests, eight bytes each; batches by name.

    ``rows`` and ``missing_rows``: identities with a result, and those found to be gone; ``documents_due`` and ``filed_due``: keys
    that follow from rows; ``forced``: (batch, identity) that were asked for again on purpose.
    """

    s3: Any
    settings: Settings
    now: datetime
    places: Places
    notes: Notes = field(default_factory=Notes)
    pending: dict[str, str] = field(default_factory=dict)
    done: dict[str, datetime] = field(default_factory=dict)
    results: list[str] = field(default_factory=list)
    published: set[str] = field(default_factory=set)
    checkpoints: dict[str, bool] = field(default_factory=dict)
    pending_images: Collected = field(default_factory=Collected)
    pending_names: Collected = field(default_factory=Collected)
    forced: Collected = field(default_factory=Collected)
    rows: Collected = field(default_factory=Collected)
    missing_rows: Collected = field(default_factory=Collected)
    published_rows: Collected = field(default_factory=Collected)
    labelled_names: Collected = field(default_factory=Collected)
    documents_due: Collected = field(default_factory=Collected)
    filed_due: Collected = field(default_factory=Collected)
    suspects: list[Record] = field(default_factory=list)
    images_pending: int = 0
    images_published: int = 0
    overwritten: int = 0
    looks: int = 0
    has_changed: bool = False

    @property
    def bucket(self) -> str:
        return self.settings.final_bucket

    def may_look(self, count: int = 1) -> bool:
        """Whether so many more objects may be asked for one by one."""
        self.looks += count
        return self.looks <= MOST_LOOKS

    def exists(self, bucket: str, key: str) -> bool:
        return head(self.s3, bucket, key) is not None


def head(s3: Any, bucket: str, key: str, version_id: str = "") -> dict[str, Any] | None:
    """An object's headers, or None where it is not there."""
    version = {"VersionId": version_id} if version_id else {}
    try:
        return dict(s3.head_object(Bucket=bucket, Key=key, **version))
    except ClientError as err:
        if error_code(err) in MISSING_CODES:
            return None
        raise
