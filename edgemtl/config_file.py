"""Configuration files: read from YAML with ``key=value`` overrides, saved; the starter and the JSON Schema."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from edgemtl_runtime.limits import parse_yaml, read_yaml, reason
from edgemtl_runtime.text import shortened

from .config import Config
from .config_bounds import fields_of, plain
from .config_values import Scalar, invalid, origin_of, read_value
from .errors import ConfigError, nearest_hint
from .methods import EXPERIMENTS, METHODS
from .methods.weighting import TASK_WEIGHTINGS
from .other_tools import known_elsewhere
from .renamed_keys import renamed
from .tasks import TASKS

HEAD = """\
# A training. `edgemtl train {name}` reads this file; arguments like lr=1e-3 or data.source=FOLDER override it.
# Every key is here with its default: leave out what you do not change.
"""


def load(file: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file with overrides (``sparsity.target=0.6``); raises `ConfigError` with what to do."""
    tree = _read(Path(file)) if file else {}
    tree = renamed(tree, Path(file).name if file else "")
    for override in overrides:
        _set(tree, override)
    tree = renamed(tree)
    _check_keys(tree, Config, "")
    for key, known in (("method", [*METHODS, *EXPERIMENTS]), ("task_weighting", list(TASK_WEIGHTINGS))):
        if isinstance(name := tree.get(key), Scalar) and name.lower() in known:  # plugins' names are known later
            tree[key] = Scalar.of(name.lower(), name.origin, name.is_quoted)
    config_type = msgspec.inspect.type_info(Config)
    try:
        config = msgspec.convert(read_value(tree, config_type, ""), Config)
    except (msgspec.ValidationError, RecursionError, OverflowError) as error:
        text = reason(error).partition(" - at `$")[0]
        raise ConfigError(f"{_places(text, tree) or file or 'configuration'}: {text}") from error
    for key, names in (("loss_weights", config.loss_weights), ("head_taps", config.head_taps)):
        for task in names:
            if task not in config.tasks:
                hint = nearest_hint(task, list(config.tasks))
                raise invalid(tree[key], f"{key} names '{task}'{hint}")
    return config


def _places(text: str, tree: dict[str, Any]) -> str:
    """Return where the keys that a text names were written."""
    places: list[str] = []
    for name in re.findall(r"[a-z_]+(?:\.[a-z_]+)*", text):
        value: Any = tree
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        places.append(origin_of(value))
    return ", ".join(dict.fromkeys(filter(None, places)))


def _read(file: Path) -> dict[str, Any]:
    """Return the tree of a file, its scalars as they were written."""
    if file.is_dir():
        known = f"; its configuration is {file / 'config.yaml'}" if (file / "config.yaml").is_file() else ""
        raise ConfigError(f"{file}: is a folder, and no configuration file{known}")

    def scalar(node: yaml.ScalarNode) -> Scalar:
        return Scalar.of(node.value, f"{file}:{node.start_mark.line + 1}", bool(node.style))

    tree = read_yaml(file, ConfigError, scalar)
    if tree is None or (isinstance(tree, Scalar) and tree.is_null):
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{file}: holds no keys; write lines like 'epochs: 45'")
    return tree


def save(config: Config, file: Path) -> None:
    """Write a configuration that `load` reads back."""
    file.write_text(yaml.safe_dump(msgspec.to_builtins(config), sort_keys=False))


def starter(name: str) -> str:
    """Return a configuration file with every key at its default and its meaning as a comment."""
    return HEAD.format(name=name) + "\n".join(_lines(Config())) + "\n"


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a configuration, for editors that complete and check YAML by one.

    Names that plugins may add to are completed, and not checked.
    """
    schema = msgspec.json.schema(Config)
    keys = schema["$defs"]["Config"]["properties"]
    keys["method"] |= {"anyOf": _known_or_other([*METHODS, *EXPERIMENTS])}
    keys["task_weighting"] |= {"anyOf": _known_or_other(list(TASK_WEIGHTINGS))}
    keys["tasks"]["items"] |= {"anyOf": _known_or_other(list(TASKS))}
    return {"title": "A training of edgemtl", **schema}


def _known_or_other(names: list[str]) -> list[dict[str, Any]]:
    return [{"enum": names}, {"type": "string"}]


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
    """Set one key of a tree from ``key=value``, the value a scalar, or a list or mapping as YAML has them."""
    key, equals, text = override.partition("=")
    word, text = shortened(override, 80), text.strip()
    if not equals or not key:
        raise ConfigError(f"'{word}' is not key=value, like epochs=45 or sparsity.target=0.6")
    *path, last = key.split(".")
    for part in path:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"'{word}': {part} holds a value, not keys")
    tree[last] = Scalar.of(text, word)
    if text[:1] in ("[", "{") or (len(text) > 1 and text[0] == text[-1] and text[0] in "'\""):
        try:
            tree[last] = parse_yaml(text, lambda node: Scalar.of(node.value, word, bool(node.style)))
        except ValueError as error:
            raise ConfigError(f"'{word}': the value cannot be read; do its brackets and quotes close?") from error


def _check_keys(tree: dict[str, Any], section: type[msgspec.Struct], prefix: str) -> None:
    """Name the nearest right key for a wrong one, at every depth."""
    fields = fields_of(section)
    for key, value in tree.items():
        if key not in fields:
            known_as = known_elsewhere(str(key), value) if not prefix else ""
            hint = f": here it is {known_as}" if known_as else nearest_hint(str(key), list(fields))
            raise invalid({key: value}, f"unknown key '{prefix}{key}'{hint}")
        type_ = plain(fields[key])
        if isinstance(value, dict) and isinstance(type_, msgspec.inspect.StructType):
            _check_keys(value, type_.cls, f"{prefix}{key}.")
