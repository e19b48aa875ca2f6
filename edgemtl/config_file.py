"""Configuration files: read from YAML with ``key=value`` overrides, saved; the starter and the JSON Schema."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from edgemtl_runtime.limits import parse_yaml, read_yaml, reason

from .config import Config
from .config_bounds import bounds_of, fields_of, plain
from .errors import ConfigError, nearest_hint
from .renamed_keys import OTHER_TOOLS, renamed

HEAD = """\
# A training. `edgemtl train {name}` reads this file; arguments like lr=1e-3 or data.source=FOLDER override it.
# Every key is here with its default: leave out what you do not change.
"""


def load(file: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file with overrides (``sparsity.target=0.6``); raises `ConfigError` with what to do."""
    tree = read_yaml(Path(file), ConfigError) if file else {}
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{file}: holds no keys; write lines like 'epochs: 45'")
    tree = renamed(tree, Path(file).name if file else "")
    for override in overrides:
        _set(tree, override)
    tree = renamed(tree)
    _check_keys(tree, Config, "")
    try:
        config = msgspec.convert(tree, Config)
    except (msgspec.ValidationError, RecursionError, OverflowError) as error:
        raise ConfigError(f"{file or 'configuration'}: {_out_of_bounds(error, tree) or reason(error)}") from error
    for key, names in (("loss_weights", config.loss_weights), ("head_taps", config.head_taps)):
        for task in names:
            if task not in config.tasks:
                hint = nearest_hint(task, list(config.tasks))
                raise ConfigError(f"{file or 'configuration'}: {key} names '{task}'{hint}")
    return config


def save(config: Config, file: Path) -> None:
    """Write a configuration that `load` reads back."""
    file.write_text(yaml.safe_dump(msgspec.to_builtins(config), sort_keys=False))


def starter(name: str) -> str:
    """Return a configuration file with every key at its default and its meaning as a comment."""
    return HEAD.format(name=name) + "\n".join(_lines(Config())) + "\n"


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a configuration, for editors that complete and check YAML by one."""
    return {"title": "A training of edgemtl", **msgspec.json.schema(Config)}


def _lines(section: msgspec.Struct, indent: str = "") -> list[str]:
    lines: list[str] = []
    for name, type_ in fields_of(type(section)).items():
        value = getattr(section, name)
        if isinstance(value, msgspec.Struct):
            about = (type(value).__doc__ or "").split("\n")[0].removesuffix(".")
            lines += [*([] if indent else [""]), f"{indent}{name}: # {about}", *_lines(value, indent + "  ")]
            continue
        about = ""
        if isinstance(type_, msgspec.inspect.Metadata):
            about = f" # {(type_.extra_json_schema or {}).get('description', '')}"
        lines.append(f"{indent}{name}: {_flow(msgspec.to_builtins(value))}{about}")
    return lines


def _flow(value: Any) -> str:
    """Return a value as YAML has it on one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n...\n").strip()


def _set(tree: dict[str, Any], override: str) -> None:
    """Set one key of a tree from ``key=value``, the value in YAML."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"'{override}' is not key=value, like epochs=45 or sparsity.target=0.6")
    *path, last = key.split(".")
    for part in path:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"'{override}': {part} holds a value, not keys")
    try:
        tree[last] = parse_yaml(text)
    except ValueError as error:
        raise ConfigError(f"'{override}': the value cannot be read") from error
    if isinstance(tree[last], str):  # YAML reads 1e-3 as a string
        with contextlib.suppress(ValueError):
            tree[last] = float(tree[last])


def _check_keys(tree: dict[str, Any], section: type[msgspec.Struct], prefix: str) -> None:
    """Name the nearest right key for a wrong one, at every depth."""
    fields = fields_of(section)
    for key, value in tree.items():
        if key not in fields:
            known_as = OTHER_TOOLS.get(str(key)) if not prefix else None
            hint = f": here it is {known_as}" if known_as else nearest_hint(str(key), list(fields))
            raise ConfigError(f"unknown key '{prefix}{key}'{hint}")
        type_ = plain(fields[key])
        if isinstance(value, dict) and isinstance(type_, msgspec.inspect.StructType):
            _check_keys(value, type_.cls, f"{prefix}{key}.")


def _out_of_bounds(error: Exception, tree: dict[str, Any]) -> str:
    """Return the message about a number outside of its bounds, where that is msgspec's error."""
    match = re.search(r"at `\$\.([\w.]+)(?:\[(\d+)\])?`", str(error))
    if not match:
        return ""
    value: Any = tree
    type_: msgspec.inspect.Type = msgspec.inspect.type_info(Config)
    for name in match[1].split("."):
        type_ = plain(type_)
        if not isinstance(type_, msgspec.inspect.StructType) or not isinstance(value, dict) or name not in value:
            return ""
        value, type_ = value[name], fields_of(type_.cls)[name]
    name, type_ = match[1], plain(type_)
    if match[2] and isinstance(type_, msgspec.inspect.TupleType):
        name, value, type_ = f"{name}[{match[2]}]", value[int(match[2])], type_.item_types[int(match[2])]
    bounds = bounds_of(type_)
    if bounds is None or isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    if bounds[0] <= value <= bounds[1]:
        return ""
    return f"{name}={str(value)[:40]} is not between {bounds[0]:g} and {bounds[1]:g}"
