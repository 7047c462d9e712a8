"""A process that gives birth to stages: everything is imported in it and its clients are made, so a stage costs a fork.

A stage may be told to kill itself at one of its AWS calls, before that is sent or once its answer has come: by botocore's own
events, so nothing sleeps and nothing is guessed.
"""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from types import ModuleType, TracebackType
from typing import Any, Final, Literal
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from include import calling, drain, infer
from include.errors import LabellingError, TerminalError
from include.settings import Settings
from local_stack.chaos.model_stages import Desk, Notes
from local_stack.chaos.stages import STAGES

When = Literal["before", "after"]
ANSWER_SECONDS: Final = 60.0
# Waits of the stages, so that a story takes seconds; and checkpoints so small that a batch of a few images has several.
QUICK: Final[dict[ModuleType, Mapping[str, float]]] = {
    drain: {"LONG_POLL_SECONDS": 0, "VISIBILITY_SECONDS": 1},
    calling: {"TRY_SECONDS": 0.05, "LOOK_SECONDS": 0.2, "FIRST_BACKOFF_SECONDS": 0.01},
    infer: {"LOOK_SECONDS": 0.01, "LIMIT_SECONDS": 0, "CHECKPOINT_IMAGES": 2},
}
# botocore waits up to half a minute between attempts.
SHORT_SLEEP_SECONDS: Final = 0.02
# What differs from run to run in a key: ids, days, numbers.
_CHANGING: Final = re.compile(
    r"[0-9a-f]{16}|\d{4}-\d\d-\d\d|\d[\dTZ]*|(?<=attempt-).+|(?<=inferred/)[^/]+|(?<=/)[^/]+(?=\.parquet)"
)
_OF_IMAGES: Final = re.compile(r"^(labels|images|quarantine)/.*?((?:\.error)?\.json)?$")


@dataclass(frozen=True, slots=True)
class Kill:
    """A stage's end by SIGKILL: at its ``nth`` call that is called ``call`` ("": any), sent or answered by then.

    ``takes_all``: the whole machine dies with it, and nothing more of the run happens.
    """

    stage: str
    when: When
    call: str = ""
    nth: int = 1
    takes_all: bool = False

    def __str__(self) -> str:
        what = f"call {self.nth}" + (f" of {self.call}" if self.call else "")
        return f"{self.stage} {self.when} {what}" + (", and all of its run" if self.takes_all else "")


@dataclass(frozen=True, slots=True)
class Order:
    """A stage to be carried out."""

    stage: str
    settings: Settings
    run_id: str
    notes: Notes
    batch: str = ""
    kill: Kill | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """How a stage's process ended. ``calls``: the names of its AWS calls, unless it was killed."""

    was_killed: bool = False
    error: str = ""
    is_terminal: bool = False
    notes: Notes = field(default_factory=dict)
    calls: tuple[str, ...] = ()
    log: tuple[str, ...] = ()

    @property
    def is_well(self) -> bool:
        return not self.was_killed and not self.error


