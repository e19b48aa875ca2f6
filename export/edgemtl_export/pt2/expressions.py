"""Texts of an exported program that torch evaluates: names, operators, sizes, guards and the shapes of containers.

torch turns names into Python source, hands sizes to sympy's ``eval`` and guards to ``exec``, and imports the modules
that a container's description names. So each text is held against the little that torch writes itself.
"""

from __future__ import annotations

import ast
import contextlib
import json
import keyword
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from .archive import UntrustedError

LONGEST = 20_000
PATH = re.compile(r"[A-Za-z0-9_.$<>/:+ -]{0,500}")
"""Where a weight belongs, and keys of dictionaries: what torch puts between quotes, so no quote is in it."""
SYMBOL = re.compile(r"[a-z_]{1,8}[0-9]{1,6}")
OPERATOR = re.compile(r"torch\.ops\.(aten|prims|torchvision|quantized_decomposed)\.([A-Za-z0-9_]+)\.([A-Za-z0-9_]+)")
READS_FILES = ("from_file",)
OTHER_OPERATORS = frozenset((
    "_operator.add", "_operator.sub", "_operator.mul", "_operator.floordiv", "_operator.truediv", "_operator.mod",
    "_operator.pow", "_operator.neg", "_operator.pos", "_operator.abs", "_operator.lt", "_operator.le",
    "_operator.gt", "_operator.ge", "_operator.eq", "_operator.ne", "_operator.getitem", "_operator.and_",
    "_operator.or_", "_operator.xor", "_operator.not_", "_operator.invert", "math.ceil", "math.floor", "math.trunc",
    "math.sqrt", "torch.sym_int", "torch.sym_float", "torch.sym_max", "torch.sym_min", "torch.sym_not",
    "torch.sym_ite", "torch.sym_sum", "torch._sym_sqrt", "torch._sym_cos", "torch._sym_cosh", "torch._sym_sin",
    "torch._sym_sinh", "torch._sym_tan", "torch._sym_tanh", "torch._sym_asin", "torch._sym_acos", "torch._sym_atan",
    "torch._sym_exp", "torch._sym_log", "torch._sym_log2", "torch.ops.higher_order.wrap_with_autocast",
    "torch.ops.higher_order.wrap_with_set_grad_enabled", "torch.ops.higher_order.cond",
    "torch.ops.higher_order.while_loop", "torch.ops.higher_order.scan", "torch.ops.higher_order.map_impl",
))  # fmt: skip
FUNCTIONS = frozenset((
    "Add", "Mul", "Max", "Min", "Mod", "Abs", "And", "Or", "Not", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "Equality",
    "Unequality", "StrictLessThan", "LessThan", "GreaterThan", "StrictGreaterThan", "Piecewise", "ExprCondPair",
    "Rational", "floor", "ceiling", "Integer", "Float", "FloorDiv", "ModularIndexing", "Where", "PythonMod",
    "CleanDiv", "CeilToInt", "FloorToInt", "CeilDiv", "FloatTrueDiv", "IntTrueDiv", "TruncToFloat", "TruncToInt",
    "RoundToInt", "RoundDecimal", "ToFloat", "Identity", "IsNonOverlappingAndDenseIndicator", "Pow", "PowByNatural",
    "FloatPow",
))  # fmt: skip
POWERS = ("Pow", "PowByNatural", "FloatPow")
MOST_POWER, DEEPEST_POWER = 64, 2
WORDS = frozenset(["true", "false", "True", "False", "oo", "int_oo", "L", "math", "inf"])
CONTAINERS = {"builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict", "collections.deque", None}


def refuse(what: str, text: object) -> UntrustedError:
    """Return the error for a text that torch would not have written."""
    return UntrustedError(f"its program has {what} {str(text)[:80]!a}, which torch.export does not write")


def check_name(text: str) -> None:
    """Raise `UntrustedError` unless a text is a plain Python name: torch writes it into source."""
    if not (text.isascii() and text.isidentifier() and len(text) <= 500) or keyword.iskeyword(text):
        raise refuse("a name", text)


def check_path(text: str) -> None:
    """Raise `UntrustedError` unless a text is a module's or weight's path, or a plain key."""
    if not PATH.fullmatch(text) or any(part.startswith("__") and part.endswith("__") for part in text.split(".")):
        raise refuse("a path", text)


def check_operator(text: str) -> None:
    """Raise `UntrustedError` unless a text names an operator of torch that computes and does nothing else."""
    if text in OTHER_OPERATORS:
        return
    match = OPERATOR.fullmatch(text)
    if match is None or match[2] in READS_FILES or not _is_registered(match[1], match[2], match[3]):
        raise UntrustedError(f"its program calls {text[:120]!a}, which is no plain operator of torch")


@cache
def _registered() -> frozenset[str]:
    with contextlib.suppress(ImportError):
        import torchvision  # type: ignore[import-untyped]  # noqa: F401  # brings operators of its own

    return frozenset(torch._C._dispatch_get_all_op_names())


def _is_registered(space: str, name: str, overload: str) -> bool:
    full = f"{space}::{name}" + ("" if overload == "default" else f".{overload}")
    return full in _registered()


def check_size(text: str) -> None:
    """Raise `UntrustedError` unless a text is a sum or product of sizes, as sympy writes it."""
    _check_expression(text, "a size", in_guard=False)


def check_guard(text: str) -> None:
    """Raise `UntrustedError` unless a text compares sizes and values of the inputs."""
    _check_expression(text, "a guard", in_guard=True)


