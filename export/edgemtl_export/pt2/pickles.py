"""Pickles of strangers: tensors in plain containers, read without torch's unpickler and without calling what they name.

A pickle is a program. Here its operations are looked at first, and every name in it then stands for a record of ours
(what would be rebuilt, from which numbers), never for the thing itself. From the records the tensors are made anew.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch

from .archive import Parts, UntrustedError, opened
from .expressions import check_path

OPERATIONS = frozenset((
    "PROTO", "GLOBAL", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET", "STOP", "MARK", "POP", "POP_MARK",
    "REDUCE", "BUILD", "BINPERSID", "TUPLE", "EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "LIST", "EMPTY_LIST",
    "APPEND", "APPENDS", "DICT", "EMPTY_DICT", "SETITEM", "SETITEMS", "NONE", "NEWTRUE", "NEWFALSE", "BININT",
    "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE",
))  # fmt: skip
"""What `torch.save` writes for tensors, in protocols 2 and 3; all else is refused."""
MOST_OPERATIONS, MOST_VALUES, DEEPEST = 2_000_000, 1_000_000, 32
LONGEST_NUMBER = 16
MOST_REPEATED = 1 << 26
"""Elements that a tensor of fewer numbers may have, by repeating them."""
STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}
DTYPES = {str(each): each for each in vars(torch).values() if isinstance(each, torch.dtype)}


class _Inert:
    """Stands for what a pickle names; a pickle changes nothing of it."""

    def __setstate__(self, state: object) -> None:
        raise ValueError("a state where none belongs")


@dataclass(eq=False)
class _Storage(_Inert):
    """A block of numbers: the file that holds it, their type (None: bytes), and how many they are."""

    key: str
    dtype: torch.dtype | None
    count: int


@dataclass(eq=False)
class _Kind(_Inert):
    """A type of storage or of numbers, which is named but never called."""

    name: str


@dataclass(eq=False)
class _Record(_Inert):
    """What would be rebuilt, and from what; ``made`` is kept, so that what was one thing stays one."""

    kind: str
    given: tuple[Any, ...]
    made: Any = None


@dataclass(eq=False)
class _Call(_Inert):
    """A function that makes something: calling it only takes down from what."""

    kind: str

    def __call__(self, *given: Any) -> _Record:
        return _Record(self.kind, given)


class _Ordered(OrderedDict[Any, Any]):
    """A dictionary whose further attributes (a state dict's versions) are passed over."""

    def __setstate__(self, state: object = None) -> None:
        """Pass over the state."""


TENSOR = _Kind("Tensor")
NAMES: dict[str, Any] = {
    "torch._utils _rebuild_tensor_v2": _Call("tensor"),
    "torch._utils _rebuild_tensor_v3": _Call("typed tensor"),
    "torch._utils _rebuild_parameter": _Call("parameter"),
    "torch._tensor _rebuild_from_type_v2": _Call("marked tensor"),
    "torch Tensor": TENSOR,
    "torch.nn.parameter Parameter": TENSOR,
    "torch Size": _Call("size"),
    "torch device": _Call("device"),
    "torch.storage UntypedStorage": _Kind("UntypedStorage"),
    **{f"torch {name}": _Kind(name) for name in (*STORAGES, "UntypedStorage")},
    **{name.replace(".", " "): _Kind(name) for name in DTYPES},
    "collections OrderedDict": _Ordered,
}
"""Every name that a pickle may use, and what it stands for while it is read."""


def rewritten(data: bytes, what: str) -> bytes:
    """Return what `torch.save` makes of the tensors that it once wrote to ``data``; raises `UntrustedError`.

    ``what`` names the file within its archive. Nothing that ``data`` says is run.
    """
    if not data:
        return b""
    with opened(io.BytesIO(data), len(data)) as parts:
        value = _Reader(parts, what).value()
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def check_operations(data: bytes, what: str) -> None:
    """Raise `UntrustedError` where a pickle does more than `torch.save` needs for tensors, or names other things."""
    try:
        for count, (operation, argument, _) in enumerate(pickletools.genops(data)):
            if count > MOST_OPERATIONS:
                raise UntrustedError(f"{what} is a pickle of more than {MOST_OPERATIONS} steps")
            if operation.name == "GLOBAL" and argument not in NAMES:
                raise UntrustedError(f"{what} names {str(argument)[:80].replace(' ', '.', 1)!a}")
            if operation.name not in OPERATIONS:
                raise UntrustedError(f"{what} is a pickle with {operation.name}, whose names cannot be told beforehand")
            if operation.name == "LONG_BINPUT" and int(argument or 0) > count:
                raise UntrustedError(f"{what} is a pickle that asks for memory without a use")
            if operation.name == "LONG1" and (bits := int(argument or 0).bit_length()) > 8 * LONGEST_NUMBER:
                raise UntrustedError(f"{what} holds a number of {bits} bits")
    except (ValueError, IndexError, OverflowError, UnicodeDecodeError) as error:
        raise UntrustedError(f"{what} is a broken pickle ({str(error)[:80]})") from None


class _Unpickler(pickle.Unpickler):
    """Reads a pickle whose operations were looked at; names become what `NAMES` says."""

    def find_class(self, module: str, name: str) -> Any:
        if f"{module} {name}" not in NAMES:
            raise UntrustedError(f"names {f'{module}.{name}'[:80]!a}")
        return NAMES[f"{module} {name}"]

    def persistent_load(self, told: Any) -> _Storage:
        word, kind, key, _place, count = told
        if word != "storage" or not isinstance(kind, _Kind) or type(key) is not str or type(count) is not int:
            raise ValueError("a storage is told in another way")
        return _Storage(key, STORAGES.get(kind.name), count)


class _Reader:
    """Makes the value of one file of `torch.save` from the records in it."""

    def __init__(self, parts: Parts, what: str) -> None:
        self.parts, self.what = parts, what
        self.storages: dict[str, torch.UntypedStorage] = {}
        self.left = MOST_VALUES

    def value(self) -> Any:
        if "data.pkl" not in self.parts:
            raise UntrustedError(f"{self.what} is not what torch.save writes")
        if self.parts.get("byteorder", b"little") != b"little":
            raise UntrustedError(f"{self.what} was written on a machine of the other byte order")
        data = self.parts["data.pkl"]
        check_operations(data, self.what)
        try:
            return self._made(_Unpickler(io.BytesIO(data)).load(), 0)
        except UntrustedError:
            raise
        except Exception as error:  # numbers that fit nothing fail in many ways
            raise UntrustedError(f"{self.what} does not fit together ({str(error).splitlines()[0][:100]})") from None

    def _made(self, value: Any, depth: int) -> Any:
        self.left -= 1
        if self.left < 0 or depth > DEEPEST:
            raise UntrustedError(f"{self.what} is nested without end")
        if value is None or type(value) in (bool, int, float, str):
            return value
        if type(value) in (list, tuple):
            return type(value)(self._made(each, depth + 1) for each in value)
        if type(value) in (dict, _Ordered):
            for key in value:
                if isinstance(key, str):  # torch writes keys of inputs into source
                    check_path(key)
            return (dict if type(value) is dict else OrderedDict)(
                (self._made(k, depth + 1), self._made(v, depth + 1)) for k, v in value.items()
            )
        if isinstance(value, _Kind) and value.name in DTYPES:
            return DTYPES[value.name]
        if isinstance(value, _Record):
            if value.made is None:
                value.made = self._rebuilt(value, depth)
            return value.made
        raise UntrustedError(f"{self.what} holds what is neither a tensor nor a plain value")

    def _rebuilt(self, record: _Record, depth: int) -> Any:
        if record.kind == "size":
            return torch.Size(self._made(record.given[0], depth + 1))
        if record.kind == "device":
            return torch.device(*self._made(record.given, depth + 1))
        if record.kind == "marked tensor":
            return self._marked(*record.given)
        if record.kind == "parameter":
            data = self._made(record.given[0], depth + 1)
            return torch.nn.Parameter(data, bool(record.given[1]))
        storage, offset, size, stride, wants_gradient, _hooks, *more = record.given
        dtype = DTYPES[more.pop(0).name] if record.kind == "typed tensor" else storage.dtype
        numbers = [offset, *size, *stride]
        if dtype is None or any(more) or any(type(n) is not int or n < 0 for n in numbers) or len(size) != len(stride):
            raise ValueError("a tensor is told in another way")
        block = self._storage(storage)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if math.prod(size) > max(block.nbytes(), MOST_REPEATED):
            raise ValueError("a tensor repeats its numbers without end")
        if math.prod(size) and (last + 1) * dtype.itemsize > block.nbytes():
            raise ValueError("a tensor reaches beyond its numbers")
        tensor = torch.empty(0, dtype=dtype).set_(block, offset, size, stride)
        return tensor.requires_grad_() if wants_gradient else tensor

    def _marked(self, rebuild: Any, kind: Any, given: Any, _marks: Any) -> Any:
        """Make a tensor that bears attributes, such as which sizes were free when it was exported, without them."""
        if not isinstance(rebuild, _Call) or rebuild.kind == "marked tensor" or kind is not TENSOR:
            raise ValueError("a tensor of another class")
        return self._rebuilt(_Record(rebuild.kind, given), 0)

    def _storage(self, told: _Storage) -> torch.UntypedStorage:
        if told.key not in self.storages:
            data = self.parts.get(f"data/{told.key}")
            wide = told.dtype.itemsize if told.dtype else 1
            if data is None or len(data) != told.count * wide:
                raise UntrustedError(f"{self.what} names a block of numbers that is not there, or not as long")
            made = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)
            self.storages[told.key] = made.untyped_storage()
        return self.storages[told.key]
