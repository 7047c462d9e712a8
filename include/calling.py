"""DetectCustomLabels for a batch's images: at the pacer's moments, as many at a time as that takes, every answer sorted."""

from __future__ import annotations

import logging
import queue
import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from botocore.exceptions import ClientError, ConnectionError, HTTPClientError

from include.errors import ModelNotRunningError, TerminalError, TransientError, error_code, error_message
from include.outcomes import Checked, Outcome
from include.pacing import Pacer
from include.settings import Settings

log = logging.getLogger(__name__)

# A call that failed for reasons that pass is made again up to this often, unless every other call fails as well.
ATTEMPTS: Final = 6
FIRST_BACKOFF_SECONDS: Final = 0.25
OUTAGE_SECONDS: Final = 120.0
# A service that refuses every call for so long is not busy: somebody else uses all of it, or its quota is wrong.
THROTTLED_SECONDS: Final = 600.0
# How often a model that is about to be RUNNING is tried, and how often its state is looked at meanwhile.
TRY_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 10.0
RUNNING_SECONDS: Final = 60.0
# So many first images refused as unreadable, and none labelled: the model's access to the bucket is broken, not the images.
UNREADABLE_IN_A_ROW: Final = 25

Kind = Literal["served", "throttled", "transient", "image", "model", "run"]

# https://docs.aws.amazon.com/rekognition/latest/APIReference/API_DetectCustomLabels.html#API_DetectCustomLabels_Errors
KINDS: Final[dict[str, Kind]] = {
    "ProvisionedThroughputExceededException": "throttled",
    "ThrottlingException": "throttled",
    "InternalServerError": "transient",
    "ServiceUnavailableException": "transient",
    "RequestTimeout": "transient",
    "InvalidS3ObjectException": "image",
    "InvalidImageFormatException": "image",
    "ImageTooLargeException": "image",
    "InvalidParameterException": "image",
    "ResourceNotReadyException": "model",
}

HOW_TO_RERUN: Final = (
    "If you cleared failed tasks only, the model was not started again: clear start_model (not only failed tasks) with "
    "everything downstream, and Airflow starts the model, repeats what is left, and stops it; or leave it: the batches stay "
    "pending for the next run."
)


def kind_of(error: ClientError) -> Kind:
    """What an error of DetectCustomLabels means; what is not known stops the run (permissions, wrong ARN, quota)."""
    code = error_code(error)
    if code in KINDS:
        return KINDS[code]
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return "transient" if status >= 500 else "run"


@dataclass(slots=True)
class Image:
    """An image that is to be called for, and how that went so far."""

    entry: Checked
    attempts: int = 0
    first_called: float | None = None


@dataclass(slots=True)
class Work:
    """What the threads share. ``todo`` ends with None; ``left`` images have no outcome yet."""

    left: int
    last_success: float
    todo: queue.SimpleQueue[Image | None] = field(default_factory=queue.SimpleQueue)
    done: queue.SimpleQueue[Outcome] = field(default_factory=queue.SimpleQueue)
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    error: BaseException | None = None
    calls: int = 0
    throttled_calls: int = 0
    served: int = 0
    served_seconds: float = 0.0
    # Images that the model could not read, while it has read none: whether they are to blame is not known yet.
    unreadable: list[Outcome] = field(default_factory=list)
    not_running_at: datetime | None = None
    first_call_at: datetime | None = None
    up_to_speed_at: datetime | None = None
    out_of_images_at: datetime | None = None
    last_call_at: datetime | None = None

    def end(self, error: BaseException | None = None) -> None:
        """Make no further calls: everything has an outcome, or something went wrong that ends the batch."""
        with self.lock:
            self.error = self.error or error
        self.stop.set()
        self.todo.put(None)


