"""Decoder of protobuf's wire format (protobuf.dev, "Encoding"), as far as ONNX files use it, without a package."""

from __future__ import annotations

from collections.abc import Iterator

LEN, VARINT, FIXED64, FIXED32 = 2, 0, 1, 5
Fields = dict[int, list[int | memoryview]]
"""Values of a message by field number; those of fixed width as bytes."""


def fields(data: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """Yield the number, wire type and value of each field; raises `ValueError`."""
    offset = 0
    while offset < len(data):
        tag, offset = varint(data, offset)
        number, wire = tag >> 3, tag & 7
        value: int | memoryview = 0
        if wire == VARINT:
            value, offset = varint(data, offset)
        elif wire in (FIXED64, FIXED32):
            value = data[offset : offset + (8 if wire == FIXED64 else 4)]
            offset += 8 if wire == FIXED64 else 4
        elif wire == LEN:
            length, offset = varint(data, offset)
            value = data[offset : offset + length]
            offset += length
        else:
            raise ValueError("a wire type that ONNX does not use")
        if offset > len(data) or number == 0:
            raise ValueError("cut short")
        yield number, wire, value


def varint(data: memoryview, offset: int) -> tuple[int, int]:
    """Return the varint at ``offset`` and the offset after it; raises `ValueError` or `IndexError`."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[offset]
        offset += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, offset
    raise ValueError("a number without an end")


def text(value: int | memoryview) -> str:
    """Return a string field's text; raises `ValueError` where it is none."""
    if isinstance(value, int):
        raise ValueError("a text is a number")
    return bytes(value).decode()


def signed(value: int) -> int:
    """Return an unsigned number of 64 bits as an int64 (two's complement)."""
    return value - (1 << 64) if value >> 63 else value


def integers(data: int | memoryview) -> list[int]:
    """Return the numbers of a repeated int64 field, packed or not."""
    if isinstance(data, int):
        return [signed(data)]
    values, offset = [], 0
    while offset < len(data):
        value, offset = varint(data, offset)
        values.append(signed(value))
    return values
