"""Questions to the results: tables and views over them, saved queries with typed parameters, and Athena, which answers."""

from __future__ import annotations

from include.errors import TerminalError


class QueryError(TerminalError):
    """Raised when a question is wrong, or Athena cannot answer it; the message says what to do about it."""
