"""Programs of torch.export.save with something put into them: archives taken apart, changed and packed again."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

PROGRAM, SAMPLES = "models/model.json", "data/sample_inputs/model.pt"
CONSTANTS = "data/constants/model_constants_config.json"
WEIGHTS = "data/weights/model_weights_config.json"
Parts = dict[str, bytes]


class Net(nn.Module):
    """A network with a weight, a constant and a size that is free."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"y": self.conv(x) * torch.tensor([2.0]), "rows": x.new_ones(x.shape[2] // 2)}


def program() -> Parts:
    """Return the files of an ordinary program, without the folder around them."""
    free = ({2: torch.export.Dim.DYNAMIC},)
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(Net().eval(), (torch.rand(1, 3, 8, 8),), dynamic_shapes=free), buffer)
    return unpacked(buffer.getvalue())


def unpacked(data: bytes) -> Parts:
    """Return an archive's files without the folder around them."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def packed(parts: Parts, root: str = "archive/") -> bytes:
    """Return an archive of some files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in parts.items():
            archive.writestr(f"{root}{name}", data)
    return buffer.getvalue()


def saved(pickled: bytes, **more: bytes) -> bytes:
    """Return what torch.load takes for a file of torch.save, with a custom pickle in it."""
    return packed({"data.pkl": pickled, "byteorder": b"little", "version": b"3\n", **more})


def edited(parts: Parts, change: Callable[[Any], None], name: str = PROGRAM) -> Parts:
    """Return files of which one, in JSON, was changed."""
    tree = json.loads(parts[name])
    change(tree)
    return {**parts, name: json.dumps(tree).encode()}


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


def call(module: str, name: str, *texts: str) -> bytes:
    """Return the operations that call a function with texts, as protocol 2 writes them."""
    words = b"".join(b"X" + struct.pack("<I", len(text)) + text.encode() for text in texts)
    return f"c{module}\n{name}\n".encode() + b"(" + words + b"tR"


def touching(file: Path) -> dict[str, bytes]:
    """Return pickles, by what is odd about them, that make a file when they are read by Python's unpickler."""
    text = f"open({str(file)!r}, 'w').close()"
    python = call("builtins", "exec", text)
    stack = b"\x8c\x08builtins\x8c\x04exec\x93(X" + struct.pack("<I", len(text)) + text.encode() + b"tR"
    split = (
        b"\x80\x04\x8c\x08builtins\x94\x8c\x04exec\x940h\x00h\x01\x93(X" + struct.pack("<I", len(text)) + text.encode()
    )
    ordered = b"ccollections\nOrderedDict\n)R}X\x01\x00\x00\x00a" + python + b"sb"
    return {
        **{f"protocol {n}": pickle.dumps(((Touch(file),), {}), protocol=n) for n in range(6)},
        "a name on the stack": b"\x80\x04" + stack + b".",
        "a name from the memo": split + b"tR.",
        "two texts that are a name": b"\x80\x02" + call("torch.serialization", "os.system", f"touch {file}") + b".",
        "a module of a good name": b"\x80\x02" + call("torch.utils.collect_env", "run", f"touch {file}") + b".",
        "a state for a good class": b"\x80\x02" + ordered + b".",
        "an argument for a good class": b"\x80\x02ccollections\nOrderedDict\n(" + python + b"tR.",
        "an instance": f"(S{text!r}\nibuiltins\nexec\n.".encode(),
        "an object": b"(cbuiltins\nexec\nX" + struct.pack("<I", len(text)) + text.encode() + b"o.",
        "after a good value": b"\x80\x02N0" + python + b".",
    }
