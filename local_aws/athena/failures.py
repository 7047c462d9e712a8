"""DuckDB's errors as the query's, in Athena's words."""

from __future__ import annotations

import re

import duckdb

from local_aws.athena.errors import SYSTEM, Cancelled, QueryError
from local_aws.athena.scan import Context
from local_aws.athena.values import FAILURE

_DUCKDB = (
    (duckdb.OutOfMemoryException, "", "EXCEEDED_LOCAL_MEMORY_LIMIT", "Query exceeded the memory limit of local Athena"),
    (duckdb.OutOfRangeException, "", "NUMERIC_VALUE_OUT_OF_RANGE", ""),
    (duckdb.Error, "invalid UTF8", "NOT_SUPPORTED", "local Athena does not replace bytes that are no UTF-8"),
    (duckdb.ConversionException, "field value", "INVALID_CAST_ARGUMENT", ""),
    (duckdb.ConversionException, "out of range", "NUMERIC_VALUE_OUT_OF_RANGE", ""),
    (duckdb.ConversionException, "", "INVALID_CAST_ARGUMENT", ""),
    (duckdb.Error, "Map keys must be unique", "INVALID_FUNCTION_ARGUMENT", "Duplicate map keys are not allowed"),
    (duckdb.Error, "Map keys can not be NULL", "INVALID_FUNCTION_ARGUMENT", "map key cannot be null"),
    (duckdb.Error, "does not align", "INVALID_FUNCTION_ARGUMENT", "Key and value arrays must be the same length"),
    (
        duckdb.Error,
        "Strings must be of equal length",
        "INVALID_FUNCTION_ARGUMENT",
        "The input strings must have the same length",
    ),
    (duckdb.Error, "Invalid input for hex digit", "INVALID_FUNCTION_ARGUMENT", "Invalid hex character"),
    (duckdb.Error, "Malformed JSON", "INVALID_FUNCTION_ARGUMENT", "Cannot convert value to JSON"),
    (duckdb.Error, "nested", "NESTED_AGGREGATION", "Cannot nest aggregations inside aggregation"),
    (
        duckdb.Error,
        "More than one row returned",
        "SUBQUERY_MULTIPLE_ROWS",
        "Scalar sub-query has returned multiple rows",
    ),
    (
        duckdb.Error,
        "GROUP BY",
        "EXPRESSION_NOT_AGGREGATE",
        "An expression must be an aggregate expression or appear in GROUP BY clause",
    ),
)


def explained(error: Exception, context: Context) -> Exception:
    """An error of DuckDB as the query's: what a scan or an expression of ours raised within it comes first."""
    if isinstance(context.error, QueryError | Cancelled):
        return context.error
    if context.meter.reason:
        return Cancelled(context.meter.reason)
    text = str(error)
    ours = re.search(f"{FAILURE}(\\w+): (.*?)(?:{FAILURE}|$)", text, re.DOTALL)
    if ours:
        return QueryError(ours.group(1), ours.group(2))
    for kind, words, code, message in _DUCKDB:
        if isinstance(error, kind) and words in text:
            return QueryError(code, message or text.splitlines()[0].partition(": ")[2])
    return QueryError("NOT_SUPPORTED", f"local Athena cannot run this: {text[:500]}", category=SYSTEM)
