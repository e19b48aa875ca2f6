"""``edgemtl-runtime run``: live inference from cameras to sinks."""

from __future__ import annotations

import argparse
import json
import logging
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from .bundle import MODELS, is_plain_name
from .camera import Camera, redact
from .camera import __doc__ as SOURCES
from .cli_parser import add_examples, answer_words
from .cli_sinks import add_sinks, close_quietly, limits_of, open_sinks
from .errors import SHORT_FLAGS, EdgemtlError, flag
from .event_log import StandardError
from .pipeline import DEFAULT_TOLERANCE_MS
from .policy import QueueMode, QueuePolicy
from .renamed_options import renamed
from .signals import DefaultSignals, Signals

if TYPE_CHECKING:
    from .messages.cameras import Setup
    from .rig import Rig

log = logging.getLogger("edgemtl_runtime")


def add_cameras(command: argparse.ArgumentParser, *, rig: bool = True) -> None:
    """Add the options of every command with cameras."""
    command.add_argument("--rgb", metavar="SRC", help="the colour camera")
    command.add_argument("--ir", metavar="SRC", help="the thermal camera")
    command.add_argument(
        "--camera", metavar="NAME=SRC", action="append", default=[], help="the camera of another input; repeatable"
    )
    command.add_argument(
        "--tolerance-ms", type=float, default=DEFAULT_TOLERANCE_MS, help="largest skew of a pair (%(default)s ms)"
    )
    if rig:
        command.add_argument(
            "--rig", metavar="FILE", type=Path, help="the cameras' calibration, which registers ir to rgb"
        )
    command.add_argument(
        "--frame-id",
        metavar="CAMERA=FRAME",
        action="append",
        default=[],
        help="its frame in ROS (its name); repeatable",
    )
    command.add_argument(
        "--wait-for-cameras", action="store_true", help="start though a camera is not there yet, and look for it"
    )
    renamed(command, "--wait", "--wait-for-cameras")
    command.add_argument("--quiet", action="store_true", help="print nothing about cameras that are lost and found")
    command.add_argument("--json", action="store_true", help="print one JSON object at the end, nothing else")


def add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the ``run`` command to a command line."""
    run = commands.add_parser(
        "run",
        help="run a bundle on two cameras",
        description="Run a bundle live or on recordings; the two views are paired by capture time.",
        epilog=(SOURCES or "").replace("Cameras by URI", "SRC is a camera by URI", 1),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument("bundle", type=Path, help="folder that `edgemtl export` wrote, or a link to one, which may change")
    add_cameras(run)
    run.add_argument(
        "--queue-policy", choices=get_args(QueueMode), default="auto", help="what waits for the network (%(default)s)"
    )
    run.add_argument("--queue-size", type=int, default=8, help="pairs that wait at the most, with queue (%(default)s)")
    renamed(run, "--policy", "--queue-policy")
    renamed(run, "--depth", "--queue-size")
    run.add_argument("--max-age-ms", type=float, default=0.0, help="run no pair that is older (default: no bound)")
    run.add_argument(
        "--threshold", metavar="HEAD[.CLASS]=SCORE", action="append", default=[], help="another threshold; repeatable"
    )
    run.add_argument(
        "--signed-by", metavar="FILE", type=Path, action="append", default=[], help="a public key: run no other bundle"
    )
    run.add_argument("--track", action="store_true", help="track objects: boxes get a number that stays")
    run.add_argument("--on-error", choices=("end", "degrade"), default="end", help="of a sink or a camera's thread")
    run.add_argument(
        "--backend", metavar="NAME", default="", help="(default: what `build` selected, else onnxruntime-cpu)"
    )
    run.add_argument("--precision", choices=list(MODELS), help="(default: what `build` selected, else fp32)")
    run.add_argument(
        "--threads", type=int, default=0, help="threads for inference (default: as selected, else all but one)"
    )
    add_sinks(run)
    add_examples(
        run,
        "street --rgb 0 --ir 1 --show",
        "street --rgb rtsp://10.0.0.2/main --ir rtsp://10.0.0.3/main --rig rig.yaml --serve :8080",
        "street --rgb mcap:drive.mcap#/rgb --ir mcap:drive.mcap#/ir --jsonl results.jsonl",
        "street --rgb pattern: --ir pattern: --json",
    )
    answer_words(run, camera_hint)
    run.set_defaults(command=command_run)


OTHER_TOOLS = {
    "source": "--rgb SRC and --ir SRC name the cameras",
    "input": "--rgb SRC and --ir SRC name the cameras",
    "model": "the bundle is the first word: run BUNDLE",
    "weights": "the bundle is the first word: run BUNDLE",
    "conf": "--threshold HEAD=SCORE, as in --threshold boxes=0.4",
    "conf-thres": "--threshold HEAD=SCORE, as in --threshold boxes=0.4",
    "device": "--backend NAME chooses; `edgemtl-runtime doctor` lists them",
    "view-img": "--show opens a window",
    "save": "--video FILE, --jsonl FILE or --mcap FILE write results",
    "save-txt": "--jsonl FILE writes results",
    "output": "--video FILE, --jsonl FILE or --mcap FILE write results",
    "out": "--video FILE, --jsonl FILE or --mcap FILE write results",
    "imgsz": "a bundle has one input size, of its training",
    "half": "--precision fp16",
}
"""Options of other tools, and ours."""


def camera_hint(name: str, value: str) -> str:
    """Return what stands for another tool's option of a live run here; nothing where it is unknown."""
    return OTHER_TOOLS.get(name.lstrip("-").replace("_", "-"), "")


