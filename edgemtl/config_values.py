"""Values of a configuration, read from text by the type of their key, in any spelling of YAML.

YAML 1.1, which PyYAML reads, takes `1e-3` for text, `on` for a truth value and `2024` for a number whatever is wanted.
So every scalar stays the text that was written (`Scalar`), with its origin, until the type of its key is known.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
from msgspec import inspect

from edgemtl_runtime.text import printable, shortened

from .config_bounds import bounds_of, fields_of, plain
from .errors import ConfigError, nearest_hint

TRUTH = {"true": True, "yes": True, "on": True, "y": True, "1": True}
TRUTH |= {"false": False, "no": False, "off": False, "n": False, "0": False}
NULL = ("", "~", "null")
SPECIAL = {".inf": "inf", "+.inf": "inf", "-.inf": "-inf", ".nan": "nan"}
"""YAML's names of numbers that are not finite, and Python's."""


class Scalar(str):
    """A scalar as it was written, and where: in a line of a file, or in a word of the command line."""

    __slots__ = ("is_quoted", "origin")
    is_quoted: bool
    origin: str

    @classmethod
    def of(cls, text: str, origin: str, is_quoted: bool = False) -> Scalar:
        """Return a scalar with its origin: "mine.yaml:3", or "epochs=four"."""
        scalar = cls(text)
        scalar.origin, scalar.is_quoted = origin, is_quoted
        return scalar

    @property
    def is_null(self) -> bool:
        """Whether this stands for no value."""
        return not self.is_quoted and self.lower() in NULL

    def part(self, text: str) -> Scalar:
        """Return a part of this, at the same origin."""
        return Scalar.of(text, self.origin, self.is_quoted)


def origin_of(value: object) -> str:
    """Return where a value was written, by its first scalar; nothing where it has none."""
    if isinstance(value, Scalar):
        return value.origin
    parts = [p for pair in value.items() for p in pair] if isinstance(value, dict) else value
    return next(filter(None, map(origin_of, parts)), "") if isinstance(parts, list | tuple) else ""


def invalid(value: object, message: str) -> ConfigError:
    """Return the error about a value, with its origin in front where the message does not begin with it."""
    origin = origin_of(value)
    text = shortened(message)
    return ConfigError(text if not origin or text.startswith(origin) else f"{printable(origin)}: {text}")


def read_value(value: Any, type_: inspect.Type, key: str) -> Any:
    """Return a value of a tree of scalars as the type of its key; raises `ConfigError` that names key and origin."""
    type_ = plain(type_)
    if isinstance(type_, inspect.UnionType):
        type_ = _member(type_, value)
    if isinstance(type_, inspect.AnyType):
        return _read_any(value)
    if isinstance(type_, inspect.StructType):
        return _read_struct(value, type_, key)
    if isinstance(type_, inspect.DictType):
        return _read_dict(value, type_, key)
    if isinstance(type_, inspect.VarTupleType | inspect.TupleType | inspect.ListType):
        return _read_sequence(value, type_, key)
    if not isinstance(value, str):
        raise invalid(value, f"{key}={_shown(value)}: wants one value, not several")
    if isinstance(type_, inspect.BoolType):
        if (truth := TRUTH.get(value.lower())) is None:
            raise invalid(value, f"{key}={_shown(value)} is neither true nor false")
        return truth
    if isinstance(type_, inspect.IntType | inspect.FloatType):
        return _read_number(value, type_, key)
    if isinstance(type_, inspect.LiteralType):
        return _read_literal(value, type_, key)
    return str(value)


def _member(union: inspect.UnionType, value: object) -> inspect.Type:
    """Return the type of a union that a value is of: a list's for a list, else the first one of scalars."""
    collections = (inspect.StructType, inspect.DictType, inspect.VarTupleType, inspect.TupleType, inspect.ListType)
    types = [plain(member) for member in union.types if not isinstance(member, inspect.NoneType)]
    return next((t for t in types if isinstance(t, collections) is not isinstance(value, str)), types[0])


