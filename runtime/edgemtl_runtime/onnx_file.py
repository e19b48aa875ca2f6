"""Validation of untrusted ONNX files: an allow list of protobuf fields, within bounds, without the onnx package.

A bundle's network holds only fields that our exporter writes. A foreign one may also have annotations and control flow.
Neither reads other files, defines functions, calls operators that are not ONNX's, or grows without end.
"""

from __future__ import annotations

import math
from itertools import islice
from pathlib import Path

from .errors import BundleError, EdgemtlError
from .onnx_sizes import MAX_SHAPE_BYTES, Sizes, UnsafeOnnxError, is_short, numbers
from .onnx_wire import FIXED32, FIXED64, LEN, VARINT, Fields, fields, integers, text

MAX_MB = 2048
"""Protobuf takes no larger file."""
MAX_DEPTH = 32
MAX_FIELDS, MAX_NODES = 1_000_000, 100_000
MAX_NAME, MAX_DOC = 1024, 1 << 20
MAX_ELEMENTS_PER_BYTE = 4
"""Elements of the smallest type, of two bits, in a byte."""

Allowed = dict[str, dict[int, str]]
TEXT, DOC, NUMBER, REAL, BYTES, DOMAIN = "text", "doc", "number", "real", "bytes", "domain"
REPEATED = "*"
"""Suffix of a repeated field."""
FIELDS: Allowed = {
    "ModelProto": {1: NUMBER, 2: TEXT, 3: TEXT, 4: TEXT, 5: NUMBER, 6: DOC, 7: "GraphProto", 8: "OpsetProto*",
                   14: "StringProto*"},
    "OpsetProto": {1: DOMAIN, 2: NUMBER},
    "StringProto": {1: TEXT, 2: DOC},
    "GraphProto": {1: "NodeProto*", 2: TEXT, 5: "TensorProto*", 10: DOC, 11: "ValueProto*", 12: "ValueProto*",
                   13: "ValueProto*"},
    "NodeProto": {1: "text*", 2: "text*", 3: TEXT, 4: TEXT, 5: "AttributeProto*", 6: DOC, 7: DOMAIN},
    "AttributeProto": {1: TEXT, 2: REAL, 3: NUMBER, 4: BYTES, 5: "TensorProto", 7: "real*", 8: "number*", 9: "bytes*",
                       13: DOC, 20: NUMBER},
    "TensorProto": {1: "number*", 2: NUMBER, 4: "real*", 5: "number*", 7: "number*", 8: TEXT, 9: BYTES, 10: "real*",
                    11: "number*", 12: DOC, 14: NUMBER},
    "ValueProto": {1: TEXT, 2: "TypeProto", 3: DOC},
    "TypeProto": {1: "TensorTypeProto", 6: TEXT},
    "TensorTypeProto": {1: NUMBER, 2: "ShapeProto"},
    "ShapeProto": {1: "DimensionProto*"},
    "DimensionProto": {1: NUMBER, 2: TEXT, 3: TEXT},
}  # fmt: skip
"""Fields that our exporter writes, by message: number and type (onnx.proto, IR version 10)."""
FOREIGN_FIELDS: Allowed = {
    "GraphProto": {14: "AnnotationProto*", 16: "StringProto*"},
    "AnnotationProto": {1: TEXT, 2: "StringProto*"},
    "NodeProto": {8: TEXT, 9: "StringProto*"},
    "AttributeProto": {6: "GraphProto", 11: "GraphProto*"},
    "TensorProto": {6: "bytes*", 16: "StringProto*"},
    "ValueProto": {4: "StringProto*"},
}
"""Fields that foreign networks may have as well: subgraphs, string tensors and annotations."""
DATA_LOCATION = ("TensorProto", 14)
"""0: the data is in this file."""
REASONS = {
    ("TensorProto", 13): "wants to read weights from another file",
    DATA_LOCATION: "wants to read weights from another file",
    ("ModelProto", 20): "holds training information",
    ("ModelProto", 25): "holds functions of its own",
    ("GraphProto", 15): "holds sparse weights",
    ("AttributeProto", 6): "holds branches or loops",
    ("AttributeProto", 11): "holds branches or loops",
    ("AttributeProto", 22): "holds sparse weights",
    ("AttributeProto", 23): "holds sparse weights",
    ("AttributeProto", 21): "holds functions of its own",
}
"""What a field that is not allowed means."""
DOMAINS = ("", "ai.onnx")


def check_onnx(file: Path) -> None:
    """Raise `BundleError` unless a file is an ONNX network that our exporter could have written."""
    _check(file, FIELDS, BundleError, "do not use this bundle", "export the bundle again")


def check_foreign_onnx(file: Path) -> None:
    """Raise `EdgemtlError` unless a file is an ONNX network without other files, code, or sizes beyond bounds."""
    merged = {
        name: FIELDS.get(name, {}) | FOREIGN_FIELDS.get(name, {}) for name in FIELDS.keys() | FOREIGN_FIELDS.keys()
    }
    _check(file, merged, EdgemtlError, "do not use it", "get it again")


