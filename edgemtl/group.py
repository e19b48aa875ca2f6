"""A group of trainings in one folder, put in place when all are finished; a stopped group can be resumed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgemtl_runtime.atomic import AtomicFolder, check_folder, read_inventory, unfinished

from . import distributed
from .checkpoint import upgraded
from .console import print_message
from .errors import EdgemtlError


@contextmanager
def group(out: Path, title: str, asked: dict[str, Any], resume: bool, overwrite: bool) -> Iterator[Path]:
    """Yield a folder to train into, which is put in place as ``out`` at the end.

    ``title`` is what the folder's inventory calls it, ``asked`` the configuration of the trainings, as JSON; ``resume``
    continues a group of the same configuration.
    """
    if resume:
        _check(unfinished(out), title, asked, "unfinished")
    check_folder(out, title, overwrite)
    if not distributed.is_main():
        yield unfinished(out)
        distributed.barrier()
        with distributed.process_group():
            return
    with AtomicFolder(out, title, overwrite, settings=asked, keep=True, resume=resume) as output:
        yield output.folder
        distributed.barrier()  # the others still read runs in it by its present name
        with distributed.process_group():
            output.commit()


def is_finished(out: Path, title: str, asked: dict[str, Any]) -> bool:
    """Whether a group is in place; raises `EdgemtlError` with the first key of its configuration that differs."""
    if not _check(out, title, asked, "finished"):
        return False
    print_message(f"{out} is finished: nothing to do")
    return True


def _check(folder: Path, title: str, asked: dict[str, Any], state: str) -> bool:
    inventory = read_inventory(folder)
    if inventory is None or inventory.kind != title:
        return False
    existing = upgraded(inventory.settings)
    for key, value in asked.items():
        if existing.get(key) != value:
            raise EdgemtlError(
                f"--resume: the {state} {title} has {key}={existing.get(key)}, this one {key}={value}; "
                "give the same, or another --out"
            )
    return True
