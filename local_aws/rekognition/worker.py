"""Training and inference in processes of their own, so that neither holds up an answer to anybody else."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from local_aws.rekognition.manifests import Ratios

if TYPE_CHECKING:
    from local_aws.vision import Detector

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

# One image with its labels, as `manifests.Entry` has them.
Example = tuple[bytes, Sequence[tuple[str, Ratios | None]]]


class VisionRefused(ValueError):
    """The images cannot be trained on, or an image cannot be read; the message says why."""


class WorkerDied(RuntimeError):
    """The process that trained or detected ended in the middle."""


@dataclass(frozen=True)
class LabelScore:
    """How a label did on the test images; all but the number of images are 0-1."""

    label: str
    test_images: int
    f1: float
    precision: float
    recall: float
    threshold: float


@dataclass(frozen=True)
class Training:
    """A trained model and how it did on the test images."""

    model: bytes
    kind: str
    f1: float
    precision: float
    recall: float
    average_precision: float | None
    labels: tuple[LabelScore, ...]


@dataclass(frozen=True)
class Found:
    """A label found on an image: confidence 0-100, box (left, top, width, height) as ratios, None for the whole image."""

    label: str
    confidence: float
    box: Ratios | None


class VisionWorkers:
    """At most two worker processes, started when they are first needed."""

    def __init__(self) -> None:
        self._pool = _new_pool()

    async def train(self, training: Sequence[Example], testing: Sequence[Example]) -> Training:
        """Train on some images and evaluate on others; VisionRefused where they do not make a model."""
        return await self._run(_train, training, testing)

    async def detect(self, model: bytes, image: bytes) -> tuple[Found, ...]:
        """What a model sees on an image, most confident first; VisionRefused for an image that cannot be decoded."""
        return await self._run(_detect, model, image)

    async def warm(self) -> None:
        """Have a worker import what it needs before it is needed."""
        with contextlib.suppress(WorkerDied):
            await self._run(_warm)

    def close(self) -> None:
        """End the workers, whatever they are doing."""
        for child in multiprocessing.active_children():
            child.kill()
        self._pool.shutdown(cancel_futures=True)

    async def _run(
        self, work: Callable[_Arguments, _Result], *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> _Result:
        pool = self._pool
        try:
            return await asyncio.wrap_future(pool.submit(work, *args, **kwargs))
        except BrokenProcessPool as error:
            if self._pool is pool:
                self._pool = _new_pool()
            raise WorkerDied(f"the vision worker ended unexpectedly: {error}") from error


def _new_pool() -> ProcessPoolExecutor:
    # Spawned, since a fork would copy the server's threads' locks.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(max_workers=2, mp_context=context, initializer=_end_with_parent)


def _end_with_parent() -> None:
    """A killed server must not leave its workers behind: they hold both ends of their queue and would wait for ever."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _train(training: Sequence[Example], testing: Sequence[Example]) -> Training:
    from local_aws.vision import Annotation, Box, LabelledImage, VisionError, evaluate, train

    def labelled(examples: Sequence[Example]) -> list[LabelledImage]:
        return [
            LabelledImage(data, tuple(Annotation(label, Box(*box) if box else None) for label, box in labels))
            for data, labels in examples
        ]

    try:
        detector = train(labelled(training))
        evaluation = evaluate(detector, labelled(testing))
    except VisionError as error:
        raise VisionRefused(str(error)) from None
    scores = tuple(
        LabelScore(each.label, each.number_of_testing_images, each.f1, each.precision, each.recall, each.threshold)
        for each in evaluation.labels
    )
    return Training(
        detector.to_bytes(),
        detector.kind,
        evaluation.f1,
        evaluation.precision,
        evaluation.recall,
        evaluation.average_precision,
        scores,
    )


def _detect(model: bytes, image: bytes) -> tuple[Found, ...]:
    from local_aws.vision import VisionError

    try:
        detections = _detector(model).detect(image)
    except VisionError as error:
        raise VisionRefused(str(error)) from None
    return tuple(
        Found(
            each.label,
            each.confidence,
            (each.box.left, each.box.top, each.box.width, each.box.height) if each.box else None,
        )
        for each in detections
    )


def _warm() -> None:
    import local_aws.vision  # noqa: F401


@lru_cache(maxsize=4)
def _detector(model: bytes) -> Detector:
    from local_aws.vision import Detector

    return Detector.from_bytes(model)
