"""A token bucket: so many calls a second, saved up for at most one second."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class TokenBucket:
    """Starts full. Times are epoch seconds."""

    tokens: float | None = None
    updated_at: float = 0.0

    def take(self, now: float, rate: float) -> bool:
        """Take a token at `rate` a second; False when there is none. A burst is what a second gives, at least one call."""
        burst = max(1.0, rate)
        if self.tokens is None:
            self.tokens = burst
        else:
            self.tokens = min(burst, self.tokens + max(0.0, now - self.updated_at) * rate)
        self.updated_at = now
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True
