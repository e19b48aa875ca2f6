"""Hashes of message types as ROS 2 has them since Iron: RIHS01 of REP-2011, by which nodes know that types agree.

The hash is SHA-256 of the type's description as JSON, with the descriptions of all types in it in the order of their
names; a default value or a comment changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from .cdr import Field, Message, contained, fields_of

TYPES = {"nested": 1, "uint8": 3, "int32": 6, "uint32": 7, "float64": 11, "bool": 15, "byte": 16, "string": 17}
ARRAY, SEQUENCE = 48, 144
"""What is added to a type's number where it is an array of fixed size, or a sequence without bound."""


def type_hash(kind: type[Message]) -> str:
    """Return the hash of a message class, as ``RIHS01_`` and 64 hexadecimal digits."""
    first, *rest = contained(kind)
    described = {
        "type_description": _description(first),
        "referenced_type_descriptions": [_description(k) for k in sorted(rest, key=lambda k: k.TYPE)],
    }
    return "RIHS01_" + hashlib.sha256(json.dumps(described).encode()).hexdigest()


def _description(kind: type[Message]) -> dict[str, Any]:
    fields = [{"name": field.name, "type": _field_type(field)} for field in fields_of(kind)]
    return {"type_name": kind.TYPE, "fields": fields}


def _field_type(field: Field) -> dict[str, Any]:
    nested = "" if isinstance(field.kind, str) else field.kind.TYPE
    number = TYPES[field.kind if isinstance(field.kind, str) else "nested"]
    number += {-1: 0, 0: SEQUENCE}.get(field.size, ARRAY)
    return {
        "type_id": number,
        "capacity": max(field.size, 0),
        "string_capacity": 0,
        "nested_type_name": nested,
    }
