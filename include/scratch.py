"""Temporary folders for what does not fit into memory, and for what must be whole before it is uploaded."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Final

PREFIX: Final = "labels-scratch-"
# No task works in one folder for as long: whoever made an older one was killed.
ABANDONED_SECONDS: Final = 2 * 86_400.0


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """A folder that goes with the context; and those go that killed tasks left, before their disk is full of gigabytes.

    :param parent: where (default: the system's folder for such things).
    """
    parent = parent or Path(gettempdir())
    for folder in parent.glob(f"{PREFIX}*"):
        if _age_seconds(folder) > ABANDONED_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
    with TemporaryDirectory(dir=parent, prefix=PREFIX) as name:
        yield Path(name)


def _age_seconds(folder: Path) -> float:
    try:
        return time.time() - folder.stat().st_mtime
    except FileNotFoundError:  # another task was faster
        return 0.0
