"""A model whose answers are scripted: what DetectCustomLabels says of each image, and how often it was asked."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from tests.include.memory_s3 import failure
from tests.include.samples import custom_label

Answer = Callable[[], dict[str, Any]]


def labelled(*labels: dict[str, Any]) -> dict[str, Any]:
    return {
        "CustomLabels": list(labels) or [custom_label("CAP", 98.0)],
        "ResponseMetadata": {"RequestId": "r-1", "HTTPStatusCode": 200},
    }


def refusal(code: str, status: int = 400) -> ClientError:
    return failure(code, "DetectCustomLabels", status)


class ScriptedModel:
    """The Rekognition client's one paid method. Unscripted images are labelled."""

    def __init__(self) -> None:
        self.script: dict[str, list[dict[str, Any] | BaseException]] = {}
        self.always: BaseException | None = None
        self.before_each: Callable[[str], object] = lambda key: None
        self.requests: list[dict[str, Any]] = []
        self.served: Counter[str] = Counter()
        self._lock = threading.Lock()

    def answers(self, key: str, *answers: dict[str, Any] | BaseException) -> None:
        self.script[key] = list(answers)

    def detect_custom_labels(self, **request: Any) -> dict[str, Any]:
        key = request["Image"]["S3Object"]["Name"]
        self.before_each(key)
        with self._lock:
            self.requests.append(request)
            answers = self.script.get(key)
            answer = answers.pop(0) if answers else self.always or labelled()
            if isinstance(answer, BaseException):
                raise answer
            self.served[key] += 1
            return answer
