"""What the tests work on: settings, images, pictures, outcomes."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from PIL import Image

from include.images import ImageRef
from include.outcomes import Checked, ImageFacts, Outcome
from tests.include.memory_s3 import MemoryS3

INBOX: Final = "inbox"
FINAL: Final = "final"
NOW: Final = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PROJECT_ARN: Final = "arn:aws:rekognition:us-east-1:123456789012:project/shop/1700000000000"
MODEL_ARN: Final = "arn:aws:rekognition:us-east-1:123456789012:project/shop/version/shop.v7/1700000000001"

VALUES: Final[dict[str, Any]] = {
    "source_bucket": INBOX,
    "final_bucket": FINAL,
    "queue_url": "https://sqs.us-east-1.amazonaws.com/123456789012/uploads",
    "region": "us-east-1",
    "project_arn": PROJECT_ARN,
    "project_version_arn": MODEL_ARN,
    "threads": 1,
}

# What people really call their files.
AWKWARD_KEYS: Final = (
    "plain.jpg",
    "folder/inner/photo.JPEG",
    "with space.jpg",
    "a+b.jpg",
    "100% sure.jpg",
    "100%25.jpg",
    "photo (1).jpg",
    "R&D, a=b 'quoted'.jpg",
    "Übergröße/façade.png",
    "emoji 🦊.png",
    "tilde~star*.jpg",
    "hash#and?question.jpg",
    "double//slash.jpg",
    "日本語/写真.png",
)


def image(key: str, *, etag: str = "0" * 32, minutes: float = 0, **fields: Any) -> ImageRef:
    """An image of the inbox, uploaded some minutes after noon."""
    values: dict[str, Any] = {"bucket": INBOX, "size_bytes": 1_000} | fields
    return ImageRef(key=key, etag=etag, event_time=NOW + timedelta(minutes=minutes), **values)


def images(count: int, **fields: Any) -> list[ImageRef]:
    return [image(f"photos/{number:05d}.jpg", minutes=number / 60, **fields) for number in range(count)]


def uploaded(s3: MemoryS3, ref: ImageRef, body: bytes) -> ImageRef:
    """Put an object where the image says, and return the image as its event would describe it."""
    answer = s3.put_object(Bucket=ref.bucket, Key=ref.key, Body=body)
    return replace(ref, etag=answer["ETag"].strip('"'), size_bytes=len(body), version_id=answer.get("VersionId", ""))


def picture(
    format: str = "JPEG", size: tuple[int, int] = (100, 80), mode: str = "RGB", *, seed: int = 0, **options: Any
) -> bytes:
    """An encoded picture of one colour."""
    body = io.BytesIO()
    bands = len(Image.new(mode, (1, 1)).getbands())
    Image.new(mode, size, seed % 250 if bands == 1 else (seed % 250,) * bands).save(body, format, **options)
    return body.getvalue()


def noise(format: str, size: tuple[int, int]) -> bytes:
    """A picture that does not compress."""
    body = io.BytesIO()
    Image.effect_noise(size, 90).convert("RGB").save(body, format)
    return body.getvalue()


def custom_label(name: str, confidence: float, box: tuple[float, float, float, float] | None = None) -> dict[str, Any]:
    """A label as DetectCustomLabels returns it."""
    label: dict[str, Any] = {"Name": name, "Confidence": confidence}
    if box:
        label["Geometry"] = {"BoundingBox": dict(zip(("Left", "Top", "Width", "Height"), box, strict=True))}
    return label


def facts(**fields: Any) -> ImageFacts:
    values: dict[str, Any] = {"size_bytes": 1_000, "width_px": 100, "height_px": 80, "format": "JPEG"}
    return ImageFacts(**values | fields)


def outcome(of: ImageRef, status: Any = "LABELLED", **fields: Any) -> Outcome:
    values: dict[str, Any] = {"processed_at": NOW, "run_id": "manual__1", "facts": facts()} | fields
    return Outcome(of, status, **values)


def ready(of: ImageRef) -> Checked:
    return Checked(of, facts())
