"""Stage 5, the only one that runs while the model bills: one paid call an image, and checkpoints. Nothing else."""

from __future__ import annotations

import contextlib
import logging
import queue
import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from botocore.exceptions import ClientError, ConnectionError, HTTPClientError

from include.errors import ModelNotRunningError, TerminalError, TransientError, error_code, error_message
from include.outcomes import Checked, Outcome, read_outcomes, read_preflight, write_part
from include.pacing import Pacer
from include.settings import Settings

log = logging.getLogger(__name__)

CHECKPOINT_IMAGES: Final = 100
CHECKPOINT_SECONDS: Final = 2.0
LEASE_SECONDS: Final = 30.0
# A call that failed for reasons that pass is made again up to this often, unless every other call fails as well.
ATTEMPTS: Final = 6
FIRST_BACKOFF_SECONDS: Final = 0.25
OUTAGE_SECONDS: Final = 120.0
# A service that refuses every call for so long is not busy: somebody else uses all of it, or its quota is wrong.
THROTTLED_SECONDS: Final = 600.0
# How long calls under way are waited for when the task is told to end: their answers are paid for.
LAST_CALLS_SECONDS: Final = 3.0
# So many first images refused as unreadable, and none labelled: the model's access to the bucket is broken, not the images.
UNREADABLE_IN_A_ROW: Final = 25

Kind = Literal["throttled", "transient", "image", "model", "run"]

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


@dataclass(frozen=True, slots=True)
class InferReport:
    """Counts of one batch. Times are when the first call was made and the last one returned (None: no call)."""

    images: int = 0
    labelled: int = 0
    failed: int = 0
    calls: int = 0
    throttled_calls: int = 0
    first_call_at: datetime | None = None
    last_call_at: datetime | None = None


@dataclass(slots=True)
class _Work:
    """What the calling threads share."""

    todo: queue.SimpleQueue[Checked]
    done: queue.SimpleQueue[Outcome]
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    calls: int = 0
    throttled_calls: int = 0
    # Images that the model could not read, while it has read none: whether they are to blame is not known yet.
    unreadable: list[Outcome] = field(default_factory=list)
    any_labelled: bool = False
    last_success: float = 0.0
    first_call_at: datetime | None = None
    last_call_at: datetime | None = None


def infer(
    rekognition: Any,
    s3: Any,
    settings: Settings,
    batch_id: str,
    *,
    run_id: str,
    first_rate: float | None,
    now: Callable[[], datetime],
    monotonic: Callable[[], float],
    renew_lease: Callable[[], object],
) -> InferReport:
    """Label what preflight let through and no checkpoint holds yet.

    :param rekognition: a client that makes each call once: pacing and repeating are done here.
    :param first_rate: calls a second to begin with; None where nothing was learned yet.
    :raises ModelNotRunningError: the model is not RUNNING.
    :raises TerminalError: no call can succeed (permissions, wrong ARN): retrying is useless.
    :raises TransientError: the service is failing for everyone: what was labelled is kept, retry.
    """
    checked = read_preflight(s3, settings.final_bucket, batch_id)
    if checked is None:
        raise TerminalError(
            f"Batch {batch_id} has no preflight: it was not checked, so it is not labelled. Clear preflight."
        )
    paid = read_outcomes(s3, settings.final_bucket, batch_id)
    ready = [entry for entry in checked if entry.is_ready and entry.image.place not in paid]
    if paid:
        log.info("Batch %s: %s images are checkpointed already and are not paid for again.", batch_id, len(paid))
    if not ready:
        return InferReport()
    work = _Work(todo=queue.SimpleQueue(), done=queue.SimpleQueue(), last_success=monotonic())
    for entry in ready:
        work.todo.put(entry)
    pacer = Pacer(monotonic=monotonic, sleep=work.stop.wait, first_rate=first_rate)
    caller = _Caller(rekognition, settings, run_id, pacer, now, monotonic, work)
    size = min(settings.inference_threads, len(ready))
    with ThreadPoolExecutor(max_workers=size, thread_name_prefix="infer") as pool:
        callers = [pool.submit(caller.run) for _ in range(size)]
        outcomes = _checkpoint(s3, settings, batch_id, callers, work, monotonic, renew_lease)
    for finished in callers:
        finished.result()
    if len(work.unreadable) == len(ready) > 1:
        raise _access_error(work.unreadable)
    return InferReport(
        images=len(ready),
        labelled=sum(outcome.status == "LABELLED" for outcome in outcomes),
        failed=sum(outcome.status != "LABELLED" for outcome in outcomes),
        calls=work.calls,
        throttled_calls=work.throttled_calls,
        first_call_at=work.first_call_at,
        last_call_at=work.last_call_at,
    )


