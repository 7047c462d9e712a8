"""Where everything lies in the final bucket. Every key is derived from what it holds; none is random."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import Final

PENDING: Final = "batches/pending/"
DONE: Final = "batches/done/"
UNREADABLE: Final = "batches/unreadable/"
OUTCOMES: Final = "batches/outcomes/"
LABELS: Final = "labels/"
IMAGES: Final = "images/"
QUARANTINE: Final = "quarantine/"
STAGED: Final = "staged/"
IMAGE_LABELS: Final = "results/image_labels/"
# Where Athena, Trino and Redshift Spectrum look for lists of files by custom (https://docs.delta.io/presto-integration).
FILE_LISTS: Final = "results/image_labels/_symlink_format_manifest/"
RUNS: Final = "results/runs/"
QUERIES: Final = "queries/"
ARCHIVES: Final = "archives/"
INDEX: Final = "index/"
# Names the label index that readers use: the one object there that is written over.
INDEX_POINTER: Final = f"{INDEX}latest.json"

# Work in this order: what people wait for first.
PRIORITY: Final = {"upload": 1, "manual": 1, "redrive": 2, "archive": 4}
# An archive's batches under its name, of which a run takes a slice only; what somebody redrives of an archive is before them.
SLICED: Final = 5

# How this module itself ends keys. A source key that ends so is set apart by a digest, or one could be uploaded under
# the name of another image's reason, or of a longer key.
_OWN_ENDING: Final = re.compile(r"(~[0-9a-f]{16}|\.error\.json)\Z")

_MERGED: Final = "merged-"

MAX_KEY_BYTES: Final = 1024  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html


def pending_batch(*, priority: int, created: datetime, batch_id: str) -> str:
    """Sorts by priority, then age: a listing is the order of work."""
    return f"{PENDING}{priority}-{created:%Y%m%dT%H%M%SZ}-{batch_id}.jsonl.gz"


def archive_batches(archive_id: str = "") -> str:
    """What begins the keys of an archive's pending batches, or of all archives': after everything that people wait for."""
    return f"{PENDING}{SLICED}-{archive_id}{'.' if archive_id else ''}"


def archive_batch(archive_id: str, *, number: int, batch_id: str) -> str:
    """Sorts by archive, oldest first, and within it as it was found."""
    return f"{archive_batches(archive_id)}{number:07d}-{batch_id}.jsonl.gz"


def archive_of(pending_key: str) -> str | None:
    """The archive that a pending batch is of; None for all others."""
    is_archive = pending_key.startswith(archive_batches())
    return pending_key.removeprefix(archive_batches()).partition(".")[0] if is_archive else None


def archive(archive_id: str) -> str:
    return f"{ARCHIVES}{archive_id}/archive.json"


def archive_runs(archive_id: str) -> str:
    """What each run did for an archive."""
    return f"{ARCHIVES}{archive_id}/runs/"


def archive_run(archive_id: str, run_id: str) -> str:
    return f"{archive_runs(archive_id)}{_plain(run_id)}.json"


def batch_id_of(pending_key: str) -> str:
    return pending_key.removeprefix(PENDING).removesuffix(".jsonl.gz").rsplit("-", 1)[-1]


def done_batch(*, day: str, batch_id: str) -> str:
    return f"{DONE}{day}/{batch_id}.jsonl.gz"


def preflight(batch_id: str) -> str:
    return f"{OUTCOMES}{batch_id}/preflight.jsonl"


def attempts(batch_id: str) -> str:
    return f"{OUTCOMES}{batch_id}/attempt-"


def attempt(batch_id: str, run_id: str) -> str:
    return f"{attempts(batch_id)}{_plain(run_id)}"


def done_marker(batch_id: str) -> str:
    """Beside the checkpoints: the batch is done. Messages that come again may make the same batch once more."""
    return f"{OUTCOMES}{batch_id}/done"


def outcome_parts(batch_id: str) -> str:
    return f"{OUTCOMES}{batch_id}/part-"


def outcome_part(batch_id: str, number: int) -> str:
    return f"{outcome_parts(batch_id)}{number:05d}.jsonl"


def labels_document(bucket: str, key: str) -> str:
    return _fitted(LABELS, bucket, key, ".json")


def original(bucket: str, key: str) -> str:
    return _fitted(IMAGES, bucket, key)


def quarantined(bucket: str, key: str) -> str:
    return _fitted(QUARANTINE, bucket, key)


def quarantine_reason(bucket: str, key: str) -> str:
    return _fitted(QUARANTINE, bucket, key, ".error.json")


def earlier(key: str, etag: str) -> str:
    """Where a filed image goes when a newer one of the same name comes."""
    ending = f"~{etag}"
    return key.encode()[: MAX_KEY_BYTES - len(ending)].decode(errors="ignore") + ending


def _fitted(prefix: str, bucket: str, key: str, suffix: str = "") -> str:
    """The source key below a prefix. Where that is longer than a key may be, its end gives way to a digest of it.

    No two source keys share a place.
    """
    whole = f"{prefix}{bucket}/{key}{suffix}"
    if len(whole.encode()) <= MAX_KEY_BYTES and not _OWN_ENDING.search(key):
        return whole
    ending = f"~{_digest(key)}{suffix}"
    room = MAX_KEY_BYTES - len(f"{prefix}{bucket}/{ending}".encode())
    return f"{prefix}{bucket}/{key.encode()[:room].decode(errors='ignore')}{ending}"


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def staged_of(batch_id: str) -> str:
    return f"{STAGED}{batch_id}/"


def staged(batch_id: str, digest: int) -> str:
    return f"{staged_of(batch_id)}{digest:016x}.jpg"


def image_labels(*, analysis: str, day: str, batch_id: str) -> str:
    return f"{image_labels_of(analysis=analysis, day=day)}{batch_id}.parquet"


def image_labels_of(*, analysis: str, day: str) -> str:
    """Below this lie a day's files: one a batch, and merged ones."""
    return f"{IMAGE_LABELS}analysis={analysis}/dt={day}/"


def merged_image_labels(*, analysis: str, day: str, digest: str) -> str:
    return f"{image_labels_of(analysis=analysis, day=day)}{_MERGED}{digest}.parquet"


def is_merged(image_labels_key: str) -> bool:
    """Whether a file of results was merged from those of several batches."""
    return image_labels_key.rpartition("/")[2].startswith(_MERGED)


def file_list(*, analysis: str, day: str) -> str:
    """Names the files of a day that readers see."""
    return f"{FILE_LISTS}analysis={analysis}/dt={day}/files.txt"


def day_of(results_key: str) -> str:
    """The day of a file of results, or of a list of them."""
    return results_key.rpartition("/")[0].rpartition("dt=")[2]


def run(*, day: str, run_id: str) -> str:
    return f"{RUNS}dt={day}/{_plain(run_id)}.parquet"


def answer(query: str, *, day: str, run_id: str, suffix: str) -> str:
    """What query_labels was answered; ``queries/results/`` beside them is Athena's own."""
    return f"{QUERIES}{query}/dt={day}/{_plain(run_id)}.{suffix}"


def inferred(run_id: str, batch_id: str = "") -> str:
    """Marks that a run has called for all of a batch."""
    return f"state/inferred/{_plain(run_id)}/{batch_id}"


def _plain(run_id: str) -> str:
    """Airflow's run ids hold ``:`` and ``+``, which query engines over S3 stumble on."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", run_id)


def model_state(project: str, version: str) -> str:
    """Version names are unique within their project only."""
    return f"state/model/{project}/{version}.json"


def index_file(digest: str) -> str:
    return f"{INDEX}{digest}.duckdb"
