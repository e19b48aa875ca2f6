"""Options and output files that several commands share: ``--overwrite``, ``--json``, default names that count up."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from edgemtl_runtime.atomic import AtomicFile, next_free

from ..errors import EdgemtlError

if TYPE_CHECKING:
    Commands: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]

FIGURES = (".png", ".pdf", ".svg")
"""Formats of a figure, by suffix."""


def overwrite_option(command: argparse.ArgumentParser) -> None:
    """Add the option without which no existing output is replaced."""
    command.add_argument("--overwrite", action="store_true", help="replace an existing output, if it is ours")


def json_option(command: argparse.ArgumentParser, description: str = "print one JSON object, nothing else") -> None:
    """Add the option for a machine-readable result."""
    command.add_argument("--json", action="store_true", help=description)


def output_file(given: Path | None, default: Path, overwrite: bool) -> AtomicFile:
    """Return the claim on an output file: the given one, or the first free name after the default."""
    if given is not None:
        return AtomicFile(given, overwrite)
    return AtomicFile(default if overwrite else next_free(default, file=True), overwrite)


def figure_file(given: Path | None, overwrite: bool) -> AbstractContextManager[AtomicFile | None]:
    """Return the claim on the file of a figure, None where none was asked for."""
    if given is None:
        return nullcontext()
    check_suffix(given, FIGURES)
    return AtomicFile(given, overwrite)


def check_suffix(out: Path, suffixes: Sequence[str]) -> None:
    """Raise `EdgemtlError` where a file's suffix is no format that can be written."""
    if out.suffix.lower() not in suffixes:
        raise EdgemtlError(f"--out {out}: end the name in {' or '.join(suffixes)}")


def comma_separated(text: str | None) -> tuple[str, ...]:
    """Return the names of an option that takes several."""
    return tuple(name for name in map(str.strip, (text or "").split(",")) if name)
