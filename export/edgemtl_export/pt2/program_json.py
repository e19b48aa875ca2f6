"""The program itself, in JSON: held field by field against torch's own description of it, and written anew.

Every text is checked for what torch does with it (`expressions`), every number for its range; what torch's description
does not know, and what is told for people alone (where in the source a node came from), is left out.
"""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from functools import cache
from types import UnionType
from typing import Any

from torch._export.serde import schema
from torch._export.serde.union import _Union

from .archive import UntrustedError
from .expressions import LONGEST, check_guard, check_name, check_operator, check_path, check_size, checked_container

LARGEST_BYTES = 256 << 20
DEEPEST = 150
MOST_ELEMENTS = 1 << 34
"""No tensor of the program is larger: 64 GB of float32."""
FREE_ELEMENTS = 1 << 20
"""A weight that is one number over and over may have so many more than its file."""
Check = Callable[[str], object]


def _check_text(text: str) -> None:
    """What ends between no quotes: it may not break a line, nor be without end."""
    if len(text) > LONGEST:
        raise UntrustedError(f"its program has a text of {len(text)} letters")


def _check_symbol(text: str) -> None:
    check_name(text)
    check_size(text)


def _check_argument(text: str) -> None:
    if text:  # one that is told by its place has no name
        check_name(text)


CHECKS: dict[str, Check] = {
    "SymExpr.expr_str": check_size,
    "Node.target": check_operator,
    "Argument.as_operator": check_operator,
    "Node.name": check_name,
    "NamedArgument.name": _check_argument,
    "ModuleCallSignature.forward_arg_names": check_name,
    "ModuleCallSignature.in_spec": checked_container,
    "ModuleCallSignature.out_spec": checked_container,
    "ExportedProgram.guards_code": check_guard,
    "Argument.as_string": _check_text,
    "Argument.as_strings": _check_text,
    **{f"{each}.name": check_name for each in ("TensorArgument", "TokenArgument", "GraphArgument")},
    **{f"Sym{each}Argument.as_name": check_name for each in ("Int", "Float", "Bool")},
}
"""What a text must be, by the class and field of torch's schema; any other is a path or a plain word."""
KEYS: dict[str, Check] = {
    "ExportedProgram.range_constraints": _check_symbol,
    **{f"Graph.{each}": check_name for each in ("tensor_values", "sym_int_values", "sym_bool_values")},
    "Graph.sym_float_values": check_name,
}
LEFT_OUT: dict[str, dict[str, str]] = {
    "Node.metadata": {},
    "GraphModule.metadata": {},
    "GraphModule.treespec_namedtuple_fields": {},
}
"""Told for people, or of containers that are refused."""
REFUSED = ("CustomObjArgument", "InputToCustomObjSpec")
"""Objects of a class that the file names."""


def rewritten_program(data: bytes) -> bytes:
    """Return a program's JSON with nothing in it but what was checked; raises `UntrustedError`."""
    return _rewritten(data, schema.ExportedProgram, "its program")


def rewritten_payload(data: bytes, what: str, lengths: Mapping[str, int]) -> tuple[bytes, dict[str, bool]]:
    """Return a table of weights, checked, and of each file that it names whether it is a pickle.

    ``lengths`` are the bytes of each file there is. Raises `UntrustedError` also for a weight that is larger.
    """
    checked = _rewritten(data, schema.PayloadConfig, what)
    pickled: dict[str, bool] = {}
    for name, entry in json.loads(checked)["config"].items():
        file, meta = entry["path_name"], entry["tensor_meta"]
        pickled[file] = entry["use_pickle"]
        length = lengths.get(file, 0)
        elements = math.prod(size.get("as_int", 1) for size in meta["sizes"]) if meta else 0
        if not entry["use_pickle"] and elements > (max(length, FREE_ELEMENTS) if length else 0):
            raise UntrustedError(f"{what} has {name} of {elements} numbers in a file of {length} bytes")
    return checked, pickled


