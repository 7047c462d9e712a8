"""Calls as fast as the model serves them, whatever that is: nobody publishes it, and it changes.

The idea is TCP's: double the rate until the service says "too fast", then take the rate that it really served and
probe upwards from there in small steps (V. Jacobson, "Congestion Avoidance and Control", SIGCOMM 1988, with the
delivery rate instead of a halved window, as BBR does: Cardwell et al., ACM Queue 14(5), 2016). Processes that share a
model need not talk to each other: each one's throttled calls tell it to make room.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Final

# Where nothing is known: about what one inference unit was reported to serve (2.8 to 16.7 a second).
FIRST_RATE: Final = 4.0
SLOWEST_RATE: Final = 0.2
DOUBLING: Final = 2.0
DOUBLING_INTERVAL_SECONDS: Final = 0.5
PROBE: Final = 1.02
PROBE_INTERVAL_SECONDS: Final = 2.0
INTERVAL_CALLS: Final = 4
# A thread that wakes late may make up for this much, so that late wakers do not add up to a slower rate.
CATCH_UP_SECONDS: Final = 0.05


class Pacer:
    """Hands out moments to call at, and learns from how the calls went. Shared by the threads of one process.

    :param monotonic: seconds, as ``time.monotonic``.
    :param sleep: as ``time.sleep``; may return early once nobody wants to call any more.
    :param first_rate: calls a second to begin with, from what was learned earlier.
    """

    def __init__(
        self, *, monotonic: Callable[[], float], sleep: Callable[[float], object], first_rate: float | None = None
    ) -> None:
        self._monotonic = monotonic
        self._sleep = sleep
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._rate = max(first_rate or FIRST_RATE, SLOWEST_RATE)
        # The rate up to which doubling is safe: what was served before, unlimited where nothing is known.
        self._safe = first_rate or math.inf
        self._next_call = monotonic()
        self._since = monotonic()
        self._served = self._throttled = 0

    @property
    def rate(self) -> float:
        """Calls a second at the moment."""
        return self._rate

    @property
    def _is_doubling(self) -> bool:
        return self._rate * DOUBLING < self._safe

    def wait(self) -> None:
        """Return when the next call may be made. One caller waits for its moment, the others for their turn."""
        with self._turn:
            delay = self._next_call - self._monotonic()
            if delay > 0:
                self._sleep(delay)
            self._next_call = max(self._next_call, self._monotonic() - CATCH_UP_SECONDS) + 1 / self._rate

    def served(self) -> None:
        """The service took a call."""
        self._count(served=1)

    def throttled(self) -> None:
        """The service refused a call as too many."""
        self._count(throttled=1)

    def _count(self, *, served: int = 0, throttled: int = 0) -> None:
        with self._lock:
            self._served += served
            self._throttled += throttled
            elapsed = self._monotonic() - self._since
            interval = DOUBLING_INTERVAL_SECONDS if self._is_doubling else PROBE_INTERVAL_SECONDS
            if elapsed >= interval and self._served + self._throttled >= INTERVAL_CALLS:
                self._adjust(elapsed)

    def _adjust(self, elapsed: float) -> None:
        delivered = self._served / elapsed
        if self._throttled:
            # Refused everything says nothing of how much is served: a storm must not leave the rate crawling for minutes.
            if delivered:
                known = 0.0 if self._safe == math.inf else self._safe / DOUBLING
                self._safe = max(known, self._rate, FIRST_RATE)
            # A moment in which the others took all there was must not leave this one crawling: never less than half.
            self._rate = max(min(self._rate, delivered), self._rate / DOUBLING, SLOWEST_RATE)
        elif delivered >= self._rate / DOUBLING:
            # Grow only while the calls are really being made: a rate that nobody uses says nothing about the service.
            self._rate *= DOUBLING if self._is_doubling else PROBE
        self._since = self._monotonic()
        self._served = self._throttled = 0
