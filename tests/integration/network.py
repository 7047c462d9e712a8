"""The network between the pipeline and AWS: it passes everything on, until a test has it refuse a call or keep an answer."""

from __future__ import annotations

import http.client
import json
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


@dataclass
class Refusal:
    """Calls that are answered with an error; they reach AWS only if they are to be carried out all the same."""

    pattern: str
    code: str
    status: int
    left: int
    carry_out: bool

    def answer(self, is_s3: bool) -> tuple[bytes, str]:
        message = f"refused by the test ({self.pattern})"
        if is_s3:
            return f"<Error><Code>{self.code}</Code><Message>{message}</Message></Error>".encode(), "application/xml"
        return json.dumps({"__type": self.code, "message": message}).encode(), "application/x-amz-json-1.1"


@dataclass
class Hold:
    """Calls that AWS has carried out and whose answers are kept back until the test lets go of them."""

    pattern: str
    after: int
    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def wait(self, seconds: float = 90) -> None:
        assert self.reached.wait(seconds), f"no call {self.pattern} within {seconds} s"


class Network:
    """A proxy on a free port of loopback; ``calls`` are all calls so far, such as ``StopProjectVersion`` or
    ``PUT /bucket/key`` for S3."""

    def __init__(self, upstream_url: str) -> None:
        self.upstream = urlsplit(upstream_url).netloc
        self.calls: list[str] = []
        self._lock = threading.Lock()
        self._refusals: list[Refusal] = []
        self._holds: list[Hold] = []
        self._server = Server(self)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.clear()
        self._server.shutdown()
        self._server.server_close()

    def clear(self) -> None:
        """Forget all troubles and calls; what was held goes on its way."""
        with self._lock:
            for hold in self._holds:
                hold.released.set()
            self._refusals, self._holds, self.calls = [], [], []

    def refuse(
        self,
        pattern: str,
        code: str = "AccessDeniedException",
        *,
        status: int = 400,
        times: int = 10**9,
        carry_out: bool = False,
    ) -> None:
        """Answer the next calls that match with an AWS error, as AWS may even where it has carried them out."""
        self._refusals.append(Refusal(pattern, code, status, times, carry_out))

    def mend(self) -> None:
        """Refuse nothing any more."""
        self._refusals = []

    @contextmanager
    def holding(self, pattern: str, *, after: int = 0) -> Iterator[Hold]:
        """Keep back the answers of calls that match, all but the first ``after``, until the block ends or lets go."""
        hold = Hold(pattern, after)
        self._holds.append(hold)
        try:
            yield hold
        finally:
            hold.released.set()

    def count(self, pattern: str) -> int:
        return sum(bool(re.search(pattern, call)) for call in list(self.calls))

    def refusal_of(self, call: str) -> Refusal | None:
        """Note the call; the refusal that it meets."""
        with self._lock:
            self.calls.append(call)
            for refusal in self._refusals:
                if refusal.left > 0 and re.search(refusal.pattern, call):
                    refusal.left -= 1
                    return refusal
        return None

    def hold_back(self, call: str) -> None:
        """Return once the answer may go on its way."""
        for hold in list(self._holds):
            if re.search(hold.pattern, call) and not hold.released.is_set():
                with self._lock:
                    hold.after -= 1
                if hold.after < 0:
                    hold.reached.set()
                    hold.released.wait()


class Server(ThreadingHTTPServer):
    """Serves on a free port of loopback."""

    daemon_threads = True

    def __init__(self, network: Network) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.network = network

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Callers that are killed leave their connections half open: only other errors are worth a word."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One caller's connection, and one to AWS beside it."""

    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        super().setup()
        self.upstream = http.client.HTTPConnection(self.server.network.upstream, timeout=120)

    def finish(self) -> None:
        self.upstream.close()
        super().finish()

    def pass_on(self) -> None:
        """Serve one call."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        target = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
        call = target or f"{self.command} {unquote(self.path)}"
        refusal = self.server.network.refusal_of(call)
        if refusal is None or refusal.carry_out:
            status, headers, answer = self._ask_aws(body)
        if refusal:
            answer, kind = refusal.answer(is_s3=not target)
            status, headers = refusal.status, [("Content-Type", kind), ("Content-Length", str(len(answer)))]
        self.server.network.hold_back(call)
        self._answer(status, headers, answer)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = pass_on  # noqa: N815

    def _ask_aws(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        self.upstream.request(self.command, self.path, body, dict(self.headers.items()))
        response = self.upstream.getresponse()
        answer = response.read()
        headers = [(name, value) for name, value in response.getheaders() if name.lower() not in HOP_BY_HOP]
        # What a HEAD would have brought has a length that says nothing of this answer.
        length = response.headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(answer))
        return response.status, headers + ([("Content-Length", length)] if response.status != 204 else []), answer

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing: the network's ``calls`` have it."""
