"""Every service that is not answered here: moto's own WSGI application, in this process."""

from __future__ import annotations

import asyncio
import functools
import io
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from moto.core import DEFAULT_ACCOUNT_ID
from moto.core.base_backend import BackendDict
from moto.core.request import (
    PRESERVED_HEADER_NAMES_ENVIRON_KEY,
    environ_key_for_header,
    should_preserve_original_header_name,
)
from moto.moto_api._internal.models import moto_api_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import FakeKey, s3_backends

from local_aws.wire import Request, Response

ACCOUNT_ID = DEFAULT_ACCOUNT_ID

_Result = TypeVar("_Result")


class MotoServices:
    """moto behind one thread.

    moto checks a condition (`If-None-Match`, `If-Match`) and writes in two steps; on one thread no other request comes
    between them, so conditional writes are atomic. moto is bound by the interpreter lock: more threads serve no faster.
    """

    def __init__(self) -> None:
        self._application = DomainDispatcherApplication(create_backend_app)
        # moto matches up to 178 patterns a request to find it, which is two fifths of what an upload costs.
        self._application.get_backend_for_host = functools.cache(self._application.get_backend_for_host)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="moto")

    async def __call__(self, request: Request) -> Response:
        """Answer one request of any service that moto has."""
        return await self.run(lambda: _call_wsgi(self._application, request))

    async def run(self, work: Callable[[], _Result]) -> _Result:
        """Run `work` on moto's thread, between two requests."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def call(self, work: Callable[[], _Result]) -> _Result:
        """As `run`, from a thread that may wait."""
        return self._thread.submit(work).result()

    async def reset(self) -> None:
        """Drop everything that any moto backend holds."""
        await self.run(_reset)


def _reset() -> None:
    moto_api_backend.reset()
    s3_backends.bucket_accounts.clear()


def loaded_backends() -> list[BackendDict[Any]]:
    """The services that have been used so far."""
    return list(BackendDict._instances)


def read_object(bucket: str, key: str, version_id: str | None = None) -> tuple[bytes, str] | None:
    """An S3 object's bytes and its bucket's Region, without HTTP; None when there is no such bucket, key or version."""
    if bucket not in s3_backends.bucket_accounts:
        return None
    backend = s3_backends[ACCOUNT_ID]["aws"]
    found = backend.get_object(bucket, key, version_id=version_id)
    if found is None:
        return None
    return found.value, str(backend.get_bucket(bucket).region_name)


def list_objects(bucket: str, prefix: str) -> list[tuple[str, FakeKey]] | None:
    """Keys under a prefix with their objects, in order; None without such a bucket. Call it on moto's thread."""
    if bucket not in s3_backends.bucket_accounts:
        return None
    keys = s3_backends[ACCOUNT_ID]["aws"].get_bucket(bucket).keys
    found = ((key, keys.get(key)) for key in keys if key.startswith(prefix))
    return sorted(((key, value) for key, value in found if isinstance(value, FakeKey)), key=lambda each: each[0])


def find_object(bucket: str, key: str) -> FakeKey | None:
    """An object's newest version; None without such a bucket or key. Call it on moto's thread."""
    if bucket not in s3_backends.bucket_accounts:
        return None
    found: FakeKey | None = s3_backends[ACCOUNT_ID]["aws"].get_object(bucket, key)
    return found


def delete_object(bucket: str, key: str) -> None:
    """Delete an S3 object without HTTP; call it on moto's thread."""
    s3_backends[ACCOUNT_ID]["aws"].delete_object(bucket, key)


def write_object(bucket: str, key: str, data: bytes) -> None:
    """Write an S3 object without HTTP; call it on moto's thread."""
    written: FakeKey = s3_backends[ACCOUNT_ID]["aws"].put_object(bucket, key, data)
    written.set_metadata({"Content-Type": "application/octet-stream"})


def bucket_exists(bucket: str) -> bool:
    """Whether S3 has the bucket."""
    return bucket in s3_backends.bucket_accounts


def _call_wsgi(application: Callable[..., Iterable[bytes]], request: Request) -> Response:
    started: list[tuple[int, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
        started.append((int(status.split(" ", 1)[0]), [(name.lower(), value) for name, value in headers]))
        return lambda data: None

    try:
        chunks = application(_environ(request), start_response)
        body = b"".join(chunks)
    except NotImplementedError as error:
        message = f"local AWS has no {request.service} {request.headers.get('x-amz-target', request.path)}: {error}"
        return Response(501, [("content-type", "text/plain; charset=utf-8")], message.encode())
    status, headers = started[-1]
    if request.method == "HEAD":
        return Response(status, headers)
    return Response(status, [header for header in headers if header[0] != "content-length"], body)


def _environ(request: Request) -> dict[str, Any]:
    """PEP 3333 environment of a request whose body has been read and de-chunked already."""
    host, _, port = request.headers.get("host", "127.0.0.1:80").partition(":")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": request.path.encode().decode("latin-1"),
        "RAW_URI": request.target,
        "QUERY_STRING": request.query,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": host,
        "SERVER_PORT": port or "80",
        "REMOTE_ADDR": request.client_host,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "CONTENT_LENGTH": str(len(request.body)),
    }
    for name, value in request.headers.items():
        if name == "content-type":
            environ["CONTENT_TYPE"] = value
        elif name not in ("content-length", "transfer-encoding"):
            environ[environ_key_for_header(name)] = value
    # Metadata may have underscores in its names, which a WSGI environment turns into dashes.
    environ[PRESERVED_HEADER_NAMES_ENVIRON_KEY] = {
        environ_key_for_header(name): name for name in request.headers if should_preserve_original_header_name(name)
    }
    return environ
