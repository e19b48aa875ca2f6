"""Bounds on the tensors that an ONNX network computes, from the sizes in its constants and attributes."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from .onnx_wire import Fields, integers, text

MAX_ELEMENTS = 1 << 28
"""Elements of a tensor; of float32 it takes 1 GB."""
MAX_SCALE = 1 << 16
"""Factor by which an operator may repeat or upsample a tensor."""
MAX_EXTENT = 4096
"""The largest kernel, stride, dilation and padding."""
MAX_SHAPE_BYTES = 64
"""Bytes of the longest constant that may be a shape."""
FLOAT, INT64 = 1, 7

Limit = Callable[[list[float]], bool]


def _elements(sizes: list[float]) -> bool:
    return math.prod(max(1.0, abs(size)) for size in sizes) <= MAX_ELEMENTS


def _scales(factors: list[float]) -> bool:
    return math.prod(max(1.0, abs(factor)) for factor in factors) <= MAX_SCALE


def _extents(sizes: list[float]) -> bool:
    return all(abs(size) <= MAX_EXTENT for size in sizes)


INPUT_LIMITS: dict[str, dict[int, Limit]] = {
    "ConstantOfShape": {0: _elements},
    "Expand": {1: _elements},
    "OneHot": {1: _elements},
    "Range": {0: _elements, 1: _elements},
    "Tile": {1: _scales},
    "Upsample": {1: _scales},
    "Resize": {2: _scales, 3: _elements},
    "Pad": {1: _extents},
    "CenterCropPad": {1: _elements},
    "Col2Im": {1: _elements},
}
"""By operator and index of the input: the bound on an input that sets the size of the output."""
ATTRIBUTE_LIMITS: dict[str, Limit] = {
    "shape": _elements,
    "output_shape": _elements,
    **dict.fromkeys(("kernel_shape", "strides", "dilations", "pads", "output_padding"), _extents),
    "scales": _scales,
}


class UnsafeOnnxError(Exception):
    """An ONNX file holds something that is not allowed; the message names it."""


@dataclass
class Sizes:
    """Short constants of a network, and the operators that compute tensors of these sizes."""

    constants: dict[str, list[float]] = field(default_factory=dict)
    readers: list[tuple[str, list[str]]] = field(default_factory=list)

    def add_initializer(self, fields: Fields) -> None:
        """Add an initializer (a TensorProto)."""
        self._add(fields.get(8, []), numbers(fields))

    def add_node(self, fields: Fields, attributes: list[tuple[str, list[float]]]) -> None:
        """Add a node with its attributes by name; raises `UnsafeOnnxError` where these exceed the bounds."""
        operator = text(fields[4][0]) if 4 in fields else ""
        for name, values in attributes:
            if name in ATTRIBUTE_LIMITS and not ATTRIBUTE_LIMITS[name](values):
                raise UnsafeOnnxError(_beyond_bounds(operator, values))
            if operator == "Constant":
                self._add(fields.get(2, []), values)
        if operator in INPUT_LIMITS:
            self.readers.append((operator, [text(name) for name in fields.get(1, [])]))

    def _add(self, names: list[int | memoryview], values: list[float]) -> None:
        for name in map(text, names):
            if name in self.constants:
                raise UnsafeOnnxError(f"has two constants of the name '{ascii(name[:60])[1:-1]}'")
            self.constants[name] = values

    def check(self) -> None:
        """Raise `UnsafeOnnxError` where an operator's input is a size beyond the bounds."""
        for operator, inputs in self.readers:
            for index, allows in INPUT_LIMITS[operator].items():
                values = self.constants.get(inputs[index], []) if index < len(inputs) else []
                if not allows(values):
                    raise UnsafeOnnxError(_beyond_bounds(operator, values))


def _beyond_bounds(operator: str, values: list[float]) -> str:
    return f"{ascii(operator[:40])[1:-1]} makes a tensor beyond bounds ({str(values)[:60]})"


def numbers(fields: Fields) -> list[float]:
    """Return the values of a TensorProto of int64 or float32 that is short enough to be a shape."""
    data_type = fields.get(2, [0])[-1]
    raw = fields.get(9, [b""])[-1]
    if not isinstance(raw, memoryview):
        raw = memoryview(b"")
    if data_type == INT64:
        if len(raw):
            fits = len(raw) <= MAX_SHAPE_BYTES
            return [*struct.unpack(f"<{len(raw) // 8}q", raw[: len(raw) // 8 * 8])] if fits else []
        parts = fields.get(7, [])[:MAX_SHAPE_BYTES]
        return [float(n) for part in parts for n in integers(part if is_short(part) else 0)]
    if data_type == FLOAT:
        parts = [raw] if len(raw) else fields.get(4, [])[:MAX_SHAPE_BYTES]
        blocks = [part for part in parts if isinstance(part, memoryview) and is_short(part)]
        return [value for block in blocks for value in _floats(block)]
    return []


def is_short(part: int | memoryview) -> bool:
    """Whether a part of a field is short enough to belong to a shape."""
    return isinstance(part, int) or len(part) <= MAX_SHAPE_BYTES


def _floats(part: memoryview) -> list[float]:
    values = struct.unpack(f"<{len(part) // 4}f", part[: len(part) // 4 * 4])
    return [value if math.isfinite(value) else math.inf for value in values]
