"""Functions that keep decimals exact. https://trino.io/docs/current/functions/math.html, DecimalToX in Trino's MathFunctions"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlglot import exp

from local_aws.athena import operators, types
from local_aws.athena.errors import not_supported
from local_aws.athena.parsing import place
from local_aws.athena.scalars import SCALARS
from local_aws.athena.scopes import Scope
from local_aws.athena.signatures import chosen
from local_aws.athena.values import Value, composed

if TYPE_CHECKING:
    from local_aws.athena.expressions import Translator

ROUNDING = ("ceil", "ceiling", "floor", "round", "truncate", "sign", "mod")


def rounded(to: Translator, node: Any, nodes: list[exp.Expression], scope: Scope) -> Value:
    """ceil, floor, round, truncate, sign and mod: of a decimal they are decimals, of anything else as the list says."""
    name, values = node.name.lower(), to.values(nodes, scope)
    if not any(each.type.name == "decimal" for each in values) or any(each.type.is_float for each in values):
        return chosen(name, SCALARS[name], values, place(node))
    if name == "mod" and len(values) == 2:
        return operators.binary(exp.Mod, values[0], values[1], place(node))
    precision, scale = values[0].type.numbers
    if name == "round" and len(values) == 2:
        if not values[1].is_constant:
            raise not_supported("round a decimal to a number of digits that is no literal")
        kind = types.decimal(precision + 1, scale)
        return composed(
            f"CAST(round({values[0].sql}, {int(values[1].constant)}) AS {types.duckdb(kind)})", kind, values
        )
    if len(values) != 1:
        raise not_supported(f"know {name} of decimals with {len(values)} arguments")
    whole = precision - scale
    kind = {
        "sign": types.decimal(1, 0),
        "truncate": types.decimal(max(whole, 1), 0),
    }.get(name, types.decimal(whole + min(scale, 1), 0))
    function = {"ceiling": "ceil", "truncate": "trunc"}.get(name, name)
    return composed(f"CAST({function}({values[0].sql}) AS {types.duckdb(kind)})", kind, values)
