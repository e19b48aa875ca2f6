"""Files of others in JSON and YAML, read within bounds: size, depth, length, and what aliases would grow to."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec

from .errors import EdgemtlError, missing

MAX_BYTES = 4 << 20
MAX_DEPTH = 64
MAX_VALUES = 500_000
LONGEST_REASON = 300


def read_bounded(file: Path, most: int = MAX_BYTES, error: type[EdgemtlError] = EdgemtlError) -> bytes:
    """Return a file's bytes; raises ``error`` where it cannot be read or is larger than ``most``."""
    try:
        with file.open("rb") as stream:
            data = stream.read(most + 1)
    except OSError as reason:
        raise error(f"{file}: cannot be read ({reason.strerror})") from reason
    if len(data) > most:
        raise error(f"{file}: larger than {most / 1e6:.0f} MB, which is no such file; look at what it is")
    return data


def decode_json(data: bytes, kind: Any = Any) -> Any:
    """Return JSON as a type; raises `ValueError`, in one line, whatever is wrong with it."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, RecursionError, OverflowError, ValueError) as error:
        raise ValueError(reason(error)) from None


def reason(error: BaseException) -> str:
    """Return what an error says, in one line that is not long."""
    return printable(" ".join(str(error).split()))[:LONGEST_REASON] or type(error).__name__


def printable(text: str) -> str:
    """Return a text in which "?" stands for what does not print: it may be of a file, and move a terminal's cursor."""
    return "".join(sign if sign.isprintable() or sign == "\n" else "?" for sign in text)


def read_yaml(file: Path, error: type[EdgemtlError] = EdgemtlError) -> Any:
    """Return what a YAML file holds, plain values alone; raises ``error`` that names the file."""
    data = read_bounded(file, error=error)
    try:
        return parse_yaml(data)
    except ValueError as told:
        raise error(f"{file}: no YAML that can be read ({told})") from None


def parse_yaml(data: bytes | str) -> Any:
    """Return what a YAML text holds, plain values alone; raises `ValueError` in one line.

    Raises `EdgemtlError` where PyYAML is not installed.
    """
    try:
        import yaml
    except ImportError as error:
        raise EdgemtlError(
            missing(error, "yaml", "YAML files need PyYAML: pip install 'edgemtl-runtime[rig]'")
        ) from error
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _check_events(yaml, yaml.parse(data, Loader=loader))
        return yaml.load(data, Loader=loader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, OverflowError, KeyError, AttributeError) as error:
        raise ValueError(reason(error)) from None


def _check_events(yaml: Any, events: Any) -> None:
    """Raise `ValueError` where a text nests too deep, or would grow beyond bounds by its aliases."""
    open_: list[tuple[str | None, int]] = []  # the anchor of each collection that is open, and the values before it
    values = 0
    grown: dict[str, int] = {}
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in grown:
                raise ValueError(f"*{event.anchor} holds itself, or nothing")
            values += grown[event.anchor]
        elif isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, values))
            values += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_.pop()
            if anchor:
                grown[anchor] = values - before
        elif isinstance(event, yaml.ScalarEvent):
            values += 1
            if event.anchor:
                grown[event.anchor] = 1
        if len(open_) > MAX_DEPTH or values > MAX_VALUES:
            raise ValueError(f"nested deeper than {MAX_DEPTH}, or more than {MAX_VALUES} values")


def check_text(what: str, text: str, longest: int = 200) -> None:
    """Raise `ValueError` for a text that is long, or has signs that move a terminal's cursor."""
    if len(text) > longest or not text.isprintable():
        raise ValueError(f"{what} {text[:40]!a} is longer than {longest} letters or has signs that do not print")


def check_number(what: str, value: float, low: float, high: float) -> None:
    """Raise `ValueError` for a number that is none or lies outside [low, high]."""
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError(f"{what} is {value:g}; it lies between {low:g} and {high:g}")
