"""The one endpoint: reads a request, finds the service that it is signed for, and sends that service's answer."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import unquote

from local_aws.disturbance import disturbed
from local_aws.faults import Faults
from local_aws.wire import Request, Response

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Handler = Callable[[Request], Awaitable[Response]]

# <key id>/<date>/<region>/<service>/aws4_request, in the Authorization header or in X-Amz-Credential of a presigned URL:
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
_CREDENTIAL_SCOPE = re.compile(r"Credential=[^/&,\s]+/\d{8}/([^/]+)/([^/]+)/aws4_request")

# Requests without a signature are told apart by the prefix of X-Amz-Target.
_TARGETS = {"RekognitionService": "rekognition", "AmazonSQS": "sqs", "AmazonAthena": "athena"}

ADMIN_PATH = "/_local_aws/"
# In the `state` of a request's scope: closes its connection.
CUT = "local_aws.cut"


class Gateway:
    """ASGI application that routes by service; whatever has no handler of its own goes to `otherwise`.

    `answered` is told of every request once its answer is ready. `faults` strike any request but the admin endpoint's.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        *,
        admin: Handler,
        otherwise: Handler,
        faults: Faults,
        answered: Callable[[Request], None] = lambda request: None,
    ) -> None:
        self._handlers = handlers
        self._admin = admin
        self._otherwise = otherwise
        self._faults = faults
        self._answered = answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        request = await _read(scope, receive)
        if request is None:
            return
        response = await self.answer(request)
        if response is None:
            scope["state"][CUT]()
            # What is left of this connection is waited for: returning before would be an application without an answer.
            await request.disconnected()
            return
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
        if not any(name == b"content-length" for name, _ in headers):
            headers.append((b"content-length", str(len(response.body)).encode()))
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})

    async def answer(self, request: Request) -> Response | None:
        """Answer any request; None where a fault cuts the connection."""
        is_admin = request.path.startswith(ADMIN_PATH)
        handler = self._admin if is_admin else self._handlers.get(request.service, self._otherwise)
        fault = self._faults.of_request(request) if self._faults and not is_admin else None
        response = await (disturbed(fault, request, handler) if fault else handler(request))
        self._answered(request)
        return response


async def _read(scope: Scope, receive: Receive) -> Request | None:
    """The whole request, or None when the client went away while sending it."""
    chunks = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            break

    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    query = scope["query_string"].decode("latin-1")
    raw_path = scope["raw_path"].decode("latin-1")
    service, region = credential_scope(headers, query)

    async def disconnected() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    return Request(
        method=scope["method"],
        path=scope["path"],
        target=f"{raw_path}?{query}" if query else raw_path,
        query=query,
        headers=headers,
        body=chunks[0] if len(chunks) == 1 else b"".join(chunks),
        client_host=(scope.get("client") or ("", 0))[0],
        service=service,
        region=region,
        disconnected=disconnected,
    )


def credential_scope(headers: Mapping[str, str], query: str) -> tuple[str, str]:
    """(service, region) of a request: from its signature, else from its target; S3 when it has neither."""
    signed = _CREDENTIAL_SCOPE.search(headers.get("authorization", ""))
    if signed is None and "X-Amz-Credential=" in query:
        signed = _CREDENTIAL_SCOPE.search(unquote(query))
    if signed is not None:
        return signed.group(2), signed.group(1)
    prefix = headers.get("x-amz-target", "").partition(".")[0]
    return _TARGETS.get(prefix, "s3"), "us-east-1"
