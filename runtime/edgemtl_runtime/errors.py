"""Errors that a user can act on: each message has what was read, where, and what to do."""

from __future__ import annotations


class EdgemtlError(Exception):
    """Invalid input or a missing part, with a message of one line; commands end with exit code 2."""


class BundleError(EdgemtlError):
    """A bundle that is damaged, incomplete or newer than this runtime."""


class EngineError(EdgemtlError):
    """An engine that cannot be built, does not fit, or is not trusted."""


class CameraError(EdgemtlError):
    """A camera that cannot be opened, has stopped, or has changed its image size."""


class UsageError(CameraError):
    """A camera cannot be opened as given or with what is installed: a retry does not help."""


SHORT_FLAGS = ("rgb", "ir")
"""Inputs whose name is a command-line option."""


def flag(name: str, source: object = "") -> str:
    """Return the command-line option of an input's camera, with its source where one is given.

    ``--rgb`` and ``--ir`` are short forms; any other is ``--camera NAME=...``.
    """
    if name in SHORT_FLAGS:
        return f"--{name} {source}" if source else f"--{name}"
    return f"--camera {name}={source or '...'}"


def missing(error: ImportError, module: str, hint: str) -> str:
    """Return why a module cannot be imported: ``hint`` where it is not installed, else its own error."""
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == module.partition(".")[0]:
        return hint
    return f"{module} is installed here and does not load: {' '.join(str(error).split())[:300] or type(error).__name__}"


def nearest_hint(name: str, known: list[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known name nearest to a misspelt one, else the known names."""
    import difflib

    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean '{matches[0]}'?" if matches else f"; known are: {', '.join(known)}"
