"""The plugins of a run: recorded with a hash when it is written, asked for and compared when it is opened."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edgemtl_runtime.limits import decode_json, read_bounded, reason

from . import plugins
from .console import print_message
from .errors import EdgemtlError
from .methods import REGULARIZERS

if TYPE_CHECKING:
    from .config import Config

PLUGINS = "plugins.json"
"""The file of a run: {path or entry point: SHA-256, or package and version}."""


def used(config: Config, network: Mapping[str, Any]) -> dict[str, str]:
    """Return the fingerprints of the plugins that a training uses, by name: all files, of installed ones those used."""
    streams, heads = network.get("streams", {}), network.get("heads", {})
    names = {
        "task": config.tasks,
        "method": [config.method],
        "task weighting": [config.task_weighting],
        "regulariser": list(REGULARIZERS.origins),
        "backbone": [stream["backbone"]["kind"] for stream in streams.values()],
        "head": [heads[task]["kind"] for task in config.tasks if task in heads],
    }
    files = {name: p.fingerprint for name, p in plugins.loaded().items() if name in config.plugins}
    return files | plugins.used_by(names)


def write(folder: Path, config: Config, network: Mapping[str, Any]) -> None:
    """Write the plugins of a run, if it uses any."""
    if recorded := used(config, network):
        (folder / PLUGINS).write_text(json.dumps(recorded, indent=2) + "\n")


def read(folder: Path) -> dict[str, str]:
    """Return the fingerprints of a run's plugins by name; {} where it uses none."""
    file = folder / PLUGINS
    if not file.is_file():
        return {}
    try:
        return msgspec.convert(decode_json(read_bounded(file)), dict[str, str])
    except (ValueError, msgspec.ValidationError) as error:
        raise EdgemtlError(f"{file}: cannot be read ({reason(error)}); copy the run again") from error


def load_of_run(folder: Path, trust: bool) -> None:
    """Load the plugins that a run names, which needs ``trust`` unless the user has given them; report changed ones."""
    recorded = read(folder)
    plugins.load_named([name for name in recorded if name.endswith(".py")], str(folder), trust)
    check(folder, recorded)


def check(folder: Path, recorded: Mapping[str, str]) -> None:
    """Raise `EdgemtlError` where a plugin of a run is not loaded; report those that have changed since."""
    known = plugins.loaded()
    for name, fingerprint in recorded.items():
        if not plugins.is_loaded(name):
            if name.endswith(".py"):
                plugins.load_named([name], str(folder), False)
            raise EdgemtlError(f"{folder}: needs the plugin {name} of the package {fingerprint}: install it")
        plugin = known.get(name) or next(p for n, p in known.items() if Path(n).name == Path(name).name)
        if plugin.fingerprint != fingerprint:
            _report_change(folder, plugin.name, fingerprint)


_reported: set[tuple[str, str, str]] = set()


def _report_change(folder: Path, name: str, fingerprint: str) -> None:
    """Print, once a process, that a plugin is not what a run was trained with."""
    if (key := (str(folder), name, fingerprint)) not in _reported:
        _reported.add(key)
        print_message(f"warning: the plugin {name} has changed since {folder} was trained with it")
