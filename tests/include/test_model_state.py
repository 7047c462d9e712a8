from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from include.errors import LeaseHeldError, LeaseLostError, TerminalError, TransientError
from include.model_state import Hold, Lease, ModelState, ModelStateStore
from include.parallel import in_parallel
from include.settings import Settings
from tests.include.memory_s3 import MemoryS3
from tests.include.samples import FINAL, NOW

KEY = "state/model/shop/shop.v7.json"
MINE, THEIRS = "label_images/manual__1", "label_images/scheduled__1"


def later(minutes: float) -> Any:
    return NOW + timedelta(minutes=minutes)


@pytest.fixture
def store(s3: MemoryS3, settings: Settings) -> ModelStateStore:
    return ModelStateStore.of(s3, FINAL, settings.model)


def test_it_lies_under_project_and_version(store: ModelStateStore) -> None:
    assert store.key == KEY


def test_nothing_known_yet(store: ModelStateStore) -> None:
    assert store.read() == ModelState()


def test_json_and_back() -> None:
    state = ModelState(
        Lease(MINE, NOW, later(5)), Hold("ann", later(60)), 12.5, 0.3, 700.0, {"CAP": 98.8, "étiquette": 1.0}
    )
    assert ModelState.from_json(state.to_json()) == state
    assert ModelState.from_json(ModelState().to_json()) == ModelState()


class TestHold:
    def test_it_expires_by_itself(self, store: ModelStateStore) -> None:
        store.set_hold(Hold("ann", later(60)))
        assert store.read().is_held(later(59))
        assert not store.read().is_held(later(60))

    def test_it_can_be_ended(self, store: ModelStateStore) -> None:
        store.set_hold(Hold("ann", later(60)))
        store.end_hold(now=later(5))
        assert store.read().hold == Hold("ann", later(5))
        assert not store.read().is_held(later(5))

    def test_ending_what_nobody_holds_changes_nothing(self, store: ModelStateStore) -> None:
        store.end_hold(now=NOW)
        assert store.read() == ModelState()

    def test_it_says_who_and_until_when(self) -> None:
        assert str(Hold("ann", later(60))) == "ann holds it until 2026-03-01 13:00 UTC"


class TestLease:
    def test_the_first_takes_it_and_the_second_is_told_who_has_it(self, store: ModelStateStore) -> None:
        assert store.acquire(MINE, minutes=10, now=NOW) == Lease(MINE, NOW, later(10))
        with pytest.raises(LeaseHeldError, match=r"manual__1 until 12:10:00 UTC"):
            store.acquire(THEIRS, minutes=10, now=later(9))
        assert store.read().lease == Lease(MINE, NOW, later(10))

    def test_who_has_it_may_take_it_again(self, store: ModelStateStore) -> None:
        store.acquire(MINE, minutes=50, now=NOW)
        assert store.acquire(MINE, minutes=10, now=later(5)) == Lease(MINE, NOW, later(15))

    def test_it_expires_to_the_second(self, store: ModelStateStore) -> None:
        store.acquire(MINE, minutes=10, now=NOW)
        with pytest.raises(LeaseHeldError):
            store.acquire(THEIRS, minutes=10, now=later(10) - timedelta(seconds=1))
        assert store.acquire(THEIRS, minutes=10, now=later(10)).holder == THEIRS

    def test_renewing_writes_only_when_half_the_time_is_gone(self, store: ModelStateStore, s3: MemoryS3) -> None:
        store.acquire(MINE, minutes=10, now=NOW)
        s3.calls.clear()
        assert store.renew(MINE, minutes=10, now=later(4)).expires_at == later(10)
        assert [operation for operation, _, _ in s3.calls] == ["get_object"]
        assert store.renew(MINE, minutes=10, now=later(6)).expires_at == later(16)

    def test_a_lease_made_long_for_a_start_is_shortened_to_what_a_crash_may_cost(self, store: ModelStateStore) -> None:
        store.acquire(MINE, minutes=50, now=NOW)
        assert store.renew(MINE, minutes=10, now=later(1)).expires_at == later(11)

    def test_a_lease_that_ran_out_unnoticed_is_renewed(self, store: ModelStateStore) -> None:
        store.acquire(MINE, minutes=10, now=NOW)
        assert store.renew(MINE, minutes=10, now=later(30)).expires_at == later(40)

    @pytest.mark.parametrize("taken", [True, False])
    def test_a_lost_lease_is_terminal(self, store: ModelStateStore, taken: bool) -> None:
        store.acquire(MINE, minutes=10, now=NOW)
        store.release(MINE)
        if taken:
            store.acquire(THEIRS, minutes=10, now=NOW)
        with pytest.raises(LeaseLostError, match="scheduled__1 does" if taken else "nobody does") as raised:
            store.renew(MINE, minutes=10, now=later(1))
        assert isinstance(raised.value, TerminalError)

    def test_giving_it_back_lets_the_next_in_at_once(self, store: ModelStateStore) -> None:
        store.acquire(MINE, minutes=10, now=NOW)
        store.release(MINE)
        assert store.acquire(THEIRS, minutes=10, now=NOW).holder == THEIRS

    def test_nobody_gives_back_what_another_has(self, store: ModelStateStore) -> None:
        store.acquire(MINE, minutes=10, now=NOW)
        store.release(THEIRS)
        assert store.read().lease == Lease(MINE, NOW, later(10))

    def test_releasing_twice_is_no_error(self, store: ModelStateStore) -> None:
        store.release(MINE)
        store.acquire(MINE, minutes=10, now=NOW)
        store.release(MINE)
        store.release(MINE)
        assert store.read().lease is None

    def test_a_held_lease_is_worth_a_retry(self) -> None:
        assert issubclass(LeaseHeldError, TransientError)

    def test_what_was_learned_outlives_the_lease(self, store: ModelStateStore) -> None:
        store.acquire(MINE, minutes=10, now=NOW)
        store.update(lambda state: state.learn(images_per_second=7.0, start_seconds=600))
        store.release(MINE)
        assert store.read() == ModelState(images_per_second=7.0, start_seconds=600)


