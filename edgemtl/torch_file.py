"""Files of torch.save and of safetensors, looked at without loading what they hold."""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open

from edgemtl_runtime.text import shortened

MAX_PICKLE_BYTES = 64 << 20
TENSOR_MODULES = ("torch", "collections", "numpy", "_codecs", "builtins", "__builtin__")
"""Packages whose objects a state_dict is made of."""


def foreign_class(file: Path) -> str:
    """Return in words which objects of another library a file holds; nothing where it could be tensors alone."""
    try:
        with zipfile.ZipFile(file) as archive:
            name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            too_large = archive.getinfo(name).file_size > MAX_PICKLE_BYTES
            names = [] if too_large else global_names(archive.read(name))
    except (OSError, ValueError, KeyError, StopIteration, zipfile.BadZipFile, NotImplementedError):
        return ""  # torch knows older files, and what is wrong with this one
    foreign = next((name for name in names if name.split(".")[0] not in TENSOR_MODULES), "")
    return f"it holds objects of {shortened(foreign, 80)}, not tensors alone: save its state_dict" if foreign else ""


def global_names(pickle: bytes) -> list[str]:
    """Return the classes and functions that a pickle asks for; raises `ValueError` for a broken one."""
    names: list[str] = []
    strings: list[str] = []
    for operation, argument, _ in pickletools.genops(pickle):
        if "UNICODE" in operation.name:
            strings.append(str(argument))
        elif operation.name == "GLOBAL":
            names.append(str(argument).replace(" ", ".", 1))
        elif operation.name == "STACK_GLOBAL":
            names.append(".".join(strings[-2:]))
    return names


def metadata_of(file: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file; none where it is no such file."""
    try:
        with safe_open(file, "pt") as opened:
            return dict(opened.metadata() or {})
    except (SafetensorError, OSError):
        return {}
