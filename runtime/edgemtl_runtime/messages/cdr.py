"""The bytes of ROS 2 messages: OMG CDR version 1, little endian.

Four bytes of encapsulation (00 01 00 00) come first. After them every primitive stands at a multiple of its own size,
counted from the byte after the encapsulation; a string is a uint32 length that counts its closing NUL, then UTF-8;
a sequence is a uint32 count and the elements; an array of fixed size is the elements alone. (OMG CORBA 3.3 part 2,
9.3; DDS-RTPS 2.3, clause 10.)

A message is a frozen dataclass below `Message` whose annotations say how each field is put down: a primitive as
`Uint32`, a text as ``str``, octets as `Octets`, another message by its class, a sequence of messages as
``tuple[Kind, ...]``, an array as ``Annotated[tuple[float, ...], "float64[36]"]``.
"""

from __future__ import annotations

import dataclasses
import re
import struct
import typing
from collections.abc import Callable
from operator import attrgetter
from typing import Annotated, Any, ClassVar, NoReturn, TypeVar

from ..errors import EdgemtlError

Bool = Annotated[bool, "bool"]
Byte = Annotated[int, "byte"]
Uint8 = Annotated[int, "uint8"]
Int32 = Annotated[int, "int32"]
Uint32 = Annotated[int, "uint32"]
Float64 = Annotated[float, "float64"]
Octets = Annotated[bytes, "uint8[]"]

ENCAPSULATION = b"\x00\x01\x00\x00"
PRIMITIVES = {
    **{"bool": ("?", 1), "byte": ("B", 1), "uint8": ("B", 1)},
    **{"int32": ("i", 4), "uint32": ("I", 4), "float64": ("d", 8)},
}
"""Code of the struct module and size in bytes, by the name that ROS message definitions use."""


class Message:
    """What every message type has: its ROS name ``TYPE``, and the constants that its definition lists."""

    TYPE: ClassVar[str]
    CONSTANTS: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, ros: str) -> None:
        """Give the class its ROS name, as ``sensor_msgs/msg/Image``."""
        cls.TYPE = ros


M = TypeVar("M", bound=Message)


@dataclasses.dataclass(frozen=True)
class Field:
    """How one field is put down: ``kind`` is a primitive's name, ``"string"`` or a message class.

    ``size`` is -1 for a single value, 0 for a sequence, and the number of elements of an array.
    """

    name: str
    kind: str | type[Message]
    size: int = -1

    def __post_init__(self) -> None:
        if isinstance(self.kind, str) and self.kind != "string" and self.kind not in PRIMITIVES:
            raise ValueError(f"field {self.name}: no such type '{self.kind}'")

    def line(self) -> str:
        """Return the field's line in a message definition."""
        kind = self.kind if isinstance(self.kind, str) else _short(self.kind)
        return f"{kind}{'' if self.size < 0 else f'[{self.size or str()}]'} {self.name}"


_FIELDS: dict[type[Message], tuple[Field, ...]] = {}


def fields_of(kind: type[Message]) -> tuple[Field, ...]:
    """Return the fields of a message class in their order; raises ValueError for an annotation it does not know."""
    known = _FIELDS.get(kind)
    if known is None:
        hints = typing.get_type_hints(kind, include_extras=True)
        names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
        known = _FIELDS[kind] = tuple(_field(name, hints[name]) for name in names)
    return known


def _field(name: str, hint: Any) -> Field:
    if hint is str:
        return Field(name, "string")
    if isinstance(hint, type) and issubclass(hint, Message):
        return Field(name, hint)
    if typing.get_origin(hint) is tuple:
        return Field(name, typing.get_args(hint)[0], 0)
    found = re.fullmatch(r"(\w+)(\[(\d*)])?", str(getattr(hint, "__metadata__", ("?",))[0]))
    if found is None:
        raise ValueError(f"field {name}: {hint} says not how it is put down")
    return Field(name, found[1], int(found[3] or 0) if found[2] else -1)


def _short(kind: type[Message]) -> str:
    package, _, name = kind.TYPE.split("/")
    return f"{package}/{name}"


def definition(kind: type[Message]) -> str:
    """Return the message definition with those of all that it contains: the text of a ``ros2msg`` schema."""
    known = contained(kind)
    parts = ["".join(f"{line}\n" for line in (*k.CONSTANTS, *(f.line() for f in fields_of(k)))) for k in known]
    heads = ["", *(f"{'=' * 80}\nMSG: {_short(k)}\n" for k in known[1:])]
    return "".join(head + part for head, part in zip(heads, parts, strict=True))


def contained(kind: type[Message]) -> list[type[Message]]:
    """Return a message class and all that it contains, each once, itself first."""
    known: dict[type[Message], None] = {}
    _collect(kind, known)
    return list(known)


def _collect(kind: type[Message], known: dict[type[Message], None]) -> None:
    known.setdefault(kind)
    for field in fields_of(kind):
        if not isinstance(field.kind, str):
            _collect(field.kind, known)


