"""What goes over the wire: one request and one response, whichever service answers."""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, its body read whole.

    `target` is the path and query as they arrived, percent-encoding included. `headers` has lower-case names; a
    repeated header is joined with commas. `service` and `region` come from the signature's credential scope.
    `disconnected` returns once the client has gone away.
    """

    method: str
    path: str
    target: str
    query: str
    headers: dict[str, str]
    body: bytes
    client_host: str
    service: str
    region: str
    disconnected: Callable[[], Awaitable[None]]

    @property
    def endpoint_url(self) -> str:
        """The endpoint as this client addresses it, for URLs inside answers."""
        return f"http://{self.headers.get('host', '127.0.0.1')}"


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP response; header names are lower case."""

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""


class AwsError(Exception):
    """An error as a service words it: `code` is what botocore reports as `Error.Code`."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


def json_response(body: dict[str, Any], *, status: int = 200, content_type: str = "application/json") -> Response:
    """A JSON answer with the request id that botocore puts into `ResponseMetadata`."""
    headers = [("content-type", content_type), ("x-amzn-requestid", str(uuid.uuid4()))]
    return Response(status, headers, json.dumps(body, separators=(",", ":")).encode())
