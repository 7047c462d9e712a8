"""Why a query fails, in Athena's words."""

from __future__ import annotations

from typing import Any

# AthenaError.ErrorCategory: https://docs.aws.amazon.com/athena/latest/APIReference/API_AthenaError.html
SYSTEM, USER, OTHER = 1, 2, 3

# AthenaError.ErrorType of the codes used here; 1000 to 1999 are the user's:
# https://docs.aws.amazon.com/athena/latest/ug/error-reference.html
_TYPES = {
    "SYNTAX_ERROR": 1006,
    "TABLE_NOT_FOUND": 1301,
    "COLUMN_NOT_FOUND": 1006,
    "SCHEMA_NOT_FOUND": 1301,
    "HIVE_BAD_DATA": 1100,
    "HIVE_CANNOT_OPEN_SPLIT": 1100,
    "HIVE_INVALID_METADATA": 1101,
    "NOT_SUPPORTED": 1003,
    "INVALID_CAST_ARGUMENT": 1009,
    "DIVISION_BY_ZERO": 1009,
    "INVALID_FUNCTION_ARGUMENT": 1009,
    "TYPE_MISMATCH": 1006,
}


class QueryError(Exception):
    """A query that FAILED; `str` of it is the StateChangeReason."""

    def __init__(self, code: str, message: str, *, category: int = USER, prefix: str | None = None) -> None:
        self.code = code
        self.category = category
        self.message = f"{code}: {message}" if prefix is None else f"{prefix}{message}"
        super().__init__(self.message)

    def as_json(self) -> dict[str, Any]:
        """As GetQueryExecution has it in Status.AthenaError."""
        kind = _TYPES.get(self.code, 1 if self.category == SYSTEM else 1000)
        return {
            "ErrorCategory": self.category,
            "ErrorType": kind,
            "Retryable": False,
            "ErrorMessage": self.message,
        }


class Cancelled(Exception):
    """A query that was stopped; `str` of it is the StateChangeReason."""


def not_supported(what: str) -> QueryError:
    """What Athena does and this does not."""
    return QueryError("NOT_SUPPORTED", f"local Athena does not {what}")
