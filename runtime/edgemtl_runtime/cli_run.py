"""``edgemtl-runtime run``: cameras to results."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .bundle import MODELS, Bundle
from .camera import Camera
from .camera import __doc__ as SOURCES
from .errors import EdgemtlError
from .intake import Policy
from .pipeline import DEFAULT_TOLERANCE_MS

if TYPE_CHECKING:
    from .engine.ways import Way
    from .pipeline import Pipeline
    from .rig import Rig
    from .sink import Sink


def add_cameras(command: argparse.ArgumentParser, *, rig: bool = True) -> None:
    """Add what every command with cameras takes."""
    command.add_argument("--rgb", metavar="SRC", help="the colour camera")
    command.add_argument("--ir", metavar="SRC", help="the thermal camera")
    command.add_argument(
        "--tolerance-ms", type=float, default=DEFAULT_TOLERANCE_MS, help="largest skew of a pair (%(default)s ms)"
    )
    if rig:
        command.add_argument(
            "--rig", metavar="FILE", type=Path, help="the cameras' calibration, which registers ir to rgb"
        )
    command.add_argument("--wait", action="store_true", help="start though a camera is not there yet, and look for it")
    command.add_argument("--quiet", action="store_true", help="tell nothing of cameras that are lost and found")
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
    run.add_argument("bundle", type=Path, help="folder that `edgemtl export` wrote")
    add_cameras(run)
    run.add_argument("--policy", default="auto", help="auto, latest, queue or every: what waits (%(default)s)")
    run.add_argument("--depth", type=int, default=8, help="pairs that wait at the most, with queue (%(default)s)")
    run.add_argument("--max-age-ms", type=float, default=0.0, help="run no pair that is older (default: no bound)")
    run.add_argument(
        "--threshold", metavar="HEAD[.CLASS]=SCORE", action="append", default=[], help="another threshold; repeatable"
    )
    run.add_argument("--track", action="store_true", help="follow objects: boxes get a number that stays")
    run.add_argument("--on-error", choices=("end", "degrade"), default="end", help="of a sink or a camera's thread")
    run.add_argument(
        "--backend", metavar="NAME", default="", help="(default: what `build` chose, else onnxruntime-cpu)"
    )
    run.add_argument("--precision", choices=list(MODELS), help="(default: what `build` chose, else fp32)")
    run.add_argument(
        "--threads", type=int, default=0, help="threads for inference (default: as chosen, else all but one)"
    )
    sinks = run.add_argument_group("where results go")
    sinks.add_argument("--show", action="store_true", help="a window on this screen")
    sinks.add_argument("--serve", metavar="HOST:PORT", help="a web page, /metrics, /healthz and /readyz")
    sinks.add_argument(
        "--token",
        default="",
        help="what the page asks for; others on this machine see it in `ps`, so rather give --token-file, or "
        "EDGEMTL_TOKEN in the environment (default: made up, except on loopback)",
    )
    sinks.add_argument("--token-file", metavar="FILE", type=Path, help="a file that holds the token, of mode 600")
    sinks.add_argument("--jsonl", metavar="FILE", type=Path, help="results as JSON lines")
    sinks.add_argument("--video", metavar="FILE", type=Path, help="an annotated side-by-side video")
    sinks.add_argument("--mcap", metavar="FILE", type=Path, help="pictures and results as ROS 2 messages")
    sinks.add_argument("--zenoh", metavar="ENDPOINT", nargs="?", const="", help="publish ROS 2 messages by zenoh")
    sinks.add_argument("--ros2", action="store_true", help="publish by rclpy, as the node edgemtl")
    sinks.add_argument("--prefix", default="edgemtl", help="first part of zenoh's keys (%(default)s)")
    run.set_defaults(command=command_run)


def command_run(args: argparse.Namespace) -> int:
    """Run a bundle and print what it was like."""
    from .engine.ways import open_way
    from .pipeline import Pipeline
    from .thresholds import parse

    if not 0 < args.tolerance_ms < 1e6 or not 0 <= args.threads <= 256:
        raise EdgemtlError("--tolerance-ms is above 0, --threads between 0 (all cores but one) and 256")
    log_events(args.quiet)
    bundle = Bundle.open(args.bundle)
    policy = Policy(args.policy, args.depth, args.max_age_ms)
    thresholds = parse(args.threshold, bundle.manifest.heads)
    engine = open_way(bundle, way_of(args, bundle))
    with Signals() as signals:
        cameras = open_given(args)
        try:
            pipeline = Pipeline(
                bundle,
                engine,
                cameras,
                args.tolerance_ms,
                policy=policy,
                rig=open_rig(args),
                thresholds=thresholds,
                track=args.track,
                on_error=args.on_error,
            )
            sinks = open_sinks(args, pipeline)
        except EdgemtlError:
            for camera in cameras.values():
                camera.close()
            raise
        signals.stop = pipeline.stop
        if signals.asked:
            pipeline.stop()
        stats = pipeline.run(sinks)
    if not stats.pairs and not signals.asked:
        raise EdgemtlError(f"no pairs: {told_drops(stats.drops)}; are both cameras running, with clocks that agree?")
    print(json.dumps(stats.to_dict()) if args.json else stats.table())
    return 0


def way_of(args: argparse.Namespace, bundle: Bundle) -> Way:
    """Return the way to run that was asked for, else what was chosen for this machine."""
    from .engine.chosen import remembered
    from .engine.ways import Way, absent

    way = remembered(bundle) or Way()
    if why := absent(args.backend or way.backend):
        raise EdgemtlError(f"--backend {args.backend or way.backend}: {why}")
    if args.backend:  # another back end's threads and precision are not those that were chosen
        way = Way(args.backend)
    return Way(way.backend, args.precision or way.precision, args.threads or way.threads, way.arena)


def open_given(args: argparse.Namespace) -> dict[str, Camera]:
    """Open the cameras of a command line."""
    from .camera import open_cameras

    return open_cameras({n: uri for n, uri in (("rgb", args.rgb), ("ir", args.ir)) if uri is not None}, wait=args.wait)


def open_rig(args: argparse.Namespace) -> Rig | None:
    """Open the calibration of a command line, None where it names none."""
    if args.rig is None:
        return None
    from .rig import Rig

    return Rig.open(args.rig)


def open_sinks(args: argparse.Namespace, pipeline: Pipeline) -> list[Sink]:
    """Open the sinks asked for; when one cannot be, the others are closed and an older file of results still stands."""
    makers: dict[str, Callable[[Any], Sink]] = {
        "show": lambda _: _kind("window", "Window")(),
        "video": lambda file: _kind("video", "Video")(file, pipeline.frame_rate),
        "jsonl": lambda file: _kind("jsonl", "JsonLines")(file),
        "mcap": lambda file: _kind("mcap", "McapFile")(file),
        "zenoh": lambda endpoint: _kind("zenoh", "Zenoh")(endpoint, args.prefix),
        "ros2": lambda _: _kind("ros2", "Ros2")(pipeline.status),
        "serve": lambda address: _serve(address, args, pipeline),
    }
    sinks: list[Sink] = []
    try:
        for name, make in makers.items():
            given = getattr(args, name)
            if given is not None and given is not False:
                sinks.append(make(given))
    except EdgemtlError:
        for sink in sinks:
            sink.close()
        raise
    return sinks


def _kind(module: str, name: str) -> Callable[..., Sink]:
    """Return a sink's class; its libraries are asked for only where it is used."""
    found: Callable[..., Sink] = getattr(import_module(f".sink.{module}", __package__), name)
    return found