@dataclass(frozen=True, slots=True)
class Caller:
    """Calls for images at the pacer's moments, as many at a time as that takes, and sorts what comes back."""

    rekognition: Any
    settings: Settings
    run_id: str
    pacer: Pacer
    describe_model: Callable[[], dict[str, Any]]
    wait_seconds: float
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    work: Work

    def run(self) -> None:
        """Call until every image has an outcome. Threads are started only as calls overlap.

        :raises: what ended the batch before.
        """
        free = threading.Semaphore(self.settings.inference_threads)

        def called(future: Future[None]) -> None:
            free.release()
            if error := future.exception():
                self.work.end(error)

        with ThreadPoolExecutor(max_workers=self.settings.inference_threads, thread_name_prefix="infer") as pool:
            self._await_running()
            while image := self.work.todo.get():
                free.acquire()
                called_at = self.pacer.wait()
                if self.work.stop.is_set():
                    break
                pool.submit(self._call, image, called_at).add_done_callback(called)
        if self.work.error:
            raise self.work.error

    def _await_running(self) -> None:
        """Try one image, alone, until the model lets it in.

        :raises ModelNotRunningError: that will not be soon.
        """
        image = self.work.todo.get()
        began = looked = self.monotonic()
        while image and not self.work.stop.is_set():
            try:
                return self._call(image, self.pacer.wait())
            except ModelNotRunningError as refused:
                now = self.monotonic()
                if self.work.not_running_at is None or now - looked >= LOOK_SECONDS:
                    looked = now
                    self._raise_unless_starting(refused, waited=now - began)
                self.work.not_running_at, self.work.last_success = self.now(), now
            self.work.stop.wait(TRY_SECONDS)
        return None

    def _raise_unless_starting(self, refused: ModelNotRunningError, *, waited: float) -> None:
        model = self.describe_model()
        status, message = model["Status"], model.get("StatusMessage")
        # A model may be shown as RUNNING shortly before it answers.
        longest = {"STARTING": self.wait_seconds, "RUNNING": min(self.wait_seconds, RUNNING_SECONDS)}.get(status)
        if longest is None:
            raise ModelNotRunningError(
                f"The model is {status}{f' ({message})' if message else ''}. {HOW_TO_RERUN}"
            ) from refused
        if waited > longest:
            raise ModelNotRunningError(
                f"The model is {status}, and has not answered for {waited:.0f} s. {HOW_TO_RERUN}"
            ) from refused
        log.info("The model is %s: waiting for it, ready to call.", status)

    def _call(self, image: Image, called_at: float) -> None:
        """One call. Its image has an outcome then, or goes back to be called for again."""
        image.first_called = image.first_called or called_at
        began = self.now()
        answer: dict[str, Any] = {}
        kind: Kind
        try:
            answer = self._detect(image.entry)
        except ClientError as err:
            kind, code, message = kind_of(err), error_code(err), error_message(err)
        except (ConnectionError, HTTPClientError) as err:
            kind, code, message = "transient", type(err).__name__, str(err)
        else:
            kind, code, message = "served", "", ""
        if kind == "model":
            raise ModelNotRunningError(f"The model is not RUNNING ({code}: {message}). {HOW_TO_RERUN}")
        self._count(began, called_at, kind)
        if kind == "served":
            self._end(self._outcome(image.entry, "LABELLED", answer=answer))
        else:
            self._refused(image, kind, code, message)

    def _refused(self, image: Image, kind: Kind, code: str, message: str) -> None:
        work = self.work
        if kind == "run":
            raise TerminalError(
                f"DetectCustomLabels cannot succeed ({code}: {message}). Nothing is lost: the batches stay pending. "
                "Check the role's permissions and LABELS_PROJECT_VERSION_ARN."
            )
        if kind == "throttled":
            self._raise_if_all_is_throttled(message)
            return work.todo.put(image)
        if kind == "transient":
            image.attempts += 1
            if image.attempts < ATTEMPTS or self._is_outage(image, code, message):
                work.stop.wait(random.uniform(0, FIRST_BACKOFF_SECONDS * 2 ** min(image.attempts, ATTEMPTS)))
                return work.todo.put(image)
            message = f"{message} ({image.attempts} attempts)"
        outcome = self._outcome(image.entry, "FAILED", code, message)
        if code == "InvalidS3ObjectException" and not work.served:
            return self._hold(outcome)
        return self._end(outcome)

    def _detect(self, entry: Checked) -> dict[str, Any]:
        image, facts = entry.image, entry.facts
        staged = facts.staged_key if facts else ""
        where = (
            {"Bucket": self.settings.final_bucket, "Name": staged}
            if staged
            else {"Bucket": image.bucket, "Name": image.key}
            | ({"Version": image.version_id} if image.version_id else {})
        )
        # Every label, whatever its confidence: thresholds are applied when reading.
        return dict(
            self.rekognition.detect_custom_labels(
                ProjectVersionArn=self.settings.project_version_arn, Image={"S3Object": where}, MinConfidence=0
            )
        )

    def _count(self, began: datetime, called_at: float, kind: Kind) -> None:
        work = self.work
        if kind == "throttled":
            self.pacer.throttled(called_at)
        else:
            self.pacer.served(called_at)
        with work.lock:
            work.calls += 1
            work.throttled_calls += kind == "throttled"
            work.last_call_at = self.now()
            work.out_of_images_at = max(work.out_of_images_at or began, began)
            work.first_call_at = min(work.first_call_at or began, began)
            if self.pacer.is_up_to_speed and not work.up_to_speed_at:
                work.up_to_speed_at = work.last_call_at if kind == "throttled" else work.first_call_at
            if kind == "served":
                work.served += 1
                work.last_success = self.monotonic()
                work.served_seconds += work.last_success - called_at

    def _end(self, outcome: Outcome) -> None:
        self.work.done.put(outcome)
        self._one_less()

    def _one_less(self) -> None:
        with self.work.lock:
            self.work.left -= 1
            is_last = not self.work.left
        if is_last:
            self.work.todo.put(None)

    def _outcome(
        self, entry: Checked, status: Any, code: str = "", message: str = "", answer: dict[str, Any] | None = None
    ) -> Outcome:
        answer = answer or {}
        return Outcome(
            image=entry.image,
            status=status,
            processed_at=self.now(),
            run_id=self.run_id,
            facts=entry.facts,
            error_code=code,
            error_message=message,
            custom_labels=tuple(answer.get("CustomLabels", ())),
            request_id=answer.get("ResponseMetadata", {}).get("RequestId", ""),
        )

    def _is_outage(self, image: Image, code: str, message: str) -> bool:
        """Whether nothing at all has succeeded since an image's first call: then the image is not to blame.

        Where no other images are left, nothing else can succeed: they get some time, not all of it.

        :raises TransientError: once that has lasted.
        """
        silent = self.monotonic() - self.work.last_success
        if silent > OUTAGE_SECONDS:
            raise TransientError(
                f"DetectCustomLabels has failed for {silent:.0f} s without a success ({code}: {message})."
            )
        is_alone = self.work.todo.empty() and silent > OUTAGE_SECONDS / 4
        return self.work.last_success < (image.first_called or 0.0) and not is_alone

    def _hold(self, outcome: Outcome) -> None:
        """Keep an unreadable image back until another one was read: then it is the image, else the model's access.

        :raises TerminalError: for the access.
        """
        with self.work.lock:
            self.work.unreadable.append(outcome)
            held = list(self.work.unreadable)
        if len(held) >= UNREADABLE_IN_A_ROW:
            raise access_error(held)
        self._one_less()

    def _raise_if_all_is_throttled(self, message: str) -> None:
        silent = self.monotonic() - self.work.last_success
        if silent > THROTTLED_SECONDS:
            raise TransientError(
                f"DetectCustomLabels has refused every call for {silent:.0f} s as too many ({message}): who else uses the "
                "model, or the account's quota of calls a second? What was labelled is kept."
            )


def access_error(unreadable: Sequence[Outcome]) -> TerminalError:
    return TerminalError(
        f"The first {len(unreadable)} images could not be read by the model, and none could ({unreadable[0].error_message}). "
        "Is the bucket in the model's region, and may the role read it (s3:GetObject, kms:Decrypt)? "
        "Nothing is lost: the batch stays pending."
    )
