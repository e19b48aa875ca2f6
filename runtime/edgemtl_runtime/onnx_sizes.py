"""How large the tensors of an ONNX file become, where the file tells it: in its constants and attributes."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from .onnx_wire import Fields, integers, text

MOST_ELEMENTS = 1 << 28
"""No tensor inside a network needs more; of float32 it takes 1 GB."""
MOST_TIMES = 1 << 16
"""By how much an operator may repeat or magnify a tensor."""
MOST_STEP = 4096
"""The largest kernel, stride, dilation and padding."""
FEW = 64
"""Bytes of the longest constant that may be a shape."""
FLOAT, INT64 = 1, 7

Limit = Callable[[list[float]], bool]


def _elements(sizes: list[float]) -> bool:
    return math.prod(max(1.0, abs(size)) for size in sizes) <= MOST_ELEMENTS


def _times(factors: list[float]) -> bool:
    return math.prod(max(1.0, abs(factor)) for factor in factors) <= MOST_TIMES


def _steps(sizes: list[float]) -> bool:
    return all(abs(size) <= MOST_STEP for size in sizes)


BY_INPUT: dict[str, dict[int, Limit]] = {
    "ConstantOfShape": {0: _elements},
    "Expand": {1: _elements},
    "OneHot": {1: _elements},
    "Range": {0: _elements, 1: _elements},
    "Tile": {1: _times},
    "Upsample": {1: _times},
    "Resize": {2: _times, 3: _elements},
    "Pad": {1: _steps},
    "CenterCropPad": {1: _elements},
    "Col2Im": {1: _elements},
}
"""Operators that make tensors as large as an input says, and which input."""
BY_ATTRIBUTE: dict[str, Limit] = {
    "shape": _elements,
    "output_shape": _elements,
    **dict.fromkeys(("kernel_shape", "strides", "dilations", "pads", "output_padding"), _steps),
    "scales": _times,
}


class RefusedError(Exception):
    """The file holds what it may not; the text says what."""


@dataclass
class Sizes:
    """The short constants of a network, and the operators whose results may be as large as those say."""

    constants: dict[str, list[float]] = field(default_factory=dict)
    readers: list[tuple[str, list[str]]] = field(default_factory=list)

    def tensor(self, found: Fields) -> None:
        """Take down an initializer."""
        self._keep(found.get(8, []), numbers(found))

    def node(self, found: Fields, attributes: list[tuple[str, list[float]]]) -> None:
        """Take down a node with its attributes by name; raises `RefusedError` where they go beyond the bounds."""
        operator = text(found[4][0]) if 4 in found else ""
        for name, values in attributes:
            if name in BY_ATTRIBUTE and not BY_ATTRIBUTE[name](values):
                raise RefusedError(_told(operator, values))
            if operator == "Constant":
                self._keep(found.get(2, []), values)
        if operator in BY_INPUT:
            self.readers.append((operator, [text(name) for name in found.get(1, [])]))

    def _keep(self, names: list[int | memoryview], values: list[float]) -> None:
        for name in map(text, names):
            if name in self.constants:
                raise RefusedError(f"has two constants of the name '{ascii(name[:60])[1:-1]}'")
            self.constants[name] = values

    def check(self) -> None:
        """Raise `RefusedError` where an operator reads a size beyond the bounds."""
        for operator, inputs in self.readers:
            for place, allows in BY_INPUT[operator].items():
                values = self.constants.get(inputs[place], []) if place < len(inputs) else []
                if not allows(values):
                    raise RefusedError(_told(operator, values))


def _told(operator: str, values: list[float]) -> str:
    return f"{ascii(operator[:40])[1:-1]} makes a tensor beyond bounds ({str(values)[:60]})"


def numbers(found: Fields) -> list[float]:
    """Return the values of a TensorProto if they are few and whole numbers of 64 bits, or float32."""
    kind = found.get(2, [0])[-1]
    raw = found.get(9, [b""])[-1]
    if not isinstance(raw, memoryview):
        raw = memoryview(b"")
    if kind == INT64:
        if len(raw):
            return [*struct.unpack(f"<{len(raw) // 8}q", raw[: len(raw) // 8 * 8])] if len(raw) <= FEW else []
        return [float(n) for part in found.get(7, [])[:FEW] for n in integers(part if _short(part) else 0)]
    if kind == FLOAT:
        parts = [raw] if len(raw) else [part for part in found.get(4, [])[:FEW] if isinstance(part, memoryview)]
        return [value for part in parts if _short(part) for value in _floats(part)]
    return []


def _short(part: int | memoryview) -> bool:
    return isinstance(part, int) or len(part) <= FEW


def _floats(part: memoryview) -> list[float]:
    found = struct.unpack(f"<{len(part) // 4}f", part[: len(part) // 4 * 4])
    return [value if math.isfinite(value) else math.inf for value in found]
