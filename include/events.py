"""Stage 1a: a message's body becomes the images it announces.

Bodies come as S3 writes them, wrapped by SNS (with or without raw delivery), or through EventBridge; schema 2.0 and
every later 2.x. Nothing here talks to AWS, and no body makes it raise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal
from urllib.parse import unquote_plus

from include.images import ImageRef, parse_time
from include.layout import MAX_KEY_BYTES

Kind = Literal["images", "test", "ignored", "refused", "unparseable"]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# ETags, version ids and sequencers go into requests and headers as they are.
_TOKEN: Final = re.compile(r"[!-~]*")
_MAX_SIZE: Final = 2**63 - 1  # what the results' column holds
_SHOWN_CHARACTERS: Final = 100  # of a value in a problem: it goes into a log


@dataclass(frozen=True, slots=True)
class Parsed:
    """What one message said.

    ``images``: announces uploads. ``test``: the event S3 sends when a notification is set up. ``ignored``: S3 events
    that create nothing (deletions, tags). ``refused``: only images of buckets that are not the source.
    ``unparseable``: anything else; ``problem`` says why.
    """

    kind: Kind
    images: tuple[ImageRef, ...] = ()
    problem: str = ""


def parse_body(body: str, *, source_bucket: str) -> Parsed:
    """The images that a message announces."""
    try:
        return _parse(json.loads(body), source_bucket)
    except RecursionError:
        return Parsed("unparseable", problem="JSON nested too deep")
    except ValueError as err:
        return Parsed("unparseable", problem=str(err))


def _parse(event: Any, source_bucket: str) -> Parsed:
    if not isinstance(event, dict):
        raise ValueError(f"a JSON {type(event).__name__}, not an object")
    if event.get("Type") == "Notification" and isinstance(event.get("Message"), str):
        return _parse(json.loads(event["Message"]), source_bucket)
    if event.get("Event") == "s3:TestEvent":
        return Parsed("test")
    if "detail-type" in event:
        found = list(_from_eventbridge(event))
    elif isinstance(event.get("Records"), list):
        found = [image for record in event["Records"] for image in _from_record(record)]
    else:
        raise ValueError("neither an S3 notification nor an EventBridge event of S3")
    # The console's "create folder" writes an empty object whose key ends in a slash.
    found = [image for image in found if not (image.key.endswith("/") and image.size_bytes == 0)]
    images = tuple(image for image in found if image.bucket == source_bucket)
    if images:
        return Parsed("images", images)
    if found:
        return Parsed(
            "refused", problem=f"announces images of bucket {_shown(found[0].bucket)}, not of the source bucket"
        )
    return Parsed("ignored")


def _from_record(record: Any) -> Iterator[ImageRef]:
    """Keys are form-encoded (``red+flower.jpg`` is "red flower.jpg"). Fields that are not known are ignored."""
    if not isinstance(record, dict) or record.get("eventSource") != "aws:s3":
        raise ValueError("a record that is not from S3")
    version = str(record.get("eventVersion", ""))
    if version.split(".")[0] != "2":
        raise ValueError(f"S3 event schema {_shown(version)}: only 2.x is understood")
    if not str(record.get("eventName", "")).removeprefix("s3:").startswith("ObjectCreated:"):
        return
    entity = _mapping(record, "s3")
    s3_object = _mapping(entity, "object")
    yield _image(
        bucket=_mapping(entity, "bucket").get("name"),
        key=_decoded(s3_object.get("key")),
        size=s3_object.get("size"),
        etag=s3_object.get("eTag"),
        version_id=s3_object.get("versionId"),
        sequencer=s3_object.get("sequencer"),
        time=record.get("eventTime"),
    )


def _from_eventbridge(event: dict[str, Any]) -> Iterator[ImageRef]:
    """Keys are plain, names in kebab-case (https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html)."""
    if event.get("source") != "aws.s3":
        raise ValueError(f"an EventBridge event from {_shown(event.get('source'))}, not from aws.s3")
    if event["detail-type"] != "Object Created":
        return
    detail = _mapping(event, "detail")
    s3_object = _mapping(detail, "object")
    yield _image(
        bucket=_mapping(detail, "bucket").get("name"),
        key=s3_object.get("key"),
        size=s3_object.get("size"),
        etag=s3_object.get("etag"),
        version_id=s3_object.get("version-id"),
        sequencer=s3_object.get("sequencer"),
        time=event.get("time"),
    )


def _image(*, bucket: Any, key: Any, size: Any, etag: Any, version_id: Any, sequencer: Any, time: Any) -> ImageRef:
    if not (isinstance(bucket, str) and bucket and isinstance(key, str) and key):
        raise ValueError("a record without bucket or key")
    if len(key.encode()) > MAX_KEY_BYTES:
        raise ValueError(f"a key of more than {MAX_KEY_BYTES:,} bytes")
    if _climbs_out(key):
        raise ValueError(f"a key that S3 does not take, since its ../ lead out of the bucket: {_shown(key)}")
    return ImageRef(
        bucket=bucket,
        key=key,
        etag=_token(etag).strip('"'),
        event_time=parse_time(_text(time), _EPOCH),
        # S3 writes the version of an object from before versioning as the word "null".
        version_id="" if version_id == "null" else _token(version_id),
        size_bytes=size if type(size) is int and 0 <= size <= _MAX_SIZE else 0,
        sequencer=_token(sequencer),
    )


def _climbs_out(key: str) -> bool:
    """Whether ``..`` outnumber the names before them anywhere in the key: S3 refuses each call for such a one.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
    """
    depth = 0
    for part in key.split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        if depth < 0:
            return True
    return False


def _shown(value: Any) -> str:
    """A value in a sentence: escaped, and never a message's whole body."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def _decoded(key: Any) -> Any:
    return unquote_plus(key, errors="strict") if isinstance(key, str) else key


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _token(value: Any) -> str:
    if not _TOKEN.fullmatch(_text(value)):
        raise ValueError(f"{_shown(value)} where plain ASCII is expected")
    return _text(value)


def _mapping(parent: dict[str, Any], name: str) -> dict[str, Any]:
    value = parent.get(name)
    if not isinstance(value, dict):
        raise ValueError(f"a record without {name!r}")
    return value