class Nursery:
    """`with Nursery(url) as nursery: nursery.carry_out(order)`; one stage at a time."""

    def __init__(self, endpoint_url: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(endpoint_url, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> Nursery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ours.close()
        self._process.join()

    def carry_out(self, order: Order) -> Ended:
        """:raises TimeoutError: the stage neither ends nor dies."""
        self._ours.send(order)
        if not self._ours.poll(ANSWER_SECONDS):
            self._process.kill()
            raise TimeoutError(f"{order.stage} of {order.run_id} has not ended within {ANSWER_SECONDS:.0f} s.")
        ended: Ended = self._ours.recv()
        return ended


def _serve(endpoint_url: str, orders: Connection) -> None:
    # pyarrow imports it with the first table: here once, instead of in every stage.
    importlib.import_module("pandas")
    session = boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name="us-east-1")

    def client(service: str, **config: Any) -> Any:
        settings = Config(s3={"addressing_style": "path"}, **config)
        return session.client(service, endpoint_url=endpoint_url, config=settings)

    clients = {
        "s3": client("s3"),
        "sqs": client("sqs"),
        # As often as the plugin's hook repeats what passes.
        "rekognition": client("rekognition", retries={"total_max_attempts": 10}),
        "inference": client("rekognition", retries={"total_max_attempts": 1}, read_timeout=30),
    }
    while True:
        try:
            order: Order = orders.recv()
        except EOFError:
            return
        orders.send(_forked(order, clients))


def _forked(order: Order, clients: dict[str, Any]) -> Ended:
    """The clients have not been used here, so no connection is shared."""
    reading, writing = multiprocessing.Pipe(duplex=False)
    pid = os.fork()
    if not pid:
        is_done = False
        try:
            writing.send(_carried_out(order, clients))
            is_done = True
        finally:
            if not is_done:
                sys.excepthook(*sys.exc_info())
            os._exit(0 if is_done else 1)
    writing.close()
    answer: Ended | None = None
    try:
        answer = reading.recv()
    except EOFError:
        pass
    finally:
        reading.close()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return Ended(was_killed=True)
    return answer or Ended(error=f"{order.stage} broke: its traceback is on standard error")


def _carried_out(order: Order, clients: dict[str, Any]) -> Ended:
    for module, constants in QUICK.items():
        for name, value in constants.items():
            setattr(module, name, value)
    sleep = time.sleep
    time.sleep = lambda seconds: sleep(min(float(seconds), SHORT_SLEEP_SECONDS))
    lines = _Lines()
    logging.getLogger().addHandler(lines)
    logging.getLogger().setLevel(logging.INFO)
    watch = _Watch(order.kill)
    for each in clients.values():
        each.meta.events.register("before-send", watch.sent)
        each.meta.events.register("response-received", watch.answered)
    desk = Desk(**clients, settings=order.settings, run_id=order.run_id, notes=order.notes, batch=order.batch)
    try:
        notes = STAGES[order.stage](desk)
    except (LabellingError, ClientError, BotoCoreError) as err:
        is_terminal = isinstance(err, TerminalError)
        return Ended(
            error=f"{type(err).__name__}: {err}",
            is_terminal=is_terminal,
            calls=tuple(watch.calls),
            log=tuple(lines.told),
        )
    return Ended(notes=notes, calls=tuple(watch.calls), log=tuple(lines.told))


class _Lines(logging.Handler):
    """What was logged, line by line."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append(f"{record.levelname} {record.getMessage()}")


class _Watch:
    """Counts a process's calls, and kills it at the one it was told."""

    def __init__(self, kill: Kill | None) -> None:
        self.calls: list[str] = []
        self._kill, self._seen = kill, 0
        self._lock = threading.Lock()
        self._of_thread = threading.local()

    def sent(self, request: Any, event_name: str, **_: Any) -> None:
        service, operation = event_name.split(".")[1:]
        call = f"{service} {operation} {kind_of_key(request.url) if service == 's3' else ''}".rstrip()
        with self._lock:
            self.calls.append(call)
            self._seen += self._kill is not None and self._kill.call in ("", call)
            is_it = self._kill is not None and self._kill.call in ("", call) and self._seen == self._kill.nth
        self._of_thread.dies = is_it
        if is_it and self._kill and self._kill.when == "before":
            os.kill(os.getpid(), signal.SIGKILL)

    def answered(self, **_: Any) -> None:
        if getattr(self._of_thread, "dies", False):
            os.kill(os.getpid(), signal.SIGKILL)


def kind_of_key(url: str) -> str:
    """What a request to S3 is about: the key without what changes from run to run; "inbox" for an upload."""
    parts = urlsplit(url)
    bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
    listed = parse_qs(parts.query).get("prefix")
    if not bucket.startswith("final"):
        return "inbox"
    key = key or (f"{listed[0]}*" if listed else "")
    return _OF_IMAGES.sub(lambda match: f"{match[1]}/*{match[2] or ''}", _CHANGING.sub("#", key))
