"""Bounds and descriptions of a configuration's keys."""

from __future__ import annotations

import functools
from typing import Any

import msgspec
from msgspec import Meta


def about(description: str, ge: float | None = None, le: float | None = None) -> Meta:
    """Return the description and the bounds, both included, of a key."""
    return Meta(description=description, ge=ge, le=le)


@functools.cache
def fields_of(section: type[msgspec.Struct]) -> dict[str, msgspec.inspect.Type]:
    """Return the type, with bounds and description, of each key of a section."""
    info = msgspec.inspect.type_info(section)
    assert isinstance(info, msgspec.inspect.StructType)
    return {field.encode_name: field.type for field in info.fields}


def plain(type_: msgspec.inspect.Type) -> msgspec.inspect.Type:
    """Return a type without its description."""
    return type_.type if isinstance(type_, msgspec.inspect.Metadata) else type_


def check_bounds(name: str, value: Any, type_: msgspec.inspect.Type) -> None:
    """Raise `ValueError` where a value, or one of a tuple's, is out of its bounds."""
    type_ = plain(type_)
    if isinstance(type_, msgspec.inspect.TupleType):
        for index, (item, item_type) in enumerate(zip(value, type_.item_types, strict=True)):
            check_bounds(f"{name}[{index}]", item, item_type)
    if (bounds := bounds_of(type_)) and not bounds[0] <= value <= bounds[1]:
        raise ValueError(f"{name}={value} is not between {bounds[0]:g} and {bounds[1]:g}")


def bounds_of(type_: msgspec.inspect.Type) -> tuple[float, float] | None:
    """Return the least and the greatest value of a number that has bounds."""
    type_ = plain(type_)
    if not isinstance(type_, msgspec.inspect.IntType | msgspec.inspect.FloatType):
        return None
    return None if type_.ge is None or type_.le is None else (type_.ge, type_.le)
