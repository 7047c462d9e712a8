"""The process: everything put together behind one socket, its start and its end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from local_aws import queue_bridge, s3_conditions
from local_aws.admin import Admin
from local_aws.athena.account import AthenaAccount
from local_aws.athena.executions import Executions
from local_aws.athena.operations import athena_service
from local_aws.faults import Faults
from local_aws.gateway import CUT, Gateway, Receive, Scope, Send
from local_aws.moto_services import ACCOUNT_ID, MotoServices
from local_aws.rekognition.account import Account
from local_aws.rekognition.detection import Detection
from local_aws.rekognition.operations import rekognition_service
from local_aws.rekognition.training import Trainer
from local_aws.rekognition.worker import VisionWorkers
from local_aws.settings import Settings
from local_aws.sqs.operations import sqs_service
from local_aws.sqs.service import Queues
from local_aws.state import State


class LocalAwsServer(uvicorn.Server):
    """Says on standard output where it listens, once it does."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections."""
        await super().startup(sockets)
        host, port = (sockets or [])[0].getsockname()[:2]
        print(json.dumps({"endpoint_url": f"http://{host}:{port}", "pid": os.getpid()}), flush=True)  # noqa: T201


class CuttableProtocol(HttpToolsProtocol):
    """Hands the application what ASGI has no word for: how to cut a connection without an answer."""

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self.scope["state"][CUT] = self.transport.close


def serve(listener: socket.socket, settings: Settings, state_dir: Path | None) -> None:
    """Serve until told to end by SIGTERM or SIGINT."""
    config = uvicorn.Config(
        Application(settings, state_dir),
        http=CuttableProtocol,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=120,
        timeout_graceful_shutdown=1,
        backlog=2048,
    )
    # uvicorn raises the signal that ended it once more when everything is closed: let that be an ordinary exit.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    LocalAwsServer(config).run(sockets=[listener])


class Application:
    """The ASGI application; built when the event loop runs."""

    def __init__(self, settings: Settings, state_dir: Path | None) -> None:
        self._settings = settings
        self._state_dir = state_dir
        self._gateway: Gateway | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the server's start and end."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http" and self._gateway is not None:
            await self._gateway(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        moto = MotoServices()
        faults = Faults(time.monotonic)
        queues = Queues(ACCOUNT_ID, time.time, faults)
        account = Account(ACCOUNT_ID, self._settings, time.time)
        workers = VisionWorkers()
        athena = AthenaAccount(ACCOUNT_ID, time.time)
        state = State(self._state_dir, moto, queues, account, athena) if self._state_dir else None
        executions = Executions(athena, moto, state.changed if state else _nothing)
        trainer = Trainer(account, moto, workers, state.changed if state else _nothing)
        queue_bridge.install(queues, asyncio.get_running_loop())
        s3_conditions.install()

        async def reset() -> None:
            await moto.reset()
            queues.replace_all(())
            account.clear()
            athena.clear()
            faults.clear()

        self._gateway = Gateway(
            {
                "athena": athena_service(athena, executions, moto),
                "sqs": sqs_service(queues),
                "rekognition": rekognition_service(account, trainer, Detection(account, workers), workers),
            },
            admin=Admin(account, faults, reset),
            otherwise=moto,
            faults=faults,
            answered=state.note if state else _nothing,
        )
        await receive()
        if state:
            state.load()
        closing = asyncio.Event()
        keeping = asyncio.ensure_future(state.keep(closing)) if state else None
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if keeping:
            # Not cancelled: a save that has begun is finished, and what came after its copy is saved by another.
            closing.set()
            await keeping
        # Afterwards, for a query may take longer to be interrupted than the server is given to end.
        await asyncio.to_thread(executions.close)
        workers.close()
        await send({"type": "lifespan.shutdown.complete"})


def _nothing(*_arguments: object) -> None:
    """What is told of changes when no state is kept."""
