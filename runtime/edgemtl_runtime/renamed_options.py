"""Command-line options under an earlier name: accepted for one version, with one line that names the new one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


def renamed(parser: argparse.ArgumentParser, old: str, new: str) -> None:
    """Accept the option ``old`` as ``new``, which ``parser`` has already; help shows ``new`` alone.

    Where ``old`` is given, one line on standard error names ``new``. The value, its type and its choices are those of
    ``new``; a required ``new`` counts as given.
    """
    target = parser._option_string_actions[new]
    allowed = None if target.choices is None else list(target.choices)
    parser.add_argument(
        old,
        dest=target.dest,
        action=_Renamed,
        target=target,
        new=new,
        nargs=target.nargs,
        const=target.const,
        default=argparse.SUPPRESS,
        type=target.type or str,
        choices=allowed,
        metavar=target.metavar,
        help=argparse.SUPPRESS,
    )


class _Renamed(argparse.Action):
    """Stores what the option under its new name would store, and prints the new name once per command line."""

    def __init__(self, *args: object, target: argparse.Action, new: str, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]  # argparse passes them on as they were given
        self.target, self.new, self.warned = target, new, False

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[object] | None,
        option_string: str | None = None,
    ) -> None:
        """Store the value where ``new`` stores it."""
        if not self.warned:
            self.warned = True
            print(
                f"{parser.prog}: {option_string} is {self.new} now; the old name goes with the next version",
                file=sys.stderr,
            )
        self.target.required = False  # argparse asks for it after the last option
        self.target(parser, namespace, values, self.new)
