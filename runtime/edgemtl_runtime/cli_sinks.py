"""Where the results of ``edgemtl-runtime run`` go: the options of sinks, and their opening."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import EdgemtlError

if TYPE_CHECKING:
    from .camera import Camera
    from .messages.cameras import Setup
    from .pipeline import Pipeline
    from .sink import Sink
    from .sink.rotation import RotationLimits


def add_sinks(command: argparse.ArgumentParser) -> None:
    """Add the options of sinks."""
    sinks = command.add_argument_group("where results go")
    sinks.add_argument("--show", action="store_true", help="a window on this screen")
    sinks.add_argument("--serve", metavar="HOST:PORT", help="a web page, /metrics, /healthz and /readyz")
    sinks.add_argument(
        "--token",
        default="",
        help="what the page asks for; others on this machine see it in `ps`, so rather give --token-file, or "
        "EDGEMTL_TOKEN in the environment (default: made up, except on loopback)",
    )
    sinks.add_argument("--token-file", metavar="FILE", type=Path, help="a file that holds the token, of mode 600")
    sinks.add_argument("--jsonl", metavar="FILE|FOLDER/", help="results as JSON lines")
    sinks.add_argument("--video", metavar="FILE|FOLDER/", help="an annotated side-by-side video")
    sinks.add_argument("--mcap", metavar="FILE|FOLDER/", help="images and results as ROS 2 messages")
    add_limits(sinks)
    sinks.add_argument("--zenoh", metavar="ENDPOINT", nargs="?", const="", help="publish ROS 2 messages by zenoh")
    sinks.add_argument("--ros2", action="store_true", help="publish by rclpy, as the node edgemtl")
    sinks.add_argument(
        "--zenoh-keys",
        choices=("plain", "ros2", "humble"),
        default="plain",
        help="ros2: as ROS 2's own rmw_zenoh has them",
    )
    sinks.add_argument("--prefix", help="first part of zenoh's keys (edgemtl), or a namespace of ROS 2 (none)")


def add_limits(group: argparse._ActionsContainer) -> None:
    """Add the options of a recording's rotation and retention."""
    group.add_argument("--split-mb", type=float, default=0.0, metavar="MB", help="begin a new file at this size")
    group.add_argument("--split-s", type=float, default=0.0, metavar="S", help="begin a new file after so many seconds")
    group.add_argument(
        "--keep-mb", type=float, default=0.0, metavar="MB", help="delete a recording's oldest files beyond this size"
    )


def open_sinks(args: argparse.Namespace, pipeline: Pipeline, setup: Setup) -> list[Sink]:
    """Open a command line's sinks; when one fails, for whatever reason, the others are closed and leave nothing."""
    limits = limits_of(args)
    makers: dict[str, Callable[[Any], Sink]] = {
        "show": lambda _: _sink_class("window", "Window")(),
        "video": lambda file: _sink_class("video", "Video")(file, pipeline.frame_rate, limits),
        "jsonl": lambda file: _sink_class("jsonl", "JsonLines")(file, limits),
        "mcap": lambda file: _sink_class("mcap", "McapFile")(file, None, limits, setup),
        "zenoh": lambda endpoint: _sink_class("zenoh", "Zenoh")(
            endpoint, args.prefix, setup=setup, keys=args.zenoh_keys
        ),
        "ros2": lambda _: _sink_class("ros2", "Ros2")(pipeline.status, setup=setup),
        "serve": lambda address: _serve(address, args, pipeline),
    }
    sinks: list[Sink] = []
    try:
        for name, make in makers.items():
            given = getattr(args, name)
            if given is not None and given is not False:
                sinks.append(make(given))
    except BaseException:
        close_quietly(sinks)
        raise
    return sinks


def limits_of(args: argparse.Namespace) -> RotationLimits:
    """Return when recordings begin a new file; raises `EdgemtlError` for what cannot be."""
    from .sink.rotation import RotationLimits

    return RotationLimits.of(args.split_mb, args.split_s, args.keep_mb)


def close_quietly(opened: Iterable[Camera | Sink]) -> None:
    """Close what is open while another error is on its way."""
    for resource in opened:
        with contextlib.suppress(Exception):
            resource.close()


def _sink_class(module: str, name: str) -> Callable[..., Sink]:
    """Return a sink's class; its libraries are imported only where it is used."""
    opener: Callable[..., Sink] = getattr(import_module(f".sink.{module}", __package__), name)
    return opener


def _serve(address: str, args: argparse.Namespace, pipeline: Pipeline) -> Sink:
    from .sink.web import Web
    from .sink.web.address import is_loopback
    from .sink.web.token import generate_token, read_token, serving_message

    token = read_token(args.token, args.token_file)
    is_generated = not token and not is_loopback(address)
    token = generate_token() if is_generated else token
    web = Web(address, token, pipeline.status, lambda: pipeline.running)
    try:
        print(serving_message(web.url, web.link, token, is_generated), file=sys.stderr)
    except EdgemtlError:
        web.close()
        raise
    return web
