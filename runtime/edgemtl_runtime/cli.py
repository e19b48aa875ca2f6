"""Command line ``edgemtl-runtime``.

What takes long to import is imported once signals are handled.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence

from .errors import EdgemtlError
from .signals import DefaultSignals, Interrupts
from .text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

START = """\
to begin with:
  edgemtl-runtime doctor                                     what this machine can run, and what to install
  edgemtl-runtime run BUNDLE --rgb 0 --ir 1 --serve :8080    two cameras, results on a web page
  edgemtl-runtime COMMAND --help                             options and examples of a command
"""


def guarded(command: Callable[[], int], program: str) -> int:
    """Run a command; invalid input is one line on standard error and exit code 2, Ctrl-C code 130, SIGTERM 143.

    Both raise `KeyboardInterrupt` in the command. Libraries that are being imported turn that into other errors, so any
    error after a signal is reported as the interruption.
    """
    with Interrupts() as interrupts:
        try:
            return command()
        except KeyboardInterrupt:
            return _interrupted(program, interrupts.number or signal.SIGINT)
        except BrokenPipeError:
            return 141
        except Exception as error:
            if interrupts.number:
                return _interrupted(program, interrupts.number)
            if not isinstance(error, (EdgemtlError, OSError)):
                raise
            # A full disk, a folder that may not be written: not ours, but no reason for a traceback
            print(f"{program}: {printable(str(error))}", file=sys.stderr)
            return 2 if isinstance(error, EdgemtlError) else 1


def _interrupted(program: str, number: int) -> int:
    print(f"{program}: interrupted", file=sys.stderr)
    return 128 + number


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    with DefaultSignals():
        args = parser().parse_args(argv)
        return guarded(lambda: int(args.command(args)), "edgemtl-runtime")


def parser() -> argparse.ArgumentParser:
    """Return the whole command line; what its commands need is imported here, where signals end it at once."""
    from .cli_board import add_board
    from .cli_calibrate import add_calibrate
    from .cli_engines import add_engines
    from .cli_parser import Version, program
    from .cli_profile import add_profile
    from .cli_record import add_record
    from .cli_recover import add_recover
    from .cli_run import add_run
    from .cli_sign import add_sign

    top = program("edgemtl-runtime", description="Run edgemtl bundles on a robot, without torch.", epilog=START)
    top.add_argument("--version", action=Version, distribution="edgemtl-runtime")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for add in (add_run, add_record, add_calibrate, add_recover, add_board, add_engines, add_profile, add_sign):
        add(commands)
    return top


def entry() -> None:
    """Entry point of the installed script: default signals until the process ends."""
    DefaultSignals().__enter__()
    sys.exit(main())


if __name__ == "__main__":
    entry()
