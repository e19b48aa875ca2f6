"""Options of a camera's URI: split from the address, checked, and converted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl

from ..errors import UsageError, nearest_hint
from .address import host_begin
from .redaction import redact

Options = Mapping[str, str]
COMMON = ("rotate", "offset_ms", "repeats")
"""Options of every source."""
STREAM_OPTIONS = (*COMMON, "transport", "clock", "reduce")
"""Options in a stream's URL that are for this package; the rest of its query is the server's."""
NO_SERVER = ("v4l2:", "csi:", "file:", "zenoh:", "ros2:", "realsense:", "oak:", "genicam:")
"""Schemes whose query is all for this package."""
REDUCTIONS = ("1", "2", "4", "8")
"""Divisors of a JPEG's size that its decoder reaches by leaving out high frequencies, in a fraction of the time."""
NOMINAL_FPS = 30.0
"""Frame rate of the stamps of an image folder where none is given."""
_QUERY = re.compile(r"[^\s!\"']*")
"""What may follow the last "?" of a pipeline for it to be options."""
_NAME = re.compile(r"^[^=]*[.*?\[]")
"""What follows a "?" that begins no options, but is of a file's name."""
_PAIRS = re.compile(r"\?\w+=[^?]*$")
"""Options at the end of a path."""


def split_options(uri: str) -> tuple[str, dict[str, str]]:
    """Split ``address?key=value`` into the address and its options; a stream's URL keeps the server's query.

    The same holds for a URL at the end of a GStreamer pipeline; those in its middle are the pipeline's.
    """
    known: tuple[str, ...]
    if uri.startswith("gst:"):
        address, mark, query = uri.rpartition("?")
        if not mark or not _QUERY.fullmatch(query):
            return uri, {}
        has_query, known = "://" in address.split()[-1], (*COMMON, "format")
    else:
        host = host_begin(uri)
        address, mark, query = uri[host:].partition("?")
        address = uri[:host] + address
        has_query, known = "://" in address and not address.startswith(NO_SERVER), STREAM_OPTIONS
        if not has_query and _NAME.search(query):  # a wildcard, or a file's name
            address, mark, query = uri.rpartition("?") if _PAIRS.search(uri) else (uri, "", "")
        if not mark:
            return uri, {}
    pairs = parse_qsl(query, keep_blank_values=True)
    if not has_query:
        return address, dict(pairs)
    options = {key: value for key, value in pairs if key in known}
    rest = "&".join(part for part in query.split("&") if part.partition("=")[0] not in known)
    return f"{address}?{rest}" if rest else address, options


def take(options: Options, uri: str, **defaults: float) -> list[float]:
    """Return numeric options in the order of ``defaults``; raises `UsageError` on an unknown one, with a hint."""
    check_known(options, uri, list(defaults))
    values = []
    for key, default in defaults.items():
        try:
            values.append(float(options.get(key, default)))
        except ValueError:
            raise UsageError(f"{redact(uri)}: option {key}={options[key]} is not a number") from None
    if any(not 0 <= value < 1e6 for value in values):
        raise UsageError(f"{redact(uri)}: options are numbers from 0 to a million")
    return values


def take_word(options: Options, uri: str, key: str, words: tuple[str, ...]) -> str:
    """Return an option that is one of some words, the first where it is not given."""
    word = options.get(key, words[0])
    if word not in words:
        raise UsageError(f"{redact(uri)}: option {key}={word} is not one of {', '.join(w for w in words if w)}")
    return word


def check_known(options: Options, uri: str, known: list[str]) -> None:
    """Raise `UsageError` on an option that a source does not have."""
    for key in options:
        if key not in known:
            raise UsageError(f"{redact(uri)}: unknown option '{key}'{nearest_hint(key, [*known, *COMMON])}")
