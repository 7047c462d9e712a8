"""Scalar functions that are one DuckDB expression each. https://trino.io/docs/current/functions.html

Where DuckDB means something else by the name, the expression says what Trino means.
"""

from __future__ import annotations

from collections import defaultdict

from local_aws.athena.signatures import Signature, signature
from local_aws.athena.types import text
from local_aws.athena.values import FAILURE


def _fails(code: str, message: str) -> str:
    """SQL of a failure, its message a fixed text; the result is cast to what the call returns."""
    return f"CAST(CAST(CAST({text(f'{FAILURE}{code}: {message}{FAILURE}')} AS BIGINT) AS VARCHAR) AS {{type}})"


_ARGUMENT = "INVALID_FUNCTION_ARGUMENT"
# SliceUtf8.trim: Character.isWhitespace.
_WHITE = (
    *range(9, 14),
    *range(28, 33),
    0x1680,
    *range(0x2000, 0x2007),
    *range(0x2008, 0x200B),
    0x2028,
    0x2029,
    0x205F,
    0x3000,
)
_SPACES = text("".join(map(chr, _WHITE)))
_LOCAL = "timezone({zone}, {0})"
_UP_OR_DOWN = "(CASE WHEN {1} >= {0} THEN 1 ELSE -1 END)"
_INDEX = _fails(_ARGUMENT, "SQL array indices start at 1")