def _check(file: Path, allowed: Allowed, error: type[EdgemtlError], advice: str, repair: str) -> None:
    if file.stat().st_size > MAX_MB << 20:
        raise error(f"{file}: larger than an ONNX model can be; {repair}")
    data = memoryview(file.read_bytes())
    validator = _Validator(allowed)
    try:
        if not any(number == 7 for number, _, _ in islice(fields(data), MAX_FIELDS)):
            raise error(f"{file}: holds no network; {repair}")
        validator.message(data, "ModelProto", 0)
        validator.sizes.check()
    except UnsafeOnnxError as unsafe:
        raise error(f"{file}: {unsafe}; {advice}") from None
    except (ValueError, IndexError):
        raise error(f"{file}: is no ONNX model (its encoding is broken); {repair}") from None


def _is_utf8(value: memoryview) -> bool:
    try:
        str(value, "utf-8")
    except UnicodeDecodeError:
        return False
    return True


class _Validator:
    """Recursive validation of one file, with its counts of fields and nodes."""

    def __init__(self, allowed: Allowed) -> None:
        self.allowed = allowed
        self.fields, self.nodes = 0, 0
        self.sizes = Sizes()

    def message(self, data: memoryview, type_: str, depth: int) -> Fields:
        """Check a message of a type and all messages in it, and return its fields by number."""
        if depth > MAX_DEPTH:
            raise UnsafeOnnxError("is nested without end")
        values: Fields = {}
        attributes: list[tuple[str, list[float]]] = []
        for number, wire, value in fields(data):
            self.fields += 1
            if self.fields > MAX_FIELDS:
                raise UnsafeOnnxError(f"has more than {MAX_FIELDS} fields")
            inner = self.allowed[type_].get(number)
            if inner is None or (type_, number, value == 0) == (*DATA_LOCATION, False):
                raise UnsafeOnnxError(
                    REASONS.get((type_, number), f"has a field {number} of {type_}, which is unknown")
                )
            if not inner.endswith(REPEATED) and number in values:
                raise UnsafeOnnxError(f"has a field of {type_} twice")
            values.setdefault(number, []).append(value)
            self._value(value, wire, inner.removesuffix(REPEATED), depth, attributes)
        if type_ == "TensorProto":
            self._check_tensor(values, len(data), is_stored=depth == 2)
        if type_ == "NodeProto":
            self.nodes += 1
            if self.nodes > MAX_NODES:
                raise UnsafeOnnxError(f"has more than {MAX_NODES} nodes")
            self.sizes.add_node(values, attributes)
        return values

    def _value(
        self, value: int | memoryview, wire: int, type_: str, depth: int, attributes: list[tuple[str, list[float]]]
    ) -> None:
        if type_ in (NUMBER, REAL):
            if wire not in ((VARINT, LEN) if type_ == NUMBER else (FIXED32, FIXED64, LEN)):
                raise ValueError("a number is none")
        elif wire != LEN or not isinstance(value, memoryview):
            raise ValueError("a text or message is none")
        elif type_ in self.allowed:
            inner = self.message(value, type_, depth + 1)
            if type_ == "AttributeProto":
                attributes.append(_attribute(inner))
        elif type_ != BYTES:
            if len(value) > (MAX_DOC if type_ == DOC else MAX_NAME):
                raise UnsafeOnnxError(f"holds a text of {len(value)} letters")
            if not _is_utf8(value):
                raise UnsafeOnnxError("holds a text that is no UTF-8")
            if type_ == DOMAIN and text(value) not in DOMAINS:
                raise UnsafeOnnxError(f"calls operators of '{ascii(text(value)[:60])[1:-1]}', which are not ONNX's")

    def _check_tensor(self, values: Fields, length: int, is_stored: bool) -> None:
        sizes = [size for part in values.get(1, []) for size in integers(part)]
        if any(size < 0 for size in sizes) or math.prod(sizes) > MAX_ELEMENTS_PER_BYTE * length:
            raise UnsafeOnnxError(f"has a tensor of the size {str(sizes)[:80]} in {length} bytes")
        if is_stored:
            self.sizes.add_initializer(values)


def _attribute(values: Fields) -> tuple[str, list[float]]:
    """Return an attribute's name, and its numbers where they may be a shape."""
    name = text(values[1][0]) if 1 in values else ""
    if 5 in values and isinstance(tensor := values[5][0], memoryview):
        inner: Fields = {}
        for number, _, value in fields(tensor):
            inner.setdefault(number, []).append(value)
        return name, numbers(inner)
    parts = [*values.get(3, []), *values.get(8, [])]
    return name, [float(n) for part in parts[:MAX_SHAPE_BYTES] if is_short(part) for n in integers(part)]
