"""Faults that tests set: which requests or messages are disturbed, how and how often.

A plan replays. Whether a fault strikes depends on the plan's seed, the fault's number in it and how many requests
have matched that fault before; every match draws one number, whether or not it is needed.
"""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from botocore.loaders import Loader

from local_aws import s3_operations
from local_aws.wire import Request

SERVICES = ("s3", "sqs", "rekognition", "athena")
BATCHES = ("ChangeMessageVisibilityBatch", "DeleteMessageBatch", "SendMessageBatch")


def _member(about: str, default: Any, *, least: float | None = None, most: float = float("inf")) -> Any:
    return field(default=default, metadata={"about": about, "least": least, "most": most})


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault: what it matches, how often it strikes, and one effect. Build it with `parsed`."""

    service: str = _member("s3, sqs, rekognition or athena", "")
    operation: str = _member("as the service calls it; * for every one", "*")
    key: str = _member("regular expression, found anywhere in the S3 key of the request", "")

    rate: float = _member("share of the matches that it strikes", 1.0, least=0, most=1)
    times: int | None = _member("how often it strikes at most", None, least=1)
    skip: int = _member("how many matches it lets pass first", 0, least=0)
    lasts_seconds: float | None = _member("how long it strikes, from the first time on", None, least=0.001)

    delay_seconds: float = _member("wait before anything else happens; alone, or before error or drop", 0.0, least=0)
    error: str = _member("error code, and nothing is carried out; of the entries, with failed_entries", "")
    status: int = _member("HTTP status of the error; 0 for what is usual for the code", 0, least=0, most=599)
    message: str = _member("message of the error", "local AWS was told to refuse this")
    drop: str = _member("cut the connection `before` or `after` the request is carried out", "")
    failed_entries: int = _member("how many entries of an SQS batch fail, the first ones", 0, least=0, most=10)
    visible_after_seconds: float | None = _member("SendMessage, by the message, S3 events too: late", None, least=0)
    redelivered_after_seconds: float | None = _member(
        "ReceiveMessage, by the message: delivered once more, also when it was deleted", None, least=0
    )

    @property
    def is_of_messages(self) -> bool:
        """Whether it strikes messages on their way through a queue, not requests."""
        return self.visible_after_seconds is not None or self.redelivered_after_seconds is not None


_FIELDS = {each.name: each for each in dataclasses.fields(Fault)}


def parsed(body: Mapping[str, Any]) -> Fault:
    """A fault from JSON; ValueError lists everything that is wrong with it."""
    problems = [problem for name, value in body.items() if (problem := _problem(name, value))]
    if not problems:
        fault = Fault(**body)
        problems = _contradictions(fault)
        if not problems:
            return fault
    raise ValueError("; ".join(problems))


def _problem(name: str, value: Any) -> str:
    """What is wrong with one member by itself."""
    if name not in _FIELDS:
        return f"{name}: a fault has {', '.join(_FIELDS)}"
    about, kind = _FIELDS[name].metadata, str(_FIELDS[name].type)
    if about["least"] is None:
        return "" if isinstance(value, str) else f"{name}: {value!r} is not a string"
    if value is None and "None" in kind:
        return ""
    is_number = isinstance(value, int if kind.startswith("int") else (int, float)) and not isinstance(value, bool)
    if is_number and about["least"] <= value <= about["most"]:
        return ""
    sort = "an integer" if kind.startswith("int") else "a number"
    return f"{name}: {value!r} is not {sort} from {about['least']} to {about['most']}"


def _contradictions(fault: Fault) -> list[str]:
    """What is wrong with the members together."""
    if fault.service not in SERVICES:
        return [f"service: {fault.service!r} is none of {', '.join(SERVICES)}"]
    effects = _effects(fault)
    wrong = {
        f"operation: {fault.service} has no {fault.operation}": fault.operation != "*"
        and fault.operation not in _operations(fault.service),
        f"drop: {fault.drop!r} is neither before nor after": fault.drop not in ("", "before", "after"),
        "key: only requests of s3 have one": bool(fault.key) and fault.service != "s3",
        f"one effect, not {', '.join(effects) or 'none'}": len(effects) > 1 or not (effects or fault.delay_seconds),
        "delay_seconds: only requests can be delayed": bool(fault.delay_seconds) and fault.is_of_messages,
        "status: goes with error": fault.status != 0 and "error" not in effects,
        # S3 may begin an answer before it knows how it ends: a copy can fail with 200.
        # https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
        f"status: {fault.status} is neither 400 to 599 nor, for s3, 200": fault.status != 0
        and fault.status < 400
        and (fault.service, fault.status) != ("s3", 200),
        f"failed_entries: needs sqs and one of {', '.join(BATCHES)}": "failed_entries" in effects
        and fault.operation not in BATCHES,
        "visible_after_seconds: needs sqs SendMessage": "visible_after_seconds" in effects
        and (fault.service, fault.operation) != ("sqs", "SendMessage"),
        "redelivered_after_seconds: needs sqs ReceiveMessage": "redelivered_after_seconds" in effects
        and (fault.service, fault.operation) != ("sqs", "ReceiveMessage"),
    }
    problems = [problem for problem, is_wrong in wrong.items() if is_wrong]
    try:
        re.compile(fault.key)
    except re.error as error:
        problems.append(f"key: {fault.key!r} is no regular expression: {error}")
    return problems


def _effects(fault: Fault) -> list[str]:
    """The effects that a fault has, apart from a delay."""
    names = ["error"] if fault.error and not fault.failed_entries else []
    names += [name for name in ("drop", "failed_entries") if getattr(fault, name)]
    late = ("visible_after_seconds", "redelivered_after_seconds")
    return names + [name for name in late if getattr(fault, name) is not None]


@cache
def _operations(service: str) -> frozenset[str]:
    operations = Loader().load_service_model(service, "service-2")["operations"]
    return frozenset(name for name, operation in operations.items() if not operation.get("deprecated"))


@dataclass(slots=True, eq=False)
class _Set:
    """A fault of the plan and what has come of it."""

    number: int
    fault: Fault
    chance: random.Random
    matched: int = 0
    struck: int = 0
    first_struck_at: float | None = None

    def strikes(self, now: float) -> bool:
        """Whether it strikes this match."""
        fault, drawn = self.fault, self.chance.random()
        self.matched += 1
        if self.matched <= fault.skip or drawn >= fault.rate:
            return False
        if fault.times is not None and self.struck >= fault.times:
            return False
        if self.first_struck_at is None:
            self.first_struck_at = now
        if fault.lasts_seconds is not None and now - self.first_struck_at >= fault.lasts_seconds:
            return False
        self.struck += 1
        return True

    def as_json(self) -> dict[str, Any]:
        """The members that are not as by default, the number and the counts."""
        members = {name: getattr(self.fault, name) for name in _FIELDS}
        changed = {name: value for name, value in members.items() if value != _FIELDS[name].default}
        return {"number": self.number, **changed, "matched": self.matched, "struck": self.struck}


class Faults:
    """The plan. False while it is empty. `clock` is in seconds.

    The faults are asked in the order in which they were added. The first that strikes a request has it: the others
    are not asked, and do not count it.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.clear()

    def __bool__(self) -> bool:
        return bool(self._set)

    def clear(self, seed: int = 0) -> None:
        """Remove every fault; those added from now on draw from this seed."""
        self.seed = seed
        self._set: list[_Set] = []

    def add(self, fault: Fault) -> dict[str, Any]:
        """Add a fault; as `listed` has it."""
        number = len(self._set) + 1
        self._set.append(_Set(number, fault, random.Random(f"{self.seed}/{number}")))
        return self._set[-1].as_json()

    def listed(self) -> list[dict[str, Any]]:
        """Every fault with its `number` and how often it has `matched` and `struck`."""
        return [each.as_json() for each in self._set]

    def of_request(self, request: Request) -> Fault | None:
        """The fault that strikes a request, if any."""
        operation, key = _operation_and_key(request)
        return self._first(
            lambda fault: (
                not fault.is_of_messages
                and fault.service == request.service
                and fault.operation in ("*", operation)
                and (not fault.key or re.search(fault.key, key) is not None)
            )
        )

    def visible_after_seconds(self) -> float:
        """How late a message that is sent now becomes visible."""
        fault = self._first(lambda fault: fault.visible_after_seconds is not None)
        return (fault.visible_after_seconds or 0.0) if fault else 0.0

    def redelivered_after_seconds(self) -> float | None:
        """When a message that is received now is delivered once more, if it is."""
        fault = self._first(lambda fault: fault.redelivered_after_seconds is not None)
        return fault.redelivered_after_seconds if fault else None

    def _first(self, matches: Callable[[Fault], bool]) -> Fault | None:
        now = self._clock()
        return next((each.fault for each in self._set if matches(each.fault) and each.strikes(now)), None)


def _operation_and_key(request: Request) -> tuple[str, str]:
    if request.service == "s3":
        return s3_operations.operation_name(request), s3_operations.bucket_and_key(request.path)[1]
    return request.headers.get("x-amz-target", "").rpartition(".")[2], ""
