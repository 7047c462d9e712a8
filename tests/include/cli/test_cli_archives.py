from __future__ import annotations

from datetime import timedelta

import pytest

from include.archive.archives import Archive, ArchiveRun, queue_archive, read_archive, record_run
from include.archive.slices import clear_cancelled, pending_archives
from local_stack.seed import FINAL_BUCKET
from tests.include.cli.conftest import Account, document, typed
from tests.include.samples import NOW, images

STOCK = "20260301T120000Z_stock"


@pytest.fixture
def stock(account: Account) -> str:
    """An archive of 30 images in three batches, of which two runs have done 15."""
    known = Archive(STOCK, "s3://stock/", NOW, images=30, size_bytes=30_000, batch_size=10)
    queue_archive(account.s3, account.settings, known, [lambda: images(30, origin="archive")])
    for number, (count, failed) in enumerate([(5, 0), (10, 2)], start=1):
        run = ArchiveRun(NOW + timedelta(hours=number), count, count - failed, failed=failed, cost_usd=1.5)
        record_run(account.s3, FINAL_BUCKET, f"run-{number}", {STOCK: run})
    return STOCK


def test_without_any_it_says_so(account: Account) -> None:
    assert document("archives") == {"archives": []}
    assert "No archive." in typed("archives").out


def test_each_is_a_line_with_what_is_done_left_failed_paid_and_when_it_ends(account: Account, stock: str) -> None:
    said = typed("archives").out
    words = said.splitlines()[-1].split()
    assert words == [STOCK, "waiting", "30", "15", "15", "2", "$3.00", "2026-03-01", "15:30", "UTC"]
    [found] = document("archives")["archives"]
    assert (found["left"], found["done"]["labelled"], found["pending_batches"]) == (15, 13, 3)


def test_pausing_resuming_and_cancelling_are_one_command_each(account: Account, stock: str) -> None:
    assert "paused" in typed("archives", "pause", stock).out
    assert read_archive(account.s3, FINAL_BUCKET, stock).going == "paused"
    assert "waiting" in typed("archives", "resume", stock).out
    assert document("archives", "cancel", stock)["state"] == "cancelled"
    refused = typed("archives", "resume", stock)
    assert refused.status == 1
    assert "was cancelled" in refused.err


def test_what_has_nothing_left_is_not_open(account: Account, stock: str) -> None:
    assert len(document("archives", "--open")["archives"]) == 1
    typed("archives", "cancel", stock)
    clear_cancelled(account.s3, account.settings, pending_archives(account.s3, account.settings))
    assert document("archives", "--open") == {"archives": []}
    assert len(document("archives")["archives"]) == 1


def test_an_archive_that_does_not_exist_is_said_so(account: Account) -> None:
    said = typed("archives", "show", "gone")
    assert said.status == 1
    assert "There is no archive 'gone'" in said.err


def test_archives_are_part_of_the_backlog(account: Account, stock: str) -> None:
    found = document("backlog")
    assert [(each["origin"], each["batches"], each["images"]) for each in found["pending"]] == [("archives", 3, 30)]
    assert found["next_run"].startswith("Start: 30 images in 3 batches")
    typed("archives", "pause", stock)
    assert document("backlog")["next_run"].startswith("Nothing is pending")
