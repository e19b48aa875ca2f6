"""The command ``edgemtl weights``: pretrained weights, as files that run nothing when they are opened."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from edgemtl_runtime.cli_parser import add_examples

from .outputs import check_suffix, json_option, output_file, overwrite_option

if TYPE_CHECKING:
    from .outputs import Commands

SUFFIX = ".safetensors"


def add(commands: Commands) -> None:
    """Add the commands to the parser."""
    weights = commands.add_parser("weights", help="pretrained weights: list, fetch, convert to safetensors")
    actions = weights.add_subparsers(required=True, metavar="COMMAND")
    _add_list(actions)
    _add_get(actions)
    _add_convert(actions)


def _add_list(actions: Commands) -> None:
    command = actions.add_parser(
        "list",
        help="weights to start a training from, and those that were fetched",
        description="List packages of weights, and the files in EDGEMTL_WEIGHTS and the user's cache.",
    )
    json_option(command)
    add_examples(command, "", "--json")
    command.set_defaults(command=_list)


def _add_get(actions: Commands) -> None:
    command = actions.add_parser(
        "get",
        help="fetch the weights of a network of timm or torchvision",
        description="Fetch weights by the library's own downloader. No other command goes online for weights.",
    )
    command.add_argument("name", metavar="NAME", help="timm:NAME or torchvision:NAME")
    command.add_argument(
        "--out", type=Path, metavar=f"FILE{SUFFIX}", help="(default: in the user's cache, found there)"
    )
    overwrite_option(command)
    add_examples(command, "timm:resnet18", "torchvision:mobilenet_v3_small --out small.safetensors")
    command.set_defaults(command=_get)


def _add_convert(actions: Commands) -> None:
    command = actions.add_parser(
        "convert",
        help="a checkpoint (.pt, .pth) to safetensors, once for all",
        description="Read the tensors of a checkpoint without running what is in it, and write them by name.",
    )
    command.add_argument("file", metavar="FILE.pt", type=Path, help="of ultralytics, or a state_dict of torch.save")
    command.add_argument("--out", type=Path, metavar=f"FILE{SUFFIX}", help="(default: next to it)")
    overwrite_option(command)
    add_examples(command, "yolo11n.pt", "resnet18.pth --out resnet18.safetensors")
    command.set_defaults(command=_convert)


def _list(args: argparse.Namespace) -> int:
    from ..external.weights_list import known_weights, table

    weights = known_weights()
    print(json.dumps([entry.as_json() for entry in weights], indent=2) if args.json else table(weights))
    return 0


def _get(args: argparse.Namespace) -> int:
    from edgemtl_models.pretrained_weights import PACKAGED, find_weights

    from ..errors import EdgemtlError
    from ..external.source import LIBRARIES, check, parse

    if args.name in PACKAGED:
        try:
            print(f"{args.name}: {find_weights(args.name)}")
        except FileNotFoundError as error:
            raise EdgemtlError(str(error)) from error
        return 0
    source = parse(args.name)
    if source is None or source.kind not in LIBRARIES:
        raise EdgemtlError(f"{args.name}: write timm:NAME or torchvision:NAME; packages: {', '.join(PACKAGED)}")
    check(source)
    if args.out is not None:
        check_suffix(args.out, (SUFFIX,))
    from ..external.downloads import default_file, download
    from ..external.weights_file import as_safetensors

    target = args.out or default_file(source)
    if args.out is None and target.is_file() and not args.overwrite:
        print(f"{target}: fetched before; --overwrite fetches it anew")
        return 0
    target.parent.mkdir(parents=True, exist_ok=True)
    with output_file(target, target, args.overwrite) as out:
        weights = download(source)
        metadata = {"origin": weights.origin, "license": weights.licence, "network": str(source)}
        out.write(as_safetensors(target, weights.state, metadata))
    print(f"wrote {target}: {len(weights.state)} tensors, from {weights.origin}")
    return 0


def _convert(args: argparse.Namespace) -> int:
    from ..errors import EdgemtlError

    if not args.file.is_file():
        raise EdgemtlError(f"{args.file}: there is no such file")
    if args.out is not None:
        check_suffix(args.out, (SUFFIX,))
    with output_file(args.out, args.file.with_suffix(SUFFIX), args.overwrite) as out:
        from ..external.weights_file import converted

        content, count = converted(args.file)
        out.write(content)
    print(f"wrote {out.given}: {count} tensors")
    return 0
