"""Command ``edgemtl-runtime record``: image pairs from cameras into an MCAP file or a dataset folder."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from .camera.source import IMAGES, VIDEOS
from .cli_parser import add_examples
from .cli_run import add_cameras, drops_text, given_cameras, log_events, open_given, open_rig, open_setup
from .cli_sinks import add_limits, close_quietly, limits_of
from .errors import EdgemtlError
from .renamed_options import renamed
from .signals import DefaultSignals, Signals
from .stats import Stats

if TYPE_CHECKING:
    from .messages.cameras import Setup
    from .sink.image_folder import ImageFolder
    from .sink.mcap import McapFile

OTHERS = (".bag", ".db3", ".jsonl", ".json")
"""Ends of names of files that no recording is."""


def add_record(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a command line."""
    record = commands.add_parser(
        "record",
        help="record pairs of images from two cameras",
        description="Write paired, stamped images into an MCAP file, or into a folder that training reads.",
    )
    add_cameras(record)
    record.add_argument("--out", metavar="FILE.mcap|FOLDER", type=Path, required=True)
    add_limits(record)
    record.add_argument("--split", default="", help="of a folder: the split of the dataset (train)")
    record.add_argument("--seconds", type=float, default=0.0, help="end after so long (default: when stopped)")
    record.add_argument("--count", type=int, default=0, help="end after so many pairs (default: when stopped)")
    record.add_argument(
        "--min-interval", type=float, default=0.0, metavar="S", help="least time in seconds between pairs that are kept"
    )
    renamed(record, "--apart", "--min-interval")
    add_examples(
        record,
        "--rgb 0 --ir 1 --out drive.mcap --split-mb 2000 --keep-mb 50000",
        "--rgb rtsp://10.0.0.2/main --ir gst:... --out dataset --min-interval 2 --count 500",
    )
    record.set_defaults(command=command_record)


def command_record(args: argparse.Namespace) -> int:
    """Record, and print the statistics."""
    with DefaultSignals():
        from .camera.wrappers import with_offsets
        from .recording import Recording

    _check(args)
    given = given_cameras(args)
    if not given:
        raise EdgemtlError("give --rgb and --ir, or one of them; a camera of another name is --camera NAME=SRC")
    log_events(args.quiet)
    with DefaultSignals():
        rig = open_rig(args)
        setup = open_setup(args, rig)
    if rig is not None:
        rig.check_names(given)
    with Signals() as signals, ExitStack() as opened:
        cameras = open_given(args)
        opened.callback(close_quietly, cameras.values())
        if rig is not None:  # a pair has the stamp and the pixels of its first camera
            cameras = {name: cameras[name] for name in sorted(cameras, key=lambda name: name != rig.reference)}
            cameras = with_offsets(cameras, rig.offset_ms)
        with Recording(cameras, args.tolerance_ms, args.min_interval, trusted_only=not _is_mcap(args)) as recording:
            recorder = _open_recorder(args, setup)
            signals.stop = recording.stop
            if signals.stop_requested:
                recording.stop()
            stats = recording.stats
            stats.recordings = [recorder.tally]
            try:
                recording.run(recorder, args.seconds, args.count)
            finally:  # whatever ended it, what was recorded is reported
                if stats.pairs or signals.stop_requested:
                    print(_summary(args, stats), flush=True)
    if not stats.pairs and not signals.stop_requested:
        raise EdgemtlError(f"no pairs: {drops_text(stats.drops)}; are both cameras running, with clocks that agree?")
    return 0


def _is_mcap(args: argparse.Namespace) -> bool:
    return bool(args.out.suffix.lower() == ".mcap")


def _check(args: argparse.Namespace) -> None:
    """Raise `EdgemtlError` for options that are out of range or do not go together."""
    if not (
        0 <= args.seconds < 1e6 and 0 <= args.min_interval < 1e6 and args.count >= 0 and 0 < args.tolerance_ms < 1e6
    ):
        raise EdgemtlError(
            "--seconds, --count and --min-interval are not negative and --tolerance-ms above 0, all below 1e6"
        )
    if args.out.suffix.lower() in (*VIDEOS, *IMAGES, *OTHERS) and not args.out.is_dir():
        raise EdgemtlError(f"--out {args.out}: give a file named .mcap, or a folder; `run --video` writes videos")
    if _is_mcap(args) and args.split:
        raise EdgemtlError("--split is of a folder: an MCAP file keeps images as the cameras give them")
    if not _is_mcap(args) and args.frame_id:
        raise EdgemtlError("--frame-id is of an MCAP file: a folder of images names no frames")
    if limits_of(args) and not _is_mcap(args):
        raise EdgemtlError("--split-mb, --split-s and --keep-mb are of MCAP files: end --out in .mcap")


def _summary(args: argparse.Namespace, stats: Stats) -> str:
    """Return the statistics of a recording as one line or one JSON object."""
    report = stats.to_dict()
    if args.json:
        return json.dumps(
            {key: report[key] for key in ("frames", "pairs", "drops", "seconds", "skew_ms", "recordings")}
        )
    drops = ", ".join(f"{count} ({cause})" for cause, count in report["drops"].items()) or "none"
    files = "; ".join(map(str, stats.recordings))
    return f"{stats.pairs} pairs in {report['seconds']} s to {args.out} ({files}); drops: {drops}"


def _open_recorder(args: argparse.Namespace, setup: Setup) -> McapFile | ImageFolder:
    if _is_mcap(args):
        from .sink.mcap import McapFile

        return McapFile(args.out, None, limits_of(args), setup)
    from .sink.image_folder import ImageFolder

    return ImageFolder(args.out, args.split or "train", setup.rig)
