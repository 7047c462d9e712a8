"""What every source of an archive has in common: rows of ``FOUND``, and a count of what is not taken, by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

import pyarrow as pa

from include.archive.request import FOUND

# Reason in plain words -> images. Sources and filters count into the same one.
Skipped: TypeAlias = Counter[str]

# Storage classes that answer no GetObject until somebody restores the object
# (https://docs.aws.amazon.com/AmazonS3/latest/userguide/restoring-objects.html); GLACIER_IR answers at once.
ARCHIVED: Final = frozenset({"GLACIER", "DEEP_ARCHIVE"})
IN_GLACIER: Final = "archived in Glacier or Deep Archive (restore them, then name them in a list)"
NAMED_TWICE: Final = "named more than once"


def found_table(bucket: str, items: Iterable[dict[str, Any]]) -> pa.Table:
    """Rows of ``FOUND`` from a listing's items: ``Key``, ``ETag``, ``Size``, ``LastModified``."""
    rows = [(item["Key"], item["ETag"].strip('"'), item["Size"], item["LastModified"]) for item in items]
    keys, etags, sizes, times = zip(*rows, strict=True) if rows else ((), (), (), ())
    columns = [[bucket] * len(rows), list(keys), list(etags), list(sizes), list(times)]
    return pa.table([pa.array(each, of.type) for each, of in zip(columns, FOUND, strict=True)], schema=FOUND)


def readable(items: Iterable[dict[str, Any]], skipped: Skipped) -> list[dict[str, Any]]:
    """A listing's items without those in an archive's storage class, which are counted."""
    every = list(items)
    kept = [item for item in every if item.get("StorageClass") not in ARCHIVED]
    skipped[IN_GLACIER] += len(every) - len(kept)
    return kept
