"""Calls as fast as the model serves them, whatever that is: nobody publishes it, it changes, and others share it.

The service lets calls through as a token bucket does: tokens come at a rate, at most a second's worth is saved up, and a
call that finds none is throttled. So a throttled call says more than "too fast": the bucket was empty just now. What was
let in between two such moments is exactly what flowed in, and that, over the time between, *is* the service's rate.

The pacer measures in this way and calls a little faster than it has measured: the bucket stays empty, so nothing that
the model could serve is wasted, and every 50th call or so is refused, which is the next measurement. A refusal that is
overdue means that the service has grown, or that others have left: then it goes up until one comes. Refusals in close
succession mean the opposite: it goes down at once, and measures.

Processes that share a model need not talk: each measures its own part of what flows in. A fast one goes faster by a
fixed number of calls a second rather than by a share, so that parts drift together.

Measuring what was delivered instead of guessing from losses is the idea of BBR (Cardwell et al., "BBR: Congestion-Based
Congestion Control", ACM Queue 14(5), 2016); adding a fixed amount is Chiu and Jain's condition for fairness ("Analysis
of the Increase and Decrease Algorithms for Congestion Avoidance in Computer Networks", 1989). That AWS throttles by
token buckets it says for EC2: https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

# Where nothing is known: about what one inference unit was reported to serve (2.8 to 16.7 a second).
FIRST_RATE: Final = 4.0
SLOWEST_RATE: Final = 0.2
# While nothing has been refused yet, as long as answers come.
DOUBLING_SECONDS: Final = 0.2
# What a bucket may hold: calls let in from a full one are more than flowed in meanwhile.
BURST_SECONDS: Final = 1.0
# A measurement needs so many calls, else it is as coarse as a call.
MEASURED_CALLS: Final = 10
# One refusal is wanted in so many calls or seconds, whichever is longer. Once it is overdue, the rate grows: the faster,
# the longer it is overdue.
SECONDS_BETWEEN_REFUSALS: Final = 4.0
GROWTH_A_SECOND: Final = 1.0
GROWTH_A_CALL: Final = 0.08
# After growing, the measurement is a lower bound (a bucket smaller than thought has run over), and the refused rate an
# upper one: go so far from the first to the second.
DOUBT: Final = 0.2
# Refusals sooner than they can be measured.
CUT: Final = 0.8
# Without a measurement, never less than this part of what went well before: a storm in which everything is refused
# must not leave the rate crawling for minutes.
LEAST_PART: Final = 0.125
RECOVERY_A_SECOND: Final = 0.15
RECOVERY_A_CALL: Final = 0.05
MARK_SECONDS: Final = 0.2
MARKS: Final = 40
# A thread that wakes late may make up for this much, so that late wakers do not add up to a slower rate.
CATCH_UP_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Patience:
    """When a refusal is overdue (in refusals that should have come), and how much later growth is at its fastest."""

    calls_between_refusals: int
    overdue: float
    haste: float


# One's own refusals come regularly; where others call too, they take them from one another, at random.
ALONE: Final = Patience(calls_between_refusals=48, overdue=1.1, haste=0.25)
SHARING: Final = Patience(calls_between_refusals=55, overdue=1.3, haste=1.0)


class Pacer:
    """Hands out moments to call at, and learns from how the calls went.

    :param monotonic: seconds, as ``time.monotonic``.
    :param sleep: as ``time.sleep``; may return early once nobody wants to call any more.
    :param first_rate: calls a second to begin with, from what was learned earlier.
    :param callers: how many are known to share the model, this one included.
    """

    def __init__(
        self,
        *,
        monotonic: Callable[[], float],
        sleep: Callable[[float], object],
        first_rate: float | None = None,
        callers: int = 1,
    ) -> None:
        self._monotonic = monotonic
        self._sleep = sleep
        self._lock = threading.Lock()
        now = monotonic()
        self._rate = max(first_rate or FIRST_RATE, SLOWEST_RATE)
        self._callers = callers
        self._is_doubling = not first_rate
        self._doubled_at = now
        # What went well before the last refusals that were too close to measure: the way back is short.
        self._before = self._rate
        self._next_call = self._grown_at = self._cut_at = now
        self._since_refusal = 0
        # Calls let in since `_since`; at that moment the bucket was empty, once one call has been refused.
        self._since = now
        self._let_in = 0
        self._was_empty = False
        self._marks: deque[tuple[float, int]] = deque([(now, 0)], maxlen=MARKS)

    @property
    def rate(self) -> float:
        """Calls a second at the moment."""
        return self._rate

    @property
    def is_up_to_speed(self) -> bool:
        """Whether the rate has been measured, or was known from the start."""
        return not self._is_doubling

    def wait(self) -> float:
        """Return when the next call may be made: the moment, which ``served`` or ``throttled`` is to be told.

        One thread waits; the others tell.
        """
        delay = self._next_call - self._monotonic()
        if delay > 0:
            self._sleep(delay)
        with self._lock:
            now = self._monotonic()
            # A rate that is not used, for want of threads, does not grow: it would say nothing of the service.
            if delay > 0:
                self._grow(now)
            self._grown_at = now
            self._let_in += 1
            self._since_refusal += 1
            if now - self._marks[-1][0] >= MARK_SECONDS:
                self._marks.append((now, self._let_in))
            self._next_call = max(self._next_call, now - CATCH_UP_SECONDS) + 1 / self._rate
            return now

    def share(self, callers: int) -> None:
        """So many call from now on, this one included: what those used who have left is there for the others."""
        with self._lock:
            if callers < self._callers:
                now = self._monotonic()
                if callers == 1:
                    # All of it, however unequal the parts were: look for it as in the beginning.
                    self._is_doubling, self._doubled_at = True, now
                else:
                    self._rate = self._before = self._rate * self._callers / callers
                    self._measure_from(now)
            self._callers = callers

    def served(self, called_at: float) -> None:
        """The service took a call."""
        with self._lock:
            now = self._monotonic()
            if self._is_doubling and called_at >= self._doubled_at and now - self._doubled_at >= DOUBLING_SECONDS:
                self._rate *= 2
                self._doubled_at = now

    def throttled(self, called_at: float) -> None:
        """The service refused a call as too many. Calls made before the last refusal was known are no news."""
        with self._lock:
            if called_at < self._cut_at:
                return
            now = self._monotonic()
            self._let_in -= 1
            if self._is_doubling or (self._was_empty and self._let_in >= MEASURED_CALLS):
                self._set(self._measured(now))
                self._measure_from(now)
            else:
                if not self._was_empty:
                    self._measure_from(now)
                self._before = max(self._before, self._rate)
                self._rate = max(self._rate * CUT, self._before * LEAST_PART, SLOWEST_RATE)
            self._since_refusal = 0
            self._cut_at = self._grown_at = now

    def _set(self, measured: float) -> None:
        refused = self._rate
        if not self._is_doubling and refused > self._before:
            measured += DOUBT * max(0.0, refused - measured)
        measured = max(measured, refused * LEAST_PART, SLOWEST_RATE)
        self._rate = measured * (1 + 1 / self._calls_between_refusals(measured))
        # The first measurement, from a full bucket, is the coarsest: the way back up stays open.
        self._before = max(refused, self._rate) if self._is_doubling else self._rate
        self._is_doubling = False

    def _grow(self, now: float) -> None:
        elapsed = min(now - self._grown_at, 1.0)
        if self._rate < self._before:
            faster = self._rate * min(math.exp(RECOVERY_A_SECOND * elapsed), 1 + RECOVERY_A_CALL)
            self._rate = min(faster, self._before)
        elif not self._is_doubling:
            overdue = self._since_refusal / self._calls_between_refusals(self._before) - self._patience.overdue
            if overdue > 0:
                haste = min(1.0, overdue / self._patience.haste)
                self._rate *= min(math.exp(GROWTH_A_SECOND * haste * elapsed), 1 + GROWTH_A_CALL * haste)

    def _measured(self, now: float) -> float:
        """The least rate that the service has, from what it let in: the best of several lower bounds.

        From one empty moment to the next, all that flowed in was let in, unless the bucket ran over meanwhile; in any
        stretch, no more can have been let in than flowed in and a full bucket held.
        """
        bounds = [(self._let_in - count) / (now - moment + BURST_SECONDS) for moment, count in self._marks]
        if self._was_empty and now > self._since:
            bounds.append(self._let_in / (now - self._since))
        return max(bounds)

    def _measure_from(self, now: float) -> None:
        self._since, self._let_in, self._was_empty = now, 0, True
        self._marks.clear()
        self._marks.append((now, 0))

    @property
    def _patience(self) -> Patience:
        return ALONE if self._callers == 1 else SHARING

    def _calls_between_refusals(self, rate: float) -> float:
        return max(self._patience.calls_between_refusals, SECONDS_BETWEEN_REFUSALS * rate)
