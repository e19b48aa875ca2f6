"""Strings of an exported program that torch evaluates: names, operators, sizes, guards and container specs.

torch writes names into Python source, passes sizes to sympy's ``eval`` and guards to ``exec``, and imports the modules
that a container spec names. So each string must match the small language that torch itself writes.
"""

from __future__ import annotations

import ast
import contextlib
import json
import keyword
import re
from collections.abc import Callable
from functools import cache

import torch

from .archive import UntrustedError

MAX_TEXT = 20_000
PATH = re.compile(r"[A-Za-z0-9_.$<>/:+ -]{0,500}")
"""Paths of weights and keys of dictionaries: torch puts them between quotes, so they contain none."""
SYMBOL = re.compile(r"[a-z_]{1,8}[0-9]{1,6}")
OPERATOR = re.compile(r"torch\.ops\.(aten|prims|torchvision|quantized_decomposed)\.([A-Za-z0-9_]+)\.([A-Za-z0-9_]+)")
FILE_OPERATORS = ("from_file",)
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
SYMPY_FUNCTIONS = frozenset((
    "Add", "Mul", "Max", "Min", "Mod", "Abs", "And", "Or", "Not", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "Equality",
    "Unequality", "StrictLessThan", "LessThan", "GreaterThan", "StrictGreaterThan", "Piecewise", "ExprCondPair",
    "Rational", "floor", "ceiling", "Integer", "Float", "FloorDiv", "ModularIndexing", "Where", "PythonMod",
    "CleanDiv", "CeilToInt", "FloorToInt", "CeilDiv", "FloatTrueDiv", "IntTrueDiv", "TruncToFloat", "TruncToInt",
    "RoundToInt", "RoundDecimal", "ToFloat", "Identity", "IsNonOverlappingAndDenseIndicator", "Pow", "PowByNatural",
    "FloatPow",
))  # fmt: skip
POWERS = ("Pow", "PowByNatural", "FloatPow")
MAX_EXPONENT, MAX_POWER_DEPTH = 64, 2
CONSTANTS = frozenset(["true", "false", "True", "False", "oo", "int_oo", "L", "math", "inf"])
CONTAINERS = {"builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict", "collections.deque", None}


def untrusted(what: str, text: object) -> UntrustedError:
    """Return the error for a string that torch does not write."""
    return UntrustedError(f"its program has {what} {str(text)[:80]!a}, which torch.export does not write")


def check_name(text: str) -> None:
    """Raise `UntrustedError` unless a string is a plain Python identifier: torch writes it into source."""
    if not (text.isascii() and text.isidentifier() and len(text) <= 500) or keyword.iskeyword(text):
        raise untrusted("a name", text)


def check_path(text: str) -> None:
    """Raise `UntrustedError` unless a string is the path of a module or weight, or a plain key."""
    if not PATH.fullmatch(text) or any(part.startswith("__") and part.endswith("__") for part in text.split(".")):
        raise untrusted("a path", text)


def check_operator(text: str) -> None:
    """Raise `UntrustedError` unless a string names an operator of torch without side effects."""
    if text in OTHER_OPERATORS:
        return
    match = OPERATOR.fullmatch(text)
    if match is None or match[2] in FILE_OPERATORS or not _is_registered(match[1], match[2], match[3]):
        raise UntrustedError(f"its program calls {text[:120]!a}, which is no plain operator of torch")


@cache
def _registered() -> frozenset[str]:
    with contextlib.suppress(ImportError):
        import torchvision  # noqa: F401  # registers its operators

    return frozenset(torch._C._dispatch_get_all_op_names())


def _is_registered(namespace: str, name: str, overload: str) -> bool:
    full = f"{namespace}::{name}" + ("" if overload == "default" else f".{overload}")
    return full in _registered()


def check_size(text: str) -> None:
    """Raise `UntrustedError` unless a string is arithmetic on sizes, as sympy prints it."""
    _check_expression(text, "a size", in_guard=False)


def check_guard(text: str) -> None:
    """Raise `UntrustedError` unless a string compares sizes and values of the inputs."""
    _check_expression(text, "a guard", in_guard=True)


