from __future__ import annotations

import heapq
import itertools
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
    """A token bucket, as the model is: so many calls a second, and a little more in a burst."""

    clock: Clock
    rate: float
    burst: float = 2.0
    tokens: float = 2.0
    at: float = 1_000.0
    answered: list[tuple[float, bool]] = field(default_factory=list)
    under_way: list[tuple[float, int, bool]] = field(default_factory=list)

    def call(self) -> bool:
        """Whether the call is served."""
        self.tokens = min(self.burst, self.tokens + (self.clock.now - self.at) * self.rate)
        self.at = self.clock.now
        served = self.tokens >= 1
        self.tokens -= served
        self.answered.append((self.clock.now, served))
        return served

    def between(self, start: float, end: float) -> tuple[float, float]:
        """Served calls a second, and the share of calls that was throttled, in that time."""
        answers = [served for at, served in self.answered if 1_000 + start <= at < 1_000 + end]
        return sum(answers) / (end - start), 1 - sum(answers) / len(answers)


def drive(pacer: Pacer, service: Service, *, until: float, latency: float = 0.15) -> None:
    """Enough callers to use every moment that the pacer hands out, one event after the other."""
    clock = service.clock
    answers, number = service.under_way, itertools.count(len(service.answered))
    while clock.now < 1_000 + until:
        pacer.wait()
        heapq.heappush(answers, (clock.now + latency, next(number), service.call()))
        while answers and answers[0][0] <= clock.now:
            _, _, served = heapq.heappop(answers)
            (pacer.served if served else pacer.throttled)()


def started(rate: float, first_rate: float | None = None) -> tuple[Pacer, Service]:
    clock = Clock()
    return Pacer(monotonic=clock.monotonic, sleep=clock.sleep, first_rate=first_rate), Service(clock, rate)


@pytest.mark.parametrize("rate", [2.8, 5.0, 16.7, 25.0, 50.0])
def test_it_finds_the_rate_that_is_served_and_stays_just_below_throttling(rate: float) -> None:
    pacer, service = started(rate)
    drive(pacer, service, until=180)
    served, throttled = service.between(20, 180)
    assert served > 0.95 * rate
    assert throttled < 0.03


@pytest.mark.parametrize("rate", [5.0, 50.0])
def test_it_is_near_the_rate_within_seconds(rate: float) -> None:
    pacer, service = started(rate)
    drive(pacer, service, until=15)
    served, _ = service.between(5, 15)
    assert served > 0.85 * rate


@pytest.mark.parametrize("rate", [5.0, 25.0])
def test_a_rate_learned_before_is_served_from_the_first_second(rate: float) -> None:
    pacer, service = started(rate, first_rate=rate)
    drive(pacer, service, until=60)
    served, throttled = service.between(0, 60)
    assert served > 0.93 * rate
    assert throttled < 0.07


@pytest.mark.parametrize(("before", "after"), [(25.0, 5.0), (5.0, 10.0)])
def test_it_follows_a_service_that_changes(before: float, after: float) -> None:
    pacer, service = started(before)
    drive(pacer, service, until=60)
    service.rate = after
    drive(pacer, service, until=240)
    served, throttled = service.between(180, 240)
    assert served > 0.9 * after
    assert throttled < 0.05


def test_a_learned_rate_that_is_far_too_high_is_given_up_at_once() -> None:
    pacer, service = started(5.0, first_rate=50.0)
    drive(pacer, service, until=60)
    served, throttled = service.between(10, 60)
    assert served > 0.9 * 5
    assert throttled < 0.05


@pytest.mark.parametrize("rate", [5.0, 25.0, 50.0])
@pytest.mark.parametrize("seconds", [2, 6, 30, 600])
def test_it_is_soon_back_after_a_storm_in_which_everything_was_refused(rate: float, seconds: float) -> None:
    pacer, service = started(rate)
    drive(pacer, service, until=60)
    service.rate, service.tokens = 0.0, 0.0
    drive(pacer, service, until=60 + seconds)
    service.rate = rate
    drive(pacer, service, until=300 + seconds)
    served, throttled = service.between(260 + seconds, 300 + seconds)
    assert served > 0.8 * rate
    assert throttled < 0.05


def test_it_never_stands_still_however_much_is_refused() -> None:
    pacer, service = started(0.0)
    service.tokens = 0
    drive(pacer, service, until=600)
    assert pacer.rate == SLOWEST_RATE
    service.rate = 5.0
    drive(pacer, service, until=800)
    served, _ = service.between(750, 800)
    assert served > 0.8 * 5


def test_a_rate_that_nobody_uses_does_not_grow() -> None:
    clock = Clock()
    pacer = Pacer(monotonic=clock.monotonic, sleep=clock.sleep)
    for _ in range(100):
        pacer.wait()
        clock.now += 10
        pacer.served()
    assert pacer.rate == FIRST_RATE


@pytest.mark.parametrize("first_rate", [None, 0.0])
def test_where_nothing_is_known_it_begins_slowly(first_rate: float | None) -> None:
    assert started(5.0, first_rate=first_rate)[0].rate == FIRST_RATE


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
