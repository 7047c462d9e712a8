"""A run as Airflow has it: stages in order, mapped ones batch by batch, retried where they die, torn down whatever happens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal

from local_stack.chaos.model_stages import Notes
from local_stack.chaos.nursery import Ended, Kill, Nursery, Order
from local_stack.chaos.world import World

ATTEMPTS: Final = 4
STOP_ATTEMPTS: Final = 11
LISTS: Final = ("inferred", "published")
State = Literal["well", "failed", "skipped"]


@dataclass
class Run:
    """One run of one deployment in a world, with the kills that are to come; what it did is in ``states`` and ``log``."""

    world: World
    nursery: Nursery
    run_id: str
    kills: list[Kill] = field(default_factory=list)
    notes: Notes = field(default_factory=dict)
    states: dict[str, State] = field(default_factory=dict)
    struck: list[Kill] = field(default_factory=list)
    calls: dict[str, set[str]] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    is_dead: bool = False

    def play(self) -> Run:
        """From beginning to end, or until everything dies."""
        for _ in self.steps():
            if self.is_dead:
                break
        return self

    def steps(self) -> Iterator[str]:
        """The same, stage by stage: each one's name after it. Whoever iterates stops when the run is dead."""
        self.notes["started_at"] = datetime.now(UTC)
        yield self._stage("drain")
        yield self._stage("decide", after=["drain"])
        batches: Sequence[str] = self.notes.get("batches", [])
        is_started = bool(self.notes.get("decision", {}).get("start"))
        if is_started:
            yield self._stage("start_model")
        for batch in batches:
            yield self._stage("preflight", batch)
        if is_started:
            yield self._stage("wait_until_running", after=["start_model"])
            for batch in batches:
                yield self._stage("infer", batch, after=["wait_until_running", f"preflight {batch}"])
            self.notes["infer_went_well"] = all(self.states[f"infer {batch}"] == "well" for batch in batches)
            if "well" in (self.states["start_model"], self.states["wait_until_running"]):
                yield self._stage("stop_model", attempts=STOP_ATTEMPTS)
        for batch in batches:
            yield self._stage("publish", batch)
        yield self._stage("report")
        if "failed" in self.states.values():
            yield self._stage("stop_model_of_failed_run", attempts=1)

    def _stage(self, stage: str, batch: str = "", *, after: Sequence[str] = (), attempts: int = ATTEMPTS) -> str:
        name = f"{stage} {batch}".rstrip()
        if any(self.states.get(each) != "well" for each in after):
            self.states[name] = "skipped"
            return name
        for _ in range(attempts):
            ended = self._attempt(stage, batch)
            if self.is_dead:
                return name
            if ended.is_well:
                self.states[name] = "well"
                for key, value in ended.notes.items():
                    self.notes[key] = [*self.notes.get(key, []), *value] if key in LISTS else value
                return name
            if ended.is_terminal:
                break
        self.states[name] = "failed"
        return name

    def _attempt(self, stage: str, batch: str) -> Ended:
        kill = next((each for each in self.kills if each.stage == stage), None)
        order = Order(stage, self.world.settings, self.run_id, dict(self.notes), batch, kill)
        paid, kept = (self.world.calls_served(), self.world.checkpointed()) if stage == "infer" else (0, 0)
        ended = self.nursery.carry_out(order)
        self.log += [f"{stage} {line}" for line in ended.log]
        self.calls.setdefault(stage, set()).update(ended.calls)
        if kill and ended.was_killed:
            self.kills.remove(kill)
            self.struck.append(kill)
            self.log.append(f"{stage} was killed: {kill}")
            self.is_dead = kill.takes_all
        elif ended.error:
            self.log.append(f"{stage} failed: {ended.error}")
        if stage == "infer" and not ended.is_well:
            # Answered, but not checkpointed when it died: called for again.
            self.world.paid_again += (self.world.calls_served() - paid) - (self.world.checkpointed() - kept)
        return ended


def finish(world: World, nursery: Nursery, name: str, *, most_runs: int = 8) -> list[Run]:
    """Time goes by: leases run out, messages come, the watchdog looks; undisturbed runs until nothing is left to do."""
    runs = []
    for number in range(most_runs):
        world.let_lease_run_out()
        world.let_messages_come()
        runs.append(Run(world, nursery, f"{name}-last-{number}").play())
        watch(world, nursery, name)
        has_more = world.waiting_messages() or world.keys(world.final, "batches/pending/")
        if "failed" not in runs[-1].states.values() and not has_more:
            break
    return runs


def watch(world: World, nursery: Nursery, name: str) -> Ended:
    """The watchdog's look."""
    return nursery.carry_out(Order("stop_idle_model", world.settings, name, {}))


def compact(world: World, nursery: Nursery, name: str, kill: Kill | None = None) -> Ended:
    """What has been published so far becomes one file."""
    return nursery.carry_out(Order("compact", world.settings, name, {}, kill=kill))
