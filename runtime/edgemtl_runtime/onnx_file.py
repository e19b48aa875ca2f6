"""What an ONNX file may hold: an allow list of fields, within bounds. No package is needed to look.

A bundle's network holds only what our exporter writes. One of anybody may also bring notes and branches, but neither
of them reads other files, brings functions of its own, calls what is not ONNX, or grows without end.
"""

from __future__ import annotations

import math
from itertools import islice
from pathlib import Path

from .errors import BundleError, EdgemtlError
from .onnx_sizes import FEW, RefusedError, Sizes, numbers
from .onnx_wire import FIXED32, FIXED64, LEN, VARINT, Fields, fields, integers, text

LARGEST_MB = 2048
"""Protobuf takes no larger file."""
DEEPEST = 32
MOST_FIELDS, MOST_NODES = 1_000_000, 100_000
LONGEST_NAME, LONGEST_NOTE = 1024, 1 << 20
MOST_PER_BYTE = 4
"""Numbers that a byte holds at the most: those of two bits."""

Allowed = dict[str, dict[int, str]]
TEXT, NOTE, NUMBER, REAL, BYTES, DOMAIN = "text", "note", "number", "real", "bytes", "domain"
MANY = "*"
"""Marks what may be there more than once."""
FIELDS: Allowed = {
    "ModelProto": {1: NUMBER, 2: TEXT, 3: TEXT, 4: TEXT, 5: NUMBER, 6: NOTE, 7: "GraphProto", 8: "OpsetProto*",
                   14: "StringProto*"},
    "OpsetProto": {1: DOMAIN, 2: NUMBER},
    "StringProto": {1: TEXT, 2: NOTE},
    "GraphProto": {1: "NodeProto*", 2: TEXT, 5: "TensorProto*", 10: NOTE, 11: "ValueProto*", 12: "ValueProto*",
                   13: "ValueProto*"},
    "NodeProto": {1: "text*", 2: "text*", 3: TEXT, 4: TEXT, 5: "AttributeProto*", 6: NOTE, 7: DOMAIN},
    "AttributeProto": {1: TEXT, 2: REAL, 3: NUMBER, 4: BYTES, 5: "TensorProto", 7: "real*", 8: "number*", 9: "bytes*",
                       13: NOTE, 20: NUMBER},
    "TensorProto": {1: "number*", 2: NUMBER, 4: "real*", 5: "number*", 7: "number*", 8: TEXT, 9: BYTES, 10: "real*",
                    11: "number*", 12: NOTE, 14: NUMBER},
    "ValueProto": {1: TEXT, 2: "TypeProto", 3: NOTE},
    "TypeProto": {1: "TensorTypeProto", 6: TEXT},
    "TensorTypeProto": {1: NUMBER, 2: "ShapeProto"},
    "ShapeProto": {1: "DimensionProto*"},
    "DimensionProto": {1: NUMBER, 2: TEXT, 3: TEXT},
}  # fmt: skip
"""By message, what our exporter writes (onnx.proto, IR version 10)."""
OF_ANYBODY: Allowed = {
    "GraphProto": {14: "AnnotationProto*", 16: "StringProto*"},
    "AnnotationProto": {1: TEXT, 2: "StringProto*"},
    "NodeProto": {8: TEXT, 9: "StringProto*"},
    "AttributeProto": {6: "GraphProto", 11: "GraphProto*"},
    "TensorProto": {6: "bytes*", 16: "StringProto*"},
    "ValueProto": {4: "StringProto*"},
}
"""What networks of others may hold beside it: branches, texts as values, and notes."""
DATA_LOCATION = ("TensorProto", 14)
"""0 is: in this file."""
WHAT = {
    ("TensorProto", 13): "wants to read weights from another file",
    DATA_LOCATION: "wants to read weights from another file",
    ("ModelProto", 20): "holds how it is trained",
    ("ModelProto", 25): "holds functions of its own",
    ("GraphProto", 15): "holds sparse weights",
    ("AttributeProto", 6): "holds branches or loops",
    ("AttributeProto", 11): "holds branches or loops",
    ("AttributeProto", 22): "holds sparse weights",
    ("AttributeProto", 23): "holds sparse weights",
    ("AttributeProto", 21): "holds functions of its own",
}
"""What a field that is not allowed says."""
DOMAINS = ("", "ai.onnx")


def check_onnx(file: Path) -> None:
    """Raise `BundleError` where a file is no ONNX network that our exporter could have written."""
    _check(file, FIELDS, BundleError, "do not use this bundle", "export the bundle again")