def _check_expression(text: str, what: str, in_guard: bool) -> None:
    if len(text) > LONGEST or not text.isascii():
        raise refuse(what, text)
    try:
        tree = ast.parse(text, mode="eval")
        allowed = _Expression(in_guard).allows(tree.body, 0)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        allowed = False
    if not allowed:
        raise refuse(what, text)


class _Expression:
    """What an expression may be made of. Powers are few and small, so that no number grows without end."""

    def __init__(self, in_guard: bool) -> None:
        self.in_guard = in_guard

    def allows(self, node: ast.expr, powers: int) -> bool:
        """Whether this and all in it is allowed, ``powers`` powers deep."""
        match node:
            case ast.Constant(value=bool() | float()):
                return True
            case ast.Constant(value=int() as number):
                return abs(number) < 1 << 64
            case ast.Name(id=name):
                return name in WORDS or SYMBOL.fullmatch(name) is not None
            case ast.UnaryOp(operand=operand):
                return self.allows(operand, powers)
            case ast.BinOp(left=left, op=ast.Pow(), right=right):
                return self._power(left, right, powers)
            case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div() | ast.FloorDiv() | ast.Mod()):
                return self.allows(left, powers) and self.allows(node.right, powers)
            case ast.BoolOp(values=values) | ast.Tuple(elts=values):
                return self._all(values, powers)
            case ast.Compare(left=left, comparators=others):
                return self._all([left, *others], powers)
            case ast.Subscript() if self.in_guard:
                return self._input(node)
            case ast.Call():
                return self._call(node, powers)
        return False

    def _all(self, nodes: list[ast.expr], powers: int) -> bool:
        return all(self.allows(each, powers) for each in nodes)

    def _call(self, node: ast.Call, powers: int) -> bool:
        match node:
            case ast.Call(func=ast.Name(id="Symbol" | "Dummy"), args=[ast.Constant(value=str() as name)]):
                told = [(k.arg or "").isidentifier() and isinstance(k.value, ast.Constant) for k in node.keywords]
                return SYMBOL.fullmatch(name) is not None and all(told)
            case ast.Call(func=ast.Name(id="Float"), args=[ast.Constant(value=str() as digits)]):
                told = [k.arg == "precision" and isinstance(k.value, ast.Constant) for k in node.keywords]
                return re.fullmatch(r"-?[0-9.]{1,40}(e[+-]?[0-9]{1,3})?", digits) is not None and all(told)
            case ast.Call(func=ast.Name(id="IntInfinity" | "NegativeIntInfinity"), args=[], keywords=[]):
                return True
            case ast.Call(func=ast.Name(id=name), args=[base, exponent], keywords=[]) if name in POWERS:
                return self._power(base, exponent, powers)
            case ast.Call(func=ast.Name(id=name), keywords=[]) if name in FUNCTIONS and name not in POWERS:
                return self._all(node.args, powers)
            case ast.Call(func=ast.Attribute(value=ast.Name(id="math"), attr="isnan" | "ceil" | "floor" | "trunc")):
                return self.in_guard and not node.keywords and self._all(node.args, powers)
            case ast.Call(func=ast.Attribute(value=value, attr="size" | "stride" | "storage_offset"), args=[]):
                return self.in_guard and not node.keywords and self._input(value)
        return False

    def _power(self, base: ast.expr, exponent: ast.expr, powers: int) -> bool:
        while (isinstance(exponent, ast.Call) and len(exponent.args) == 1) or isinstance(exponent, ast.UnaryOp):
            exponent = exponent.operand if isinstance(exponent, ast.UnaryOp) else exponent.args[0]
        small = isinstance(exponent, ast.Constant) and isinstance(exponent.value, int | float)
        if not small or abs(exponent.value) > MOST_POWER or powers >= DEEPEST_POWER:  # type: ignore[attr-defined]
            return False
        return self.allows(base, powers + 1)

    def _input(self, node: ast.expr) -> bool:
        """Whether this is an input, or an item of one or of its size: ``L['x'][0].size()[1]``."""
        while isinstance(node, ast.Subscript):
            key = node.slice
            if isinstance(key, ast.UnaryOp):
                key = key.operand
            if not isinstance(key, ast.Constant) or not isinstance(key.value, int | str):
                return False
            if isinstance(key.value, str) and not PATH.fullmatch(key.value):
                return False
            node = node.value
        if isinstance(node, ast.Call):
            return self._call(node, 0)
        return isinstance(node, ast.Name) and node.id == "L"


def checked_container(text: str) -> str:
    """Return the description of how inputs or outputs are nested, written anew; raises `UntrustedError`."""
    try:
        version, tree = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        raise refuse("a container", text) from None
    return json.dumps([_plain(version, lambda value: value == 1, "a container of version"), _container(tree, 0)])


def _plain(value: Any, allowed: Callable[[Any], bool], what: str) -> Any:
    if not allowed(value):
        raise refuse(what, value)
    return value


def _container(tree: Any, depth: int) -> dict[str, Any]:
    match tree:
        case {"type": str() | None as kind, "context": str() | None as context, "children_spec": list() as children}:
            if depth > 32 or kind not in CONTAINERS:
                raise refuse("a container of the type", kind)
            return {
                "type": kind,
                "context": None if context is None else _context(context),
                "children_spec": [_container(child, depth + 1) for child in children],
            }
    raise refuse("a container", tree)


def _context(text: str) -> str:
    """Return the keys of a dictionary, or the length of a deque, written anew."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        raise refuse("a container of", text) from None
    for key in told if isinstance(told, list) else [told]:
        if isinstance(key, str):
            check_path(key)
        elif not (key is None or isinstance(key, int)):
            raise refuse("a container with the key", key)
    return json.dumps(told)
