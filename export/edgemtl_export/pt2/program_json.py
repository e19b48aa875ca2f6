"""The program in JSON, validated field by field against torch's own schema, and written again.

Every string is checked for what torch does with it (`expressions`), every number for its range; fields that the schema
does not know, and those for people alone (a node's stack trace), are dropped.
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
from .expressions import MAX_TEXT, check_guard, check_name, check_operator, check_path, check_size, checked_container

MAX_BYTES = 256 << 20
MAX_DEPTH = 150
MAX_ELEMENTS = 1 << 34
"""The largest tensor of a program: 64 GB of float32."""
FREE_ELEMENTS = 1 << 20
"""Elements that a weight with a smaller file may have (strides of 0)."""
Check = Callable[[str], object]


def _check_text(text: str) -> None:
    """Check a string constant, which torch writes into no source: its length alone."""
    if len(text) > MAX_TEXT:
        raise UntrustedError(f"its program has a text of {len(text)} letters")


def _check_symbol(text: str) -> None:
    check_name(text)
    check_size(text)


def _check_argument(text: str) -> None:
    if text:  # a positional argument has no name
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
    **{f"{class_}.name": check_name for class_ in ("TensorArgument", "TokenArgument", "GraphArgument")},
    **{f"Sym{type_}Argument.as_name": check_name for type_ in ("Int", "Float", "Bool")},
}
"""The check of a string, by class and field of torch's schema; any other string is a path or a plain key."""
KEY_CHECKS: dict[str, Check] = {
    "ExportedProgram.range_constraints": _check_symbol,
    **{f"Graph.{field}": check_name for field in ("tensor_values", "sym_int_values", "sym_bool_values")},
    "Graph.sym_float_values": check_name,
}
DROPPED: dict[str, dict[str, str]] = {
    "Node.metadata": {},
    "GraphModule.metadata": {},
    "GraphModule.treespec_namedtuple_fields": {},
}
"""Fields for people, or of containers that are rejected: replaced by an empty value."""
CUSTOM_CLASSES = ("CustomObjArgument", "InputToCustomObjSpec")
"""Objects of a class that the file names."""


def validated_program(data: bytes) -> bytes:
    """Return a program's JSON with validated fields alone; raises `UntrustedError`."""
    return _validated(data, schema.ExportedProgram, "its program")


def validated_payload(data: bytes, what: str, lengths: Mapping[str, int]) -> tuple[bytes, dict[str, bool]]:
    """Return a table of weights, validated, and for each file that it names whether it is a pickle.

    ``lengths`` are the files' sizes in bytes. Raises `UntrustedError` also for a weight that is larger than its file.
    """
    checked = _validated(data, schema.PayloadConfig, what)
    pickled: dict[str, bool] = {}
    for name, entry in json.loads(checked)["config"].items():
        file, meta = entry["path_name"], entry["tensor_meta"]
        pickled[file] = entry["use_pickle"]
        length = lengths.get(file, 0)
        elements = math.prod(size.get("as_int", 1) for size in meta["sizes"]) if meta else 0
        if not entry["use_pickle"] and elements > (max(length, FREE_ELEMENTS) if length else 0):
            raise UntrustedError(f"{what} has {name} of {elements} numbers in a file of {length} bytes")
    return checked, pickled


def _validated(data: bytes, class_: type, what: str) -> bytes:
    if len(data) > MAX_BYTES:
        raise UntrustedError(f"{what} is {len(data) / 1e6:.0f} MB of text")
    try:
        tree = json.loads(data)
        return json.dumps(_checked(tree, class_, class_.__name__, 0)).encode()
    except UntrustedError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UntrustedError(f"{what} is not as torch.export writes it ({str(error)[:100]})") from None


@cache
def _hints(class_: type) -> dict[str, Any]:
    return typing.get_type_hints(class_, globalns=vars(schema))


def _checked(tree: Any, hint: Any, path: str, depth: int) -> Any:
    """Return a value of the field ``path`` (class and field of the schema) if it is of the type ``hint``."""
    if depth > MAX_DEPTH:
        raise ValueError("nested without end")
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, UnionType):
        return None if tree is None else _checked(tree, next(t for t in inner if t is not type(None)), path, depth)
    if origin is list and isinstance(tree, list):
        return [_checked(item, inner[0], path, depth + 1) for item in tree]
    if origin is dict and isinstance(tree, dict):
        for key in tree:
            KEY_CHECKS.get(path, check_path)(key)
        return {key: _checked(value, inner[1], path, depth + 1) for key, value in tree.items()}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(tree, dict):
        return _fields(tree, hint, depth)
    if hint is str and isinstance(tree, str):
        return _text(tree, path)
    return _number(tree, hint, path)


def _fields(tree: dict[str, Any], class_: type, depth: int) -> dict[str, Any]:
    name, hints = class_.__name__, _hints(class_)
    if name in CUSTOM_CLASSES:
        raise UntrustedError(f"its program holds an object of the class {str(tree.get('class_fqn'))[:80]!a}")
    if issubclass(class_, _Union) and (len(tree) != 1 or not tree.keys() <= hints.keys()):
        raise ValueError(f"{name}: {str(list(tree))[:80]!a}")
    fields: dict[str, Any] = {}
    for field, value in tree.items():
        path = f"{name}.{field}"
        if field in hints:
            fields[field] = DROPPED[path] if path in DROPPED else _checked(value, hints[field], path, depth + 1)
    if name == "TensorMeta":
        _check_elements(fields["sizes"])
    if name == "Graph":
        _check_inputs(fields["inputs"])
    if name == "Argument":
        _check_numbers(fields)
    return fields


def _text(text: str, path: str) -> str:
    rewritten = CHECKS.get(path, check_path)(text)
    return rewritten if isinstance(rewritten, str) and rewritten else text


def _number(tree: Any, hint: Any, path: str) -> Any:
    if hint is bool and isinstance(tree, bool):
        return tree
    if hint is float and (type(tree) in (int, float) or tree in ("Infinity", "-Infinity", "NaN")):
        return tree
    if isinstance(hint, type) and issubclass(hint, int) and hint is not bool and type(tree) is int:
        if issubclass(hint, IntEnum):
            return int(hint(tree))
        if abs(tree) < 1 << 63:
            return tree
    raise ValueError(f"{path} is {str(tree)[:60]!a}")


def _check_elements(sizes: Iterable[dict[str, Any]]) -> None:
    numbers = [size["as_int"] for size in sizes if "as_int" in size]
    if len(numbers) > 64 or any(n < 0 for n in numbers) or math.prod(numbers) > MAX_ELEMENTS:
        raise UntrustedError(f"its program has a tensor of the size {str(numbers)[:80]}")


def _check_numbers(argument: dict[str, Any]) -> None:
    """Bound lists of integers, which mostly are sizes."""
    numbers = argument.get("as_ints", ())
    if math.prod(max(abs(n), 1) for n in numbers if abs(n) < 1 << 60) > 1 << 40:
        raise UntrustedError(f"its program makes a tensor of the size {str(numbers)[:80]}")


def _check_inputs(inputs: Iterable[dict[str, Any]]) -> None:
    """Check inputs that are strings: torch writes them into guards, between quotes."""
    for argument in inputs:
        if "as_string" in argument:
            check_path(argument["as_string"])
