"""The page's token: read or generated, and passed on so that no journal keeps it."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

from ...atomic import write_file
from ...camera.secrets import read_secret
from ...errors import EdgemtlError

VARIABLE = "EDGEMTL_TOKEN"
FILE_MODE, FOLDER_MODE = 0o600, 0o700


def read_token(token: str, file: Path | None) -> str:
    """Return the token of the command line, of a file, or of the environment's EDGEMTL_TOKEN; "" where none is given.

    Raises `EdgemtlError` where both a token and a file are given, or the file holds none.
    """
    if token and file is not None:
        raise EdgemtlError("--token and --token-file: give one of them")
    if file is not None:
        return read_secret(file, "--token-file")
    return token or os.environ.get(VARIABLE, "")


def generate_token() -> str:
    """Return a new random token."""
    return secrets.token_urlsafe(16)


def serving_message(url: str, link: str, token: str, is_generated: bool) -> str:
    """Return the line with the page's address; it holds the token only where a person reads it on a terminal.

    Elsewhere a generated token is stored in a file that only this user may read. Raises `EdgemtlError`.
    """
    if not token or sys.stderr.isatty():
        return f"serving {link}"
    if not is_generated:
        return f"serving {url} with the token that was given"
    return f"serving {url}; its token is in {store_token(url, token)}"


def store_token(url: str, token: str) -> Path:
    """Write a token into this user's runtime folder, and return the file; raises `EdgemtlError`."""
    folder = _runtime_folder()
    file = folder / f"token-{url.rstrip('/').rpartition(':')[2]}"
    try:
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        write_file(file, f"{token}\n".encode(), FILE_MODE)
    except OSError as error:
        raise EdgemtlError(
            f"{file}: cannot be written ({error.strerror}), and no terminal is there to show the token on; give "
            "--token-file"
        ) from error
    return file


def _runtime_folder() -> Path:
    """Return systemd's folder for the unit, else that of the session, else one in the user's cache."""
    if of_unit := os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]:
        return Path(of_unit)
    base = os.environ.get("XDG_RUNTIME_DIR") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "edgemtl"
