from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from include.archive.ahead import in_order


def test_results_come_in_order_whoever_is_first() -> None:
    second_is_done = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert second_is_done.wait(10)
        if number == 1:
            second_is_done.set()
        return number * 10

    assert list(in_order(work, range(5), threads=2)) == [0, 10, 20, 30, 40]


def test_nothing_is_begun_that_is_far_from_being_taken() -> None:
    asked: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1_000):
            asked.append(number)
            yield number

    results = in_order(abs, items(), threads=3)
    assert next(results) == 0
    assert len(asked) <= 4
    results.close()
    assert len(asked) <= 4


def test_the_first_error_ends_it() -> None:
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        return 1 // (2 - number)

    results = in_order(work, range(1_000), threads=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert len(begun) <= 5
