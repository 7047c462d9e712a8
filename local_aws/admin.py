"""The admin endpoint, `/_local_aws/…`: JSON in and out, for this machine only.

GET  health      {"status": "ok"}
GET  meter       what every model has cost so far
GET  settings    the settings in force;  POST settings {name: value, …} changes some
POST model       {"project_version_arn", "status"?, "status_message"?, "next_start_fails"?, "stops_after_calls"?}
GET  faults      {"seed", "faults": […]}, each fault with how often it has `matched` and `struck`
POST faults      adds the fault in the body (`faults.Fault`), and returns it as listed
POST faults/clear  {"seed"?}: removes every fault; those added from then on draw from the seed, 0 unless told
POST reset       drops everything that is stored, and every fault
"""

from __future__ import annotations

import dataclasses
import ipaddress
import json
from collections.abc import Awaitable, Callable
from typing import Any

from local_aws.faults import Faults, parsed
from local_aws.gateway import ADMIN_PATH
from local_aws.rekognition.account import Account
from local_aws.settings import updated
from local_aws.wire import AwsError, Request, Response, json_response

_Body = dict[str, Any]


class Admin:
    """Reads and changes what AWS itself would not let a client see or change."""

    def __init__(self, account: Account, faults: Faults, reset: Callable[[], Awaitable[None]]) -> None:
        self._account = account
        self._faults = faults
        self._reset = reset
        self._routes: dict[tuple[str, str], Callable[[_Body], Awaitable[_Body]]] = {
            ("GET", "health"): self.health,
            ("GET", "meter"): self.meter,
            ("GET", "settings"): self.settings,
            ("POST", "settings"): self.settings,
            ("POST", "model"): self.model,
            ("GET", "faults"): self.faults,
            ("POST", "faults"): self.add_fault,
            ("POST", "faults/clear"): self.clear_faults,
            ("POST", "reset"): self.reset,
        }

    async def __call__(self, request: Request) -> Response:
        """Answer one admin request."""
        if not _is_loopback(request.client_host):
            return json_response({"error": "the admin endpoint answers this machine only"}, status=403)
        route = self._routes.get((request.method, request.path.removeprefix(ADMIN_PATH)))
        if route is None:
            known = ", ".join(f"{method} {name}" for method, name in self._routes)
            return json_response({"error": f"there are {known}"}, status=404)
        try:
            return json_response(await route(json.loads(request.body or b"{}")))
        except (AwsError, KeyError, TypeError, ValueError) as error:
            return json_response({"error": f"{type(error).__name__}: {error}"}, status=400)

    async def health(self, body: _Body) -> _Body:
        """Say that the server answers."""
        return {"status": "ok"}

    async def meter(self, body: _Body) -> _Body:
        """What every model has cost so far."""
        return self._account.bill()

    async def settings(self, body: _Body) -> _Body:
        """Change the settings named in the body, and return all."""
        self._account.settings = updated(self._account.settings, body)
        return dataclasses.asdict(self._account.settings)

    async def model(self, body: _Body) -> _Body:
        """Set a model's status outright, have its next start fail with a message, or have it stop by itself."""
        return self._account.override(
            body["project_version_arn"],
            status=body.get("status"),
            status_message=body.get("status_message", ""),
            next_start_fails=body.get("next_start_fails"),
            stops_after_calls=body.get("stops_after_calls"),
        )

    async def faults(self, body: _Body) -> _Body:
        """The plan of faults and what has come of it."""
        return {"seed": self._faults.seed, "faults": self._faults.listed()}

    async def add_fault(self, body: _Body) -> _Body:
        """Add a fault to the plan."""
        return self._faults.add(parsed(body))

    async def clear_faults(self, body: _Body) -> _Body:
        """Begin a new plan."""
        self._faults.clear(int(body.get("seed", 0)))
        return await self.faults({})

    async def reset(self, body: _Body) -> _Body:
        """Drop everything that is stored, and every fault; settings stay."""
        await self._reset()
        return {"status": "reset"}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
