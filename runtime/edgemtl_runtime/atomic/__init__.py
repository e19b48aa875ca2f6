"""Files and folders that are written aside and put in place whole, or not at all; nothing of the user's is touched.

A folder of ours holds a listing of what we wrote (`LISTING`): only that is ever replaced, and only when it was asked
for. `FolderAside` writes folders, `FileAside` files that a user asked for, `write_file` files of our own caches.
"""

from .file import FileAside, write_file
from .folder import FolderAside
from .listing import LISTING, Listing, read_listing
from .lock import BusyError, Lock
from .place import (
    TakenError,
    check_file,
    check_folder,
    is_free,
    next_free,
    normal,
    numbered,
    outermost,
    recover,
    unfinished,
)

__all__ = [
    "LISTING",
    "BusyError",
    "FileAside",
    "FolderAside",
    "Listing",
    "Lock",
    "TakenError",
    "check_file",
    "check_folder",
    "is_free",
    "next_free",
    "normal",
    "numbered",
    "outermost",
    "read_listing",
    "recover",
    "unfinished",
    "write_file",
]