# Name, parameters -> result, DuckDB's expression.
_TABLE: list[tuple[str, str, str]] = [
    # numbers
    ("abs", "N -> N", "CAST(abs({0}) AS {type})"),
    ("ceil", "double -> double", "ceil({0})"),
    ("floor", "double -> double", "floor({0})"),
    ("round", "double -> double", "round({0})"),
    ("round", "double, integer -> double", "round({0}, {1})"),
    ("truncate", "double -> double", "trunc({0})"),
    ("sign", "I -> I", "CAST(sign({0}) AS {type})"),
    ("sign", "double -> double", "CAST(sign({0}) AS DOUBLE)"),
    (
        "mod",
        "I, I -> I",
        "(CASE WHEN {1} = 0 THEN " + _fails("DIVISION_BY_ZERO", "/ by zero") + " ELSE {0} % {1} END)",
    ),
    ("mod", "double, double -> double", "({0} % {1})"),
    ("sqrt", "double -> double", "(CASE WHEN {0} < 0 THEN CAST('NaN' AS DOUBLE) ELSE sqrt({0}) END)"),
    ("exp", "double -> double", "exp({0})"),
    ("power", "double, double -> double", "pow({0}, {1})"),
    ("pow", "double, double -> double", "pow({0}, {1})"),
    ("pi", "-> double", "pi()"),
    ("e", "-> double", "exp(CAST(1 AS DOUBLE))"),
    ("nan", "-> double", "CAST('NaN' AS DOUBLE)"),
    ("infinity", "-> double", "CAST('Infinity' AS DOUBLE)"),
    ("is_nan", "double -> boolean", "isnan({0})"),
    ("is_finite", "double -> boolean", "isfinite({0})"),
    ("is_infinite", "double -> boolean", "isinf({0})"),
    ("degrees", "double -> double", "degrees({0})"),
    ("radians", "double -> double", "radians({0})"),
    *((name, "double -> double", f"{name}({{0}})") for name in ("sin", "cos", "tan", "atan", "sinh", "cosh", "tanh")),
    ("atan2", "double, double -> double", "atan2({0}, {1})"),
    *(
        (
            name,
            "double -> double",
            f"(CASE WHEN {{0}} < 0 OR isnan({{0}}) THEN CAST('NaN' AS DOUBLE) "
            f"WHEN {{0}} = 0 THEN CAST('-Infinity' AS DOUBLE) ELSE {duckdb}({{0}}) END)",
        )
        for name, duckdb in (("ln", "ln"), ("log2", "log2"), ("log10", "log10"))
    ),
    ("log", "double, double -> double", "(ln({1}) / ln({0}))"),
    ("bitwise_and", "bigint, bigint -> bigint", "({0} & {1})"),
    ("bitwise_or", "bigint, bigint -> bigint", "({0} | {1})"),
    ("bitwise_xor", "bigint, bigint -> bigint", "xor({0}, {1})"),
    ("bitwise_not", "bigint -> bigint", "(~{0})"),
    (
        "width_bucket",
        "double, double, double, bigint -> bigint",
        "CAST(CASE WHEN {0} < {1} THEN 0 WHEN {0} >= {2} THEN {3} + 1 "
        "ELSE floor({3} * ({0} - {1}) / ({2} - {1})) + 1 END AS BIGINT)",
    ),
    # strings
    ("length", "varchar -> bigint", "length({0})"),
    ("length", "varbinary -> bigint", "octet_length({0})"),
    # ß has no capital there: SliceUtf8.toUpperCase.
    (
        "upper",
        "varchar -> varchar",
        "array_to_string(list_transform(string_split({0}, 'ß'), lambda c_each: upper(c_each)), 'ß')",
    ),
    ("lower", "varchar -> varchar", "lower({0})"),
    ("trim", "varchar -> varchar", "trim({0}, " + _SPACES + ")"),
    ("ltrim", "varchar -> varchar", "ltrim({0}, " + _SPACES + ")"),
    ("rtrim", "varchar -> varchar", "rtrim({0}, " + _SPACES + ")"),
    ("trim", "varchar, varchar -> varchar", "trim({0}, {1})"),
    ("ltrim", "varchar, varchar -> varchar", "ltrim({0}, {1})"),
    ("rtrim", "varchar, varchar -> varchar", "rtrim({0}, {1})"),
    ("replace", "varchar, varchar -> varchar", "replace({0}, {1}, '')"),
    (
        "replace",
        "varchar, varchar, varchar -> varchar",
        "(CASE WHEN {1} = '' THEN "
        + _fails("NOT_SUPPORTED", "local Athena does not replace the empty string")
        + " ELSE replace({0}, {1}, {2}) END)",
    ),
    ("strpos", "varchar, varchar -> bigint", "strpos({0}, {1})"),
    ("starts_with", "varchar, varchar -> boolean", "starts_with({0}, {1})"),
    *(
        (
            name,
            signature_,
            "(CASE WHEN {1} = 0 OR {1} < -length({0}) THEN (CASE WHEN {0} IS NULL THEN NULL ELSE '' END) "
            f"ELSE substr({{0}}, {{1}}{rest}) END)",
        )
        for name in ("substr", "substring")
        for signature_, rest in (
            ("varchar, bigint -> varchar", ""),
            ("varchar, bigint, bigint -> varchar", ", greatest({2}, 0)"),
        )
    ),
    *(
        (
            name,
            "varchar, bigint, varchar -> varchar",
            "(CASE WHEN {1} < 0 OR {2} = '' THEN "
            + _fails(_ARGUMENT, "Target length must be in the range [0..2147483647], padding string must not be empty")
            + f" ELSE {name}({{0}}, CAST({{1}} AS INTEGER), {{2}}) END)",
        )
        for name in ("lpad", "rpad")
    ),
    ("chr", "bigint -> varchar", "chr(CAST({0} AS INTEGER))"),
    (
        "codepoint",
        "varchar -> integer",
        "(CASE WHEN length({0}) <> 1 THEN "
        + _fails(_ARGUMENT, "codepoint takes one character")
        + " ELSE unicode({0}) END)",
    ),
    (
        "split",
        "varchar, varchar -> array(varchar)",
        "(CASE WHEN {1} = '' THEN "
        + _fails(_ARGUMENT, "The delimiter may not be the empty string")
        + " WHEN {1} IS NOT NULL THEN string_split({0}, {1}) END)",
    ),
    (
        "split",
        "varchar, varchar, bigint -> array(varchar)",
        "(CASE WHEN {1} = '' THEN "
        + _fails(_ARGUMENT, "The delimiter may not be the empty string")
        + " WHEN {2} < 1 THEN "
        + _fails(_ARGUMENT, "Limit must be positive")
        + " WHEN len(string_split({0}, {1})) <= {2} AND {1} IS NOT NULL THEN string_split({0}, {1}) "
        "WHEN {1} IS NOT NULL THEN list_slice(string_split({0}, {1}), 1, {2} - 1) || "
        "[array_to_string(list_slice(string_split({0}, {1}), {2}, len({0}) + 1), {1})] END)",
    ),
    (
        "split_part",
        "varchar, varchar, bigint -> varchar",
        "(CASE WHEN {2} < 1 THEN "
        + _fails(_ARGUMENT, "Index must be greater than zero")
        + " WHEN {1} IS NOT NULL THEN list_extract(string_split({0}, {1}), {2}) END)",
    ),
    ("translate", "varchar, varchar, varchar -> varchar", "translate({0}, {1}, {2})"),
    *(
        (
            f"{name}_distance",
            "varchar, varchar -> bigint",
            "(CASE WHEN strlen({0}) > length({0}) OR strlen({1}) > length({1}) THEN "
            + _fails("NOT_SUPPORTED", "local Athena measures distances between ASCII texts only")
            + f" ELSE {name}({{0}}, {{1}}) END)",
        )
        for name in ("levenshtein", "hamming")
    ),
    ("to_utf8", "varchar -> varbinary", "encode({0})"),
    ("from_utf8", "varbinary -> varchar", "decode({0})"),
    ("to_hex", "varbinary -> varchar", "hex({0})"),
    ("from_hex", "varchar -> varbinary", "unhex({0})"),
    ("to_base64", "varbinary -> varchar", "base64({0})"),
    ("from_base64", "varchar -> varbinary", "from_base64({0})"),
    ("md5", "varbinary -> varbinary", "unhex(md5({0}))"),
    ("sha1", "varbinary -> varbinary", "unhex(sha1({0}))"),
    ("sha256", "varbinary -> varbinary", "unhex(sha256({0}))"),
    (
        "url_encode",
        "varchar -> varchar",
        "replace(replace(replace(url_encode({0}), '%20', '+'), '%2A', '*'), '~', '%7E')",
    ),
    ("url_decode", "varchar -> varchar", "url_decode(replace({0}, '+', ' '))"),
    # JSON
    ("json_parse", "varchar -> json", "json({0})"),
    ("json_format", "json -> varchar", "CAST({0} AS VARCHAR)"),
    (
        "json_array_length",
        "json -> bigint",
        "(CASE WHEN json_type({0}) = 'ARRAY' THEN CAST(json_array_length({0}) AS BIGINT) END)",
    ),
    (
        "json_array_length",
        "varchar -> bigint",
        "(CASE WHEN json_valid({0}) AND json_type({0}) = 'ARRAY' THEN CAST(json_array_length({0}) AS BIGINT) END)",
    ),
    # arrays and maps
    ("cardinality", "array(T) -> bigint", "len({0})"),
    ("cardinality", "map(K, V) -> bigint", "CAST(cardinality({0}) AS BIGINT)"),
    ("element_at", "array(T), bigint -> T", "(CASE WHEN {1} = 0 THEN " + _INDEX + " ELSE list_extract({0}, {1}) END)"),
    ("element_at", "map(K, V), K -> V", "{0}[{1}]"),
    (
        "contains",
        "array(T), T -> boolean",
        "(CASE WHEN {0} IS NULL OR {1} IS NULL THEN NULL WHEN list_contains({0}, {1}) THEN TRUE "
        "WHEN len(list_filter({0}, lambda c_each: c_each IS NULL)) > 0 THEN NULL ELSE FALSE END)",
    ),
    (
        "array_position",
        "array(T), T -> bigint",
        "(CASE WHEN {0} IS NULL OR {1} IS NULL THEN NULL ELSE coalesce(list_position({0}, {1}), 0) END)",
    ),
    (
        "array_distinct",
        "array(T) -> array(T)",
        "list_filter({0}, lambda c_each, c_at: list_position({0}, c_each) = c_at)",
    ),
    ("array_sort", "array(T) -> array(T)", "list_sort({0}, 'ASC', 'NULLS LAST')"),
    *(
        (
            "array_max",
            f"array({kind}) -> {kind}",
            # NaN is less than any number to it.
            "(CASE WHEN len(list_filter({0}, lambda c_each: c_each IS NULL)) = 0 THEN "
            "coalesce(list_max(list_filter({0}, lambda c_each: NOT isnan(c_each))), list_max({0})) END)",
        )
        for kind in ("double", "real")
    ),
    *(
        (
            name,
            "array(T) -> T",
            f"(CASE WHEN len(list_filter({{0}}, lambda c_each: c_each IS NULL)) = 0 THEN {duckdb}({{0}}) END)",
        )
        for name, duckdb in (("array_max", "list_max"), ("array_min", "list_min"))
    ),
    (
        "array_remove",
        "array(T), T -> array(T)",
        "(CASE WHEN {1} IS NOT NULL THEN list_filter({0}, lambda c_each: c_each IS NULL OR c_each <> {1}) END)",
    ),
    (
        "arrays_overlap",
        "array(T), array(T) -> boolean",
        "(CASE WHEN list_has_any({0}, {1}) THEN TRUE WHEN len({0}) > 0 AND len({1}) > 0 AND "
        "(list_position({0}, NULL) IS NOT NULL OR list_position({1}, NULL) IS NOT NULL) THEN NULL "
        "WHEN {0} IS NULL OR {1} IS NULL THEN NULL ELSE FALSE END)",
    ),
    (
        "array_intersect",
        "array(T), array(T) -> array(T)",
        "list_filter({0}, lambda c_each, c_at: list_position({0}, c_each) = c_at AND list_position({1}, c_each) IS NOT NULL)",
    ),
    (
        "array_except",
        "array(T), array(T) -> array(T)",
        "list_filter({0}, lambda c_each, c_at: list_position({0}, c_each) = c_at AND list_position({1}, c_each) IS NULL)",
    ),
    (
        "array_union",
        "array(T), array(T) -> array(T)",
        "list_filter({0} || {1}, lambda c_each, c_at: list_position({0} || {1}, c_each) = c_at)",
    ),
    ("flatten", "array(array(T)) -> array(T)", "flatten({0})"),
    ("reverse", "varchar -> varchar", "array_to_string(list_reverse(string_split({0}, '')), '')"),
    ("reverse", "array(T) -> array(T)", "list_reverse({0})"),
    (
        "repeat",
        "T, bigint -> array(T)",
        "(CASE WHEN {1} < 0 THEN "
        + _fails(_ARGUMENT, "count argument of repeat function must be greater than or equal to 0")
        + " ELSE list_transform(range(1, {1} + 1), lambda c_each: {0}) END)",
    ),
    ("sequence", "bigint, bigint -> array(bigint)", "range({0}, {1} + " + _UP_OR_DOWN + ", " + _UP_OR_DOWN + ")"),
    (
        "sequence",
        "bigint, bigint, bigint -> array(bigint)",
        "(CASE WHEN {2} = 0 OR sign({2}) = -sign({1} - {0}) THEN "
        + _fails(_ARGUMENT, "sequence stop value should be reached from start by steps of the given sign, not zero")
        + " ELSE range({0}, {1} + CAST(sign({2}) AS BIGINT), {2}) END)",
    ),
    (
        "sequence",
        "date, date -> array(date)",
        "list_transform(range(0, {1} - {0} + "
        + _UP_OR_DOWN
        + ", "
        + _UP_OR_DOWN
        + "), lambda c_each: {0} + CAST(c_each AS INTEGER))",
    ),
    (
        "sequence",
        "date, date, interval -> array(date)",
        "(CASE WHEN epoch({2}) % 86400 <> 0 OR sign(epoch({2})) <> "
        + _UP_OR_DOWN
        + " THEN "
        + _fails(_ARGUMENT, "sequence step must be a day interval, and reach stop from start")
        + " ELSE list_transform(range(0, {1} - {0} + "
        + _UP_OR_DOWN
        + ", CAST(epoch({2}) AS BIGINT) // 86400), lambda c_each: {0} + CAST(c_each AS INTEGER)) END)",
    ),
    (
        "slice",
        "array(T), bigint, bigint -> array(T)",
        "(CASE WHEN {1} = 0 THEN "
        + _INDEX
        + " WHEN {2} < 0 THEN "
        + _fails(_ARGUMENT, "length must be greater than or equal to 0")
        + " WHEN {1} > 0 THEN list_slice({0}, {1}, {1} + {2} - 1) "
        "WHEN -{1} > len({0}) THEN list_slice({0}, 1, 0) "
        "ELSE list_slice({0}, len({0}) + {1} + 1, len({0}) + {1} + {2}) END)",
    ),
    ("map", "array(K), array(V) -> map(K, V)", "map({0}, {1})"),
    ("map", "-> map(unknown, unknown)", "MAP {}"),
    ("map_keys", "map(K, V) -> array(K)", "map_keys({0})"),
    ("map_values", "map(K, V) -> array(V)", "map_values({0})"),
    ("map_from_entries", "array(row(K, V)) -> map(K, V)", "map_from_entries({0})"),
    # times
    ("year", "date -> bigint", "CAST(year({0}) AS BIGINT)"),
    ("to_unixtime", "timestamp -> double", "epoch({0})"),
    ("to_unixtime", "Z -> double", "epoch({0})"),
    ("last_day_of_month", "timestamp -> date", "last_day({0})"),
    ("last_day_of_month", "date -> date", "last_day({0})"),
    ("to_milliseconds", "interval -> bigint", "CAST(round(epoch({0}) * 1000) AS BIGINT)"),
]
_PARTS = {
    "year": "year",
    "quarter": "quarter",
    "month": "month",
    "week": "week",
    "week_of_year": "week",
    "day": "day",
    "day_of_month": "day",
    "day_of_week": "isodow",
    "dow": "isodow",
    "day_of_year": "dayofyear",
    "doy": "dayofyear",
    "year_of_week": "isoyear",
    "yow": "isoyear",
}
_CLOCK = {"hour": "hour", "minute": "minute", "second": "second", "millisecond": "millisecond"}

