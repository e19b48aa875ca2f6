"""``edgemtl data``: look at a data set."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from .outputs import check_ending, output_file, overwrite_option

SHEET = Path("sheet.png")
PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def add(commands: Any) -> None:
    """Add the commands to the parser."""
    data = commands.add_parser("data", help="look at a data set").add_subparsers(required=True, metavar="COMMAND")
    check = data.add_parser("check", help="count what a data set holds and find every problem in it")
    check.add_argument("path", type=Path, help="its folder, or its data.yaml")
    labels_option(check, "fused")
    check.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    check.set_defaults(command=_check)
    show = data.add_parser("show", help="write a contact sheet of pictures with their labels drawn on")
    show.add_argument("path", type=Path, help="its folder, or its data.yaml")
    labels_option(show, "fused")
    show.add_argument("--split", choices=("train", "val", "test"), default="train")
    show.add_argument("--count", type=int, default=12, help="pictures, evenly spread over the split (%(default)s)")
    show.add_argument("--out", type=Path, help="picture to write (default: sheet.png, else sheet-2.png …)")
    overwrite_option(show)
    show.set_defaults(command=_show)


def labels_option(command: argparse.ArgumentParser, default: str | None) -> None:
    """Add the option that says whose labels count."""
    from ..data.policies import POLICIES

    told = default or "the run's own, else fused"
    command.add_argument("--labels", choices=POLICIES, default=default, help=f"whose labels ({told})")


def _check(args: argparse.Namespace) -> int:
    from ..console import print_table
    from ..data.check import check, rows

    found, counts = check(args.path, args.labels)
    if args.json:
        problems = [str(problem) for problem in found.problems]
        print(json.dumps({"path": str(args.path), "splits": counts, "problems": problems}))
        return 2 if found.problems else 0
    if counts:
        print_table(rows(counts), f"{args.path} ({args.labels} labels)")
    found.raise_problems()
    print("no problems")
    return 0


def _show(args: argparse.Namespace) -> int:
    import cv2

    from ..data.datasets import FileDataset, evenly_spaced
    from ..data.formats import index
    from ..errors import EdgemtlError
    from ..visualize import labelled, sheet, titled

    check_ending(args.out or SHEET, PICTURES)
    with output_file(args.out, SHEET, args.overwrite) as out:
        found = index(args.path, args.labels)
        found.raise_problems()
        if not found.splits.get(args.split):
            raise EdgemtlError(f"{args.path}: split '{args.split}' has no pictures")
        samples = FileDataset(found, found.splits[args.split])
        chosen = [samples[place] for place in evenly_spaced(len(samples), args.count)]
        picture = sheet([titled(labelled(sample, samples.classes), sample.name) for sample in chosen], 2)
        good, data = cv2.imencode(out.given.suffix.lower(), picture[:, :, ::-1])
        if not good:
            raise EdgemtlError(
                f"--out {out.given}: a picture of {picture.shape[1]}x{picture.shape[0]} cannot be written"
            )
        out.write(data.tobytes())
    print(f"wrote {out.given}: {len(chosen)} of {len(samples)} pictures of split '{args.split}'")
    return 0
