"""Does it all add up? What was uploaded against what was published; the same as `python -m include.audit`.

Changes nothing, but with --queue-unprocessed. Exit status: 0 all well, 1 something is wrong, 2 it could not be audited.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING

from include.audit import main as audit
from include.cli.output import Cleaned

if TYPE_CHECKING:
    from include.cli.arguments import Commands


def add(commands: Commands) -> None:
    """Everything behind the command is the audit's own to understand, --help included."""
    added = commands.add_parser(
        "audit",
        aliases=["reconcile"],
        help=(__doc__ or "").split("\n")[0],
        add_help=False,
        allow_abbrev=False,
    )
    added.set_defaults(passes_on=_pass_on)


def _pass_on(chosen: argparse.Namespace, rest: Sequence[str]) -> int:
    with redirect_stdout(Cleaned(sys.stdout)), redirect_stderr(Cleaned(sys.stderr)):
        return audit([*rest, *(["--json"] if chosen.json else [])])
