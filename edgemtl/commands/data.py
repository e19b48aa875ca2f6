"""The command ``edgemtl data``: counts, problems and a contact sheet of a dataset."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from .outputs import check_suffix, json_option, output_file, overwrite_option
from .plugin_options import load_plugins, plugin_option

if TYPE_CHECKING:
    from .outputs import Commands

SHEET = Path("sheet.png")
IMAGES = (".png", ".jpg", ".jpeg", ".webp")
"""Formats of a contact sheet, by suffix."""


def add(commands: Commands) -> None:
    """Add the commands to the parser."""
    data = commands.add_parser("data", help="look at a dataset").add_subparsers(required=True, metavar="COMMAND")
    check = data.add_parser("check", help="count what a dataset holds and list every problem in it")
    check.add_argument("path", type=Path, help="its folder, or its data.yaml")
    labels_option(check, "fused")
    plugin_option(check)
    json_option(check)
    check.set_defaults(command=_check)
    show = data.add_parser("show", help="write a contact sheet of images with their labels drawn on")
    show.add_argument("path", type=Path, help="its folder, or its data.yaml")
    labels_option(show, "fused")
    plugin_option(show)
    show.add_argument("--split", choices=("train", "val", "test"), default="train")
    show.add_argument("--count", type=int, default=12, help="images, evenly spaced over the split (%(default)s)")
    show.add_argument("--out", type=Path, help="image to write (default: sheet.png, else sheet-2.png …)")
    overwrite_option(show)
    show.set_defaults(command=_show)


def labels_option(command: argparse.ArgumentParser, default: str | None) -> None:
    """Add the option for the label policy: whose boxes count where each camera has its own."""
    from ..data.policies import POLICIES

    shown = default or "the run's, else fused"
    command.add_argument("--labels", choices=POLICIES, default=default, help=f"label policy ({shown})")


def _check(args: argparse.Namespace) -> int:
    from .checks import check_source

    check_source(str(args.path))
    load_plugins(args)
    from ..console import print_table
    from ..data.check import check, rows

    index, counts = check(args.path, args.labels)
    if args.json:
        problems = [str(problem) for problem in index.problems]
        skipped = [skipped.to_dict() for skipped in index.problems.skipped]
        print(json.dumps({"path": str(args.path), "splits": counts, "problems": problems, "skipped": skipped}))
        return 2 if index.problems else 0
    if counts:
        print_table(rows(counts), f"{args.path} ({args.labels} labels)")
    for skipped in index.problems.skipped:
        print(skipped)
    index.raise_problems()
    print("no problems")
    return 0


def _show(args: argparse.Namespace) -> int:
    from .checks import check_source

    check_suffix(args.out or SHEET, IMAGES)
    check_source(str(args.path))
    load_plugins(args)
    import cv2

    from ..data.datasets import FileDataset, evenly_spaced
    from ..data.formats import index
    from ..errors import EdgemtlError
    from ..visualize import contact_sheet, draw_labels, with_title

    with output_file(args.out, SHEET, args.overwrite) as out:
        dataset = index(args.path, args.labels)
        dataset.raise_problems()
        if not dataset.splits.get(args.split):
            raise EdgemtlError(f"{args.path}: split '{args.split}' has no images")
        samples = FileDataset(dataset, dataset.splits[args.split])
        chosen = [samples[index] for index in evenly_spaced(len(samples), args.count)]
        pixels = contact_sheet([with_title(draw_labels(sample, samples.classes), sample.name) for sample in chosen], 2)
        written, data = cv2.imencode(out.given.suffix.lower(), pixels[:, :, ::-1])
        if not written:
            height, width = pixels.shape[:2]
            raise EdgemtlError(f"--out {out.given}: an image of {width}x{height} cannot be written")
        out.write(data.tobytes())
    print(f"wrote {out.given}: {len(chosen)} of {len(samples)} images of split '{args.split}'")
    return 0