def _checkpoint(
    s3: Any,
    settings: Settings,
    batch_id: str,
    callers: Sequence[Future[None]],
    work: _Work,
    monotonic: Callable[[], float],
    renew_lease: Callable[[], object],
) -> list[Outcome]:
    """Write outcomes as they come, at least every 100 images and every two seconds, until no thread is left.

    Also when something is raised here or in a calling thread. A process that is killed loses what came in since the last
    checkpoint, two seconds at most, and calls for it again.
    """
    written: list[Outcome] = []
    waiting: list[Outcome] = []
    number = 0

    def write() -> None:
        nonlocal number
        if waiting:
            number = write_part(s3, settings.final_bucket, batch_id, waiting, number=number)
            written.extend(waiting)
            waiting.clear()

    due = monotonic() + CHECKPOINT_SECONDS
    lease_due = monotonic() + LEASE_SECONDS
    try:
        while any(not caller.done() for caller in callers) or not work.done.empty():
            with contextlib.suppress(queue.Empty):
                waiting.append(work.done.get(timeout=0.05))
            if len(waiting) >= CHECKPOINT_IMAGES or monotonic() >= due:
                write()
                due = monotonic() + CHECKPOINT_SECONDS
            if monotonic() >= lease_due:
                renew_lease()
                lease_due = monotonic() + LEASE_SECONDS
    finally:
        work.stop.set()
        wait(callers, timeout=LAST_CALLS_SECONDS)
        while not work.done.empty():
            waiting.append(work.done.get())
        if work.any_labelled or len(work.unreadable) == 1:
            waiting.extend(work.unreadable)
        write()
    return written


@dataclass(frozen=True, slots=True)
class _Caller:
    """One calling thread's view: takes images, calls, sorts what comes back."""

    rekognition: Any
    settings: Settings
    run_id: str
    pacer: Pacer
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    work: _Work

    def run(self) -> None:
        while not self.work.stop.is_set():
            try:
                entry = self.work.todo.get_nowait()
            except queue.Empty:
                return
            try:
                outcome = self._label(entry)
            except BaseException:
                self.work.stop.set()
                raise
            if outcome:
                self.work.done.put(outcome)

    def _label(self, entry: Checked) -> Outcome | None:
        """Call until the image has an outcome; None where the work was stopped before."""
        attempts = 0
        began = self.monotonic()
        while not self.work.stop.is_set():
            self.pacer.wait()
            if self.work.stop.is_set():
                return None
            try:
                answer = self._call(entry)
            except ClientError as err:
                kind, code, message = kind_of(err), error_code(err), error_message(err)
            except (ConnectionError, HTTPClientError) as err:
                kind, code, message = "transient", type(err).__name__, str(err)
            else:
                self.pacer.served()
                self.work.last_success, self.work.any_labelled = self.monotonic(), True
                return self._outcome(entry, "LABELLED", answer=answer)
            if kind == "throttled":
                with self.work.lock:
                    self.work.throttled_calls += 1
                self.pacer.throttled()
                self._raise_if_all_is_throttled(message)
                continue
            self.pacer.served()
            if kind == "transient":
                attempts += 1
                if attempts < ATTEMPTS or self._is_outage(began, code, message):
                    self.work.stop.wait(random.uniform(0, FIRST_BACKOFF_SECONDS * 2 ** min(attempts, ATTEMPTS)))
                    continue
                return self._outcome(entry, "FAILED", code, f"{message} ({attempts} attempts)")
            self._raise_if_run_is_over(kind, code, message)
            outcome = self._outcome(entry, "FAILED", code, message)
            if code == "InvalidS3ObjectException" and not self.work.any_labelled:
                self._hold(outcome)
                return None
            return outcome
        return None

    def _call(self, entry: Checked) -> dict[str, Any]:
        image, facts = entry.image, entry.facts
        staged = facts.staged_key if facts else ""
        where = (
            {"Bucket": self.settings.final_bucket, "Name": staged}
            if staged
            else {"Bucket": image.bucket, "Name": image.key}
            | ({"Version": image.version_id} if image.version_id else {})
        )
        with self.work.lock:
            self.work.calls += 1
            self.work.first_call_at = self.work.first_call_at or self.now()
        try:
            # Every label, whatever its confidence: thresholds are applied when reading.
            return dict(
                self.rekognition.detect_custom_labels(
                    ProjectVersionArn=self.settings.project_version_arn, Image={"S3Object": where}, MinConfidence=0
                )
            )
        finally:
            self.work.last_call_at = self.now()

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

    def _is_outage(self, began: float, code: str, message: str) -> bool:
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
        return self.work.last_success < began and not is_alone

    def _raise_if_run_is_over(self, kind: Kind, code: str, message: str) -> None:
        if kind == "model":
            raise ModelNotRunningError(f"The model is not RUNNING ({code}: {message}). {HOW_TO_RERUN}")
        if kind == "run":
            raise TerminalError(
                f"DetectCustomLabels cannot succeed ({code}: {message}). Nothing is lost: the batches stay pending. "
                "Check the role's permissions and LABELS_PROJECT_VERSION_ARN."
            )

    def _hold(self, outcome: Outcome) -> None:
        """Keep an unreadable image back until another one was read: then it is the image, else the model's access.

        :raises TerminalError: for the access.
        """
        with self.work.lock:
            self.work.unreadable.append(outcome)
            held = list(self.work.unreadable)
        if len(held) >= UNREADABLE_IN_A_ROW:
            raise _access_error(held)

    def _raise_if_all_is_throttled(self, message: str) -> None:
        silent = self.monotonic() - self.work.last_success
        if silent > THROTTLED_SECONDS:
            raise TransientError(
                f"DetectCustomLabels has refused every call for {silent:.0f} s as too many ({message}): who else uses the "
                "model, or the account's quota of calls a second? What was labelled is kept."
            )


def _access_error(unreadable: Sequence[Outcome]) -> TerminalError:
    return TerminalError(
        f"The first {len(unreadable)} images could not be read by the model, and none could ({unreadable[0].error_message}). "
        "Is the bucket in the model's region, and may the role read it (s3:GetObject, kms:Decrypt)? "
        "Nothing is lost: the batch stays pending."
    )
