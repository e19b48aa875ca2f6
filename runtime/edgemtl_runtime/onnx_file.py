"""What an ONNX file may not do: name other files to read, or nest without end. No package is needed to look.

A reader of protobuf's wire format (protobuf.dev, "Encoding") that follows only what can hold a tensor.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .errors import BundleError

GRAPH, ATTRIBUTE, TENSOR, SPARSE, FUNCTION, NODE = "graph", "attribute", "tensor", "sparse", "function", "node"
HOLDS = {
    "model": {7: GRAPH, 25: FUNCTION},
    GRAPH: {1: NODE, 5: TENSOR, 15: SPARSE},
    FUNCTION: {7: NODE},
    NODE: {5: ATTRIBUTE},
    ATTRIBUTE: {5: TENSOR, 6: GRAPH, 10: TENSOR, 11: GRAPH, 22: SPARSE, 23: SPARSE},
    SPARSE: {1: TENSOR, 2: TENSOR},
    TENSOR: {},
}
"""By message, the fields that lead to tensors (onnx.proto, IR version 10)."""
EXTERNAL_DATA, DATA_LOCATION = 13, 14
DEEPEST = 32
LARGEST_MB = 2048
"""Protobuf takes no larger file."""


def check_onnx(file: Path) -> None:
    """Raise `BundleError` where a file is no ONNX model, or keeps weights in other files."""
    if file.stat().st_size > LARGEST_MB << 20:
        raise BundleError(f"{file}: larger than an ONNX model can be; export the bundle again")
    data = memoryview(file.read_bytes())
    try:
        if not any(number == 7 for number, _, _ in _fields(data)):
            raise BundleError(f"{file}: holds no network; export the bundle again")
        _walk(data, "model", 0)
    except _Outside:
        raise BundleError(f"{file}: wants to read weights from another file; do not use this bundle") from None
    except (ValueError, IndexError):
        raise BundleError(f"{file}: is no ONNX model (its encoding is broken); export the bundle again") from None


class _Outside(Exception):
    """A tensor lies in another file."""


def _walk(data: memoryview, kind: str, depth: int) -> None:
    if depth > DEEPEST:
        raise ValueError("nested too deep")
    for number, wire, value in _fields(data):
        if kind == TENSOR and (number == EXTERNAL_DATA or (number == DATA_LOCATION and value != 0)):
            raise _Outside
        if inner := HOLDS[kind].get(number):
            if wire != 2 or not isinstance(value, memoryview):
                raise ValueError("a message is no message")
            _walk(value, inner, depth + 1)


def _fields(data: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """Give each field's number, wire type, and its value where that is a number or bytes; raises `ValueError`."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        number, wire = tag >> 3, tag & 7
        value: int | memoryview = 0
        if wire == 0:
            value, place = _varint(data, place)
        elif wire in (1, 5):
            place += 8 if wire == 1 else 4
        elif wire == 2:
            length, place = _varint(data, place)
            value = data[place : place + length]
            place += length
        else:
            raise ValueError("a wire type that ONNX has not")
        if place > len(data) or number == 0:
            raise ValueError("cut short")
        yield number, wire, value


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("a number without an end")