def check_foreign_onnx(file: Path) -> None:
    """Raise `EdgemtlError` where a file is no ONNX network, reads other files, or has code or sizes beyond bounds."""
    merged = {name: FIELDS.get(name, {}) | OF_ANYBODY.get(name, {}) for name in FIELDS.keys() | OF_ANYBODY.keys()}
    _check(file, merged, EdgemtlError, "do not use it", "get it again")


def _check(file: Path, allowed: Allowed, error: type[EdgemtlError], advice: str, repair: str) -> None:
    if file.stat().st_size > LARGEST_MB << 20:
        raise error(f"{file}: larger than an ONNX model can be; {repair}")
    data = memoryview(file.read_bytes())
    walk = _Walk(allowed)
    try:
        if not any(number == 7 for number, _, _ in islice(fields(data), MOST_FIELDS)):
            raise error(f"{file}: holds no network; {repair}")
        walk.message(data, "ModelProto", 0)
        walk.sizes.check()
    except RefusedError as told:
        raise error(f"{file}: {told}; {advice}") from None
    except (ValueError, IndexError):
        raise error(f"{file}: is no ONNX model (its encoding is broken); {repair}") from None


class _Walk:
    """One way through a file, and what was seen on it."""

    def __init__(self, allowed: Allowed) -> None:
        self.allowed = allowed
        self.fields, self.nodes = 0, 0
        self.sizes = Sizes()

    def message(self, data: memoryview, kind: str, depth: int) -> Fields:
        """Check a message and all in it, and return its fields by number."""
        if depth > DEEPEST:
            raise RefusedError("is nested without end")
        found: Fields = {}
        attributes: list[tuple[str, list[float]]] = []
        for number, wire, value in fields(data):
            self.fields += 1
            if self.fields > MOST_FIELDS:
                raise RefusedError(f"has more than {MOST_FIELDS} fields")
            inner = self.allowed[kind].get(number)
            if inner is None or (kind, number, value == 0) == (*DATA_LOCATION, False):
                raise RefusedError(WHAT.get((kind, number), f"has a field {number} of {kind}, which is not known here"))
            if not inner.endswith(MANY) and number in found:
                raise RefusedError(f"says a field of {kind} twice")
            found.setdefault(number, []).append(value)
            self._value(value, wire, inner.removesuffix(MANY), depth, attributes)
        if kind == "TensorProto":
            self._check_tensor(found, len(data), is_stored=depth == 2)
        if kind == "NodeProto":
            self.nodes += 1
            if self.nodes > MOST_NODES:
                raise RefusedError(f"has more than {MOST_NODES} nodes")
            self.sizes.node(found, attributes)
        return found

    def _value(
        self, value: int | memoryview, wire: int, kind: str, depth: int, attributes: list[tuple[str, list[float]]]
    ) -> None:
        if kind in (NUMBER, REAL):
            if wire not in ((VARINT, LEN) if kind == NUMBER else (FIXED32, FIXED64, LEN)):
                raise ValueError("a number is none")
        elif wire != LEN or not isinstance(value, memoryview):
            raise ValueError("a text or message is none")
        elif kind in self.allowed:
            found = self.message(value, kind, depth + 1)
            if kind == "AttributeProto":
                attributes.append(_attribute(found))
        elif kind != BYTES:
            if len(value) > (LONGEST_NOTE if kind == NOTE else LONGEST_NAME):
                raise RefusedError(f"holds a text of {len(value)} letters")
            if kind == DOMAIN and text(value) not in DOMAINS:
                raise RefusedError(f"calls operators of '{ascii(text(value)[:60])[1:-1]}', which are not ONNX's")

    def _check_tensor(self, found: Fields, length: int, is_stored: bool) -> None:
        sizes = [size for part in found.get(1, []) for size in integers(part)]
        if any(size < 0 for size in sizes) or math.prod(sizes) > MOST_PER_BYTE * length:
            raise RefusedError(f"has a tensor of the size {str(sizes)[:80]} in {length} bytes")
        if is_stored:
            self.sizes.tensor(found)


def _attribute(found: Fields) -> tuple[str, list[float]]:
    """Return an attribute's name, and its numbers where they are few."""
    name = text(found[1][0]) if 1 in found else ""
    if 5 in found and isinstance(tensor := found[5][0], memoryview):
        inner: Fields = {}
        for number, _, value in fields(tensor):
            inner.setdefault(number, []).append(value)
        return name, numbers(inner)
    whole = [*found.get(3, []), *found.get(8, [])]
    return name, [float(n) for part in whole[:FEW] if _is_short(part) for n in integers(part)]


def _is_short(part: int | memoryview) -> bool:
    return isinstance(part, int) or len(part) <= FEW