def _rewritten(data: bytes, kind: type, what: str) -> bytes:
    if len(data) > LARGEST_BYTES:
        raise UntrustedError(f"{what} is {len(data) / 1e6:.0f} MB of text")
    try:
        tree = json.loads(data)
        return json.dumps(_checked(tree, kind, kind.__name__, 0)).encode()
    except UntrustedError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UntrustedError(f"{what} is not as torch.export writes it ({str(error)[:100]})") from None


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind, globalns=vars(schema))


def _checked(tree: Any, hint: Any, place: str, depth: int) -> Any:
    """Return what is at ``place`` (class and field of the schema) if it is of the type ``hint``."""
    if depth > DEEPEST:
        raise ValueError("nested without end")
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, UnionType):
        return None if tree is None else _checked(tree, next(t for t in inner if t is not type(None)), place, depth)
    if origin is list and isinstance(tree, list):
        return [_checked(each, inner[0], place, depth + 1) for each in tree]
    if origin is dict and isinstance(tree, dict):
        for key in tree:
            KEYS.get(place, check_path)(key)
        return {key: _checked(each, inner[1], place, depth + 1) for key, each in tree.items()}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(tree, dict):
        return _fields(tree, hint, depth)
    if hint is str and isinstance(tree, str):
        return _text(tree, place)
    return _number(tree, hint, place)


def _fields(tree: dict[str, Any], kind: type, depth: int) -> dict[str, Any]:
    name, hints = kind.__name__, _hints(kind)
    if name in REFUSED:
        raise UntrustedError(f"its program holds an object of the class {str(tree.get('class_fqn'))[:80]!a}")
    if issubclass(kind, _Union) and (len(tree) != 1 or not tree.keys() <= hints.keys()):
        raise ValueError(f"{name}: {str(list(tree))[:80]!a}")
    found: dict[str, Any] = {}
    for field, value in tree.items():
        place = f"{name}.{field}"
        if field in hints:
            found[field] = LEFT_OUT[place] if place in LEFT_OUT else _checked(value, hints[field], place, depth + 1)
    if name == "TensorMeta":
        _check_elements(found["sizes"])
    if name == "Graph":
        _check_inputs(found["inputs"])
    if name == "Argument":
        _check_numbers(found)
    return found


def _text(text: str, place: str) -> str:
    made = CHECKS.get(place, check_path)(text)
    return made if isinstance(made, str) and made else text


def _number(tree: Any, hint: Any, place: str) -> Any:
    if hint is bool and isinstance(tree, bool):
        return tree
    if hint is float and (type(tree) in (int, float) or tree in ("Infinity", "-Infinity", "NaN")):
        return tree
    if isinstance(hint, type) and issubclass(hint, int) and hint is not bool and type(tree) is int:
        if issubclass(hint, IntEnum):
            return int(hint(tree))
        if abs(tree) < 1 << 63:
            return tree
    raise ValueError(f"{place} is {str(tree)[:60]!a}")


def _check_elements(sizes: Iterable[dict[str, Any]]) -> None:
    numbers = [size["as_int"] for size in sizes if "as_int" in size]
    if len(numbers) > 64 or any(n < 0 for n in numbers) or math.prod(numbers) > MOST_ELEMENTS:
        raise UntrustedError(f"its program has a tensor of the size {str(numbers)[:80]}")


def _check_numbers(argument: dict[str, Any]) -> None:
    """Lists of whole numbers are sizes, above all."""
    numbers = argument.get("as_ints", ())
    if math.prod(max(abs(n), 1) for n in numbers if abs(n) < 1 << 60) > 1 << 40:
        raise UntrustedError(f"its program makes a tensor of the size {str(numbers)[:80]}")


def _check_inputs(inputs: Iterable[dict[str, Any]]) -> None:
    """An input that is a text ends between quotes in a guard."""
    for each in inputs:
        if "as_string" in each:
            check_path(each["as_string"])
