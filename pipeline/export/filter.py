"""Chooses the images of an export by an expression over their statistics, and their split by a hash of the key.

    condition = parse_filter("coverage > 0.5 and mean_confidence > 0.4", IMAGES_SCHEMA.names)
    images.filter(condition)
    split_of("000000142238", 0.1)      # "train" or "val", the same in every run and on every machine

The expression is parsed as Python and translated, node by node, into pyarrow.compute: nothing of it is evaluated.
"""

import ast
import functools
import hashlib
import operator
from collections.abc import Callable, Collection
from typing import Any

import pyarrow.compute as pc

from scclip.errors import UserError

MAX_LENGTH = 2000  # characters: deeper trees than these make overflow the parser's stack

OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.And: operator.and_,
    ast.Or: operator.or_,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


class FilterError(UserError):
    """A filter that cannot be used; one line with the value and the remedy."""


def parse_filter(text: str, columns: Collection[str]) -> pc.Expression:
    """The condition that a text states about columns of images/.

    Raises FilterError for anything but comparisons, arithmetic, and, or, not, in.
    """
    if len(text) > MAX_LENGTH:
        raise FilterError(f"filter: {len(text)} characters; {MAX_LENGTH} at most")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = getattr(error, "msg", None) or type(error).__name__
        raise FilterError(f"filter {text!r}: {reason}; write e.g. coverage > 0.5 and mean_confidence > 0.4") from None
    try:
        if not is_condition(tree):
            raise FilterError(f"filter {text!r}: is not a condition; compare something, e.g. coverage > 0.5")
        return translate(tree, text, columns)
    except RecursionError:
        raise FilterError(f"filter {text[:40]!r}…: nested too deeply") from None


def is_condition(node: ast.expr) -> bool:
    """Whether a node is true or false, and not a number."""
    if isinstance(node, ast.BoolOp):
        return all(map(is_condition, node.values))
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.Not) and is_condition(node.operand)
    return isinstance(node, ast.Compare)


def translate(node: ast.expr, text: str, columns: Collection[str]) -> pc.Expression:
    """One node as an Arrow expression."""
    down = functools.partial(translate, text=text, columns=columns)
    match node:
        case ast.Name(id=name) if name in columns:
            return pc.field(name)
        case ast.Name(id=name):
            raise FilterError(f"filter {text!r}: images/ has no column {name!r}; it has {', '.join(columns)}")
        case ast.Constant(value=bool() | int() | float() | str() as value):
            return pc.scalar(value)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return pc.scalar(-value)
        case ast.UnaryOp(op=ast.Not(), operand=inner) if is_condition(inner):
            return ~down(inner)
        case ast.BoolOp(op=op, values=values) if is_condition(node):
            return functools.reduce(OPERATORS[type(op)], map(down, values))
        case ast.BinOp(op=op, left=left, right=right) if type(op) in OPERATORS:
            return OPERATORS[type(op)](down(left), down(right))
        case ast.Compare():
            return comparison(node, text, columns)
    raise FilterError(f"filter {text!r}: {ast.unparse(node)!r} is not allowed; use columns, numbers, and, or, not, in")


def comparison(node: ast.Compare, text: str, columns: Collection[str]) -> pc.Expression:
    """`a < b`, `a < b < c`, `a in [b, c]`, `a not in [b, c]`."""
    sides, conditions = [node.left, *node.comparators], []
    for left, op, right in zip(sides, node.ops, sides[1:], strict=False):
        if type(op) in OPERATORS:
            conditions.append(OPERATORS[type(op)](translate(left, text, columns), translate(right, text, columns)))
        elif isinstance(op, ast.In | ast.NotIn) and isinstance(right, ast.List | ast.Tuple):
            values = [item.value for item in right.elts if isinstance(item, ast.Constant)]
            if len(values) < len(right.elts) or not values:
                raise FilterError(f"filter {text!r}: the list after `in` must hold plain values")
            listed = translate(left, text, columns).isin(values)
            conditions.append(~listed if isinstance(op, ast.NotIn) else listed)
        else:
            raise FilterError(f"filter {text!r}: {ast.unparse(node)!r} is not allowed; compare with < <= > >= == != in")
    return functools.reduce(operator.and_, conditions)


def split_of(key: str, val: float) -> str:
    """ "val" for about a fraction `val` of all keys, else "train"; by SHA-256 of the key alone."""
    fraction = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    return "val" if fraction < val else "train"
