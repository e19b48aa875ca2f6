"""Command ``edgemtl-runtime calibrate``: intrinsics and extrinsics of two cameras, from a board or matched points."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .atomic import AtomicFile
from .cli_parser import add_examples
from .cli_run import add_cameras, drops_text, given_cameras, log_events, open_given
from .errors import EdgemtlError
from .renamed_options import renamed
from .signals import DefaultSignals, Signals

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .recording import Recording

    Views = list[tuple[NDArray[Any], NDArray[Any]]]
    """Images of the colour and of the thermal camera, taken together."""


def add_calibrate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a command line."""
    calibrate = commands.add_parser(
        "calibrate",
        help="calibrate two cameras to each other",
        description="From images of a board that both cameras see, taken together, or from points matched by hand.",
    )
    add_cameras(calibrate, rig=False)
    calibrate.add_argument("--out", metavar="RIG.yaml", type=Path, required=True)
    calibrate.add_argument(
        "--board",
        metavar="KIND:COLUMNSxROWS:METRES",
        help="checkerboard:9x6:0.03 (inner corners), circles:7x5:0.03, acircles:4x11:0.02, or "
        "charuco:7x5:0.04:0.03[:DICT_4X4_50] (squares, a square's and a marker's side), which may be seen in part",
    )
    calibrate.add_argument("--points", metavar="FILE.csv", type=Path, help="columns x_rgb, y_rgb, x_ir, y_ir")
    calibrate.add_argument("--distance", type=float, default=0.0, metavar="M", help="how far away scenes are, metres")
    calibrate.add_argument("--views", type=int, default=30, help="pairs to look at, at the most (%(default)s)")
    calibrate.add_argument("--min-interval", type=float, default=1.0, metavar="S", help="live: seconds between views")
    calibrate.add_argument(
        "--preview", metavar="FILE.png", type=Path, help="write the first pair, registered, to look at"
    )
    calibrate.add_argument("--overwrite", action="store_true", help="replace files of these names that are there")
    renamed(calibrate, "--apart", "--min-interval")
    renamed(calibrate, "--picture", "--preview")
    add_examples(
        calibrate,
        "--rgb 0 --ir 1 --board charuco:7x5:0.04:0.03 --distance 4 --out rig.yaml",
        "--rgb rgb.png --ir ir.png --points matched.csv --out rig.yaml --preview both.png",
    )
    calibrate.set_defaults(command=command_calibrate)


def command_calibrate(args: argparse.Namespace) -> int:
    """Calibrate, save the rig, and print its accuracy."""
    with DefaultSignals():
        from .messages.cameras import parse_frame_ids
        from .rig.rig_file import claimed

    names = _camera_names(args)
    if not (0 <= args.min_interval < 1e6 and 0 < args.tolerance_ms < 1e6 and args.views > 0):
        raise EdgemtlError("--min-interval is not negative, --tolerance-ms and --views are above 0")
    if args.board is not None and not 0 < args.distance < 1e6:
        raise EdgemtlError("--board goes with --distance: the images are registered for what is that far away")
    frame_ids = parse_frame_ids(args.frame_id, ["rgb", "ir"])
    with ExitStack() as stack:  # before anybody holds a board up
        files = stack.enter_context(claimed(args.out, list(names), args.overwrite))
        preview_file = stack.enter_context(AtomicFile(args.preview, args.overwrite)) if args.preview else None
        return _calibrate_into(args, names, frame_ids, files, preview_file)


def _calibrate_into(
    args: argparse.Namespace,
    names: tuple[str, str],
    frame_ids: dict[str, str],
    files: list[AtomicFile],
    preview_file: AtomicFile | None,
) -> int:
    with DefaultSignals():
        from .recording import Recording
        from .rig.calibrate import calibrate
        from .rig.points import from_points, read_points
        from .rig.register import as_png, captioned, preview

    log_events(args.quiet)
    with Signals() as signals:
        cameras = open_given(args)
        live = any(camera.live for camera in cameras.values())
        with Recording(cameras, args.tolerance_ms, args.min_interval if live else 0.0) as recording:
            signals.stop = recording.stop
            views = _views(args, names, recording, signals)
    if args.board:
        rig, accuracy = calibrate(views, args.board, args.distance)
        report, table = accuracy.to_dict(), accuracy.table()
    else:
        rig, errors = from_points(*read_points(args.points), views[0][0].shape[:2], views[0][1].shape[:2])
        report = {"points": len(errors), "error_px": [round(float(e), 3) for e in errors]}
        table = f"{len(errors)} points, root mean square error {float((errors**2).mean() ** 0.5):.2f} px"
        if len(errors) == 4:
            table += "\nfour points fit exactly wherever they are: match 8 or more to see whether they agree"
    rig = replace(rig, frame_ids=frame_ids).renamed(*names)
    rig.write(files)
    if preview_file:
        preview_file.write(as_png(captioned(preview(rig, *views[0]))))
    print(json.dumps(report | {"rig": str(args.out)}) if args.json else f"{table}\nwrote {args.out}")
    return 0


def _views(args: argparse.Namespace, names: tuple[str, str], recording: Recording, signals: Signals) -> Views:
    """Return the image pairs to calibrate from; raises `EdgemtlError` where there are none."""
    views: Views = []
    for pair in recording:
        views.append((pair.frames[names[0]].image, pair.frames[names[1]].image))
        if len(views) >= (args.views if args.board else 1) or signals.stop_requested:
            break
    if not views:
        raise EdgemtlError(f"no pairs: {drops_text(recording.stats.drops)}")
    return views


def _camera_names(args: argparse.Namespace) -> tuple[str, str]:
    """Return the names of the colour and the thermal camera to calibrate: rgb and ir, else in the given order."""
    names = list(given_cameras(args))
    if len(names) != 2 or (args.board is None) is (args.points is None):
        raise EdgemtlError(
            "give --rgb, --ir and either --board or --points; other names are --camera NAME=SRC, the colour one first"
        )
    if names[0] == "ir":
        names.reverse()
    return names[0], names[1]
