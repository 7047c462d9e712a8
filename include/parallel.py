"""The one place where the stages run things side by side: bounded threads, results in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_parallel(work: Callable[[T], R], items: Iterable[T], *, threads: int) -> list[R]:
    """``work`` on each item, results in order; the first error is raised once all have been tried."""
    with ThreadPoolExecutor(max_workers=threads) as pool:
        return list(pool.map(work, items))


def in_slices(items: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    """Tuples of ``size`` items, the last one shorter."""
    rest = iter(items)
    while some := tuple(islice(rest, size)):
        yield some