def command_run(args: argparse.Namespace) -> int:
    """Run a bundle and print the statistics."""
    with DefaultSignals():
        from .bundle_link import BundleLink, is_link, open_target
        from .bundle_options import BundleOptions
        from .camera import check_addresses
        from .pipeline import Pipeline

    if not 0 < args.tolerance_ms < 1e6 or not 0 <= args.threads <= 256:
        raise EdgemtlError("--tolerance-ms is above 0, --threads between 0 (all cores but one) and 256")
    log_events(args.quiet)
    limits_of(args)
    with DefaultSignals():
        check_addresses(given_cameras(args))  # before an engine is opened, which takes a while
        rig = open_rig(args)
        setup = open_setup(args, rig)
        options = BundleOptions(
            given_cameras(args), args.threshold, args.signed_by, args.backend, args.precision or "", args.threads
        )
        opened = open_target(args.bundle, options.open, log.warning if is_link(args.bundle) else None)
    with Signals() as signals, ExitStack() as stack:
        stack.enter_context(opened.engine)
        cameras = open_given(args)
        stack.callback(close_quietly, cameras.values())
        pipeline = Pipeline(
            opened.bundle,
            opened.engine,
            cameras,
            args.tolerance_ms,
            policy=QueuePolicy(args.queue_policy, args.queue_size, args.max_age_ms),
            rig=rig,
            thresholds=opened.thresholds,
            track=args.track,
            on_error=args.on_error,
        )
        sinks = open_sinks(args, pipeline, setup)
        signals.stop = pipeline.stop
        if signals.stop_requested:
            pipeline.stop()
        if is_link(args.bundle):
            stack.callback(BundleLink(args.bundle, pipeline, options.open).close)
        stats = pipeline.stats
        try:
            pipeline.run(sinks)
        finally:  # the statistics are printed, whatever has ended the run
            if stats.pairs or signals.stop_requested:
                print(json.dumps(stats.to_dict()) if args.json else stats.table(), flush=True)
    if not stats.pairs and not signals.stop_requested:
        raise EdgemtlError(f"no pairs: {drops_text(stats.drops)}; are both cameras running, with clocks that agree?")
    return 0


def given_cameras(args: argparse.Namespace) -> dict[str, str]:
    """Return the cameras of a command line by name; raises `EdgemtlError` where one is without a name or twice."""
    given = {name: uri for name in SHORT_FLAGS if (uri := getattr(args, name)) is not None}
    for word in args.camera:
        name, equals, uri = word.partition("=")
        if not (equals and uri and is_plain_name(name)):
            raise EdgemtlError(f"--camera {redact(word)}: give NAME=SRC, as in --camera depth=2")
        if name in given:
            raise EdgemtlError(f"{flag(name)} is given twice")
        given[name] = uri
    return given


def open_given(args: argparse.Namespace) -> dict[str, Camera]:
    """Open the cameras of a command line."""
    from .camera import open_cameras

    return open_cameras(given_cameras(args), wait=args.wait_for_cameras)


def open_rig(args: argparse.Namespace) -> Rig | None:
    """Open the calibration of a command line, None where it names none."""
    if args.rig is None:
        return None
    from .rig import Rig

    return Rig.open(args.rig)


def open_setup(args: argparse.Namespace, rig: Rig | None) -> Setup:
    """Return the cameras' metadata for ROS messages: calibration and frame names."""
    from .messages.cameras import Setup

    return Setup.of(rig, args.frame_id, list(given_cameras(args)))


def log_events(quiet: bool) -> None:
    """Log events of cameras and sinks to standard error, one line each."""
    log.setLevel(logging.ERROR if quiet else logging.WARNING)
    if not log.handlers:
        handler = StandardError()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        log.addHandler(handler)


def drops_text(drops: dict[str, int]) -> str:
    """Return the drops by cause in one line."""
    return ", ".join(f"{count} frames dropped ({cause})" for cause, count in drops.items()) or "no frame came"
