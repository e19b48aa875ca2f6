"""Bounded reading of untrusted JSON and YAML: size, nesting depth, text length and alias expansion."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

import msgspec

from .errors import EdgemtlError, missing
from .text import shortened

if TYPE_CHECKING:
    import yaml

MAX_BYTES = 4 << 20
MAX_DEPTH = 64
MAX_VALUES = 500_000
SCALAR_TAGS = ("str", "int", "float", "bool", "null", "timestamp", "value", "binary")
T = TypeVar("T")


def read_bounded(file: Path, max_bytes: int = MAX_BYTES, error: type[EdgemtlError] = EdgemtlError) -> bytes:
    """Return a file's bytes; raises ``error`` where it cannot be read or is larger than ``max_bytes``."""
    try:
        with file.open("rb") as stream:
            data = stream.read(max_bytes + 1)
    except OSError as reason:
        raise error(f"{file}: cannot be read ({reason.strerror})") from reason
    if len(data) > max_bytes:
        raise error(f"{file}: larger than {max_bytes / 1e6:.0f} MB, which is no such file; look at what it is")
    return data


@overload
def decode_json(data: bytes, type_: type[T]) -> T: ...


@overload
def decode_json(data: bytes) -> Any: ...


def decode_json(data: bytes, type_: Any = Any) -> Any:
    """Return JSON as a type; raises `ValueError`, in one line, for anything invalid."""
    try:
        return msgspec.json.decode(data, type=type_)
    except (msgspec.MsgspecError, RecursionError, OverflowError, ValueError) as error:
        raise ValueError(reason(error)) from None


def reason(error: BaseException) -> str:
    """Return an error's message in one short line."""
    return shortened(error) or type(error).__name__


def read_yaml(
    file: Path, error: type[EdgemtlError] = EdgemtlError, scalar: Callable[[yaml.ScalarNode], object] | None = None
) -> Any:
    """Return the plain values of a YAML file; raises ``error`` that names the file.

    With ``scalar`` every scalar, keys too, is what that makes of its node. No key may stand twice.
    """
    data = read_bounded(file, error=error)
    try:
        return parse_yaml(data, scalar)
    except ValueError as invalid:
        raise error(f"{file}: no YAML that can be read ({invalid})") from None


def parse_yaml(data: bytes | str, scalar: Callable[[yaml.ScalarNode], object] | None = None) -> Any:
    """Return the plain values of a YAML text, its scalars as for `read_yaml`; raises `ValueError` in one line.

    Raises `EdgemtlError` where PyYAML is not installed.
    """
    try:
        import yaml
    except ImportError as error:
        raise EdgemtlError(
            missing(error, "yaml", "YAML files need PyYAML: pip install 'edgemtl-runtime[rig]'")
        ) from error
    loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
    try:
        _check_events(yaml.parse(data, Loader=loader))
        return yaml.load(data, Loader=_strict_loader(loader, scalar))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ValueError(f"line {mark.line + 1 if mark else 1}: {shortened(error.problem or error.context)}") from None
    except yaml.reader.ReaderError as error:
        before = data[: error.position]
        line = 1 + (before.count("\n") if isinstance(before, str) else before.count(b"\n"))
        raise ValueError(f"line {line} is no text in UTF-8; if it is YAML, save it as that") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, OverflowError, KeyError, AttributeError) as error:
        raise ValueError(reason(error)) from None


def _strict_loader(loader: type[Any], scalar: Callable[[yaml.ScalarNode], object] | None) -> type[Any]:
    """Return a loader that takes no key twice; ``scalar`` makes its scalars, whatever YAML 1.1 takes them to be."""

    class StrictLoader(loader):  # type: ignore[misc]
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
            keys: dict[str, yaml.Node] = {}
            for key, _ in node.value:
                if isinstance(key.value, str) and (first := keys.setdefault(key.value, key)) is not key:
                    line, first_line = key.start_mark.line + 1, first.start_mark.line + 1
                    raise ValueError(f"line {line}: '{key.value}' stands in line {first_line} already")
            return super().construct_mapping(node, deep)

    if (construct := scalar) is not None:
        for tag in SCALAR_TAGS:
            StrictLoader.add_constructor(f"tag:yaml.org,2002:{tag}", lambda _, node: construct(node))
    return StrictLoader


def _check_events(events: Iterable[yaml.Event]) -> None:
    """Raise `ValueError` where a text nests too deep, or its aliases would expand beyond bounds."""
    import yaml

    open_: list[tuple[str | None, int]] = []  # anchor of each open collection, and the values before it
    values = 0
    expanded: dict[str, int] = {}  # values of each anchor
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in expanded:
                raise ValueError(f"*{event.anchor} holds itself, or nothing")
            values += expanded[event.anchor]
        elif isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, values))
            values += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_.pop()
            if anchor:
                expanded[anchor] = values - before
        elif isinstance(event, yaml.ScalarEvent):
            values += 1
            if event.anchor:
                expanded[event.anchor] = 1
        if len(open_) > MAX_DEPTH or values > MAX_VALUES:
            raise ValueError(f"nested deeper than {MAX_DEPTH}, or more than {MAX_VALUES} values")


def check_text(name: str, text: str, longest: int = 200) -> None:
    """Raise `ValueError` for a text that is too long, or has unprintable characters."""
    if len(text) > longest or not text.isprintable():
        raise ValueError(f"{name} {text[:40]!a} is longer than {longest} letters or has signs that do not print")


def check_number(name: str, value: float, low: float, high: float) -> None:
    """Raise `ValueError` for a number that is not finite or lies outside [low, high]."""
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError(f"{name} is {value:g}; it lies between {low:g} and {high:g}")
