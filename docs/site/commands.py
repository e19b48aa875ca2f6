"""The reference of the two command lines: what ``--help`` prints, command by command."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator

from edgemtl import cli
from edgemtl_runtime import cli as runtime_cli

HEAD = """\
# Commands

What `--help` prints, of every command. `edgemtl` has all of them; `edgemtl-runtime`, which needs no torch, has those of
the robot. Wrong input ends with one line and exit code 2, an interrupt with 130; a finished output is never replaced
without `--overwrite`.
"""


def page() -> str:
    """Return the page."""
    os.environ["COLUMNS"] = "100"
    parts = [HEAD]
    for name, parser in (("edgemtl", cli.parser()), ("edgemtl-runtime", runtime_cli.parser())):
        parts += [f"## {name}", _help(parser)]
        for words, command in _commands(parser, name):
            parts += [f"### {words}", _help(command)]
    return "\n\n".join(parts) + "\n"


def _help(parser: argparse.ArgumentParser) -> str:
    return f"```text\n{parser.format_help().rstrip()}\n```"


def _commands(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield the commands of a command line, and theirs."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, command in action.choices.items():
                yield f"{name} {word}", command
                yield from _commands(command, f"{name} {word}")
