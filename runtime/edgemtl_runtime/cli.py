"""The command line on a robot: ``edgemtl-runtime run``."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from .bundle import MODELS, Bundle
from .camera import Camera
from .cli_engines import add_engines
from .errors import EdgemtlError
from .pipeline import DEFAULT_TOLERANCE_MS
from .sink import Sink

SOURCES = """SRC is one of
  FOLDER            pictures in the order of their names; FOLDER?fps=20 paces them like a camera
  FILE              a video; FILE?fps=20 paces it
  0                 a camera by its number
  rtsp://… http://… a stream
  pattern:          plain moving shapes; pattern:?fps=20&frames=100&width=320&height=240"""


def add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the ``run`` command to a command line."""
    run = commands.add_parser(
        "run",
        help="run a bundle on two cameras",
        description="Run a bundle live or on recordings; the two views are paired by capture time.",
        epilog=SOURCES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument("bundle", type=Path, help="folder that `edgemtl export` wrote")
    run.add_argument("--rgb", metavar="SRC", help="the colour camera")
    run.add_argument("--ir", metavar="SRC", help="the thermal camera")
    run.add_argument("--jsonl", metavar="FILE", type=Path, help="write results as JSON lines")
    run.add_argument("--video", metavar="FILE", type=Path, help="write an annotated side-by-side video")
    run.add_argument("--show", action="store_true", help="show the results in a window")
    run.add_argument("--json", action="store_true", help="print one JSON object at the end, nothing else")
    run.add_argument(
        "--tolerance-ms", type=float, default=DEFAULT_TOLERANCE_MS, help="largest skew of a pair (%(default)s ms)"
    )
    run.add_argument(
        "--backend", metavar="NAME", default="", help="(default: what `build` chose, else onnxruntime-cpu)"
    )
    run.add_argument("--precision", choices=list(MODELS), help="(default: what `build` chose, else fp32)")
    run.add_argument(
        "--threads", type=int, default=0, help="threads for inference (default: as chosen, else all but one)"
    )
    run.set_defaults(command=command_run)


def command_run(args: argparse.Namespace) -> int:
    """Run a bundle and print what it was like."""
    from .camera import open_camera
    from .engine.chosen import remembered
    from .engine.ways import Way, absent, open_way
    from .pipeline import Pipeline

    if not 0 < args.tolerance_ms < 1e6 or not 0 <= args.threads <= 256:
        raise EdgemtlError("--tolerance-ms is above 0, --threads between 0 (all cores but one) and 256")
    bundle = Bundle.open(args.bundle)
    uris = {name: uri for name, uri in (("rgb", args.rgb), ("ir", args.ir)) if uri is not None}
    way = remembered(bundle) or Way()
    if args.backend:  # another back end's threads and precision are not those that were chosen
        way = Way(args.backend)
    way = Way(way.backend, args.precision or way.precision, args.threads or way.threads, way.arena)
    if why := absent(way.backend):
        raise EdgemtlError(f"--backend {way.backend}: {why}")
    engine = open_way(bundle, way)
    epoch_ns = time.monotonic_ns()
    cameras = {name: open_camera(uri, name, epoch_ns) for name, uri in uris.items()}
    pipeline = Pipeline(bundle, engine, cameras, args.tolerance_ms)
    sinks = open_sinks(args, cameras)
    before = {number: signal.signal(number, lambda *_: pipeline.stop()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        stats = pipeline.run(sinks)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if not stats.pairs:
        raise EdgemtlError(f"no pairs: {told_drops(stats.drops)}; are both cameras running, with clocks that agree?")
    print(json.dumps(stats.to_dict()) if args.json else stats.table())
    return 0


def open_sinks(args: argparse.Namespace, cameras: dict[str, Camera]) -> list[Sink]:
    """Open the sinks asked for; when one cannot be, the others are closed and an older file of results still stands."""
    sinks: list[Sink] = []
    try:
        if args.show:
            from .sink.window import Window

            sinks.append(Window())
        if args.video:
            from .sink.video import Video

            rates = [getattr(getattr(camera, "pace", None), "period_ns", 0) for camera in cameras.values()]
            sinks.append(Video(args.video, 1e9 / max(rates) if max(rates) else 20.0))
        if args.jsonl:
            from .sink.jsonl import JsonLines

            sinks.append(JsonLines(args.jsonl))
    except EdgemtlError:
        for sink in sinks:
            sink.close()
        raise
    return sinks


def told_drops(drops: dict[str, int]) -> str:
    """Return the drops by cause in one line."""
    return ", ".join(f"{count} frames dropped ({cause})" for cause, count in drops.items()) or "no frame came"


def guarded(command: Callable[[], int], program: str) -> int:
    """Run a command; bad input becomes one line on standard error and exit code 2, Ctrl-C code 130."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # being ended cleans up as Ctrl-C does
    try:
        return command()
    except EdgemtlError as error:
        print(f"{program}: {error}", file=sys.stderr)
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
    add_engines(commands)
    args = parser.parse_args(argv)
    return guarded(lambda: int(args.command(args)), "edgemtl-runtime")


if __name__ == "__main__":
    sys.exit(main())
