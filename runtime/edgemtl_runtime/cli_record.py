"""``edgemtl-runtime record`` and ``calibrate``: cameras to data, and to a rig."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .atomic import AtomicFile
from .cli_run import (
    add_cameras,
    add_limits,
    close_quietly,
    given_cameras,
    limits_of,
    log_events,
    open_given,
    open_rig,
    open_setup,
    told_drops,
)
from .errors import EdgemtlError
from .signals import Abrupt, Signals
from .stats import Stats

if TYPE_CHECKING:
    from .messages.cameras import Setup


def add_record(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to a command line."""
    record = commands.add_parser(
        "record",
        help="record pairs of pictures from two cameras",
        description="Write paired, stamped pictures into an MCAP file, or into a folder that training reads.",
    )
    add_cameras(record)
    record.add_argument("--out", metavar="FILE.mcap|FOLDER", type=Path, required=True)
    add_limits(record)
    record.add_argument("--split", default="", help="of a folder: the part of the data set (train)")
    record.add_argument("--seconds", type=float, default=0.0, help="end after so long (default: when stopped)")
    record.add_argument("--count", type=int, default=0, help="end after so many pairs (default: when stopped)")
    record.add_argument("--apart", type=float, default=0.0, metavar="S", help="seconds between pairs that are kept")
    record.set_defaults(command=command_record)
    calibrate = commands.add_parser(
        "calibrate",
        help="find how two cameras stand to each other",
        description="From pictures of a board that both cameras see, taken together, or from points matched by hand.",
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
    calibrate.add_argument("--apart", type=float, default=1.0, metavar="S", help="live: seconds between views")
    calibrate.add_argument(
        "--picture", metavar="FILE.png", type=Path, help="write the first pair, registered, to look at"
    )
    calibrate.add_argument("--overwrite", action="store_true", help="replace files of these names that are there")
    calibrate.set_defaults(command=command_calibrate)


def command_record(args: argparse.Namespace) -> int:
    """Record, and print what it was like."""
    with Abrupt():
        from .camera.wrappers import with_offsets
        from .recording import Recording

    if not (0 <= args.seconds < 1e6 and 0 <= args.apart < 1e6 and args.count >= 0 and 0 < args.tolerance_ms < 1e6):
        raise EdgemtlError("--seconds, --count and --apart are not negative and --tolerance-ms above 0, all below 1e6")
    given = given_cameras(args)
    if not given:
        raise EdgemtlError("give --rgb and --ir, or one of them; a camera of another name is --camera NAME=SRC")
    mcap = args.out.suffix.lower() == ".mcap"
    if mcap and args.split:
        raise EdgemtlError("--split is of a folder: an MCAP file keeps pictures as the cameras give them")
    if not mcap and args.frame_id:
        raise EdgemtlError("--frame-id is of an MCAP file: a folder of pictures names no frames")
    if limits_of(args) and not mcap:
        raise EdgemtlError("--split-mb, --split-s and --keep-mb are of MCAP files: end --out in .mcap")
    log_events(args.quiet)
    with Abrupt():
        rig = open_rig(args)
        setup = open_setup(args, rig)
    if rig is not None:
        rig.check_names(given)
    with Signals() as signals, ExitStack() as opened:
        cameras = open_given(args)
        opened.callback(close_quietly, cameras.values())
        if rig is not None:  # pairs are told, and registered, in the pixels of their first camera
            cameras = {name: cameras[name] for name in sorted(cameras, key=lambda name: name != rig.reference)}
            cameras = with_offsets(cameras, rig.offset_ms)
        with Recording(cameras, args.tolerance_ms, args.apart, trusted_only=not mcap) as recording:
            recorder = _recorder(args, setup)
            signals.stop = recording.stop
            if signals.asked:
                recording.stop()
            stats = recording.stats
            stats.recordings = [recorder.tally]
            try:
                recording.run(recorder, args.seconds, args.count)
            finally:  # what was recorded is told, whatever has ended it
                if stats.pairs or signals.asked:
                    print(_told(args, stats), flush=True)
    if not stats.pairs and not signals.asked:
        raise EdgemtlError(f"no pairs: {told_drops(stats.drops)}; are both cameras running, with clocks that agree?")
    return 0


def _told(args: argparse.Namespace, stats: Stats) -> str:
    """Return what a recording was like, as one line or one JSON object."""
    told = stats.to_dict()
    if args.json:
        return json.dumps({key: told[key] for key in ("frames", "pairs", "drops", "seconds", "skew_ms", "recordings")})
    drops = ", ".join(f"{count} ({cause})" for cause, count in told["drops"].items()) or "none"
    place = "; ".join(map(str, stats.recordings))
    return f"{stats.pairs} pairs in {told['seconds']} s to {args.out} ({place}); drops: {drops}"


def _recorder(args: argparse.Namespace, setup: Setup) -> Any:
    if args.out.suffix.lower() == ".mcap":
        from .sink.mcap import McapFile

        return McapFile(args.out, None, limits_of(args), setup)
    from .sink.folder import Folder

    return Folder(args.out, args.split or "train", setup.rig)


def command_calibrate(args: argparse.Namespace) -> int:
    """Calibrate, save the rig, and print how good it is."""
    with Abrupt():
        from .messages.cameras import parse_frame_ids
        from .rig import claimed

    names = _two(args)
    if not (0 <= args.apart < 1e6 and 0 < args.tolerance_ms < 1e6 and args.views > 0):
        raise EdgemtlError("--apart is not negative, --tolerance-ms and --views are above 0")
    if args.board is not None and not 0 < args.distance < 1e6:
        raise EdgemtlError("--board goes with --distance: the pictures are brought in line for what is that far away")
    frame_ids = parse_frame_ids(args.frame_id, ["rgb", "ir"])
    with ExitStack() as stack:  # before anybody holds a board up
        files = stack.enter_context(claimed(args.out, list(names), args.overwrite))
        look = stack.enter_context(AtomicFile(args.picture, args.overwrite)) if args.picture else None
        return _calibrate_into(args, names, frame_ids, files, look)


def _calibrate_into(
    args: argparse.Namespace,
    names: tuple[str, str],
    frame_ids: dict[str, str],
    files: list[AtomicFile],
    look: AtomicFile | None,
) -> int:
    with Abrupt():
        from .recording import Recording
        from .rig.calibrate import calibrate
        from .rig.points import from_points, read_points
        from .rig.register import as_png, picture

    log_events(args.quiet)
    views: list[tuple[Any, Any]] = []
    with Signals() as signals:
        cameras = open_given(args)
        live = any(camera.live for camera in cameras.values())
        with Recording(cameras, args.tolerance_ms, args.apart if live else 0.0) as recording:
            signals.stop = recording.stop
            for pair in recording:
                views.append((pair.frames[names[0]].image, pair.frames[names[1]].image))
                if len(views) >= (args.views if args.board else 1) or signals.asked:
                    break
    if not views:
        raise EdgemtlError(f"no pairs: {told_drops(recording.stats.drops)}")
    if args.board:
        rig, report = calibrate(views, args.board, args.distance)
        told, table = report.to_dict(), report.table()
    else:
        rig, errors = from_points(*read_points(args.points), views[0][0].shape[:2], views[0][1].shape[:2])
        told = {"points": len(errors), "error_px": [round(float(e), 3) for e in errors]}
        table = f"{len(errors)} points, root mean square error {float((errors**2).mean() ** 0.5):.2f} px"
    rig = replace(rig, frame_ids=frame_ids).renamed(*names)
    rig.write(files)
    if look:
        look.write(as_png(picture(rig, *views[0])))
    print(json.dumps(told | {"rig": str(args.out)}) if args.json else f"{table}\nwrote {args.out}")
    return 0


def _two(args: argparse.Namespace) -> tuple[str, str]:
    """Return the names of the colour and the thermal camera to calibrate: as they are called, else in their order."""
    names = list(given_cameras(args))
    if len(names) != 2 or (args.board is None) is (args.points is None):
        raise EdgemtlError(
            "give --rgb, --ir and either --board or --points; other names are --camera NAME=SRC, the colour one first"
        )
    if names[0] == "ir":
        names.reverse()
    return names[0], names[1]
