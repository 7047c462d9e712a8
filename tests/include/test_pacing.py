from __future__ import annotations

import heapq
import itertools
import math
import random
import threading
from dataclasses import dataclass, field

import pytest

from include.pacing import CATCH_UP_SECONDS, FIRST_RATE, SLOWEST_RATE, Pacer


@dataclass
class Clock:
    """Time that passes only when somebody sleeps."""

    now: float = 1_000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


@dataclass
class Service:
    """A token bucket, as the model is: so many calls a second, and so many seconds' worth in a burst."""

    clock: Clock
    rate: float
    burst_seconds: float = 1.0
    tokens: float = 0.0
    at: float = 1_000.0
    flowed: float = 0.0
    answered: list[tuple[float, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tokens = self.flowed = max(1.0, self.rate * self.burst_seconds)

    def flow(self) -> None:
        self.flowed += (self.clock.now - self.at) * self.rate
        self.tokens = min(
            max(1.0, self.rate * self.burst_seconds), self.tokens + (self.clock.now - self.at) * self.rate
        )
        self.at = self.clock.now

    def call(self) -> bool:
        """Whether the call is served."""
        self.flow()
        served = self.tokens >= 1
        self.tokens -= served
        self.answered.append((self.clock.now, served))
        return served

    def between(self, start: float, end: float) -> tuple[float, float]:
        """Served calls a second, and the share of calls that was throttled, in that time."""
        answers = [served for at, served in self.answered if 1_000 + start <= at < 1_000 + end]
        return sum(answers) / (end - start), 1 - sum(answers) / len(answers)

    @property
    def utilisation(self) -> float:
        """What was served of all that could have been, the first burst included."""
        self.flow()
        return sum(served for _, served in self.answered) / self.flowed


class Process:
    """One process of several that share a service, with callers enough for every moment that its pacer hands out."""

    def __init__(
        self, service: Service, first_rate: float | None = None, latency: float = 0.3, callers: int = 1
    ) -> None:
        self.clock, self.service, self.latency = service.clock, service, latency
        self.pacer = Pacer(
            monotonic=self.clock.monotonic, sleep=lambda seconds: None, first_rate=first_rate, callers=callers
        )
        self.next_call = self.clock.now
        self.under_way: list[tuple[float, int, float, bool]] = []
        self.random = random.Random(1)
        self.served = 0

    @property
    def next(self) -> float:
        return min(self.next_call, self.under_way[0][0]) if self.under_way else self.next_call

    def step(self) -> None:
        if self.under_way and self.under_way[0][0] <= self.next_call:
            _, _, called_at, served = heapq.heappop(self.under_way)
            (self.pacer.served if served else self.pacer.throttled)(called_at)
            return
        # The pacer waits a moment ahead of its own clock, as it would asleep.
        self.clock.now -= 1e-9
        called_at = self.pacer.wait()
        self.clock.now += 1e-9
        served = self.service.call()
        self.served += served
        latency = self.latency * math.exp(self.random.gauss(0, 0.5)) if served else self.random.uniform(0.02, 0.1)
        heapq.heappush(self.under_way, (self.clock.now + latency, len(self.service.answered), called_at, served))
        self.next_call = max(self.pacer._next_call, self.clock.now)


def drive(*processes: Process, until: float) -> None:
    """One event after the other, in the order of time."""
    clock = processes[0].clock
    while True:
        process = min(processes, key=lambda each: each.next)
        if process.next >= 1_000 + until:
            clock.now = 1_000 + until
            return
        clock.now = max(clock.now, process.next)
        process.step()


def started(rate: float, first_rate: float | None = None, latency: float = 0.3) -> tuple[Process, Service]:
    service = Service(Clock(), rate)
    return Process(service, first_rate, latency), service


@pytest.mark.parametrize("rate", [2.8, 5.0, 16.7, 25.0, 50.0, 250.0])
def test_it_finds_what_is_served_and_wastes_next_to_nothing_of_it(rate: float) -> None:
    process, service = started(rate)
    drive(process, until=max(90, 400 / rate))
    assert service.utilisation > 0.97
    _, throttled = service.between(0, 90)
    assert throttled < 0.04


@pytest.mark.parametrize("rate", [5.0, 50.0, 250.0])
def test_it_is_near_the_rate_within_seconds(rate: float) -> None:
    process, service = started(rate)
    drive(process, until=15)
    served, _ = service.between(4, 15)
    assert served > 0.93 * rate


@pytest.mark.parametrize("rate", [5.0, 25.0])
def test_a_rate_learned_before_is_served_from_the_first_second(rate: float) -> None:
    process, service = started(rate, first_rate=rate)
    assert process.pacer.is_up_to_speed
    drive(process, until=60)
    served, throttled = service.between(0, 20)
    assert served > 0.97 * rate
    assert throttled < 0.06


@pytest.mark.parametrize("latency", [0.1, 1.0, 3.0])
def test_slow_answers_do_not_mislead_it(latency: float) -> None:
    process, service = started(25.0, latency=latency)
    drive(process, until=120)
    served, throttled = service.between(30, 120)
    assert served > 0.98 * 25
    assert throttled < 0.03


@pytest.mark.parametrize(("before", "after", "least"), [(25.0, 8.0, 0.98), (10.0, 30.0, 0.93), (5.0, 10.0, 0.93)])
def test_it_follows_a_service_that_changes(before: float, after: float, least: float) -> None:
    process, service = started(before)
    drive(process, until=60)
    service.flow()
    service.rate = after
    drive(process, until=120)
    assert service.utilisation > least
    served, throttled = service.between(80, 120)
    assert served > 0.97 * after
    assert throttled < 0.05


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("rate", [25.0, 50.0])
def test_processes_that_share_a_model_need_not_talk(rate: float, count: int) -> None:
    service = Service(Clock(), rate)
    processes = [Process(service) for _ in range(count)]
    drive(*processes, until=120)
    assert service.utilisation > 0.97
    _, throttled = service.between(15, 120)
    assert throttled < 0.05
    shares = [process.served for process in processes]
    assert min(shares) > 0.3 * sum(shares) / count


def test_what_others_leave_is_taken_up() -> None:
    service = Service(Clock(), 25.0)
    processes = [Process(service) for _ in range(2)]
    drive(*processes, until=60)
    drive(processes[0], until=120)
    served, _ = service.between(75, 120)
    assert served > 0.97 * 25


def test_it_is_taken_up_within_seconds_by_one_that_knows_that_they_have_left() -> None:
    service = Service(Clock(), 5.0)
    processes = [Process(service, callers=2) for _ in range(2)]
    drive(*processes, until=60)
    processes[0].pacer.share(1)
    drive(processes[0], until=120)
    served, throttled = service.between(63, 80)
    assert served > 0.93 * 5
    assert throttled < 0.12


def test_those_who_know_that_one_has_left_divide_its_part() -> None:
    service = Service(Clock(), 25.0)
    processes = [Process(service, callers=4) for _ in range(4)]
    drive(*processes, until=60)
    for process in processes[:3]:
        process.pacer.share(3)
    drive(*processes[:3], until=120)
    served, throttled = service.between(62, 75)
    assert served > 0.95 * 25
    assert throttled < 0.12


def test_a_learned_rate_that_is_far_too_high_is_given_up_at_once() -> None:
    process, service = started(5.0, first_rate=50.0)
    drive(process, until=60)
    served, throttled = service.between(5, 60)
    assert served > 0.95 * 5
    assert throttled < 0.1


def test_a_bucket_that_holds_less_than_thought_costs_little() -> None:
    service = Service(Clock(), 25.0, burst_seconds=0.2)
    process = Process(service)
    drive(process, until=120)
    assert service.utilisation > 0.93


@pytest.mark.parametrize("rate", [5.0, 25.0, 50.0])
@pytest.mark.parametrize("seconds", [2, 6, 30, 600])
def test_it_is_soon_back_after_a_storm_in_which_everything_was_refused(rate: float, seconds: float) -> None:
    process, service = started(rate)
    drive(process, until=60)
    service.flow()
    service.rate, service.tokens = 0.0, 0.0
    drive(process, until=60 + seconds)
    service.flow()
    service.rate = rate
    drive(process, until=120 + seconds)
    served, throttled = service.between(80 + seconds, 120 + seconds)
    assert served > 0.88 * rate
    assert throttled < 0.05


def test_it_never_stands_still_however_much_is_refused() -> None:
    process, service = started(0.0)
    service.tokens = 0
    drive(process, until=600)
    assert process.pacer.rate >= SLOWEST_RATE
    service.flow()
    service.rate = 5.0
    drive(process, until=800)
    served, _ = service.between(720, 800)
    assert served > 0.9 * 5


def test_a_rate_that_nobody_uses_does_not_grow() -> None:
    clock = Clock()
    pacer = Pacer(monotonic=clock.monotonic, sleep=clock.sleep, first_rate=10.0)
    for _ in range(1_000):
        called_at = pacer.wait()
        clock.now += 1
        pacer.served(called_at)
    assert pacer.rate == 10.0


@pytest.mark.parametrize("first_rate", [None, 0.0])
def test_where_nothing_is_known_it_begins_slowly(first_rate: float | None) -> None:
    assert started(5.0, first_rate=first_rate)[0].pacer.rate == FIRST_RATE


def test_moments_are_evenly_spaced_and_a_late_caller_makes_up_little() -> None:
    clock = Clock()
    pacer = Pacer(monotonic=clock.monotonic, sleep=clock.sleep, first_rate=10)
    moments = []
    for _ in range(5):
        pacer.wait()
        moments.append(clock.now)
    assert [b - a for a, b in itertools.pairwise(moments)] == pytest.approx([0.1] * 4)
    clock.now += 60
    at_once = 0
    while pacer._next_call <= clock.now:
        pacer.wait()
        at_once += 1
    assert at_once <= 1 + CATCH_UP_SECONDS * 10


def test_nobody_waits_once_the_work_is_stopped() -> None:
    stop = threading.Event()
    pacer = Pacer(monotonic=lambda: 0.0, sleep=stop.wait, first_rate=SLOWEST_RATE)
    pacer.wait()
    waiting = threading.Thread(target=pacer.wait)
    waiting.start()
    stop.set()
    waiting.join(timeout=5)
    assert not waiting.is_alive()
