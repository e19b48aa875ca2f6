"""What lies at a path where a run or a bundle was wanted, for the message about it."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

MANIFEST = "manifest.json"
RUN_CONFIG = "config.yaml"
RUN_FILES = (RUN_CONFIG, "weights.safetensors")
"""What `edgemtl train` writes, among other files."""
MAX_LISTED = 3


def instead_of_bundle(path: Path) -> str:
    """Return why a path is no bundle, in brackets, and what to do."""
    if is_run(path):
        return f"(it is a run); make one with `edgemtl export {path} --out BUNDLE`"
    if path.is_file():
        return (
            f"(it is a file); name the {f'bundle {path.parent}' if _is_bundle(path.parent) else 'folder of a bundle'}"
        )
    if not path.exists():
        return "(there is no such folder); make one with `edgemtl export`"
    if bundles := _inside(path, MANIFEST):
        return f"(it holds {bundles}); name one"
    return f"({MANIFEST} is missing); make one with `edgemtl export`"


def instead_of_run(path: Path, missing: str) -> str:
    """Return why a path, of which the file ``missing`` is not there, is no run, and what to do."""
    if _is_bundle(path):
        return "(it is a bundle); name the run that it was exported from"
    if path.is_file():
        return f"(it is a file); name the {f'run {path.parent}' if is_run(path.parent) else 'folder of a run'}"
    if os.path.lexists(path.parent / f".{path.name}.unfinished"):
        return "(its training is unfinished); the command that began it goes on with --resume"
    if runs := _inside(path, RUN_CONFIG):
        return f"(it holds {runs}); name one"
    return f"({missing} is missing); make one with `edgemtl train`"


def is_run(path: Path) -> bool:
    """Whether a folder holds what a training writes."""
    return all((path / name).is_file() for name in RUN_FILES)


def _is_bundle(path: Path) -> bool:
    return (path / MANIFEST).is_file()


def _inside(path: Path, file: str) -> str:
    """Return the first folders in a folder that hold a file, in words."""
    names = sorted(islice((match.parent.name for match in path.glob(f"*/{file}")), 1000))
    more = " and more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more
