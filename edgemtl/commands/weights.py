"""The command ``edgemtl weights``: files of weights that run nothing when they are opened."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edgemtl_runtime.cli_parser import add_examples

from .outputs import check_suffix, output_file, overwrite_option

if TYPE_CHECKING:
    from .outputs import Commands


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    weights = commands.add_parser("weights", help="weights of networks: convert a checkpoint to safetensors")
    actions = weights.add_subparsers(required=True, metavar="COMMAND")
    convert = actions.add_parser(
        "convert",
        help="a checkpoint (.pt, .pth) to safetensors, once for all",
        description="Read the tensors of a checkpoint without running what is in it, and write them by name.",
    )
    convert.add_argument("file", metavar="FILE.pt", type=Path, help="of ultralytics, or a state_dict of torch.save")
    convert.add_argument("--out", type=Path, metavar="FILE.safetensors", help="(default: next to it)")
    overwrite_option(convert)
    add_examples(convert, "yolo11n.pt", "resnet18.pth --out resnet18.safetensors")
    convert.set_defaults(command=_convert)


def _convert(args: argparse.Namespace) -> int:
    from ..errors import EdgemtlError

    if not args.file.is_file():
        raise EdgemtlError(f"{args.file}: there is no such file")
    if args.out is not None:
        check_suffix(args.out, (".safetensors",))
    with output_file(args.out, args.file.with_suffix(".safetensors"), args.overwrite) as out:
        from ..external.weights_file import converted

        content, count = converted(args.file)
        out.write(content)
    print(f"wrote {out.given}: {count} tensors")
    return 0
