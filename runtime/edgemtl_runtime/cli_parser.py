"""The parser of both command lines: errors are one line that names the word and the nearest right one."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from .errors import nearest_hint
from .text import printable, shortened

MIN_SIMILARITY = 0.6
"""How alike, of 1, a misspelt option and the one that is proposed are."""
NUMBERS = {"int": "whole number", "float": "number"}
"""What a value is that an option's type cannot read, by the type's name."""


class Help(argparse.HelpFormatter):
    """Help whose texts of one line are wrapped, and those of several stay as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text.strip() else super()._fill_text(text, width, indent)


class Parser(argparse.ArgumentParser):
    """An `argparse.ArgumentParser` whose mistakes end with one line on standard error and exit code 2."""

    word_hint: Callable[[str, str], str] | None = None
    """Answers an option that a command does not have, with its value or nothing, where another spelling is right:
    `--epochs 4` is `epochs=4` for a training."""

    def __init__(self, prog: str | None = None, **options: Any) -> None:
        options.setdefault("formatter_class", Help)
        super().__init__(prog, **options)
        self._is_intermixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Reject an option that this command does not have before another one that is missing is asked for."""
        words = list(sys.argv[1:] if args is None else args)
        if not words and self.commands():
            self.print_help()
            self.exit(0)
        self._check_options(words)
        if self._is_intermixing or self.commands():
            return super().parse_known_args(words, namespace)
        self._is_intermixing = True  # words may follow options: `train --out runs/mine epochs=4`
        try:
            return self.parse_known_intermixed_args(words, namespace)
        finally:
            self._is_intermixing = False

    def error(self, message: str) -> NoReturn:
        """Print one line, and end with exit code 2."""
        name, colon, text = message.partition(": ")
        if name == "the following arguments are required" and colon:
            message = f"give {text.replace(', ', ' and ')}; `{self.prog} --help` has examples"
        elif options := re.fullmatch(r"one of the arguments (.+) is required", message):
            message = f"give {' or '.join(options[1].split())}; `{self.prog} --help` has examples"
        elif name.startswith("argument ") and colon:
            message = f"{name.removeprefix('argument ')}: {text}"
        elif name == "unrecognized arguments":
            message = f"{text}: is one word too many"
        print(f"{self.prog}: {printable(' '.join(message.split()))}", file=sys.stderr)
        self.exit(2)

    def commands(self) -> list[str]:
        """Return the names of the commands that this parser chooses from; nothing for a command itself."""
        actions = (action for action in self._actions if isinstance(action, argparse._SubParsersAction))
        return [name for action in actions for name in action.choices]

    def _check_options(self, words: Sequence[str]) -> None:
        commands = self.commands()
        known = list(self._option_string_actions)
        for index, word in enumerate(words):
            if word == "--" or (commands and not word.startswith("-")):
                return  # what follows is for the command's own parser
            name, equals, value = word.partition("=")
            if not name.startswith("-") or name == "-" or name[1:2].isdigit() or name[1:2] == ".":
                continue
            if any(option.startswith(name) for option in known) or (name[1] != "-" and name[:2] in known):
                continue
            following = words[index + 1] if index + 1 < len(words) and not words[index + 1].startswith("-") else ""
            self.error(self._unknown_option(name, value if equals else following))

    def _unknown_option(self, name: str, value: str) -> str:
        shown = shortened(f"{name} {value}".strip(), 60)
        if self.word_hint and (hint := self.word_hint(name, value)):
            return f"{shown}: {hint}"
        shown_options = [action for action in self._actions if action.help != argparse.SUPPRESS]
        options = [option for action in shown_options for option in action.option_strings if option.startswith("--")]
        plain = [option.removeprefix("--") for option in options]
        near = difflib.get_close_matches(name.lstrip("-"), plain, n=1, cutoff=MIN_SIMILARITY)
        hint = f"did you mean '--{near[0]}'?" if near else f"`{self.prog} --help` lists them"
        return f"{shown}: there is no such option; {hint}"

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        values = None if action.choices is None else [str(name) for name in action.choices]
        if values is None or value in (action.choices or ()):
            return
        near = nearest_hint(str(value), values)
        if isinstance(action, argparse._SubParsersAction):
            hint = near if near.startswith("; did") else f"; they are {', '.join(values)}"
            raise self._invalid(f"there is no command '{shortened(value, 40)}'{hint}")
        hint = near if near.startswith("; did") else ""
        raise self._invalid(
            f"{'/'.join(action.option_strings)} {shortened(value, 40)}: is not one of {', '.join(values)}{hint}"
        )

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        try:
            return super()._get_value(action, arg_string)
        except argparse.ArgumentError as error:
            kind = NUMBERS.get(getattr(action.type, "__name__", ""))
            if kind is None:
                raise
            option = "/".join(action.option_strings) or action.metavar
            raise self._invalid(f"{option} {shortened(arg_string, 40)}: is no {kind}") from error

    @staticmethod
    def _invalid(message: str) -> argparse.ArgumentError:
        return argparse.ArgumentError(None, message)


def program(name: str, **options: Any) -> argparse.ArgumentParser:
    """Return the parser of a program."""
    return Parser(name, **options)


def add_examples(command: argparse.ArgumentParser, *examples: str) -> None:
    """Add example lines, what follows the command's name in each, to the end of its help."""
    lines = "\n".join(f"  {command.prog} {words}".rstrip() for words in examples)
    command.epilog = "\n\n".join([*filter(None, [command.epilog]), f"examples:\n{lines}"])


def answer_words(command: argparse.ArgumentParser, hint: Callable[[str, str], str]) -> None:
    """Let ``hint`` answer options that a command does not have (`Parser.word_hint`)."""
    if isinstance(command, Parser):
        command.word_hint = hint


class Version(argparse.Action):
    """The option ``--version``: prints the program's name and version, and ends."""

    def __init__(self, option_strings: Sequence[str], dest: str, distribution: str, **_: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help="print the version, and end")
        self.distribution = distribution

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Print the version, which takes a while to look up."""
        from importlib.metadata import PackageNotFoundError, version

        try:
            number = version(self.distribution)
        except PackageNotFoundError:
            number = "of a source tree that is not installed"
        print(f"{parser.prog} {number}")
        parser.exit(0)
