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


def external_source(text: str, args: argparse.Namespace) -> NetworkSource | None:
    """Return what a word names if it is a network from elsewhere that can be opened, None for a run or bundle.

    Raises `EdgemtlError` where its file is missing, or where options of such networks stand next to another one.
    """
    source = parse(text)
    if source is not None:
        check(source)
        return source
    names = ("input_size", "weights", "random", "pixels", "bgr")
    if given := next((name for name in names if getattr(args, name, None)), None):
        raise EdgemtlError(f"--{given.replace('_', '-')}: is of networks that were trained elsewhere, not of {text}")
    return None


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
    options = OpenOptions(size, args.weights, args.random, args.pixels, args.bgr, getattr(args, "trust", False))
    network = open_network(source, options)
    for note in network.notes:
        print_message(note)
    return network
