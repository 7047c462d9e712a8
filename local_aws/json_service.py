"""The AWS JSON protocol: from X-Amz-Target and a body to a function's arguments, and from its answer or error back.

Input is checked against botocore's own service model, so what AWS refuses is refused here.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from botocore.loaders import Loader
from botocore.model import ListShape, MapShape, OperationNotFoundError, ServiceModel, Shape, StructureShape

from local_aws.wire import AwsError, Request, Response, json_response

Operation = Callable[[dict[str, Any], Request], Awaitable[dict[str, Any]]]


@dataclass(frozen=True)
class Problem:
    """One input member that breaks its constraint; `path` as AWS writes it, e.g. `image.s3Object.bucket`."""

    path: str
    text: str
    missing: bool = False


class JsonService:
    """Answers one service's operations.

    `invalid` words a list of problems as the service does, or lets them pass; `error_headers` adds what the service
    puts beside an error.
    """

    def __init__(
        self,
        name: str,
        operations: Mapping[str, Operation],
        *,
        invalid: Callable[[list[Problem]], AwsError | None],
        error_headers: Callable[[AwsError], list[tuple[str, str]]] = lambda error: [],
    ) -> None:
        self._name = name
        self._model = ServiceModel(Loader().load_service_model(name, "service-2"))
        self._operations = operations
        self._invalid = invalid
        self._error_headers = error_headers
        self._content_type = f"application/x-amz-json-{self._model.metadata['jsonVersion']}"

    async def __call__(self, request: Request) -> Response:
        """Answer one request; an `AwsError` of the operation becomes the response that botocore parses."""
        try:
            name, operation = self._operation(request)
            arguments = self._arguments(name, request.body)
            return json_response(await operation(arguments, request), content_type=self._content_type)
        except AwsError as error:
            return self.refusal(error)

    def refusal(self, error: AwsError) -> Response:
        """An error as this service sends it."""
        body = {"__type": error.code, "message": error.message}
        response = json_response(body, status=error.status, content_type=self._content_type)
        response.headers.extend(self._error_headers(error))
        return response

    def _operation(self, request: Request) -> tuple[str, Operation]:
        prefix, _, name = request.headers.get("x-amz-target", "").partition(".")
        try:
            self._model.operation_model(name)
        except OperationNotFoundError:
            message = f"{self._name} has no operation {name or '(none in X-Amz-Target)'} in {prefix or 'this protocol'}"
            raise AwsError("UnknownOperationException", message) from None
        if name not in self._operations:
            # 501 is the one server error that no SDK retries.
            answered = ", ".join(sorted(self._operations))
            message = f"local AWS does not answer {self._name} {name}; it answers {answered}"
            raise AwsError("NotImplementedException", message, 501)
        return name, self._operations[name]

    def _arguments(self, name: str, body: bytes) -> dict[str, Any]:
        try:
            given = json.loads(body or b"{}")
        except ValueError:
            raise AwsError("SerializationException", "The request body is not JSON") from None
        shape = self._model.operation_model(name).input_shape
        if not isinstance(given, dict):
            raise AwsError("SerializationException", "The request body is not a JSON object")
        if shape is None:
            return {}
        problems: list[Problem] = []
        arguments: dict[str, Any] = _parse(shape, given, "", problems)
        error = self._invalid(problems) if problems else None
        if error is not None:
            raise error
        return arguments


def validation_message(problems: list[Problem]) -> str:
    """Problems in AWS's words, e.g. "1 validation error detected: Value null at 'image' failed to satisfy ..."."""
    plural = "error" if len(problems) == 1 else "errors"
    return f"{len(problems)} validation {plural} detected: " + "; ".join(problem.text for problem in problems)