def _serve(address: str, args: argparse.Namespace, pipeline: Pipeline) -> Sink:
    from .sink.web import Web, is_loopback
    from .sink.web.token import given_token, made_up, told

    token = given_token(args.token, args.token_file)
    is_ours = not token and not is_loopback(address)
    token = made_up() if is_ours else token
    web = Web(address, token, pipeline.status, lambda: pipeline.running)
    try:
        print(told(web.url, web.link, token, is_ours), file=sys.stderr)
    except EdgemtlError:
        web.close()
        raise
    return web


class Signals:
    """While it lasts, SIGINT, SIGTERM and SIGHUP call ``stop`` in place of ending the program; a second one ends it.

    They raise nothing: libraries that are opening a camera would swallow it. Ask ``asked`` after each step.
    """

    def __init__(self) -> None:
        self.asked = False
        self.stop: Callable[[], None] = lambda: None
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
            self.before.setdefault(number, signal.signal(number, self._take))
        return self

    def _take(self, number: int, frame: object) -> None:
        if self.asked:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.asked = True
        self.stop()

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


def log_events(quiet: bool) -> None:
    """Write what happens to cameras and sinks to standard error, a line each."""
    log = logging.getLogger("edgemtl_runtime")
    log.setLevel(logging.ERROR if quiet else logging.WARNING)
    if not log.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        log.addHandler(handler)


def told_drops(drops: dict[str, int]) -> str:
    """Return the drops by cause in one line."""
    return ", ".join(f"{count} frames dropped ({cause})" for cause, count in drops.items()) or "no frame came"
