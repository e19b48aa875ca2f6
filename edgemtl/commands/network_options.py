"""Options of commands that take a network from elsewhere, and the checks of them before torch is imported."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import EdgemtlError
from ..external.source import FORMS, NetworkSource, check, parse

if TYPE_CHECKING:
    from ..external.network import ExternalNetwork

NETWORK_HELP = f"{FORMS}, or a run of ours"
PIXELS = ("0-1", "0-255", "imagenet")
AS_GIVEN = {"pixels", "bgr", "raw_outputs"}
OPTIONS: dict[str, set[str]] = {
    ".pt": set(),
    ".pth": set(),
    ".pt2": AS_GIVEN,
    ".onnx": AS_GIVEN,
    ".py": AS_GIVEN | {"weights"},
    "timm": AS_GIVEN | {"weights", "random"},
    "torchvision": AS_GIVEN | {"weights", "random"},
}
"""What has a meaning for each kind of source, besides `OF_ANY`; a checkpoint of ultralytics says it all."""
OF_ANY = ("classes", "input_size")


def network_options(command: argparse.ArgumentParser) -> None:
    """Add the options for what the file of a network from elsewhere does not hold."""
    group = command.add_argument_group("of a network that was trained elsewhere")
    group.add_argument(
        "--input-size", nargs=2, type=int, metavar=("H", "W"), help="of its images (default: that of its training)"
    )
    group.add_argument(
        "--weights", type=Path, metavar="FILE", help="of timm:, torchvision: and FILE.py: tensors by name, .safetensors"
    )
    group.add_argument("--random", action="store_true", help="take random weights, to try what can be done")
    group.add_argument("--pixels", choices=PIXELS, help="the range of its pixels (default: what it was trained with)")
    group.add_argument("--bgr", action="store_true", help="its colours are blue, green, red")
    group.add_argument(
        "--classes", metavar="A,B", type=_names, help="of a detector, those that are wanted (default: all)"
    )
    group.add_argument("--raw-outputs", action="store_true", help="take its outputs as they are, without a decoder")


def _names(text: str) -> tuple[str, ...]:
    """Return the names that commas part."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def external_source(text: str, args: argparse.Namespace) -> NetworkSource | None:
    """Return what a word names if it is a network from elsewhere that can be opened, None for a run or bundle.

    Raises `EdgemtlError` where its file is missing, or where options of such networks stand next to another one.
    """
    source = parse(text)
    known = set() if source is None else OPTIONS[source.kind]
    if source is not None and source.kind in (".pt", ".pth") and getattr(args, "trust", False):
        known = AS_GIVEN  # it may be any module then
    for name in (*OF_ANY, *sorted(set().union(*OPTIONS.values()))):
        if getattr(args, name, None) and name not in known and not (source and name in OF_ANY):
            option, whose = f"--{name.replace('_', '-')}", " or ".join(k for k, of in OPTIONS.items() if name in of)
            raise EdgemtlError(
                f"{option}: is of networks that were trained elsewhere ({whose or 'any'}), not of {text}"
            )
    if source is not None:
        if getattr(args, "random", False) and args.weights:
            raise EdgemtlError(f"--random and --weights {args.weights}: give one of them")
        check(source)
    return source


def check_images(folders: Sequence[Path]) -> None:
    """Raise `DataError` where a folder holds no images; which camera's they are is not known yet."""
    from ..prediction_images import find_images

    for folder in folders:
        find_images(folder, ["rgb"])


def open_external(source: NetworkSource, args: argparse.Namespace) -> ExternalNetwork:
    """Open a network from elsewhere as the options ask, and print what should be known of it."""
    from ..console import print_message
    from ..external.opening import open_network
    from ..external.options import OpenOptions

    size = tuple(args.input_size) if args.input_size else None
    options = OpenOptions(
        size,
        args.weights,
        args.random,
        args.pixels,
        args.bgr,
        args.raw_outputs,
        getattr(args, "trust", False),
        args.classes or (),
    )
    network = open_network(source, options)
    for note in network.notes:
        print_message(note)
    return network
