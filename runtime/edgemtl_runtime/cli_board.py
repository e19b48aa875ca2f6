"""Command ``edgemtl-runtime board``: a calibration board to print."""

from __future__ import annotations

import argparse
from pathlib import Path

from .cli_parser import add_examples
from .errors import EdgemtlError

BOARDS = "checkerboard:9x6:0.03 or charuco:7x5:0.04:0.03[:DICT_4X4_50], circles:7x5:0.03, acircles:4x11:0.02"


def add_board(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a command line."""
    board = commands.add_parser(
        "board",
        help="draw a calibration board to print",
        description="Draw a board in its true size. Print it at 100 %, measure it, and glue it onto something flat.",
    )
    board.add_argument("--board", metavar="KIND:COLUMNSxROWS:METRES", required=True, help=BOARDS)
    board.add_argument("--out", metavar="FILE.pdf|FILE.png", type=Path, required=True)
    board.add_argument("--dpi", type=float, default=300.0, help="dots an inch (%(default)g)")
    add_examples(board, "--board charuco:7x5:0.04:0.03 --out board.pdf")
    board.set_defaults(command=command_board)


def command_board(args: argparse.Namespace) -> int:
    """Draw the board and print the paper's size."""
    from .rig.calibration_board import Board
    from .rig.paper import write_board

    if not 10 <= args.dpi <= 2400:
        raise EdgemtlError(f"--dpi {args.dpi:g}: give 10 to 2400 dots an inch")
    width_m, height_m = write_board(Board.parse(args.board), args.out, args.dpi)
    print(f"wrote {args.out}: {1000 * width_m:.0f} x {1000 * height_m:.0f} mm; print it at 100 %, and measure it")
    return 0
