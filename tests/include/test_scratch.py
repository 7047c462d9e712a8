from __future__ import annotations

import os
import time
from pathlib import Path

from include.scratch import ABANDONED_SECONDS, PREFIX, scratch_folder


def aged(folder: Path, seconds: float) -> Path:
    folder.mkdir()
    (folder / "rows.arrow").write_bytes(b"rows")
    os.utime(folder, (time.time() - seconds,) * 2)
    return folder


def test_it_is_empty_and_goes_with_its_context_whatever_happens_there(tmp_path: Path) -> None:
    try:
        with scratch_folder(tmp_path) as folder:
            assert list(folder.iterdir()) == []
            (folder / "part").write_text("")
            raise RuntimeError
    except RuntimeError:
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_killed_tasks_left_goes_and_what_others_work_in_or_put_there_stays(tmp_path: Path) -> None:
    abandoned = aged(tmp_path / f"{PREFIX}killed", ABANDONED_SECONDS + 60)
    at_work = aged(tmp_path / f"{PREFIX}at-work", ABANDONED_SECONDS - 60)
    foreign = aged(tmp_path / "somebody's", ABANDONED_SECONDS * 9)
    with scratch_folder(tmp_path) as folder:
        assert sorted(tmp_path.iterdir()) == sorted([folder, at_work, foreign])
    assert not abandoned.exists()


def test_a_link_to_elsewhere_takes_nothing_along(tmp_path: Path) -> None:
    elsewhere = aged(tmp_path / "elsewhere", ABANDONED_SECONDS * 9)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (scratch / f"{PREFIX}link").symlink_to(elsewhere)
    with scratch_folder(scratch):
        pass
    assert (elsewhere / "rows.arrow").exists()
