"""The options ``--plugin`` and ``--trust``, and which plugins a command may load before it checks any name."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..run_files import is_run

if TYPE_CHECKING:
    from ..config import Config

TRUST = "run the code of plugins that a run or configuration names"


def plugin_option(command: argparse.ArgumentParser) -> None:
    """Add the option for a plugin of the user's."""
    command.add_argument(
        "--plugin",
        metavar="FILE.py",
        action="append",
        default=[],
        help="load code that adds a task, format … (docs/extending.md); repeatable",
    )


def plugin_options(command: argparse.ArgumentParser, also: str = "") -> None:
    """Add the options of commands that open runs; ``also`` is what else ``--trust`` allows."""
    plugin_option(command)
    command.add_argument("--trust", action="store_true", help=f"{TRUST}{also}")


def load_plugins(args: argparse.Namespace, paths: Iterable[Path] = ()) -> None:
    """Load installed plugins, those that the user names, and with ``--trust`` those that runs among ``paths`` name."""
    from .. import plugins, run_plugins

    plugins.load_installed()
    for file in args.plugin:
        plugins.load(file)
    for path in paths:
        if is_run(path):
            run_plugins.load_of_run(path, args.trust)


def load_configured(config: Config, file: str | None, overrides: Sequence[str], trust: bool) -> Config:
    """Load a training's plugins and return the configuration with their absolute paths.

    Those that stand in ``overrides`` are the user's own; those of the configuration's ``file``, and of the runs that it
    starts from, need ``trust``.
    """
    import msgspec

    from .. import plugins, run_plugins

    plugins.load_installed()
    is_given = any(word.partition("=")[0] == "plugins" for word in overrides)
    base = None if is_given or file is None else Path(file).parent
    paths = [str(plugins.resolve(name, base)) for name in config.plugins]
    if is_given:
        for path in paths:
            plugins.load(path)
    else:
        plugins.load_named(paths, str(file), trust, "plugins=[{}]")
    for run in map(Path, (config.init_from, config.teacher, *config.teachers.values())):
        if is_run(run):
            run_plugins.load_of_run(run, trust)
    return msgspec.structs.replace(config, plugins=tuple(paths))
