"""The command line ``edgemtl``: init, data, train, sweep, adapt, eval, compare, predict, prune, shrink, export …"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from edgemtl_runtime import cli as runtime_cli
from edgemtl_runtime.cli_calibrate import add_calibrate
from edgemtl_runtime.cli_engines import add_engines
from edgemtl_runtime.cli_parser import Version, add_examples, program
from edgemtl_runtime.cli_record import add_record
from edgemtl_runtime.cli_run import add_run

from . import ranks
from .commands import data, eval, export, prune, shrink, sweep, train, weights
from .commands.outputs import overwrite_option

DEMO_OUT = Path("out/demo")
START = """\
to begin with:
  edgemtl demo                               everything on drawn streets, in minutes
  edgemtl data check FOLDER                  what a dataset holds, and every problem in it
  edgemtl init mine; edgemtl train mine.yaml --out runs/mine
  edgemtl export runs/mine --out street      the bundle that a robot runs
  edgemtl prune yolo11n.pt --images PICTURES --out small    a network that you have, smaller and faster
  edgemtl run street --rgb 0 --ir 1 --show
  edgemtl COMMAND --help                     options and examples of a command
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    args = parser().parse_args(argv)
    # A launcher's processes train together; any other command is a process by itself, wherever it is called.
    processes = nullcontext() if args.command in train.DISTRIBUTED else ranks.single_process()
    with processes:
        return runtime_cli.guarded(lambda: int(args.command(args)), "edgemtl")


def parser() -> argparse.ArgumentParser:
    """Return the whole command line."""
    top = program(
        "edgemtl",
        description="Train, shrink and run one compact multi-task network on colour and thermal cameras.",
        epilog=START,
    )
    top.add_argument("--version", action=Version, distribution="edgemtl")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for group in (train, sweep, data, eval, prune, shrink, export, weights):
        group.add(commands)
    add_run(commands)
    add_record(commands)
    add_calibrate(commands)
    add_engines(commands)
    demo = commands.add_parser("demo", help="everything on drawn streets: train, shrink, export, evaluate, run")
    demo.add_argument(
        "--out", type=Path, help=f"folder to write (default: {DEMO_OUT}, an older demo there is replaced)"
    )
    overwrite_option(demo)
    demo.add_argument("--steps", type=int, default=0, help="training steps (default: 640)")
    add_examples(demo, "", "--steps 60 --out out/short --overwrite")
    demo.set_defaults(command=_demo)
    return top


def _demo(args: argparse.Namespace) -> int:
    from .errors import EdgemtlError

    if args.steps < 0:
        raise EdgemtlError("--steps is not negative")
    from .commands.checks import check_out
    from .run_files import DEMO

    overwrite = args.overwrite or args.out is None
    check_out(args.out or DEMO_OUT, DEMO, overwrite=overwrite)
    from .demo import demo

    demo(args.out or DEMO_OUT, args.steps, overwrite)
    return 0


if __name__ == "__main__":
    sys.exit(main())
