"""Comparing arrays, maps and rows: a null inside makes the answer unknown, where DuckDB takes it for a value.

https://trino.io/docs/current/functions/comparison.html, ArrayType and RowType in Trino.
"""

from __future__ import annotations

from local_aws.athena import types
from local_aws.athena.errors import not_supported
from local_aws.athena.types import BOOLEAN, Type
from local_aws.athena.values import failing


def compared(sign: str, one: str, other: str, kind: Type) -> str:
    """SQL of `one sign other`, both of an array, map or row type."""
    if sign in ("=", "<>"):
        same = _same(one, other, kind, 0)
        return same if sign == "=" else f"(NOT {same})"
    if kind.name == "map" or any(each.of or each.is_float for each in kind.of):
        raise not_supported(f"order values of {kind}")
    nulls = failing("NOT_SUPPORTED", "'Comparison not supported for arrays and rows with null elements'", BOOLEAN)
    inside = f"{_has_null(one, kind)} OR {_has_null(other, kind)}"
    either = f"{one} IS NULL OR {other} IS NULL"
    return f"(CASE WHEN {either} THEN NULL WHEN {inside} THEN {nulls} ELSE {one} {sign} {other} END)"


def _same(one: str, other: str, kind: Type, depth: int) -> str:
    """Three-valued: FALSE where anything differs, else NULL where anything is null."""
    each = f"c_same{depth}"
    if kind.name == "row":
        keys = [types.text(types.field_key(kind, n)) for n in range(len(kind.of))]
        pairs = [(f"struct_extract({one}, {key})", f"struct_extract({other}, {key})") for key in keys]
        fields = [_same(*pair, of, depth + 1) for pair, of in zip(pairs, kind.of, strict=True)]
        return f"({' AND '.join(fields)})"
    if kind.name == "array":
        parts = _same(f"list_extract({one}, {each})", f"list_extract({other}, {each})", kind.of[0], depth + 1)
        return _all(one, other, "len", f"list_transform(range(1, len({one}) + 1), lambda {each}: {parts})")
    if kind.name == "map":
        values = _same(f"{one}[{each}]", f"{other}[{each}]", kind.of[1], depth + 1)
        parts = f"(CASE WHEN map_contains({other}, {each}) THEN {values} ELSE FALSE END)"
        return _all(one, other, "cardinality", f"list_transform(map_keys({one}), lambda {each}: {parts})")
    nan = f" AND NOT isnan({one})" if kind.is_float else ""
    return f"({one} = {other}{nan})"


def _all(one: str, other: str, size: str, answers: str) -> str:
    unsure = f"len(list_filter({answers}, lambda c_answer: c_answer IS NULL)) > 0"
    return (
        f"(CASE WHEN {one} IS NULL OR {other} IS NULL THEN NULL WHEN {size}({one}) <> {size}({other}) THEN FALSE "
        f"WHEN list_contains({answers}, FALSE) THEN FALSE WHEN {unsure} THEN NULL ELSE TRUE END)"
    )


def _has_null(sql: str, kind: Type) -> str:
    if kind.name == "array":
        return f"len(list_filter({sql}, lambda c_null: c_null IS NULL)) > 0"
    keys = [types.text(types.field_key(kind, n)) for n in range(len(kind.of))]
    return "(" + " OR ".join(f"struct_extract({sql}, {key}) IS NULL" for key in keys) + ")"