def write(message: Message) -> bytes:
    """Return the message's bytes; raises `EdgemtlError` that names the field whose value does not fit its type."""
    out = bytearray(ENCAPSULATION)
    _write_message(out, message)
    return bytes(out)


Alike = tuple[str, int, Callable[[Any], tuple[Any, ...]]]
_ALIKE: dict[type[Message], Alike | None] = {}


def _alike(kind: type[Message]) -> Alike | None:
    """Return codes, size and getter of a class whose fields are several single primitives of one size, else None.

    Points and colours are many, and put down at once they take a third of the time.
    """
    if kind not in _ALIKE:
        fields = fields_of(kind)
        known = [PRIMITIVES.get(f.kind) if isinstance(f.kind, str) and f.size < 0 else None for f in fields]
        told = [each for each in known if each is not None]
        same = len(told) == len(fields) > 1 and len({size for _, size in told}) == 1
        codes = "".join(code for code, _ in told)
        _ALIKE[kind] = (codes, told[0][1], attrgetter(*(field.name for field in fields))) if same else None
    return _ALIKE[kind]


def _write_message(out: bytearray, message: Message) -> None:
    alike = _alike(type(message))
    if alike is not None:
        codes, size, get = alike
        try:
            _put(out, codes, size, *get(message))
            return
        except struct.error:
            pass  # told below by the field's name
    for field in fields_of(type(message)):
        value = getattr(message, field.name)
        try:
            _write_field(out, field, value)
        except (struct.error, UnicodeEncodeError):
            told = repr(value)[:60]
            raise EdgemtlError(f"{message.TYPE}: {field.name} = {told} does not fit '{field.line()}'") from None


def _write_field(out: bytearray, field: Field, value: Any) -> None:
    if field.size == 0:
        _put(out, "I", 4, len(value))
    if isinstance(field.kind, str) and field.kind != "string":
        code, size = PRIMITIVES[field.kind]
        if field.size < 0:
            _put(out, code, size, value)
        elif isinstance(value, bytes):
            out += value
        else:
            _put(out, f"{field.size or len(value)}{code}", size, *value)
        return
    for element in (value,) if field.size < 0 else value:
        if isinstance(element, Message):
            _write_message(out, element)
        else:
            text = element.encode()
            _put(out, "I", 4, len(text) + 1)
            out += text + b"\x00"


def _put(out: bytearray, code: str, size: int, *values: float) -> None:
    out += bytes(-(len(out) - len(ENCAPSULATION)) % size)
    out += struct.pack(f"<{code}", *values)


def read(kind: type[M], data: bytes | memoryview) -> M:
    """Return the message of class ``kind`` in ``data``; raises `EdgemtlError` where the bytes are none.

    Up to three bytes behind the message are padding that some writers leave.
    """
    if bytes(data[:4]) != ENCAPSULATION:
        raise EdgemtlError(
            f"{kind.TYPE}: begins with {bytes(data[:4]).hex(' ')}, not as little-endian CDR (00 01 00 00)"
        )
    source = _Source(kind.TYPE, memoryview(data)[4:])
    message = source.message(kind)
    if len(source.data) - source.at > 3:
        raise EdgemtlError(
            f"{kind.TYPE}: {len(source.data) - source.at} bytes too many; it is of another type or damaged"
        )
    return message


class _Source:
    """A place in bytes that moves on as values are taken."""

    def __init__(self, name: str, data: memoryview) -> None:
        self.name, self.data, self.at = name, data, 0

    def message(self, kind: type[M]) -> M:
        return kind(*(self.field(field) for field in fields_of(kind)))

    def field(self, field: Field) -> Any:
        if field.size < 0:
            return self.element(field.kind)
        count = field.size or int(self.values("I", 4, 1)[0])
        if field.kind == "uint8":
            return bytes(self.take(count, 1))
        if isinstance(field.kind, str) and field.kind != "string":
            return self.values(*PRIMITIVES[field.kind], count)
        return tuple(self.element(field.kind) for _ in range(count))

    def element(self, kind: str | type[Message]) -> Any:
        if not isinstance(kind, str):
            return self.message(kind)
        if kind != "string":
            return self.values(*PRIMITIVES[kind], 1)[0]
        text = bytes(self.take(int(self.values("I", 4, 1)[0]), 1)).removesuffix(b"\x00")
        try:
            return text.decode()
        except UnicodeDecodeError:
            self.fail(f"a text that is not UTF-8 before byte {self.at}")

    def values(self, code: str, size: int, count: int) -> tuple[Any, ...]:
        return struct.unpack(f"<{count}{code}", self.take(count * size, size))

    def take(self, length: int, align: int) -> memoryview:
        begin = self.at + -self.at % align
        self.at = begin + length
        if self.at > len(self.data):
            self.fail(f"needs {self.at} bytes and has {len(self.data)}")
        return self.data[begin : self.at]

    def fail(self, what: str) -> NoReturn:
        raise EdgemtlError(f"{self.name}: {what}; it is of another type or damaged")
