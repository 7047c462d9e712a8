"""What outlives the process: everything stored, in one file of a directory, written whole and then renamed into place.

The file is a line of JSON that says what wrote it, then a pickle. It is trusted as the code is: keep it to yourself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import pickle
import platform
import time
from pathlib import Path
from typing import Any

import moto
from moto.backends import get_backend
from moto.s3.models import s3_backends

from local_aws.athena.account import AthenaAccount
from local_aws.moto_services import MotoServices, loaded_backends
from local_aws.rekognition.account import Account
from local_aws.sqs.service import Queues
from local_aws.wire import Request

logger = logging.getLogger(__name__)

# Raise it whenever a class that is kept changes its fields.
_FORMAT = 1
_WRITER = {"format": _FORMAT, "moto": moto.__version__, "python": ".".join(platform.python_version_tuple()[:2])}

_SAVE_SECONDS = 2.0
# While S3 is copied it does not answer: saving takes a twentieth of the time at most, however much is stored.
_SAVE_SHARE = 0.05

# https://docs.python.org/3/library/pickle.html#pickle.UnpicklingError names these as what else may be raised.
_UNREADABLE = (
    pickle.UnpicklingError,
    AttributeError,
    EOFError,
    ImportError,
    IndexError,
    KeyError,
    TypeError,
    ValueError,
)
_UNPICKLABLE = (pickle.PicklingError, AttributeError, TypeError, ValueError, RecursionError)

# Detecting is none of them: it is counted by the meter.
_READS = ("Describe", "Get", "List")


class State:
    """Loads and saves the state of a server in `directory`."""

    def __init__(
        self, directory: Path, moto_services: MotoServices, queues: Queues, account: Account, athena: AthenaAccount
    ) -> None:
        self._path = directory / "state.pickle"
        self._moto = moto_services
        self._queues = queues
        self._account = account
        self._athena = athena
        self._is_changed = False
        self._left_out: set[str] = set()

    def note(self, request: Request) -> None:
        """Remember that a request may have changed something, unless it only reads."""
        operation = request.headers.get("x-amz-target", "").rpartition(".")[2]
        if request.method not in ("GET", "HEAD") and not operation.startswith(_READS):
            self.changed()

    def changed(self) -> None:
        """There is something to save."""
        self._is_changed = True

    def load(self) -> None:
        """Take up the state that was saved; one that cannot be read is set aside, and the server starts empty."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            try:
                writer = json.loads(file.readline())
                if writer != _WRITER:
                    self._set_aside(f"it was written by {writer}, and this is {_WRITER}")
                    return
                moto_kept, own_kept = pickle.load(file), pickle.load(file)
            except _UNREADABLE as error:
                self._set_aside(f"{type(error).__name__}: {error}")
                return
        _put_back(moto_kept)
        self._queues.replace_all(own_kept["queues"])
        self._account.restore(own_kept["rekognition"])
        if "athena" in own_kept:  # not in what an earlier version saved
            self._athena.restore(own_kept["athena"])

    async def keep(self, closing: asyncio.Event) -> None:
        """Save every few seconds when something changed, until `closing` is set and all is saved."""
        pause = _SAVE_SECONDS
        while self._is_changed or not closing.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(closing.wait(), pause)
            if self._is_changed:
                pause = max(_SAVE_SECONDS, await self._save() / _SAVE_SHARE)

    async def _save(self) -> float:
        """Save now; the seconds that it took."""
        started = time.monotonic()
        self._is_changed = False
        # The queues after S3: a message may then tell of an object too early, but no object is without its message.
        moto_pickle = await self._moto.run(self._pickle_moto)
        own = {"queues": self._queues.records(), "rekognition": self._account.kept(), "athena": self._athena.kept()}
        own_pickle = pickle.dumps(own)
        await asyncio.to_thread(self._write, moto_pickle, own_pickle)
        return time.monotonic() - started

    def _write(self, *pickles: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".writing")
        with temporary.open("wb") as file:
            file.write(json.dumps(_WRITER).encode() + b"\n")
            for each in pickles:
                file.write(each)
        temporary.replace(self._path)

    def _pickle_moto(self) -> bytes:
        """Every service's backends in one pickle, since they may refer to each other; one that cannot is left out."""
        try:
            return pickle.dumps(self._moto_state())
        except _UNPICKLABLE:
            for service, backends in self._moto_state()["backends"].items():
                try:
                    pickle.dumps(backends)
                except _UNPICKLABLE as error:
                    self._left_out.add(service)
                    logger.warning("the state of %s cannot be kept across restarts: %s", service, error)
            return pickle.dumps(self._moto_state())

    def _moto_state(self) -> dict[str, Any]:
        backends = {
            each.service_name: {account: dict(regions) for account, regions in each.items()}
            for each in loaded_backends()
            if each.service_name != "sqs" and each.service_name not in self._left_out
        }
        return {"backends": backends, "bucket_accounts": dict(s3_backends.bucket_accounts)}

    def _set_aside(self, why: str) -> None:
        aside = self._path.with_name(f"state-set-aside-{time.strftime('%Y%m%dT%H%M%S')}.pickle")
        self._path.rename(aside)
        logger.warning(
            "the state in %s cannot be used: %s; it is now %s, and this starts empty", self._path, why, aside
        )


def _put_back(kept: dict[str, Any]) -> None:
    for service, accounts in kept["backends"].items():
        backends = get_backend(service)
        for account, regions in accounts.items():
            for region, backend in regions.items():
                backends[account][region] = backend
    s3_backends.bucket_accounts.update(kept["bucket_accounts"])
