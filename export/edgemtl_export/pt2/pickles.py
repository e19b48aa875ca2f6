"""Untrusted pickles of tensors, read without torch's unpickler and without calling the functions that they name.

A pickle is a program. Its opcodes are validated first; then every global name in it resolves to a placeholder that
records the function and its arguments, never to the function itself. The tensors are built from these records.
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

from .archive import ArchiveFiles, UntrustedError, open_archive
from .expressions import check_path

OPCODES = frozenset((
    "PROTO", "GLOBAL", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET", "STOP", "MARK", "POP", "POP_MARK",
    "REDUCE", "BUILD", "BINPERSID", "TUPLE", "EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "LIST", "EMPTY_LIST",
    "APPEND", "APPENDS", "DICT", "EMPTY_DICT", "SETITEM", "SETITEMS", "NONE", "NEWTRUE", "NEWFALSE", "BININT",
    "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE",
))  # fmt: skip
"""Opcodes of `torch.save` for tensors, in protocols 2 and 3; any other is rejected."""
MAX_OPCODES, MAX_VALUES, MAX_DEPTH = 2_000_000, 1_000_000, 32
MAX_INTEGER_BYTES = 16
MAX_EXPANDED = 1 << 26
"""Elements that a tensor with a smaller storage may have (strides of 0)."""
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
DTYPES = {str(dtype): dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)}


class _Placeholder:
    """A value in place of an object that a pickle names; it takes no state."""

    def __setstate__(self, state: object) -> None:
        raise ValueError("a state where none belongs")


@dataclass(eq=False)
class _Storage(_Placeholder):
    """A storage: the file that holds it, its dtype (None: bytes), and its number of elements."""

    key: str
    dtype: torch.dtype | None
    count: int


@dataclass(eq=False)
class _TypeName(_Placeholder):
    """A storage class or dtype, which is named but never called."""

    name: str


@dataclass(eq=False)
class _Call(_Placeholder):
    """A recorded call of a function; its ``result`` is kept, so that shared objects stay shared."""

    function: str
    args: tuple[Any, ...]
    result: Any = None


@dataclass(eq=False)
class _Function(_Placeholder):
    """A function that rebuilds an object: a call of it is recorded only."""

    name: str

    def __call__(self, *args: Any) -> _Call:
        return _Call(self.name, args)


class _Ordered(OrderedDict[Any, Any]):
    """An ordered dictionary whose attributes (a state dict's versions) are ignored."""

    def __setstate__(self, state: object = None) -> None:
        """Ignore the state."""


TENSOR = _TypeName("Tensor")
NAMES: dict[str, Any] = {
    "torch._utils _rebuild_tensor_v2": _Function("tensor"),
    "torch._utils _rebuild_tensor_v3": _Function("typed tensor"),
    "torch._utils _rebuild_parameter": _Function("parameter"),
    "torch._tensor _rebuild_from_type_v2": _Function("tensor with attributes"),
    "torch Tensor": TENSOR,
    "torch.nn.parameter Parameter": TENSOR,
    "torch Size": _Function("size"),
    "torch device": _Function("device"),
    "torch.storage UntypedStorage": _TypeName("UntypedStorage"),
    **{f"torch {name}": _TypeName(name) for name in (*STORAGES, "UntypedStorage")},
    **{name.replace(".", " "): _TypeName(name) for name in DTYPES},
    "collections OrderedDict": _Ordered,
}
"""Global names that a pickle may use, and their placeholders."""


def validated_pickle(data: bytes, path: str) -> bytes:
    """Return a file of `torch.save` with its tensors read and saved again; raises `UntrustedError`.

    ``path`` is that of the file within its archive, for messages. No code in ``data`` is run.
    """
    if not data:
        return b""
    with open_archive(io.BytesIO(data), len(data)) as files:
        value = _Reader(files, path).value()
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def check_opcodes(data: bytes, path: str) -> None:
    """Raise `UntrustedError` on an opcode or a global name that `torch.save` does not need for tensors."""
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count > MAX_OPCODES:
                raise UntrustedError(f"{path} is a pickle of more than {MAX_OPCODES} steps")
            if opcode.name == "GLOBAL" and argument not in NAMES:
                raise UntrustedError(f"{path} names {str(argument)[:80].replace(' ', '.', 1)!a}")
            if opcode.name not in OPCODES:
                raise UntrustedError(f"{path} is a pickle with {opcode.name}, whose names are not known beforehand")
            if opcode.name == "LONG_BINPUT" and int(argument or 0) > count:
                raise UntrustedError(f"{path} is a pickle that asks for memory without a use")
            if opcode.name == "LONG1" and (bits := int(argument or 0).bit_length()) > 8 * MAX_INTEGER_BYTES:
                raise UntrustedError(f"{path} holds a number of {bits} bits")
    except (ValueError, IndexError, OverflowError, UnicodeDecodeError) as error:
        raise UntrustedError(f"{path} is a broken pickle ({str(error)[:80]})") from None


class _Unpickler(pickle.Unpickler):
    """Unpickler of validated opcodes; global names become their placeholders."""

    def find_class(self, module: str, name: str) -> Any:
        if f"{module} {name}" not in NAMES:
            raise UntrustedError(f"names {f'{module}.{name}'[:80]!a}")
        return NAMES[f"{module} {name}"]

    def persistent_load(self, pid: Any) -> _Storage:
        tag, type_, key, _location, count = pid
        if tag != "storage" or not isinstance(type_, _TypeName) or type(key) is not str or type(count) is not int:
            raise ValueError("a storage is not encoded as torch does")
        return _Storage(key, STORAGES.get(type_.name), count)


class _Reader:
    """Reader of one file of `torch.save`."""

    def __init__(self, files: ArchiveFiles, path: str) -> None:
        self.files, self.path = files, path
        self.storages: dict[str, torch.UntypedStorage] = {}
        self.budget = MAX_VALUES

    def value(self) -> Any:
        if "data.pkl" not in self.files:
            raise UntrustedError(f"{self.path} is not what torch.save writes")
        if self.files.get("byteorder", b"little") != b"little":
            raise UntrustedError(f"{self.path} was written on a machine of the other byte order")
        data = self.files["data.pkl"]
        check_opcodes(data, self.path)
        try:
            return self._built(_Unpickler(io.BytesIO(data)).load(), 0)
        except UntrustedError:
            raise
        except Exception as error:  # inconsistent numbers fail in many ways
            raise UntrustedError(f"{self.path} is inconsistent ({str(error).splitlines()[0][:100]})") from None

    def _built(self, value: Any, depth: int) -> Any:
        self.budget -= 1
        if self.budget < 0 or depth > MAX_DEPTH:
            raise UntrustedError(f"{self.path} is nested without end")
        if value is None or type(value) in (bool, int, float, str):
            return value
        if type(value) in (list, tuple):
            return type(value)(self._built(item, depth + 1) for item in value)
        if type(value) in (dict, _Ordered):
            for key in value:
                if isinstance(key, str):  # torch writes keys of inputs into source
                    check_path(key)
            return (dict if type(value) is dict else OrderedDict)(
                (self._built(k, depth + 1), self._built(v, depth + 1)) for k, v in value.items()
            )
        if isinstance(value, _TypeName) and value.name in DTYPES:
            return DTYPES[value.name]
        if isinstance(value, _Call):
            if value.result is None:
                value.result = self._called(value, depth)
            return value.result
        raise UntrustedError(f"{self.path} holds an object that is neither a tensor nor a plain value")

    def _called(self, call: _Call, depth: int) -> Any:
        if call.function == "size":
            return torch.Size(self._built(call.args[0], depth + 1))
        if call.function == "device":
            return torch.device(*self._built(call.args, depth + 1))
        if call.function == "tensor with attributes":
            return self._without_attributes(*call.args)
        if call.function == "parameter":
            data = self._built(call.args[0], depth + 1)
            return torch.nn.Parameter(data, bool(call.args[1]))
        storage, offset, size, stride, requires_grad, _hooks, *more = call.args
        dtype = DTYPES[more.pop(0).name] if call.function == "typed tensor" else storage.dtype
        numbers = [offset, *size, *stride]
        if dtype is None or any(more) or any(type(n) is not int or n < 0 for n in numbers) or len(size) != len(stride):
            raise ValueError("a tensor is not encoded as torch does")
        block = self._storage(storage)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if math.prod(size) > max(block.nbytes(), MAX_EXPANDED):
            raise ValueError("a tensor repeats its elements without end")
        if math.prod(size) and (last + 1) * dtype.itemsize > block.nbytes():
            raise ValueError("a tensor reaches beyond its storage")
        tensor = torch.empty(0, dtype=dtype).set_(block, offset, size, stride)
        return tensor.requires_grad_() if requires_grad else tensor

    def _without_attributes(self, function: Any, class_: Any, args: Any, _attributes: Any) -> Any:
        """Build a tensor that has attributes, such as which sizes were dynamic in its export, without them."""
        if not isinstance(function, _Function) or function.name == "tensor with attributes" or class_ is not TENSOR:
            raise ValueError("a tensor of another class")
        return self._called(_Call(function.name, args), 0)

    def _storage(self, storage: _Storage) -> torch.UntypedStorage:
        if storage.key not in self.storages:
            data = self.files.get(f"data/{storage.key}")
            itemsize = storage.dtype.itemsize if storage.dtype else 1
            if data is None or len(data) != storage.count * itemsize:
                raise UntrustedError(f"{self.path} names a storage that is not there, or not as long")
            tensor = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)
            self.storages[storage.key] = tensor.untyped_storage()
        return self.storages[storage.key]