def _read_any(value: Any) -> Any:
    """Return a value whose type nobody states as YAML 1.2 has it: a truth value, a number, else text."""
    if isinstance(value, dict):
        return {str(name): _read_any(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_read_any(item) for item in value]
    if not isinstance(value, str) or (isinstance(value, Scalar) and value.is_quoted):
        return str(value) if isinstance(value, str) else value
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    number = _number(value.strip(), False)
    if number is None:
        return str(value)
    return int(number) if value.strip().lstrip("+-").isdecimal() else number


def _read_struct(value: Any, type_: inspect.StructType, key: str) -> dict[str, Any]:
    fields = fields_of(type_.cls)
    required = [field.encode_name for field in type_.fields if field.required]
    if isinstance(value, str) and len(required) == 1:
        value = {required[0]: value}
    if not isinstance(value, dict):
        example = next(iter(fields))
        raise invalid(
            value, f"{key}={_shown(value)}: {key} holds keys; write {key}.{example}=…, as one of {', '.join(fields)}"
        )
    for name in required:
        if name not in value:
            raise invalid(value, f"{key}: has no '{name}'")
    prefix = f"{key}." if key else ""
    return {
        str(name): read_value(item, fields[str(name)], f"{prefix}{name}")
        for name, item in value.items()
        if not (isinstance(item, Scalar) and item.is_null)
    }


def _read_dict(value: Any, type_: inspect.DictType, key: str) -> dict[str, Any]:
    if isinstance(value, Scalar):  # boxes:0.5,depth:1
        value = dict.fromkeys(map(value.part, _split(value)), value.part(""))
    if not isinstance(value, dict):
        raise invalid(value, f"{key}={_shown(value)}: wants a name for each value, like {{boxes: 0.5}}")
    result = {}
    for name, item in value.items():
        if isinstance(item, Scalar) and item.is_null:  # YAML wants a blank after the colon
            name, colon, text = str(name).partition(":")
            if not colon:
                raise invalid(value, f"{key}: '{name}' has no value; write {{{name}: VALUE}}")
            item = item.part(text.strip())
        result[str(name).strip()] = read_value(item, type_.value_type, f"{key}.{name}")
    return result


def _read_sequence(
    value: Any, type_: inspect.VarTupleType | inspect.TupleType | inspect.ListType, key: str
) -> list[Any]:
    if isinstance(value, Scalar):
        value = [value.part(text) for text in _split(value)]
    if not isinstance(value, list):
        raise invalid(value, f"{key}={_shown(value)}: wants a list, like [a, b]")
    if not isinstance(type_, inspect.TupleType):
        return [read_value(item, type_.item_type, f"{key}[{index}]") for index, item in enumerate(value)]
    if len(value) != len(type_.item_types):
        raise invalid(value, f"{key}={_shown(value)}: wants {len(type_.item_types)} values, not {len(value)}")
    types = enumerate(zip(value, type_.item_types, strict=True))
    return [read_value(item, item_type, f"{key}[{index}]") for index, (item, item_type) in types]


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _read_number(value: str, type_: inspect.IntType | inspect.FloatType, key: str) -> int | float:
    whole = isinstance(type_, inspect.IntType)
    number = _number(value.strip(), whole)
    if number is None:
        hint = next((f"; write {other}" for other in _other_spellings(value) if _number(other, whole) is not None), "")
        raise invalid(value, f"{key}={_shown(value)} is no {'whole ' if whole else ''}number{hint}")
    if (bounds := bounds_of(type_)) and not bounds[0] <= number <= bounds[1]:
        raise invalid(value, f"{key}={_shown(value)} is not between {bounds[0]:g} and {bounds[1]:g}")
    return number


def _number(text: str, whole: bool) -> int | float | None:
    """Return the number that a text stands for, in any spelling of YAML 1.1 or 1.2; None where it is none."""
    for base in (10, 0):
        try:
            integer = int(text, base)
        except ValueError:
            continue
        return integer if whole else float(min(max(integer, -(10**300)), 10**300))
    try:
        number = float(SPECIAL.get(text.lower(), text))
    except ValueError:
        return None
    if math.isnan(number) or (whole and not number.is_integer()):
        return None
    return int(number) if whole else number


def _other_spellings(text: str) -> list[str]:
    """Return what a number that cannot be read may have meant: a share in percent, a comma, a unit."""
    percent = _number(text.removesuffix("%").strip(), False) if text.endswith("%") else None
    return [*([] if percent is None else [f"{percent / 100:g}"]), text.replace(",", "."), text.replace(",", "")]


def _read_literal(value: str, type_: inspect.LiteralType, key: str) -> str:
    values = [str(known) for known in type_.values]
    for known in values:
        if value.lower() == known.lower():
            return known
    given = f"'{shortened(value, 40)}'" if not value else shortened(value, 40)
    listed = ", ".join(known or "''" for known in values)
    near = nearest_hint(value, values)
    raise invalid(value, f"{key}={given} is not one of {listed}{near if near.startswith('; did') else ''}")


def _shown(value: object) -> str:
    if isinstance(value, str):
        return shortened(value, 40)
    parts = msgspec.to_builtins(value) if not isinstance(value, dict | list) else value
    return shortened(str(parts).replace("'", ""), 40)
