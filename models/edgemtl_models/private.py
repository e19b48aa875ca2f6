"""A folder for settings that nobody else can write to, whatever is at its path."""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import tempfile
from pathlib import Path


def settings_folder() -> Path:
    """Return ``$XDG_CACHE_HOME/edgemtl/ultralytics``, of the user's home where that is not set.

    Where that cannot be made, or is a link, another's or open to others, a new folder that goes with this process.
    """
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = base / "edgemtl" / "ultralytics"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if all(_is_private(path) for path in (folder, folder.parent)) and os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError):  # no home, or none that may be written to
        pass
    fresh = tempfile.mkdtemp(prefix="edgemtl-ultralytics-")
    atexit.register(shutil.rmtree, fresh, ignore_errors=True)
    return Path(fresh)


def _is_private(folder: Path) -> bool:
    """Whether this is a folder itself, this user's, and no one else may write in it."""
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022
