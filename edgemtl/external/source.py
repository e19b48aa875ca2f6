"""What names a network that was trained elsewhere: a file, one of a library, or a function; read without torch."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ..errors import EdgemtlError

FILES = (".pt", ".pth", ".pt2", ".onnx")
LIBRARIES = ("timm", "torchvision")
FORMS = (
    "an ultralytics checkpoint (.pt), a program (.pt2), an .onnx file, timm:NAME, torchvision:NAME or FILE.py:FUNCTION"
)


@dataclass(frozen=True)
class NetworkSource:
    """Where a network comes from: ``kind`` is a file's suffix, the name of a library, or ".py"."""

    kind: str
    path: Path = Path()
    """Of a file."""
    name: str = ""
    """Of a network in a library, or of a function in a file."""

    def __str__(self) -> str:
        if self.kind in LIBRARIES:
            return f"{self.kind}:{self.name}"
        return f"{self.path}:{self.name}" if self.name else str(self.path)

    def program(self, suffix: str) -> Path:
        """Return where a smaller program of it is written: next to its file, or in the working directory."""
        return (self.path.parent if self.path.name else Path()) / f"{self.stem}.shrunk{suffix}"

    @property
    def stem(self) -> str:
        """A plain name of it."""
        return self.name if self.kind in LIBRARIES else self.name or self.path.stem


def parse(text: str) -> NetworkSource | None:
    """Return what a word names; None where it is no network from elsewhere, such as a run or a bundle."""
    library, colon, name = text.partition(":")
    if colon and library in LIBRARIES:
        return NetworkSource(library, name=name)
    file, colon, function = text.rpartition(":")
    if colon and file.endswith(".py"):
        return NetworkSource(".py", Path(file), function)
    path = Path(text)
    if path.is_dir():
        return None
    if path.suffix == ".py":
        return NetworkSource(".py", path)
    return NetworkSource(path.suffix.lower(), path) if path.suffix.lower() in FILES else None


def check(source: NetworkSource) -> None:
    """Raise `EdgemtlError` where nothing can be opened: no such file, function or library."""
    if source.kind in LIBRARIES:
        if not source.name:
            raise EdgemtlError(
                f"{source.kind}: names no network; write {source.kind}:NAME, like {source.kind}:resnet18"
            )
        if find_spec(source.kind) is None:
            raise EdgemtlError(f"{source}: {source.kind} is not installed; pip install {source.kind}")
    elif not source.path.is_file():
        raise EdgemtlError(f"{source.path}: there is no such file")
    elif source.kind == ".py" and not source.name.isidentifier():
        raise EdgemtlError(f"{source.path}: which function makes the network? write {source.path}:FUNCTION")
    elif not source.path.stat().st_size:
        raise EdgemtlError(f"{source.path}: is empty; copy the file again")


def unknown_name(source: NetworkSource, known: Sequence[str]) -> EdgemtlError:
    """Return the error of a name that a library does not know."""
    near = difflib.get_close_matches(source.name, known, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return EdgemtlError(f"{source}: {source.kind} has no network of this name{hint}")
