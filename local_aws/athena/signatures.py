"""Signatures of functions: which of them fits the arguments, and what comes out."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from local_aws.athena import types
from local_aws.athena.errors import QueryError, not_supported
from local_aws.athena.types import Type
from local_aws.athena.values import Value, cast, composed

# One capital letter stands for any type, N for any number, I for an integer, Z for a timestamp with any time zone.
_VARIABLE = re.compile(r"[A-Z]")


@dataclass(frozen=True)
class Signature:
    """`parameters -> result`, and DuckDB's SQL with {0}, {1} for the arguments."""

    parameters: tuple[Type, ...]
    result: Type
    sql: str | Callable[..., str]


@cache
def signature_types(text: str) -> tuple[tuple[Type, ...], Type]:
    """`varchar, array(T) -> T` as types; a variable is a type of that name."""
    left, _, right = text.partition("->")
    return tuple(_pattern(each) for each in _split(left)), _pattern(right)


def _split(text: str) -> list[str]:
    parts, depth, current = [], 0, ""
    for letter in text:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            parts.append(current)
            current = ""
        else:
            current += letter
    return [each.strip() for each in [*parts, current] if each.strip()]


def _pattern(text: str) -> Type:
    text = text.strip()
    name, _, inner = text.partition("(")
    if name in ("array", "map") and inner:
        return Type(name, tuple(_pattern(each) for each in _split(inner[:-1])))
    if name == "row" and inner:
        of = tuple(_pattern(each) for each in _split(inner[:-1]))
        return types.row(("",) * len(of), of)
    return Type(text) if _VARIABLE.fullmatch(text) else types.parsed(text) if text != "interval" else types.DAYS


def signature(text: str, sql: str) -> Signature:
    """A signature from its text."""
    return Signature(*signature_types(text), sql)


def chosen(name: str, signatures: Sequence[Signature], values: list[Value], at: str) -> Value:
    """The call by the first signature that fits, exactly or after coercion; FUNCTION_NOT_FOUND where none does."""
    for exactly in (True, False):
        for each in signatures:
            bound = _bound(each, values, exactly)
            if bound is not None:
                return _applied(each, values, bound)
    given = ", ".join(str(each.type) for each in values)
    if all(len(each.parameters) != len(values) for each in signatures):
        raise not_supported(f"know {name}({given})")
    expected = ", ".join(f"{name}({', '.join(map(str, each.parameters))})" for each in signatures)
    raise QueryError(
        "FUNCTION_NOT_FOUND", f"{at}Unexpected parameters ({given}) for function {name}. Expected: {expected}"
    )


def _bound(each: Signature, values: list[Value], exactly: bool) -> dict[str, Type] | None:
    if len(each.parameters) != len(values):
        return None
    bound: dict[str, Type] = {}
    for parameter, value in zip(each.parameters, values, strict=True):
        if not _fits(parameter, value.type, bound, exactly):
            return None
    return bound


def _fits(parameter: Type, given: Type, bound: dict[str, Type], exactly: bool) -> bool:
    if _VARIABLE.fullmatch(parameter.name):
        return _fits_variable(parameter.name, given, bound, exactly)
    if given.name == "unknown":
        for name in _VARIABLE.findall(str(parameter)):
            bound.setdefault(name, given)
        return not exactly
    if parameter.of:
        return (
            given.name == parameter.name
            and len(given.of) == len(parameter.of)
            and all(_fits(*pair, bound, exactly) for pair in zip(parameter.of, given.of, strict=True))
        )
    if exactly or parameter.name == "timestamp with time zone":
        return parameter.name == given.name
    return types.common(parameter, given) == parameter


def _fits_variable(name: str, given: Type, bound: dict[str, Type], exactly: bool) -> bool:
    if name == "N" and not given.is_number and given.name != "unknown":
        return False
    if name == "I" and not given.is_integer and given.name != "unknown":
        return False
    if name == "Z" and given.name != "timestamp with time zone":
        return False
    if name not in bound:
        bound[name] = given
        return True
    shared = types.common(bound[name], given)
    if shared is None or (exactly and bound[name] != given):
        return False
    bound[name] = shared
    return True


def _applied(each: Signature, values: list[Value], bound: dict[str, Type]) -> Value:
    arguments = [
        cast(value, _filled(parameter, bound)) for parameter, value in zip(each.parameters, values, strict=True)
    ]
    result = _filled(each.result, bound)
    zone = bound["Z"].zone if "Z" in bound else "UTC"
    cells = [argument.sql for argument in arguments]
    written = each.sql(*arguments) if callable(each.sql) else _written(each.sql, cells, result, zone)
    return composed(written, result, arguments)


def _written(template: str, cells: list[str], result: Type, zone: str) -> str:
    named = {"type": types.duckdb(result), "zone": types.text(zone)}
    return re.sub(
        r"\{(\w+)\}",
        lambda found: cells[int(found.group(1))] if found.group(1).isdigit() else named[found.group(1)],
        template,
    )


def _filled(parameter: Type, bound: dict[str, Type]) -> Type:
    if _VARIABLE.fullmatch(parameter.name):
        return bound[parameter.name]
    if parameter.of:
        return replace(parameter, of=tuple(_filled(each, bound) for each in parameter.of))
    return parameter
