"""Who may use the model until when, and what has been learned about it: one small object in the final bucket.

Written only by conditional writes, so that two deployments which do not know of each other cannot both hold the lease.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from include import layout, objects
from include.errors import LeaseHeldError, LeaseLostError, TerminalError, TransientError
from include.model import ModelName

log = logging.getLogger(__name__)

WRITE_ATTEMPTS: Final = 20
# Learned figures follow the last runs: each new one counts for half.
LEARNING_WEIGHT: Final = 0.5


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to use the model. ``holder`` is ``<dag_id>/<run_id>``.

    ``handed_over_at``: the holder is done and has left the model running, for whoever comes next to take the lease over;
    ``taken_over_at``: that moment in the lease of who came.
    """

    holder: str
    acquired_at: datetime
    expires_at: datetime
    handed_over_at: datetime | None = None
    taken_over_at: datetime | None = None

    def is_live(self, now: datetime) -> bool:
        return now < self.expires_at

    def is_held_against(self, holder: str, now: datetime) -> bool:
        """Whether it keeps somebody from using the model."""
        return self.holder != holder and self.handed_over_at is None and self.is_live(now)


@dataclass(frozen=True, slots=True)
class Hold:
    """Somebody keeps the model running, to try it by hand; it costs money until it expires."""

    holder: str
    expires_at: datetime

    def is_live(self, now: datetime) -> bool:
        return now < self.expires_at

    def __str__(self) -> str:
        return f"{self.holder} holds it until {self.expires_at:%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True, slots=True)
class ModelState:
    """What is known of a model. Thresholds are 0 to 100.

    ``images_per_second`` is of one inference unit, ``latency_seconds`` of one call, ``start_seconds`` from the request
    to RUNNING.
    """

    lease: Lease | None = None
    hold: Hold | None = None
    images_per_second: float | None = None
    latency_seconds: float | None = None
    start_seconds: float | None = None
    thresholds: dict[str, float] = field(default_factory=dict)

    def is_held(self, now: datetime) -> bool:
        """Whether somebody keeps the model running at the moment."""
        return self.hold is not None and self.hold.is_live(now)

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), default=datetime.isoformat, sort_keys=True, indent=1).encode()

    @classmethod
    def from_json(cls, body: bytes) -> ModelState:
        known = {field.name for field in dataclasses.fields(cls)}
        fields = {name: value for name, value in json.loads(body).items() if name in known}
        if lease := fields.get("lease"):
            times = {
                name: datetime.fromisoformat(lease[name]) for name in lease if name.endswith("_at") and lease[name]
            }
            fields["lease"] = Lease(**lease | times)
        if hold := fields.get("hold"):
            fields["hold"] = Hold(hold["holder"], datetime.fromisoformat(hold["expires_at"]))
        return cls(**fields)

    def with_thresholds(self, thresholds: dict[str, float]) -> ModelState:
        """With the model's thresholds; those known stay where none could be read."""
        return replace(self, thresholds=thresholds) if thresholds else self

    def learn(
        self,
        *,
        images_per_second: float | None = None,
        latency_seconds: float | None = None,
        start_seconds: float | None = None,
    ) -> ModelState:
        """Blend in what a run measured; None where it measured nothing."""

        def blend(known: float | None, measured: float | None) -> float | None:
            if known is None or measured is None:
                return measured if known is None else known
            return known + LEARNING_WEIGHT * (measured - known)

        return replace(
            self,
            images_per_second=blend(self.images_per_second, images_per_second),
            latency_seconds=blend(self.latency_seconds, latency_seconds),
            start_seconds=blend(self.start_seconds, start_seconds),
        )


