"""Several trainings that belong together: one folder, in place when all are done; what was stopped can be taken up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgemtl_runtime.atomic import FolderAside, check_folder, read_listing, unfinished

from . import distributed
from .console import print_message
from .errors import EdgemtlError


@contextmanager
def group(out: Path, kind: str, asked: dict[str, Any], resume: bool, overwrite: bool) -> Iterator[Path]:
    """Give a folder to train into, which is put in place as ``out`` at the end.

    ``asked`` is what the trainings are configured by, as JSON; ``resume`` goes on with a group of the same.
    """
    if resume:
        _check(unfinished(out), kind, asked, "unfinished")
    check_folder(out, kind, overwrite)
    if not distributed.is_main():
        yield unfinished(out)
        with distributed.process_group():
            return
    with FolderAside(out, kind, overwrite, asked=asked, keep=True, resume=resume) as aside:
        yield aside.folder
        with distributed.process_group():
            aside.place()


def is_finished(out: Path, kind: str, asked: dict[str, Any]) -> bool:
    """Whether a group is in place; raises `EdgemtlError` with the key in which it was configured otherwise."""
    if not _check(out, kind, asked, "finished"):
        return False
    print_message(f"{out} is finished: nothing to do")
    return True


def _check(folder: Path, kind: str, asked: dict[str, Any], state: str) -> bool:
    listing = read_listing(folder)
    if listing is None or listing.kind != kind:
        return False
    for key, value in asked.items():
        if listing.asked.get(key) != value:
            raise EdgemtlError(
                f"--resume: the {state} {kind} has {key}={listing.asked.get(key)}, this one {key}={value}; "
                "give the same, or another --out"
            )
    return True
