"""The command ``edgemtl data``: counts, problems and a contact sheet of a dataset, and one to begin with."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from edgemtl_runtime.cli_parser import add_examples

from .outputs import check_suffix, json_option, output_file, overwrite_option
from .plugin_options import load_plugins, plugin_option

if TYPE_CHECKING:
    from .outputs import Commands

SHEET = Path("sheet.jpg")
IMAGES = (".png", ".jpg", ".jpeg", ".webp")
"""Formats of a contact sheet, by suffix."""


def add(commands: Commands) -> None:
    """Add the commands to the parser."""
    data = commands.add_parser("data", help="look at a dataset").add_subparsers(required=True, metavar="COMMAND")
    check = data.add_parser("check", help="count what a dataset holds and list every problem in it")
    check.add_argument("path", type=Path, help="its folder, or its data.yaml")
    labels_option(check, "fused")
    modality_option(check)
    plugin_option(check)
    json_option(check)
    add_examples(check, "DATASET", "DATASET/data.yaml --json")
    check.set_defaults(command=_check)
    show = data.add_parser("show", help="write a contact sheet of images with their labels drawn on")
    show.add_argument("path", type=Path, help="its folder, or its data.yaml")
    labels_option(show, "fused")
    modality_option(show)
    plugin_option(show)
    show.add_argument("--split", choices=("train", "val", "test"), default="train")
    show.add_argument("--count", type=int, default=12, help="images, evenly spaced over the split (%(default)s)")
    show.add_argument("--out", type=Path, help="image to write (default: sheet.jpg, else sheet-2.jpg …)")
    overwrite_option(show)
    add_examples(show, "DATASET --split val --count 20 --out sheet.png")
    show.set_defaults(command=_show)
    draw = data.add_parser("draw", help="write drawn streets in the layout of your own data, to begin with")
    draw.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    draw.add_argument("--train", type=int, default=200, metavar="N", help="images to train on (%(default)s)")
    draw.add_argument("--val", type=int, default=40, metavar="N", help="images to evaluate on (%(default)s)")
    draw.add_argument("--size", type=int, nargs=2, default=(128, 160), metavar=("H", "W"), help="pixels (128 160)")
    draw.add_argument("--seed", type=int, default=0, help="of the first street (%(default)s)")
    overwrite_option(draw)
    add_examples(draw, "--out streets", "--out night --train 400 --size 256 320 --seed 1000")
    draw.set_defaults(command=_draw)


def labels_option(command: argparse.ArgumentParser, default: str | None) -> None:
    """Add the option for the label policy: whose boxes count where each camera has its own."""
    from ..data.policies import POLICIES

    shown = default or "the run's, else fused"
    command.add_argument("--labels", choices=POLICIES, default=default, help=f"label policy ({shown})")


def modality_option(command: argparse.ArgumentParser) -> None:
    """Add the option for what a single camera sees."""
    text = "what a single camera sees (default: rgb, or ir where it has 16-bit counts)"
    command.add_argument("--modality", choices=("rgb", "ir"), default="", help=text)


def _check(args: argparse.Namespace) -> int:
    from .checks import check_source

    check_source(str(args.path))
    load_plugins(args)
    from ..console import print_table
    from ..data.check import check, rows

    index, counts = check(args.path, args.labels, args.modality)
    if args.json:
        problems = [str(problem) for problem in index.problems]
        skipped = [skipped.to_dict() for skipped in index.problems.skipped]
        print(json.dumps({"path": str(args.path), "splits": counts, "problems": problems, "skipped": skipped}))
        return 2 if index.problems else 0
    if counts:
        print_table(rows(counts), f"{args.path} ({args.labels} labels)")
    for line in map(str, index.problems.skipped):
        print(line)
    index.raise_problems()
    print("no problems")
    return 0


def _show(args: argparse.Namespace) -> int:
    from .checks import check_source

    check_suffix(args.out or SHEET, IMAGES)
    check_source(str(args.path))
    load_plugins(args)

    from ..data.datasets import FileDataset, evenly_spaced
    from ..data.formats import index
    from ..data.modalities import keep_complete
    from ..errors import EdgemtlError
    from ..visualize import contact_sheet, draw_labels, encode_sheet, with_title

    with output_file(args.out, SHEET, args.overwrite) as out:
        dataset = index(args.path, args.labels, args.modality)
        keep_complete(dataset, needed=(args.split,))
        dataset.raise_problems()
        if not dataset.splits.get(args.split):
            raise EdgemtlError(f"{args.path}: split '{args.split}' has no images")
        samples = FileDataset(dataset, dataset.splits[args.split])
        chosen = [samples[index] for index in evenly_spaced(len(samples), args.count)]
        title = f"{args.path}: labels of {len(chosen)} of {len(samples)} images of split '{args.split}'"
        if len(samples.modalities) > 1 and "boxes" in samples.classes:
            title += f", {args.labels} boxes"
        images = [with_title(draw_labels(sample, samples.classes), sample.name) for sample in chosen]
        out.write(encode_sheet(contact_sheet(images, title), out.given.suffix.lower()))
    print(f"wrote {out.given}: {len(chosen)} of {len(samples)} images of split '{args.split}'")
    return 0


def _draw(args: argparse.Namespace) -> int:
    from edgemtl_runtime.atomic import AtomicFolder

    from ..errors import EdgemtlError
    from ..run_files import DRAWING
    from ..synthetic.folder import write_streets
    from ..synthetic.streets import HELD_OUT

    for name, value, low, high in (
        ("--train", args.train, 1, 100_000),
        ("--val", args.val, 0, 50_000),
        ("--seed", args.seed, 0, HELD_OUT - 100_000),
        *(("--size", side, 32, 8192) for side in args.size),
    ):
        if not low <= value <= high:
            raise EdgemtlError(f"{name} {value}: give {low} to {high}")
    with AtomicFolder(args.out, DRAWING, args.overwrite) as output:
        write_streets(output.folder, tuple(args.size), args.train, args.val, args.seed)
        output.commit()
    print(f"wrote {args.out}: {args.train} streets to train on, {args.val} to evaluate on")
    return 0
