"""The command line: ``edgemtl data check | train | eval | shrink | export | run | demo``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgemtl_runtime import cli as runtime_cli

SHRINK = {"align": ("1", "8", "16", "32", "auto"), "branches": ("keep", "cut", "auto"), "norms": ("keep", "rewrite")}
"""What the options of ``edgemtl shrink`` may be, the default first."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    args = parser().parse_args(argv)
    return runtime_cli.guarded(lambda: int(args.command(args)), "edgemtl")


def parser() -> argparse.ArgumentParser:
    """Return the whole command line."""
    top = argparse.ArgumentParser(
        "edgemtl", description="Train, shrink and run one compact multi-task network on colour and thermal cameras."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _add_data(commands)
    _add_train(commands)
    _add_eval(commands)
    _add_shrink(commands)
    _add_export(commands)
    runtime_cli.add_run(commands)
    demo = commands.add_parser("demo", help="the whole way on drawn streets: train, shrink, export, judge, run")
    demo.add_argument("--out", type=Path, default=Path("out/demo"), help="folder to write (%(default)s)")
    demo.add_argument("--steps", type=int, default=0, help="training steps (default: the demo's own)")
    demo.set_defaults(command=_demo)
    return top


def _add_data(commands: Any) -> None:
    data = commands.add_parser("data", help="look at a data set").add_subparsers(required=True, metavar="COMMAND")
    check = data.add_parser("check", help="count what a data set holds and find every problem in it")
    check.add_argument("path", type=Path, help="folder with data.yaml, rgb/, ir/ and labels/")
    _labels(check, "fused")
    check.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    check.set_defaults(command=_data_check)


def _add_train(commands: Any) -> None:
    train = commands.add_parser(
        "train",
        help="train a network",
        description="Train as CONFIG says; words like epochs=45 or sparsity.target=0.6 override it.",
    )
    train.add_argument("config", metavar="CONFIG", help="YAML file, or the first key=value")
    train.add_argument("words", nargs="*", metavar="key=value")
    train.add_argument("--out", type=Path, default=None, help="run folder (default: runs/NETWORK)")
    train.add_argument("--resume", action="store_true", help="go on with a training that was stopped")
    train.add_argument("--json", action="store_true", help="print the figures as one JSON object, nothing else")
    train.set_defaults(command=_train)


def _add_eval(commands: Any) -> None:
    judge = commands.add_parser("eval", help="judge a run or a bundle on labelled data")
    judge.add_argument("what", metavar="RUN|BUNDLE", type=Path)
    judge.add_argument(
        "--data", default="", metavar="PATH", help="folder of pairs, or 'streets' (default: the run's own)"
    )
    judge.add_argument("--split", choices=("val", "train"), default="val")
    _labels(judge, None)
    judge.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    judge.set_defaults(command=_eval)


def _add_shrink(commands: Any) -> None:
    shrink = commands.add_parser(
        "shrink",
        help="remove dead channels from a run's network or any exported program",
        description="Remove every channel that is zero, constant or unread, exactly, prove it, and write the program.",
    )
    shrink.add_argument("what", metavar="RUN|PROGRAM.pt2", type=Path, help="a run, or what torch.export.save wrote")
    shrink.add_argument(
        "--out", metavar="FILE.pt2", type=Path, help="(default: RUN/shrunk.pt2, or PROGRAM.shrunk.pt2 beside it)"
    )
    told = {
        "align": "keep channels up to this multiple in every layer; auto: what is measured to be fastest",
        "branches": "cut: let the operands of a sum keep different channels; auto: where that is faster",
        "norms": "rewrite: write layer and group normalisation out, so that more may go",
    }
    for name, known in SHRINK.items():
        shrink.add_argument(f"--{name}", metavar="|".join(known), default=known[0], help=f"{told[name]} (%(default)s)")
    shrink.add_argument("--outputs", metavar="NAME,NAME", help="ship these outputs only (default: all)")
    shrink.add_argument("--no-verify", action="store_true", help="leave out the proof that the outputs are the same")
    shrink.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    shrink.set_defaults(command=_shrink)


def _add_export(commands: Any) -> None:
    export = commands.add_parser("export", help="shrink a run's network and write it as a bundle")
    export.add_argument("run", metavar="RUN", type=Path)
    export.add_argument("--out", metavar="BUNDLE", type=Path, required=True)
    export.add_argument("--align", type=int, default=8, help="round channels up to this multiple (%(default)s)")
    export.add_argument("--tensorrt", action="store_true", help="build and check a TensorRT engine as well")
    export.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    export.set_defaults(command=_export)


def _labels(command: argparse.ArgumentParser, default: str | None) -> None:
    from .data.policies import POLICIES

    told = default or "the run's own, else fused"
    command.add_argument("--labels", choices=POLICIES, default=default, help=f"whose labels ({told})")


def _data_check(args: argparse.Namespace) -> int:
    from .console import print_table
    from .data.pairs import scan

    result = scan(args.path, args.labels)
    told = result.to_dict()
    if args.json:
        print(json.dumps(told))
        return 2 if result.problems else 0
    if result.splits:
        names = list(told["splits"])
        rows = [["", *names]]
        for key in ("pairs", "day", "night", "unknown", "empty"):
            rows.append([key, *(str(told["splits"][s][key]) for s in names)])
        for task in told["splits"][names[0]]["labelled"]:
            rows.append([f"labelled: {task}", *(str(told["splits"][s]["labelled"][task]) for s in names)])
        for name in result.classes["boxes"]:
            rows.append([f"boxes: {name}", *(str(told["splits"][s]["boxes"][name]) for s in names)])
        for key in ("sizes", "ir_bits"):
            rows.append([key, *(", ".join(map(str, told["splits"][s][key])) for s in names)])
        print_table(rows, f"{args.path} ({args.labels} labels)")
    result.raise_problems()
    print("no problems")
    return 0


def _train(args: argparse.Namespace) -> int:
    from .config import load
    from .console import print_table
    from .evaluate import table
    from .train import train

    words, file = list(args.words), args.config
    if "=" in file and not Path(file).exists():
        words, file = [file, *words], None
    config = load(file, words)
    out = args.out or Path("runs") / Path(config.network).stem
    run = train(config, out, resume=args.resume)
    if args.json:
        print(json.dumps({"run": str(run.path), **run.metrics}))
    else:
        print_table(table(run.metrics["val"]), f"{run.path}: {run.metrics['steps']} steps")
    return 0


def _eval(args: argparse.Namespace) -> int:
    import msgspec

    from .config import Config, Data
    from .console import print_table, progress_bar
    from .data.loader import open_data
    from .errors import EdgemtlError
    from .evaluate import evaluate, of_run, open_predictor, table
    from .run import CONFIG, Run

    run = Run.open(args.what) if (args.what / CONFIG).is_file() else None
    predictor = of_run(run) if run else open_predictor(args.what)
    if not run and not args.data:
        raise EdgemtlError("a bundle does not know its data: give --data PATH, or --data streets")
    spec = next(iter(predictor.inputs.values()))
    config = run.config if run else Config(size=(spec.height, spec.width), tasks=tuple(h.task for h in predictor.heads))
    changes = {key: value for key, value in (("source", args.data), ("labels", args.labels)) if value}
    data: Data = msgspec.structs.replace(config.data, **changes)
    samples = open_data(msgspec.structs.replace(config, data=data))[args.split]
    with progress_bar("judging", len(samples)) as bar:
        figures = evaluate(predictor, samples, lambda n: bar(n, {}))
    if args.json:
        print(json.dumps({"what": str(args.what), "data": data.source, "pictures": len(samples), **figures}))
    else:
        print_table(table(figures), f"{args.what} on {len(samples)} pictures of {data.source}")
    return 0


def _shrink(args: argparse.Namespace) -> int:
    from .errors import EdgemtlError
    from .shrink import plain, readable, shrink

    for name, known in SHRINK.items():
        if (word := getattr(args, name)) not in known:
            raise EdgemtlError(f"--{name} {word}: is not one of {', '.join(known)}")
    outputs = None if args.outputs is None else [name for name in map(str.strip, args.outputs.split(",")) if name]
    if outputs is not None and not outputs:
        raise EdgemtlError("--outputs names no output; give one or more, with commas between them")
    out, shrunk = shrink(
        args.what,
        args.out,
        outputs,
        align=int(args.align) if args.align.isdecimal() else args.align,
        branches=args.branches,
        norms=args.norms,
        verify=not args.no_verify,
    )
    if args.json:
        print(json.dumps({**plain(shrunk.report), "out": str(out)}))
    else:
        if outputs:
            print(f"outputs kept: {', '.join(outputs)}; what only the others read is gone and not counted here\n")
        print(f"{readable(shrunk.report)}\n\nwrote {out}")
    return 0


def _export(args: argparse.Namespace) -> int:
    from .errors import EdgemtlError
    from .export import check_tensorrt, export
    from .run import Run

    if not 1 <= args.align <= 256:
        raise EdgemtlError("--align lies between 1 (keep nothing) and 256")
    if args.tensorrt:
        check_tensorrt()
    bundle, shrunk = export(Run.open(args.run), args.out, align=args.align)
    if args.json:
        print(
            json.dumps(
                {"bundle": str(bundle.path), "removed": shrunk.report.to_dict(), "parity": bundle.manifest.parity}
            )
        )
    else:
        print(shrunk.report)
        parity = bundle.manifest.parity
        raw = ", ".join(f"{name} {value:.1e}" for name, value in parity["raw_max_abs"].items())
        same = ", ".join(f"{name} {value:.2%}" for name, value in parity["agreement"].items())
        print(f"on {parity['frames']} held-out pictures: raw heads differ by at most {raw}; outputs agree: {same}")
        print(f"wrote {bundle.path}")
    return 0


def _demo(args: argparse.Namespace) -> int:
    from .demo import demo

    demo(args.out, args.steps)
    return 0


if __name__ == "__main__":
    sys.exit(main())
