"""`python -m include.cli`: what a person on call types, and what scripts call."""

from __future__ import annotations

from include.cli.commands import main

__all__ = ["main"]
