"""What somebody asks an archive backfill for: where the images are told, which of them, and whether known ones count."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

import pyarrow as pa
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from include.errors import SelectionError

# What every source yields, and what a plan's parts hold: one row an image.
FOUND: Final = pa.schema(
    [
        pa.field("bucket", pa.string()),
        pa.field("key", pa.string()),
        pa.field("etag", pa.string()),  # without quotes
        pa.field("size_bytes", pa.int64()),
        pa.field("modified", pa.timestamp("ms", tz="UTC")),
    ]
)

Globs = Annotated[tuple[str, ...], BeforeValidator(lambda value: value or ())]


def _aware(value: Any) -> Any:
    """Times without a zone are UTC; an empty field of a form is no time."""
    time = datetime.fromisoformat(value) if isinstance(value, str) and value else value or None
    return time.replace(tzinfo=UTC) if isinstance(time, datetime) and time.tzinfo is None else time


Time = Annotated[datetime | None, BeforeValidator(_aware)]


class ArchiveRequest(BaseModel):
    """One archive backfill, as a form or the command line asks for it.

    ``modified_until`` and ``max_bytes`` are exclusive and inclusive, as people say them: until the 1st, up to 15 MB.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Literal["prefix", "inventory", "list"]
    uri: str = Field(pattern=r"^s3://[^/]+/.*$", description="s3://bucket/prefix, a manifest.json, or a list's file")
    url_encoded: bool | None = Field(default=None, description="a list's keys: None looks at the list")
    skip_broken_lines: bool = False
    include: Globs = Field(default=(), description="keys must match one of these; none: image extensions")
    exclude: Globs = ()
    modified_from: Time = None
    modified_until: Time = None
    min_bytes: int | None = Field(default=None, ge=0)
    max_bytes: int | None = Field(default=None, ge=0)
    sample_percent: float | None = Field(default=None, gt=0, le=100)
    limit: int | None = Field(default=None, ge=1)
    select: Literal["new", "failed", "older_model", "all"] = "new"

    @model_validator(mode="after")
    def _is_a_range(self) -> ArchiveRequest:
        if self.modified_from and self.modified_until and self.modified_from >= self.modified_until:
            raise ValueError(
                f"modified_from ({self.modified_from}) is not before modified_until ({self.modified_until})"
            )
        if self.min_bytes is not None and self.max_bytes is not None and self.min_bytes > self.max_bytes:
            raise ValueError(f"min_bytes ({self.min_bytes}) is more than max_bytes ({self.max_bytes})")
        return self

    @property
    def relabels(self) -> bool:
        """Whether images that have a result already are asked for."""
        return self.select in ("failed", "all")


def parse_request(**fields: Any) -> ArchiveRequest:
    """:raises SelectionError: naming every field that is wrong."""
    try:
        return ArchiveRequest(**fields)
    except ValidationError as err:
        lines = [
            ": ".join(filter(None, (".".join(map(str, each["loc"])), re.sub(r"^Value error, ", "", each["msg"]))))
            for each in err.errors()
        ]
        raise SelectionError(
            "This archive cannot be looked for:\n" + "\n".join(f"  - {line}" for line in lines)
        ) from err


def archive_id(name: str, *, now: datetime) -> str:
    """An archive's id, from when it was asked for and what it is called: it sorts by age, and is letters, digits and ``_``."""
    plain = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_")[:60]
    return f"{now:%Y%m%dT%H%M%SZ}_{plain or 'archive'}"
