"""Side by side, but never far ahead: results in order, a bounded number of them in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_order(work: Callable[[T], R], items: Iterable[T], *, threads: int) -> Generator[R, None, None]:
    """``work`` on each item, ``threads`` at a time, results in order; the first error ends it.

    Starts nothing new while nobody takes results.
    """
    rest = iter(items)
    with ThreadPoolExecutor(max_workers=threads) as pool:
        begun: deque[Future[R]] = deque(pool.submit(work, item) for item in islice(rest, threads))
        try:
            while begun:
                result = begun.popleft().result()
                begun.extend(pool.submit(work, item) for item in islice(rest, 1))
                yield result
        finally:
            for future in begun:
                future.cancel()
