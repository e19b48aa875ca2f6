"""``edgemtl init`` and ``train``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Add the commands to the parser."""
    init = commands.add_parser("init", help="write a configuration to start from, every key with a comment")
    init.add_argument("name", metavar="NAME", type=Path, help="NAME.yaml is written")
    init.set_defaults(command=_init)
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


def _init(args: argparse.Namespace) -> int:
    from importlib import resources

    from ..errors import EdgemtlError

    file = args.name if args.name.suffix in (".yaml", ".yml") else args.name.with_name(f"{args.name.name}.yaml")
    if file.exists():
        raise EdgemtlError(f"{file}: is there already; choose another name")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text((resources.files("edgemtl") / "starter.yaml").read_text().replace("NAME.yaml", file.name))
    print(f"wrote {file}; edit it, then: edgemtl train {file}")
    return 0


def _train(args: argparse.Namespace) -> int:
    from .. import processes
    from ..config import load
    from ..console import print_table
    from ..evaluate import table
    from ..methods.single import train_single
    from ..train import train

    words, file = list(args.words), args.config
    if "=" in file and not Path(file).exists():
        words, file = [file, *words], None
    config = load(file, words)
    out = args.out or Path("runs") / Path(config.network).stem
    single = config.method == "single"
    runs = train_single(config, out, args.resume) if single else [train(config, out, resume=args.resume)]
    if not processes.first():
        return 0
    if single:
        return _told_single(runs, args.json)
    run = runs[0]
    if args.json:
        print(json.dumps({"run": str(run.path), **run.metrics}))
    else:
        print_table(table(run.metrics["val"]), f"{run.path}: {run.metrics['steps']} steps")
        if gained := run.metrics.get("delta_m"):
            print("against single: " + ", ".join(f"{name} {value:+.2f} %" for name, value in gained.items()))
    return 0


def _told_single(runs: list[Any], as_json: bool) -> int:
    from ..compare import columns, rows
    from ..console import print_table

    if as_json:
        print(json.dumps({run.config.tasks[0]: {"run": str(run.path), **run.metrics} for run in runs}))
    else:
        print_table(rows(columns([run.path for run in runs])), "each task alone")
    return 0