SCALARS: dict[str, list[Signature]] = defaultdict(list)
for _name, _types, _sql in _TABLE:
    if _name != "year":
        SCALARS[_name].append(signature(_types, _sql))
for _name, _part in (_PARTS | _CLOCK).items():
    _modulo = " % 1000" if _part == "millisecond" else ""
    if _name in _PARTS:
        SCALARS[_name].append(signature("date -> bigint", f"CAST(date_part('{_part}', {{0}}) AS BIGINT)"))
    for _kind, _value in (("timestamp", "{0}"), ("Z", _LOCAL)):
        SCALARS[_name].append(
            signature(f"{_kind} -> bigint", f"CAST(date_part('{_part}', {_value}){_modulo} AS BIGINT)")
        )
# Parts of an interval: what is left of it below the next greater one.
for _name, _seconds, _below in (("day", 86400, 0), ("hour", 3600, 24), ("minute", 60, 60), ("second", 1, 60)):
    _whole = f"CAST(trunc(epoch({{0}}) / {_seconds}) AS BIGINT)"
    SCALARS[_name].append(signature("interval -> bigint", f"({_whole} % {_below})" if _below else _whole))
# Numbers that keep their type.
for _name, _sql in (("ceil", "ceil"), ("floor", "floor"), ("round", "round"), ("truncate", "trunc"), ("sign", "sign")):
    SCALARS[_name].insert(0, signature("real -> real", f"CAST({_sql}({{0}}) AS FLOAT)"))
SCALARS["round"].insert(0, signature("I, integer -> I", "CAST(round({0}, {1}) AS {type})"))
SCALARS["round"].insert(0, signature("real, integer -> real", "CAST(round(CAST({0} AS DOUBLE), {1}) AS FLOAT)"))
for _name in ("ceil", "floor", "round", "truncate"):
    for _kind in ("bigint", "integer", "smallint", "tinyint"):
        SCALARS[_name].insert(0, signature(f"{_kind} -> {_kind}", "{0}"))
SCALARS["ceiling"] = SCALARS["ceil"]
