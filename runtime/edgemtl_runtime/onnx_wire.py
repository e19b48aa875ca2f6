"""Reads protobuf's wire format (protobuf.dev, "Encoding") as far as an ONNX file needs it, without a package."""

from __future__ import annotations

from collections.abc import Iterator

LEN, VARINT, FIXED64, FIXED32 = 2, 0, 1, 5
Fields = dict[int, list[int | memoryview]]
"""A message's values by the number of their field; that of a fixed width is its bytes."""


def fields(data: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """Give each field's number, wire type, and its value where that is a number or bytes; raises `ValueError`."""
    place = 0
    while place < len(data):
        tag, place = varint(data, place)
        number, wire = tag >> 3, tag & 7
        value: int | memoryview = 0
        if wire == VARINT:
            value, place = varint(data, place)
        elif wire in (FIXED64, FIXED32):
            value = data[place : place + (8 if wire == FIXED64 else 4)]
            place += 8 if wire == FIXED64 else 4
        elif wire == LEN:
            length, place = varint(data, place)
            value = data[place : place + length]
            place += length
        else:
            raise ValueError("a wire type that ONNX has not")
        if place > len(data) or number == 0:
            raise ValueError("cut short")
        yield number, wire, value


def varint(data: memoryview, place: int) -> tuple[int, int]:
    """Return the number that starts at ``place``, and where it ends; raises `ValueError` or `IndexError`."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, place
    raise ValueError("a number without an end")


def text(value: int | memoryview) -> str:
    """Return a text; raises `ValueError` where it is none."""
    if isinstance(value, int):
        raise ValueError("a text is a number")
    return bytes(value).decode()


def signed(value: int) -> int:
    """Return a number of 64 bits as protobuf means it in an int64."""
    return value - (1 << 64) if value >> 63 else value


def integers(data: int | memoryview) -> list[int]:
    """Return the numbers of a repeated int64 field, told one by one or all together."""
    if isinstance(data, int):
        return [signed(data)]
    found, place = [], 0
    while place < len(data):
        value, place = varint(data, place)
        found.append(signed(value))
    return found
