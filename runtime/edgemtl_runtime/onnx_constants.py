"""Weights that an ONNX file holds as one number each (ConstantOfShape), written out, as TensorRT wants them.

The file is taken apart and put together on the level of protobuf's wire format: the robot needs no onnx package.
"""

from __future__ import annotations

import math

import numpy as np

from .onnx_wire import LEN, Fields, fields, integers, text

GRAPH, NODE, INITIALIZER = 7, 1, 5
"""Numbers of a model's graph, and of a graph's nodes and initializers."""
NODE_INPUT, NODE_OUTPUT, NODE_OPERATOR, NODE_ATTRIBUTE, ATTRIBUTE_TENSOR = 1, 2, 4, 5, 5
TENSOR_DIMS, TENSOR_TYPE, TENSOR_NAME, TENSOR_BYTES = 1, 2, 8, 9
ELEMENT_BYTES = {1: 4, 10: 2}
"""Of float and of half."""


def with_constants(model: bytes) -> bytes:
    """Return a model whose ConstantOfShape nodes of stored shapes are initializers; raises ValueError for no model."""
    parts = []
    for number, wire, value in fields(memoryview(model)):
        is_graph = number == GRAPH and not isinstance(value, int)
        parts.append(_field(number, wire, _graph(value) if is_graph and not isinstance(value, int) else value))
    return b"".join(parts)


def _graph(data: memoryview) -> bytes:
    shapes = {
        text(tensor[TENSOR_NAME][0]): tensor
        for number, _, value in fields(data)
        if number == INITIALIZER and TENSOR_NAME in (tensor := _message(value))
    }
    parts = []
    for number, wire, value in fields(data):
        constant = _constant(_message(value), shapes) if number == NODE else None
        parts.append(_field(number, wire, value) if constant is None else _field(INITIALIZER, LEN, constant))
    return b"".join(parts)


def _constant(node: Fields, shapes: dict[str, Fields]) -> bytes | None:
    """Return the tensor that a node makes, None where it is no such node."""
    if not node.get(NODE_OPERATOR) or text(node[NODE_OPERATOR][0]) != "ConstantOfShape":
        return None
    shape = shapes.get(text(node[NODE_INPUT][0]))
    values = [_message(_message(attribute)[ATTRIBUTE_TENSOR][0]) for attribute in node.get(NODE_ATTRIBUTE, ())]
    if shape is None or not values or TENSOR_BYTES not in shape or TENSOR_BYTES not in values[0]:
        return None
    dims = np.frombuffer(_bytes(shape[TENSOR_BYTES][0]), np.int64).tolist()
    (kind,) = integers(values[0][TENSOR_TYPE][0])
    element = _bytes(values[0][TENSOR_BYTES][0])
    if len(element) != ELEMENT_BYTES.get(kind):
        return None
    name = text(node[NODE_OUTPUT][0]).encode()
    content = element * math.prod(dims)
    return b"".join(
        (
            *(_field(TENSOR_DIMS, 0, size) for size in dims),
            _field(TENSOR_TYPE, 0, kind),
            _field(TENSOR_NAME, LEN, name),
            _field(TENSOR_BYTES, LEN, content),
        )
    )


def _message(value: int | memoryview) -> Fields:
    """Return the fields of a message by number."""
    if isinstance(value, int):
        raise ValueError("a message is a number")
    result: Fields = {}
    for number, _, inner in fields(value):
        result.setdefault(number, []).append(inner)
    return result


def _bytes(value: int | memoryview) -> bytes:
    if isinstance(value, int):
        raise ValueError("bytes are a number")
    return bytes(value)


def _field(number: int, wire: int, value: int | memoryview | bytes) -> bytes:
    """Return a field as it is written."""
    tag = _varint(number << 3 | wire)
    if isinstance(value, int):
        return tag + _varint(value)
    return tag + (_varint(len(value)) if wire == LEN else b"") + bytes(value)


def _varint(value: int) -> bytes:
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
