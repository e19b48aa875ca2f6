"""The errors a person can act on: each message says what was found, where, and what to do."""

from __future__ import annotations


class EdgemtlError(Exception):
    """Bad input or a missing part, told in one line; every command turns it into exit code 2."""


class BundleError(EdgemtlError):
    """A bundle that is damaged, incomplete or newer than this runtime."""


class EngineError(EdgemtlError):
    """An engine that cannot be built, does not fit, or is not to be trusted."""


class CameraError(EdgemtlError):
    """A camera that cannot be opened, has stopped, or has changed its picture size."""


class UsageError(CameraError):
    """A camera cannot be opened by what was given or installed: trying again does not help."""


SHORT_FLAGS = ("rgb", "ir")
"""Inputs with a flag of their own on the command line."""


def flag(name: str, place: object = "") -> str:
    """Return how an input's camera is given on the command line, with the place where one is told.

    ``--rgb`` and ``--ir`` have short forms; any other is ``--camera NAME=...``.
    """
    if name in SHORT_FLAGS:
        return f"--{name} {place}" if place else f"--{name}"
    return f"--camera {name}={place or '...'}"


def missing(error: ImportError, module: str, hint: str) -> str:
    """Return why a module cannot be imported: ``hint``, which says how to install it, or what it says itself."""
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == module.partition(".")[0]:
        return hint
    return f"{module} is installed here and does not load: {' '.join(str(error).split())[:300] or type(error).__name__}"


def nearest_hint(word: str, known: list[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known word nearest to a misspelt one, or an empty string."""
    import difflib

    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else f"; known are: {', '.join(known)}"
