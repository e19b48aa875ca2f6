"""The command line on a robot: ``edgemtl-runtime``."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Sequence

from .cli_engines import add_engines
from .cli_record import add_record
from .cli_run import add_run
from .errors import EdgemtlError
from .limits import printable


def guarded(command: Callable[[], int], program: str) -> int:
    """Run a command; bad input becomes one line on standard error and exit code 2, Ctrl-C code 130."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # being ended cleans up as Ctrl-C does
    try:
        return command()
    except EdgemtlError as error:
        print(f"{program}: {printable(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 141
    except OSError as error:  # a full disk, a folder that may not be written: not ours, but no reason for a traceback
        print(f"{program}: {error}", file=sys.stderr)
        return 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser("edgemtl-runtime", description="Run edgemtl bundles on a robot, without torch.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_run(commands)
    add_record(commands)
    add_engines(commands)
    args = parser.parse_args(argv)
    return guarded(lambda: int(args.command(args)), "edgemtl-runtime")


if __name__ == "__main__":
    sys.exit(main())