def _parse(shape: Shape, value: Any, path: str, problems: list[Problem]) -> Any:
    """`value` as the shape's Python type; what breaks a constraint is added to `problems`."""
    _check_type(shape, value, path)
    if isinstance(shape, StructureShape):
        return _parse_structure(shape, value, path, problems)
    if isinstance(shape, ListShape):
        _check_size(len(value), shape, value, path, problems)
        return [_parse(shape.member, item, f"{path}.{n}.member", problems) for n, item in enumerate(value, 1)]
    if isinstance(shape, MapShape):
        _check_size(len(value), shape, value, path, problems)
        return {
            _parse(shape.key, key, f"{path}.key", problems): _parse(shape.value, item, f"{path}.{key}", problems)
            for key, item in value.items()
        }
    if shape.type_name == "blob":
        try:
            decoded = base64.b64decode(value, validate=True)
        except binascii.Error:
            raise AwsError("SerializationException", f"{path}: not base64") from None
        _check_size(len(decoded), shape, "java.nio.HeapByteBuffer", path, problems)
        return decoded
    if shape.type_name == "string":
        _check_string(shape, value, path, problems)
    else:
        _check_range(shape, value, path, problems)
    return value


def _check_type(shape: Shape, value: Any, path: str) -> None:
    is_given = isinstance(value, _JSON_TYPES[shape.type_name])
    if not is_given or (isinstance(value, bool) and shape.type_name != "boolean"):
        reason = f"{path or 'body'}: {type(value).__name__} is not a {shape.type_name}"
        raise AwsError("SerializationException", reason)


_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "structure": (dict,),
    "map": (dict,),
    "list": (list,),
    "string": (str,),
    "blob": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "timestamp": (int, float),
}


def _parse_structure(
    shape: StructureShape, value: dict[str, Any], path: str, problems: list[Problem]
) -> dict[str, Any]:
    parsed = {}
    for name in shape.required_members:
        if value.get(name) is None:
            member = _join(path, name)
            text = f"Value null at '{member}' failed to satisfy constraint: Member must not be null"
            problems.append(Problem(member, text, missing=True))
    members = shape.members
    for name, item in value.items():
        # AWS ignores members that it does not know.
        if name in members and item is not None:
            parsed[name] = _parse(members[name], item, _join(path, name), problems)
    return parsed


def _join(path: str, name: str) -> str:
    camel = name[:1].lower() + name[1:]
    return f"{path}.{camel}" if path else camel


def _broken(value: Any, path: str, constraint: str) -> Problem:
    return Problem(path, f"Value '{value}' at '{path}' failed to satisfy constraint: Member must {constraint}")


def _check_string(shape: Shape, value: str, path: str, problems: list[Problem]) -> None:
    _check_size(len(value), shape, value, path, problems)
    allowed = shape.metadata.get("enum")
    if allowed and value not in allowed:
        problems.append(_broken(value, path, f"satisfy enum value set: [{', '.join(allowed)}]"))
    pattern = shape.metadata.get("pattern")
    if pattern and not _compiled(pattern).fullmatch(value):
        problems.append(_broken(value, path, f"satisfy regular expression pattern: {pattern}"))


def _check_size(size: int, shape: Shape, value: Any, path: str, problems: list[Problem]) -> None:
    if size < shape.metadata.get("min", 0):
        problems.append(_broken(value, path, f"have length greater than or equal to {shape.metadata['min']}"))
    if size > shape.metadata.get("max", size):
        problems.append(_broken(value, path, f"have length less than or equal to {shape.metadata['max']}"))


def _check_range(shape: Shape, value: float, path: str, problems: list[Problem]) -> None:
    if value < shape.metadata.get("min", value):
        problems.append(_broken(value, path, f"have value greater than or equal to {shape.metadata['min']}"))
    if value > shape.metadata.get("max", value):
        problems.append(_broken(value, path, f"have value less than or equal to {shape.metadata['max']}"))


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    """The models' patterns are Java's; Python has no \\p classes, the nearest are \\w, \\d and \\s, and no surrogates."""
    pattern = pattern.replace(r"\uD800\uDC00-\uDBFF\uDFFF", r"\U00010000-\U0010FFFF")
    return re.compile(pattern.replace(r"\p{L}", r"\w").replace(r"\p{N}", r"\d").replace(r"\p{Z}", r"\s"))
