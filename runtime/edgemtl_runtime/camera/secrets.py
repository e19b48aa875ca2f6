"""Secrets of cameras: filled into a URI from the environment or from files.

${NAME}        in a source is the environment's NAME, so that the list of processes shows no password
${file:NAME}   is what a file holds: of systemd's $CREDENTIALS_DIRECTORY where there is one, or any by its path
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from urllib.parse import quote

from ..errors import EdgemtlError, UsageError, flag
from ..limits import read_bounded

PLACEHOLDER = re.compile(r"\$\{(file:)?([^{}]*)\}")
MOST_BYTES = 4096
OTHERS = 0o077
"""Permission bits of group and others."""


def fill(uri: str, name: str) -> tuple[str, list[str]]:
    """Return a URI with its placeholders filled, and the values; raises `UsageError` where one has no value.

    In the user part and the query of a URL a value is percent-encoded, and in a pipeline it is quoted.
    """
    values: list[str] = []

    def value(match: re.Match[str]) -> str:
        secret = _value(match, name)
        values.append(secret)
        if uri.startswith("gst:"):
            escaped = secret.replace("\\", "\\\\").replace('"', '\\"')
            return f'"{escaped}"' if re.search(r"[\s\"'!\\]", secret) else secret
        after, before = uri[match.end() :], uri[: match.start()]
        return quote(secret, safe="") if "://" in before and ("@" in after or "?" in before) else secret

    return PLACEHOLDER.sub(value, uri), values


def _value(match: re.Match[str], name: str) -> str:
    if match[1]:
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        return read_secret(Path(folder or ".") / match[2], flag(name))
    value = os.environ.get(match[2])
    if value is None or not match[2]:
        raise UsageError(f"{flag(name)}: the environment has no {match[2][:60] or 'name'!r}, which ${{...}} asks for")
    return value


def read_secret(file: Path, owner: str) -> str:
    """Return the one line that a file holds; warns where others may read it. Raises `EdgemtlError`, never with it."""
    data = read_bounded(file, MOST_BYTES)
    try:
        secret = data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        secret = ""
    if not secret or not secret.isprintable():
        raise EdgemtlError(f"{owner} {file}: holds no line of text; write the secret into it, and nothing else")
    trusted = os.environ.get("CREDENTIALS_DIRECTORY")
    if file.stat().st_mode & OTHERS and not (trusted and file.is_relative_to(trusted)):
        log = logging.getLogger("edgemtl_runtime")
        log.warning("%s %s: other users may read this secret; chmod 600 it", owner, file)
    return secret