class TestRaces:
    def racing(self, store: ModelStateStore, contenders: int) -> list[str]:
        """Holders that took the lease when all began at the same moment."""
        start = threading.Barrier(contenders)

        def contend(number: int) -> str:
            start.wait()
            try:
                return store.acquire(f"run-{number}", minutes=10, now=NOW).holder
            except LeaseHeldError:
                return ""

        return [holder for holder in in_parallel(contend, range(contenders), threads=contenders) if holder]

    def test_exactly_one_of_many_gets_the_lease(self, store: ModelStateStore) -> None:
        for _ in range(20):
            assert len(self.racing(store, 8)) == 1
            store.release(store.read().lease.holder)  # type: ignore[union-attr]

    def test_exactly_one_of_many_gets_an_expired_lease(self, store: ModelStateStore) -> None:
        store.acquire("dead", minutes=10, now=later(-60))
        (winner,) = self.racing(store, 8)
        lease = store.read().lease
        assert lease is not None
        assert lease.holder == winner

    def test_exactly_one_of_many_gets_it_on_local_aws(self, aws_s3: Any, aws_settings: Settings) -> None:
        store = ModelStateStore.of(aws_s3, aws_settings.final_bucket, aws_settings.model)
        for _ in range(3):
            (winner,) = self.racing(store, 6)
            lease = store.read().lease
            assert lease is not None
            assert lease.holder == winner
            store.release(winner)

    def test_no_change_of_many_writers_is_lost(self, store: ModelStateStore) -> None:
        def learn(label: int) -> None:
            store.update(lambda state: state.with_thresholds(state.thresholds | {str(label): 1.0}))

        in_parallel(learn, range(8), threads=8)
        assert len(store.read().thresholds) == 8

    def test_a_writer_that_never_wins_gives_up(self, s3: MemoryS3, settings: Settings) -> None:
        class Contended(MemoryS3):
            def put_object(self, **call: Any) -> dict[str, Any]:
                super().put_object(Bucket=FINAL, Key=KEY, Body=ModelState(start_seconds=len(self.calls)).to_json())
                return super().put_object(**call)

        with pytest.raises(TransientError, match="being written by others"):
            ModelStateStore.of(Contended(FINAL), FINAL, settings.model).acquire(MINE, minutes=1, now=NOW)

    def test_an_update_that_changes_nothing_writes_nothing(self, store: ModelStateStore, s3: MemoryS3) -> None:
        store.acquire(MINE, minutes=1, now=NOW)
        before = len(s3.calls)
        store.update(lambda state: state)
        assert [operation for operation, _, _ in s3.calls[before:]] == ["get_object"]


class TestLearning:
    def test_the_first_figures_are_taken_and_later_ones_count_for_half(self) -> None:
        state = ModelState().learn(images_per_second=8.0, start_seconds=600.0)
        assert (state.images_per_second, state.start_seconds) == (8.0, 600.0)
        state = state.learn(images_per_second=4.0, start_seconds=None)
        assert (state.images_per_second, state.start_seconds) == (6.0, 600.0)

    def test_nothing_measured_changes_nothing(self) -> None:
        state = ModelState(images_per_second=8.0)
        assert state.learn(images_per_second=None, start_seconds=None) == state

    @pytest.mark.parametrize("thresholds", [{}, {"CAP": 98.8}])
    def test_known_thresholds_stay_where_none_could_be_read(self, thresholds: dict[str, float]) -> None:
        state = ModelState(thresholds={"WATCH": 1.4}).with_thresholds(thresholds)
        assert state.thresholds == (thresholds or {"WATCH": 1.4})


def test_a_change_that_raises_writes_nothing(store: ModelStateStore, s3: MemoryS3) -> None:
    def refuse(state: ModelState) -> ModelState:
        raise LeaseHeldError("no")

    change: Callable[[ModelState], ModelState] = refuse
    with pytest.raises(LeaseHeldError):
        store.update(change)
    assert s3.keys(FINAL) == []


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b'{"lease": 7}', b'{"lease": {"holder": "x"}}'])
def test_a_damaged_object_is_no_lease_to_those_who_stop_the_model(
    s3: MemoryS3, store: ModelStateStore, damaged: bytes
) -> None:
    s3.put_object(Bucket=FINAL, Key=KEY, Body=damaged)
    assert store.read_or_empty() == ModelState()


def test_a_damaged_object_stops_a_run_with_what_to_do(s3: MemoryS3, store: ModelStateStore) -> None:
    s3.put_object(Bucket=FINAL, Key=KEY, Body=b"{")
    for use in (store.read, lambda: store.acquire(MINE, minutes=10, now=NOW)):
        with pytest.raises(TerminalError, match=rf"s3://{FINAL}/{KEY} is damaged .* Delete it"):
            use()


def test_a_bucket_that_is_gone_holds_no_lease(settings: Settings) -> None:
    assert ModelStateStore.of(MemoryS3("another"), FINAL, settings.model).read_or_empty() == ModelState()


def test_a_live_lease_is_seen(store: ModelStateStore) -> None:
    lease = store.acquire(MINE, minutes=10, now=NOW)
    assert store.read_or_empty().lease == lease


def test_fields_of_a_newer_deployment_are_passed_over() -> None:
    assert ModelState.from_json(b'{"lease": null, "hold": null, "images_per_second": 4.0}').images_per_second == 4.0