@dataclass(frozen=True, slots=True)
class ModelStateStore:
    """The object that holds a model's state."""

    s3: Any
    bucket: str
    key: str

    @classmethod
    def of(cls, s3: Any, bucket: str, model: ModelName) -> ModelStateStore:
        return cls(s3, bucket, layout.model_state(model.project, model.version))

    def read(self) -> ModelState:
        """:raises TerminalError: where the object is damaged."""
        return self._read()[0]

    def _read(self) -> tuple[ModelState, str | None]:
        """The state and its ETag; None where there is none yet."""
        found = objects.read(self.s3, self.bucket, self.key)
        if found is None:
            return ModelState(), None
        try:
            return ModelState.from_json(found[0]), found[1]
        except (ValueError, TypeError, KeyError, AttributeError) as err:
            raise TerminalError(
                f"s3://{self.bucket}/{self.key} is damaged ({err}). Delete it: the lease and what was learned of the model are "
                "then unknown, and nothing else is lost."
            ) from err

    def read_or_empty(self) -> ModelState:
        """The state for those who stop the model: what cannot be read protects nobody, and must not keep it running."""
        try:
            return self.read()
        except (ClientError, BotoCoreError, TerminalError) as err:
            log.error("Could not read s3://%s/%s (%s): taken as no lease.", self.bucket, self.key, err)
            return ModelState()

    def update(self, change: Callable[[ModelState], ModelState]) -> ModelState:
        """Read, change, write on the condition that nobody wrote in between; again where somebody did."""
        for _ in range(WRITE_ATTEMPTS):
            before, etag = self._read()
            after = change(before)
            if after == before and etag:
                return after
            if objects.write_if(self.s3, self.bucket, self.key, after.to_json(), etag=etag):
                return after
        raise TransientError(f"s3://{self.bucket}/{self.key} is being written by others without end; try again.")

    def acquire(self, holder: str, *, minutes: float, now: datetime) -> Lease:
        """Take the lease, or lengthen it where the holder has it already.

        :raises LeaseHeldError: where another holder's lease is live.
        """

        def take(state: ModelState) -> ModelState:
            held = state.lease
            if held and held.is_held_against(holder, now):
                raise LeaseHeldError(
                    f"The model is in use by {held.holder} until {held.expires_at:%H:%M:%S} UTC. This run tries again later; "
                    "nothing is lost, its batches stay pending."
                )
            is_mine = held is not None and held.holder == holder
            since = held.acquired_at if held and is_mine else now
            taken_over_at = (held.taken_over_at if is_mine else held.handed_over_at) if held else None
            until = now + timedelta(minutes=minutes)
            return replace(state, lease=Lease(holder, since, until, taken_over_at=taken_over_at))

        lease = self.update(take).lease
        assert lease is not None
        return lease

    def renew(self, holder: str, *, minutes: float, now: datetime) -> Lease:
        """Make the lease that long from now, unless it has more than half of that, and not more than that, already.

        :raises LeaseLostError: where somebody else has it by now, or nobody.
        """

        def set_anew(state: ModelState) -> ModelState:
            held = state.lease
            if held is None or held.holder != holder:
                raise LeaseLostError(
                    f"{holder} no longer holds the model's lease ({held.holder if held else 'nobody'} does): it ran out while "
                    "this run stood still. What was labelled is kept; the rest stays pending for the next run."
                )
            left = held.expires_at - now
            if timedelta(minutes=minutes / 2) < left <= timedelta(minutes=minutes):
                return state
            return replace(state, lease=replace(held, expires_at=now + timedelta(minutes=minutes)))

        lease = self.update(set_anew).lease
        assert lease is not None
        return lease

    def hand_over(self, holder: str, *, minutes: float, now: datetime) -> None:
        """Leave the model running for whoever takes the lease over within some minutes; the watchdog stops it after that."""

        def leave(state: ModelState) -> ModelState:
            if state.lease is None or state.lease.holder != holder:
                return state
            left = replace(state.lease, expires_at=now + timedelta(minutes=minutes), handed_over_at=now)
            return replace(state, lease=left)

        self.update(leave)

    def release(self, holder: str) -> None:
        """Give the lease back; nothing happens where somebody else has it."""
        self.update(lambda state: replace(state, lease=None) if state.lease and state.lease.holder == holder else state)

    def set_hold(self, hold: Hold | None) -> None:
        """Keep the model running from now on; None forgets a hold that has ended."""
        self.update(lambda state: replace(state, hold=hold))

    def end_hold(self, *, now: datetime) -> None:
        """Let a hold expire now: whoever looks next stops the model."""
        self.update(lambda state: replace(state, hold=replace(state.hold, expires_at=now)) if state.hold else state)
