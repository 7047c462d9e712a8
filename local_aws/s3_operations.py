"""Which S3 operation a request is: S3 says so by method, path and query, not by name.

The answer comes from the HTTP bindings of botocore's service model. Requests are path-style, `/<bucket>/<key>`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from urllib.parse import parse_qsl

from botocore.loaders import Loader

from local_aws.wire import Request


@dataclass(frozen=True, slots=True)
class _Binding:
    """One operation and what its requests must have: query parameters ("" for any value) and headers."""

    operation: str
    query: tuple[tuple[str, str], ...]
    headers: tuple[str, ...]

    def fits(self, query: dict[str, str], headers: dict[str, str]) -> bool:
        given = all(name in query and value in ("", query[name]) for name, value in self.query)
        return given and all(name in headers for name in self.headers)


def operation_name(request: Request) -> str:
    """The operation, e.g. `ListObjectsV2`; empty for a request that is none in the model, e.g. a browser's POST."""
    bucket, key = bucket_and_key(request.path)
    query = dict(parse_qsl(request.query, keep_blank_values=True))
    for binding in _bindings().get((request.method, bool(bucket) + bool(key)), ()):
        if binding.fits(query, request.headers):
            return binding.operation
    return ""


def bucket_and_key(path: str) -> tuple[str, str]:
    """Bucket and key of a decoded path; each empty where there is none."""
    bucket, _, key = path.removeprefix("/").partition("/")
    return bucket, key


@cache
def _bindings() -> dict[tuple[str, int], list[_Binding]]:
    """The operations by method and depth of the path (0 the service, 1 a bucket, 2 an object), most demanding first."""
    model = Loader().load_service_model("s3", "service-2")
    found: dict[tuple[str, int], list[_Binding]] = defaultdict(list)
    for name, operation in sorted(model["operations"].items()):
        if operation.get("deprecated"):
            continue
        path, _, fixed = operation["http"]["requestUri"].partition("?")
        shape = model["shapes"][operation["input"]["shape"]] if "input" in operation else {}
        required = [shape["members"][each] for each in shape.get("required", ())]
        located = {place: _names(required, place) for place in ("querystring", "header")}
        query = parse_qsl(fixed, keep_blank_values=True) + [(each, "") for each in located["querystring"]]
        binding = _Binding(name, tuple(query), tuple(each.lower() for each in located["header"]))
        found[operation["http"]["method"], ("{Bucket}" in path) + ("{Key+}" in path)].append(binding)
    for bindings in found.values():
        bindings.sort(key=lambda each: len(each.query) + len(each.headers), reverse=True)
    return found


def _names(members: list[dict[str, str]], place: str) -> list[str]:
    return [member["locationName"] for member in members if member.get("location") == place]
