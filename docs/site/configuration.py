"""The reference of a training's configuration: every key, its default, its bounds and what it means."""

from __future__ import annotations

import inspect
import re
from typing import Any

import msgspec

from edgemtl.config import Config
from edgemtl.config_bounds import bounds_of, fields_of, plain

PAGE = re.compile(r"docs/(\w+)\.md")
HEAD = """\
# Configuration

Every key of a training. `edgemtl init NAME` writes a YAML file with all of them, `edgemtl train NAME.yaml key=value`
overrides one, `edgemtl init --schema` writes a JSON Schema for editors. Unknown keys are refused, with the nearest that
is known.
"""


def page() -> str:
    """Return the page: a table for each section."""
    return HEAD + "\n".join(_tables(Config, Config(), ""))


def _tables(section: type[msgspec.Struct], defaults: msgspec.Struct, prefix: str) -> list[str]:
    fields = fields_of(section)
    nested = {name: getattr(defaults, name) for name in fields if isinstance(getattr(defaults, name), msgspec.Struct)}
    rows = [
        f"| `{prefix}{name}` | {_default(getattr(defaults, name))} | {_values(type_)} | {_meaning(type_)} |"
        for name, type_ in fields.items()
        if name not in nested
    ]
    title = f"## {prefix.rstrip('.')}" if prefix else "## Top level"
    about = f"\n\n{inspect.getdoc(section)}" if prefix else ""
    table = "\n".join(["| key | default | values | what it is |", "| --- | --- | --- | --- |", *rows])
    parts = [f"\n{title}{about}\n\n{table}\n"]
    for name, value in nested.items():
        parts += _tables(type(value), value, f"{prefix}{name}.")
    return parts


def _default(value: Any) -> str:
    if value in ("", (), None) or value == {}:
        return "empty"
    text = msgspec.json.encode(value).decode()
    return f"`{text.strip(chr(34))}`"


def _values(type_: msgspec.inspect.Type) -> str:
    kind = plain(type_)
    if bounds := bounds_of(type_):
        return f"{bounds[0]:g} to {bounds[1]:g}"
    if isinstance(kind, msgspec.inspect.LiteralType):
        return ", ".join(f"`{value}`" if value else "empty" for value in kind.values)
    if isinstance(kind, msgspec.inspect.BoolType):
        return "`true`, `false`"
    return {
        msgspec.inspect.StrType: "text",
        msgspec.inspect.IntType: "whole number",
        msgspec.inspect.FloatType: "number",
        msgspec.inspect.VarTupleType: "list",
        msgspec.inspect.TupleType: "list",
        msgspec.inspect.DictType: "mapping",
    }.get(type(kind), "")


def _meaning(type_: msgspec.inspect.Type) -> str:
    schema = type_.extra_json_schema if isinstance(type_, msgspec.inspect.Metadata) else None
    text = str((schema or {}).get("description", "")).replace("|", "\\|")
    return PAGE.sub(r"[\1](../\1.md)", text)
