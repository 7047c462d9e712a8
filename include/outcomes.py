"""What became of an image, and the checkpoints that keep it: no image is paid for twice, whatever is killed.

Under ``batches/outcomes/<batch_id>/``: ``preflight.jsonl`` says of each image whether the model is to see it, and
``part-NNNNN.jsonl`` hold paid results as they come in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal

from include import layout, objects
from include.batches import Batch
from include.images import ImageRef, to_json_line

Status = Literal["LABELLED", "REJECTED", "MISSING", "FAILED"]
PART_WRITE_ATTEMPTS: Final = 1_000


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What an image's header says. ``exif_orientation`` is 1 (upright) to 8; ``staged_key`` is set where it was converted."""

    size_bytes: int
    width_px: int = 0
    height_px: int = 0
    format: str = ""
    exif_orientation: int = 1
    staged_key: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the analysis of one image ended. ``custom_labels`` is the service's answer as it came."""

    image: ImageRef
    status: Status
    processed_at: datetime
    run_id: str
    facts: ImageFacts | None = None
    error_code: str = ""
    error_message: str = ""
    custom_labels: tuple[dict[str, Any], ...] = ()
    request_id: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {
            "image": self.image.to_dict(),
            "status": self.status,
            "processed_at": self.processed_at.isoformat(),
            "run_id": self.run_id,
            "facts": asdict(self.facts) if self.facts else None,
            "error_code": self.error_code,
            "error_message": self.error_message,
            "custom_labels": list(self.custom_labels),
            "request_id": self.request_id,
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Outcome:
        return cls(
            **fields
            | {
                "image": ImageRef.from_dict(fields["image"]),
                "processed_at": datetime.fromisoformat(fields["processed_at"]),
                "facts": ImageFacts(**fields["facts"]) if fields["facts"] else None,
                "custom_labels": tuple(fields["custom_labels"]),
            }
        )


@dataclass(frozen=True, slots=True)
class Checked:
    """Preflight's word on one image: to be analysed (``facts``), finished already (``outcome``), or labelled before."""

    image: ImageRef
    facts: ImageFacts | None = None
    outcome: Outcome | None = None
    already_labelled: bool = False

    @property
    def is_ready(self) -> bool:
        return self.outcome is None and not self.already_labelled

    def to_dict(self) -> dict[str, Any]:
        return {
            "image": self.image.to_dict(),
            "facts": asdict(self.facts) if self.facts else None,
            "outcome": self.outcome.to_dict() if self.outcome else None,
            "already_labelled": self.already_labelled,
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Checked:
        return cls(
            image=ImageRef.from_dict(fields["image"]),
            facts=ImageFacts(**fields["facts"]) if fields["facts"] else None,
            outcome=Outcome.from_dict(fields["outcome"]) if fields["outcome"] else None,
            already_labelled=fields["already_labelled"],
        )


def read_preflight(s3: Any, bucket: str, batch_id: str) -> list[Checked] | None:
    """What preflight found, or None where it has not finished this batch."""
    found = objects.read(s3, bucket, layout.preflight(batch_id))
    return [Checked.from_dict(line) for line in objects.unpack_lines(found[0])] if found else None


def write_preflight(s3: Any, bucket: str, batch_id: str, checked: Iterable[Checked]) -> None:
    body = "".join(to_json_line(entry.to_dict()) + "\n" for entry in checked).encode()
    s3.put_object(Bucket=bucket, Key=layout.preflight(batch_id), Body=body)


def read_outcomes(s3: Any, bucket: str, batch_id: str) -> dict[tuple[str, str, str], Outcome]:
    """Checkpointed outcomes by the image's place. Where two attempts paid for one image, the first stands."""
    outcomes: dict[tuple[str, str, str], Outcome] = {}
    for key in objects.list_keys(s3, bucket, layout.outcome_parts(batch_id)):
        body, _ = objects.read(s3, bucket, key) or (b"", "")
        for line in objects.unpack_lines(body):
            outcome = Outcome.from_dict(line)
            outcomes.setdefault(outcome.image.place, outcome)
    return outcomes


def without_outcome(s3: Any, bucket: str, batch: Batch) -> tuple[ImageRef, ...]:
    """The images of a batch that still have to be labelled."""
    checked = {entry.image.place: entry for entry in read_preflight(s3, bucket, batch.batch_id) or []}
    paid = read_outcomes(s3, bucket, batch.batch_id)

    def is_open(image: ImageRef) -> bool:
        entry = checked.get(image.place)
        return (entry is None or entry.is_ready) and image.place not in paid

    return tuple(image for image in batch.images if is_open(image))


def end_as_failed(
    s3: Any,
    bucket: str,
    batch: Batch,
    images: Iterable[ImageRef],
    *,
    code: str,
    message: str,
    now: datetime,
    run_id: str,
) -> None:
    """Let images of a batch end without being labelled: preflight's word on them is the last one."""
    checked = {entry.image.place: entry for entry in read_preflight(s3, bucket, batch.batch_id) or []}
    for image in images:
        known = checked.get(image.place) or Checked(image)
        outcome = Outcome(known.image, "FAILED", now, run_id, known.facts, code, message)
        checked[image.place] = replace(known, outcome=outcome)
    write_preflight(s3, bucket, batch.batch_id, checked.values())


def write_part(s3: Any, bucket: str, batch_id: str, outcomes: Iterable[Outcome], *, number: int) -> int:
    """Checkpoint outcomes in the first free part from ``number`` on; returns the number after it.

    Never over an existing part: an attempt that was given up for dead may still be writing beside this one.
    """
    body = "".join(to_json_line(outcome.to_dict()) + "\n" for outcome in outcomes).encode()
    for candidate in range(number, number + PART_WRITE_ATTEMPTS):
        if objects.write_if(s3, bucket, layout.outcome_part(batch_id, candidate), body, etag=None):
            return candidate + 1
    raise RuntimeError(
        f"{PART_WRITE_ATTEMPTS} parts of batch {batch_id} exist already: something writes them without end."
    )