def _check_expression(text: str, what: str, in_guard: bool) -> None:
    if len(text) > MAX_TEXT or not text.isascii():
        raise untrusted(what, text)
    try:
        tree = ast.parse(text, mode="eval")
        allowed = _Expression(in_guard).allows(tree.body, 0)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        allowed = False
    if not allowed:
        raise untrusted(what, text)


class _Expression:
    """The allowed grammar. Powers are few and small, so that no number grows without end."""

    def __init__(self, in_guard: bool) -> None:
        self.in_guard = in_guard

    def allows(self, node: ast.expr, powers: int) -> bool:
        """Whether an expression is allowed, inside ``powers`` nested powers."""
        match node:
            case ast.Constant(value=bool() | float()):
                return True
            case ast.Constant(value=int() as number):
                return abs(number) < 1 << 64
            case ast.Name(id=name):
                return name in CONSTANTS or SYMBOL.fullmatch(name) is not None
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
        return all(self.allows(node, powers) for node in nodes)

    def _call(self, node: ast.Call, powers: int) -> bool:
        match node:
            case ast.Call(func=ast.Name(id="Symbol" | "Dummy"), args=[ast.Constant(value=str() as name)]):
                plain = [(k.arg or "").isidentifier() and isinstance(k.value, ast.Constant) for k in node.keywords]
                return SYMBOL.fullmatch(name) is not None and all(plain)
            case ast.Call(func=ast.Name(id="Float"), args=[ast.Constant(value=str() as digits)]):
                plain = [k.arg == "precision" and isinstance(k.value, ast.Constant) for k in node.keywords]
                return re.fullmatch(r"-?[0-9.]{1,40}(e[+-]?[0-9]{1,3})?", digits) is not None and all(plain)
            case ast.Call(func=ast.Name(id="IntInfinity" | "NegativeIntInfinity"), args=[], keywords=[]):
                return True
            case ast.Call(func=ast.Name(id=name), args=[base, exponent], keywords=[]) if name in POWERS:
                return self._power(base, exponent, powers)
            case ast.Call(func=ast.Name(id=name), keywords=[]) if name in SYMPY_FUNCTIONS and name not in POWERS:
                return self._all(node.args, powers)
            case ast.Call(func=ast.Attribute(value=ast.Name(id="math"), attr="isnan" | "ceil" | "floor" | "trunc")):
                return self.in_guard and not node.keywords and self._all(node.args, powers)
            case ast.Call(func=ast.Attribute(value=value, attr="size" | "stride" | "storage_offset"), args=[]):
                return self.in_guard and not node.keywords and self._input(value)
        return False

    def _power(self, base: ast.expr, exponent: ast.expr, powers: int) -> bool:
        while (isinstance(exponent, ast.Call) and len(exponent.args) == 1) or isinstance(exponent, ast.UnaryOp):
            exponent = exponent.operand if isinstance(exponent, ast.UnaryOp) else exponent.args[0]
        match exponent:
            case ast.Constant(value=int() | float() as number):
                return abs(number) <= MAX_EXPONENT and powers < MAX_POWER_DEPTH and self.allows(base, powers + 1)
        return False

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
    """Return the container spec (pytree) of inputs or outputs, written again; raises `UntrustedError`."""
    try:
        version, tree = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        raise untrusted("a container", text) from None
    return json.dumps([_plain(version, lambda value: value == 1, "a container of version"), _container(tree, 0)])


def _plain(value: object, allowed: Callable[[object], bool], what: str) -> object:
    if not allowed(value):
        raise untrusted(what, value)
    return value


def _container(tree: object, depth: int) -> dict[str, object]:
    match tree:
        case {"type": str() | None as type_, "context": str() | None as context, "children_spec": list() as children}:
            if depth > 32 or type_ not in CONTAINERS:
                raise untrusted("a container of the type", type_)
            return {
                "type": type_,
                "context": None if context is None else _context(context),
                "children_spec": [_container(child, depth + 1) for child in children],
            }
    raise untrusted("a container", tree)


def _context(text: str) -> str:
    """Return the keys of a dictionary, or the length of a deque, written again."""
    try:
        context = json.loads(text)
    except (ValueError, RecursionError):
        raise untrusted("a container of", text) from None
    for key in context if isinstance(context, list) else [context]:
        if isinstance(key, str):
            check_path(key)
        elif not (key is None or isinstance(key, int)):
            raise untrusted("a container with the key", key)
    return json.dumps(context)
