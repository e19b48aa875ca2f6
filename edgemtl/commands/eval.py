"""``edgemtl eval``, ``compare`` and ``predict``: what runs and bundles are worth."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from edgemtl_runtime.atomic import AtomicFile
from edgemtl_runtime.bundle import MODELS

from .data import labels_option
from .outputs import drawing_file, overwrite_option


def add(commands: Any) -> None:
    """Add the commands to the parser."""
    _add_eval(commands)
    _add_compare(commands)
    _add_predict(commands)


def _add_eval(commands: Any) -> None:
    judge = commands.add_parser("eval", help="judge a run or a bundle on labelled data")
    judge.add_argument("what", metavar="RUN|BUNDLE", type=Path)
    judge.add_argument(
        "--data", default="", metavar="PATH", help="folder, data.yaml or 'streets' (default: the run's own)"
    )
    judge.add_argument("--split", choices=("val", "train", "test"), default="val")
    labels_option(judge, None)
    judge.add_argument("--absent", action="store_true", help="also with each camera absent in its turn")
    judge.add_argument("--misaligned", action="store_true", help="also with the cameras shifted and turned apart")
    judge.add_argument("--out", type=Path, metavar="FILE.png", help="draw what --misaligned found")
    overwrite_option(judge)
    judge.add_argument("--precision", choices=list(MODELS), default="fp32", help="of a bundle's networks (%(default)s)")
    judge.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    judge.set_defaults(command=_eval)


def _add_compare(commands: Any) -> None:
    compare = commands.add_parser("compare", help="runs side by side: their figures, and what each task gained or lost")
    compare.add_argument("runs", nargs="+", metavar="RUN", type=Path, help="runs, or folders of runs")
    compare.add_argument("--out", type=Path, metavar="FILE.png", help="draw the changes against single as well")
    overwrite_option(compare)
    compare.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    compare.set_defaults(command=_compare)


def _add_predict(commands: Any) -> None:
    predict = commands.add_parser("predict", help="run a run or a bundle on pictures without labels")
    predict.add_argument("what", metavar="RUN|BUNDLE", type=Path)
    predict.add_argument("folder", metavar="FOLDER", type=Path, help="pictures, or with two cameras rgb/ and ir/")
    predict.add_argument(
        "--out", type=Path, required=True, help="folder to write: pictures/, results.jsonl, boxes.json"
    )
    overwrite_option(predict)
    predict.set_defaults(command=_predict)


def _predict(args: argparse.Namespace) -> int:
    from ..predict import predict

    count = predict(args.what, args.folder, args.out, args.overwrite)
    print(f"wrote {args.out}: {count} pictures")
    return 0


def _eval(args: argparse.Namespace) -> int:
    from ..errors import EdgemtlError

    if args.out and not args.misaligned:
        raise EdgemtlError("--out draws what --misaligned finds: give both")
    with drawing_file(args.out, args.overwrite) as drawn:
        return _judged(args, drawn)


def _judged(args: argparse.Namespace, drawn: AtomicFile | None) -> int:
    import msgspec

    from ..config import Config, Data
    from ..console import print_table, progress_bar
    from ..corruptions import Suite, misalignments, missing_modalities
    from ..data.datasets import name_of, open_datasets
    from ..errors import EdgemtlError
    from ..evaluate import evaluate, of_run, open_predictor, table
    from ..reports.misalignment import plot
    from ..run import CONFIG, Run

    run = Run.open(args.what) if (args.what / CONFIG).is_file() else None
    if run and args.precision != "fp32":
        raise EdgemtlError(f"--precision {args.precision}: a run computes in fp32; export it with --precisions first")
    predictor = of_run(run) if run else open_predictor(args.what, precision=args.precision)
    if not run and not args.data:
        raise EdgemtlError("a bundle does not know its data: give --data PATH, or --data streets")
    spec = next(iter(predictor.inputs.values()))
    config = (
        run.config
        if run
        else Config(input_size=(spec.height, spec.width), tasks=tuple(h.task for h in predictor.heads))
    )
    changes = {key: value for key, value in (("source", args.data), ("labels", args.labels)) if value}
    data: Data = msgspec.structs.replace(config.data, **changes)
    samples = open_datasets(msgspec.structs.replace(config, data=data), (args.split,)).get(args.split)
    if samples is None:
        raise EdgemtlError(f"{name_of(data)} has no split '{args.split}'")
    corruptions: Suite = missing_modalities(predictor.inputs) if args.absent else {}
    if args.misaligned:
        corruptions = {**corruptions, **misalignments(predictor.inputs)}
    with progress_bar("judging", len(samples)) as bar:
        figures = evaluate(predictor, samples, lambda n: bar(n, {}), corruptions)
    if drawn:
        heads = {head.name: head.task for head in predictor.heads if head.name in samples.classes}
        drawn.write(plot(figures, heads, drawn.given.suffix[1:].lower()))
    if args.json:
        print(json.dumps({"what": str(args.what), "data": name_of(data), "pictures": len(samples), **figures}))
    else:
        print_table(table(figures), f"{args.what} on {len(samples)} pictures of {name_of(data)}")
    return 0


def _compare(args: argparse.Namespace) -> int:
    from ..compare import columns, draw, rows
    from ..console import print_table

    with drawing_file(args.out, args.overwrite) as drawn:
        compared = columns(args.runs)
        if args.json:
            print(json.dumps({column.name: {"seeds": column.seeds, **column.figures} for column in compared}))
        else:
            print_table(rows(compared))
        if drawn:
            drawn.write(draw(compared, drawn.given.suffix[1:].lower()))
    return 0
