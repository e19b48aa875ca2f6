"""The page's token: from where it is given, or made up; and how its link is told without a journal keeping it."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

from ...atomic import write_file
from ...camera.secrets import read_secret
from ...errors import EdgemtlError

VARIABLE = "EDGEMTL_TOKEN"
PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700


def given_token(word: str, file: Path | None) -> str:
    """Return the token of a command line, of a file, or of the environment's EDGEMTL_TOKEN; "" where none is given.

    Raises `EdgemtlError` where a word and a file are given, or the file holds none.
    """
    if word and file is not None:
        raise EdgemtlError("--token and --token-file: give one of them")
    if file is not None:
        return read_secret(file, "--token-file")
    return word or os.environ.get(VARIABLE, "")


def made_up() -> str:
    """Return a new token."""
    return secrets.token_urlsafe(16)


def told(url: str, link: str, token: str, is_ours: bool) -> str:
    """Return the line that tells where the page is: with the token only where a person reads it on a terminal.

    A token that was made up (``is_ours``) is else kept in a file that only this user may read.
    """
    if not token or sys.stderr.isatty():
        return f"serving {link}"
    if not is_ours:
        return f"serving {url} with the token that was given"
    return f"serving {url}; its token is in {kept(url, token)}"


def kept(url: str, token: str) -> Path:
    """Write a token into this user's folder for what runs, and return the file; raises `EdgemtlError`."""
    folder = _folder()
    file = folder / f"token-{url.rstrip('/').rpartition(':')[2]}"
    try:
        folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        write_file(file, f"{token}\n".encode(), PRIVATE_FILE)
    except OSError as error:
        raise EdgemtlError(
            f"{file}: cannot be written ({error.strerror}), and no terminal is there to show the token on; give "
            "--token-file"
        ) from error
    return file


def _folder() -> Path:
    """Return systemd's folder for the unit, else the session's, else one of the user's cache."""
    if told_ := os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]:
        return Path(told_)
    base = os.environ.get("XDG_RUNTIME_DIR") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "edgemtl"
