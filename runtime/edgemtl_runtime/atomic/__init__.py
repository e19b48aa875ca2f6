"""Atomic writes: an output file or folder appears complete, by one rename, or not at all.

A folder of ours holds an inventory of what we wrote (`INVENTORY`, file names with SHA-256): only what it lists is ever
replaced, and only with ``--overwrite``. `AtomicFolder` writes folders, `AtomicFile` files that a user named,
`write_file` files of our own caches.
"""

from .checks import check_file, check_folder
from .file import AtomicFile, write_file
from .folder import AtomicFolder
from .inventory import INVENTORY, Inventory, list_file, read_inventory
from .lock import BusyError, Lock
from .paths import ExistsError, is_free, next_free, numbered, outermost_artefact, resolve_parent, unfinished
from .recovery import recover

__all__ = [
    "INVENTORY",
    "AtomicFile",
    "AtomicFolder",
    "BusyError",
    "ExistsError",
    "Inventory",
    "Lock",
    "check_file",
    "check_folder",
    "is_free",
    "list_file",
    "next_free",
    "numbered",
    "outermost_artefact",
    "read_inventory",
    "recover",
    "resolve_parent",
    "unfinished",
    "write_file",
]
