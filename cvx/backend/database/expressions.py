"""Filter expressions: JSON → a function of a document.

Comparisons use the total order of values and never fail; arithmetic wants two int64 or two float64; `and`, `or`
and `not` want booleans. What fails at evaluation is the user's error, and catchable.

Rule: pure; an expression is compiled once a query and runs once a row.

Source: reference/runtime-and-database.md §2.2.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, TypeAlias

from cvx.errors import CvxError
from cvx.values import UNDEFINED, compare, equal, from_json, parse_field_path, print_kind, print_value

Evaluate: TypeAlias = Callable[[dict[str, Any]], Any]

_NESTING_MAX = 128
_INT64 = range(-(1 << 63), 1 << 63)


def compile_filter(expression: Any) -> Callable[[dict[str, Any]], bool]:
    """A test of documents. Raises CvxError "InvalidExpression" now, "EvalError" when it runs."""
    evaluate = _compiled(expression, _NESTING_MAX)
    return lambda document: _boolean(evaluate(document), "filter")


def _compiled(expression: Any, levels_left: int) -> Evaluate:
    if type(expression) is not dict or len(expression) != 1:
        raise _malformed("an expression is an object with one key")
    if levels_left == 0:
        raise _malformed(f"nested more than {_NESTING_MAX} levels deep")
    ((name, operand),) = expression.items()
    if name == "$literal":
        constant = from_json(operand, internal=True)
        return lambda document: constant
    if name == "$field":
        return _field(operand)
    if name in ("$and", "$or"):
        return _junction(name, [_compiled(part, levels_left - 1) for part in _list(name, operand)])
    if name == "$not":
        inner = _compiled(operand, levels_left - 1)
        return lambda document: not _boolean(inner(document), "not")
    if name == "$neg":
        inner = _compiled(operand, levels_left - 1)
        return lambda document: _negated(inner(document))
    if name not in _COMPARISONS and name not in _ARITHMETIC:
        raise _malformed(f"'{name[:64]}' is not an operation")
    parts = _list(name, operand)
    if len(parts) != 2:
        raise _malformed(f"{name} has two operands, not {len(parts)}")
    left, right = (_compiled(part, levels_left - 1) for part in parts)
    if name in _COMPARISONS:
        return _comparison(name, left, right)
    on_integers, on_floats = _ARITHMETIC[name]
    return lambda document: _calculated(name[1:], left(document), right(document), on_integers, on_floats)


def _malformed(why: str) -> CvxError:
    return CvxError("InvalidExpression", f"Not a filter expression: {why}.")


def _list(name: str, operand: Any) -> list[Any]:
    if type(operand) is not list:
        raise _malformed(f"the operands of {name} must be an array")
    return operand


def _field(path: Any) -> Evaluate:
    if type(path) is not str:
        raise _malformed("$field must hold a path")
    names = parse_field_path(path)
    if len(names) == 1:
        (name,) = names
        return lambda document: document.get(name, UNDEFINED)

    def evaluate(document: dict[str, Any]) -> Any:
        value: Any = document
        for name in names:
            if type(value) is not dict:
                return UNDEFINED
            value = value.get(name, UNDEFINED)
        return value

    return evaluate


def _junction(name: str, parts: list[Evaluate]) -> Evaluate:
    ends_it = name == "$or"  # The operand that decides without looking further.

    def evaluate(document: dict[str, Any]) -> bool:
        for part in parts:
            if _boolean(part(document), name[1:]) is ends_it:
                return ends_it
        return not ends_it

    return evaluate


_COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "$eq": operator.eq,
    "$neq": operator.ne,
    "$lt": operator.lt,
    "$lte": operator.le,
    "$gt": operator.gt,
    "$gte": operator.ge,
}


def _comparison(name: str, left: Evaluate, right: Evaluate) -> Evaluate:
    if name == "$eq":
        return lambda document: equal(left(document), right(document))
    if name == "$neq":
        return lambda document: not equal(left(document), right(document))
    holds = _COMPARISONS[name]
    return lambda document: holds(compare(left(document), right(document)), 0)


def _boolean(value: Any, where: str) -> bool:
    if type(value) is not bool:
        raise CvxError(
            "EvalError",
            f"Cannot use {print_value(value)} ({print_kind(value)}) as a Boolean in `{where}`.",
            hint="Compare it with something, for example q.eq(…, true).",
        )
    return value


def _negated(value: Any) -> Any:
    if type(value) is int:
        return _within_int64("neg", -value)
    if type(value) is float:
        return -value
    raise CvxError("EvalError", f"Cannot compute neg({print_value(value)}): it is {print_kind(value)}.")


def _calculated(
    name: str,
    a: Any,
    b: Any,
    on_integers: Callable[[int, int], int],
    on_floats: Callable[[float, float], float],
) -> Any:
    if type(a) is float and type(b) is float:
        return on_floats(a, b)
    if type(a) is int and type(b) is int:
        if b == 0 and name in ("div", "mod"):
            raise CvxError("EvalError", f"Cannot compute {name}({a}n, 0n): division by zero.")
        return _within_int64(name, on_integers(a, b))
    raise CvxError(
        "EvalError",
        f"Cannot compute {name}({print_value(a)}, {print_value(b)}): "
        f"the operands are {print_kind(a)} and {print_kind(b)}, and must be two int64 or two float64.",
    )


def _within_int64(name: str, number: int) -> int:
    if number not in _INT64:
        raise CvxError("EvalError", f"The result of {name} does not fit in an int64.")
    return number


def _truncated(a: int, b: int) -> int:
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


def _divided(a: float, b: float) -> float:
    if b != 0.0:
        return a / b
    if a == 0.0 or a != a:
        return math.nan
    return math.copysign(math.inf, a) * math.copysign(1.0, b)


def _remainder(a: float, b: float) -> float:
    if b == 0.0 or math.isinf(a):
        return math.nan
    return math.fmod(a, b)


_ARITHMETIC: dict[str, tuple[Callable[[int, int], int], Callable[[float, float], float]]] = {
    "$add": (operator.add, operator.add),
    "$sub": (operator.sub, operator.sub),
    "$mul": (operator.mul, operator.mul),
    "$div": (_truncated, _divided),
    "$mod": (lambda a, b: a - b * _truncated(a, b), _remainder),
}
