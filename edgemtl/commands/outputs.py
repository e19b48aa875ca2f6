"""What commands that write have in common: ``--overwrite``, and default names that count up."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from edgemtl_runtime.atomic import AtomicFile, next_free

from ..errors import EdgemtlError

DRAWINGS = (".png", ".pdf", ".svg")
"""Kinds of file that a figure is written as."""


def overwrite_option(command: argparse.ArgumentParser) -> None:
    """Add the option without which nothing that is there is replaced."""
    command.add_argument("--overwrite", action="store_true", help="replace what stands there already, if it is ours")


def output_file(given: Path | None, default: Path, overwrite: bool) -> AtomicFile:
    """Return what claims the file to write: the one that was given, or the first free one after the default."""
    if given is not None:
        return AtomicFile(given, overwrite)
    return AtomicFile(default if overwrite else next_free(default, file=True), overwrite)


def drawing_file(given: Path | None, overwrite: bool) -> AbstractContextManager[AtomicFile | None]:
    """Return what claims the file of a figure, or nothing where none was asked for."""
    if given is None:
        return nullcontext()
    check_ending(given, DRAWINGS)
    return AtomicFile(given, overwrite)


def check_ending(out: Path, endings: Sequence[str]) -> None:
    """Raise `EdgemtlError` where a file's name does not tell a kind that can be written."""
    if out.suffix.lower() not in endings:
        raise EdgemtlError(f"--out {out}: end the name in {' or '.join(endings)}")
