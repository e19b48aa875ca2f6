"""Every command that a document gives is one that the command line of today takes: options, choices and settings."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgemtl import cli
from edgemtl.config_file import load
from edgemtl_runtime import cli as runtime_cli

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "runtime/README.md", ROOT / "export/README.md", *ROOT.glob("docs/**/*.md")]
INLINE = re.compile(r"`((?:edgemtl|edgemtl-runtime) [a-z][^`]*)`")
LINE = re.compile(r"^\s*((?:edgemtl|edgemtl-runtime) [a-z]\w* .*|edgemtl demo.*)$", re.M)
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
INDENTED = re.compile(r"(?:^    .*\n)+", re.M)


def commands(text: str) -> Iterator[str]:
    """Yield the commands of a document, lines that end with a backslash joined."""
    fenced = [content for language, content in FENCED.findall(text) if language in ("", "sh", "console")]
    for block in [*fenced, *INDENTED.findall(FENCED.sub("", text))]:
        yield from LINE.findall(block.replace("\\\n", " "))
    yield from INLINE.findall(FENCED.sub("", text))


def words_of(command: str) -> list[str]:
    """Return a command's words: no comment, no pipe, only what is before a second command."""
    words = shlex.split(command, comments=True)
    ends = [i for i, word in enumerate(words) if word in ("|", "&&", ";", "&", ">", "2>")]
    return words[: ends[0]] if ends else words


CASES = sorted(
    {(file.relative_to(ROOT).as_posix(), found) for file in DOCUMENTS for found in commands(file.read_text())}
)


def test_there_are_as_many_as_the_documents_have() -> None:
    files = {file for file, _ in CASES}
    assert len(CASES) > 100
    assert {"docs/live.md", "docs/deploying.md", "docs/methods.md", "docs/pruning.md", "README.md"} <= files


@pytest.mark.parametrize(("file", "command"), CASES, ids=lambda text: text[:70])
def test_the_command_line_takes_it(file: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    name, *words = words_of(command)
    parser = cli.parser() if name == "edgemtl" else runtime_cli.parser()
    if names_only_a_command(parser, words):
        return
    try:
        args = parser.parse_args(words)
    except SystemExit as end:
        said = capsys.readouterr().err
        # A sentence may leave out what does not concern it; a block to copy may not.
        assert end.code == 0 or (
            f"`{command}`" in (ROOT / file).read_text() and re.search("required|expected one|: give --", said)
        ), f"{file}: {command}\n{said}"
        return
    settings = [word for word in words if re.match(r"[a-z][\w.]*=", word)]
    if words[0] in ("train", "sweep") and "plugins" not in command and "init_from" not in command:
        load(None, [setting for setting in settings if "," not in setting or "[" in setting])
    assert callable(args.command)


def names_only_a_command(parser: argparse.ArgumentParser, words: list[str]) -> bool:
    """Return whether a text only names a command ("`edgemtl data check`"), or one and its option, in a sentence."""
    for word in words:
        subs = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        if not subs:
            return False
        assert word in subs[0].choices, f"there is no command {word}"
        parser = subs[0].choices[word]
    return True
