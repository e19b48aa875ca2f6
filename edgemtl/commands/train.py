"""``edgemtl init``, ``train`` and ``adapt``."""

from __future__ import annotations

import argparse
import json
import os
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgemtl_runtime.atomic import AtomicFile, BusyError, is_free, numbered, unfinished

from .outputs import overwrite_option

if TYPE_CHECKING:
    from ..config import Config
    from ..run import Run


def add(commands: Any) -> None:
    """Add the commands to the parser."""
    init = commands.add_parser("init", help="write a configuration to start from, every key with a comment")
    init.add_argument("name", metavar="NAME", type=Path, help="NAME.yaml is written")
    init.add_argument("--schema", action="store_true", help="write NAME.schema.json too, for editors")
    init.set_defaults(command=_init)
    train = commands.add_parser(
        "train",
        help="train a network",
        description="Train as CONFIG says; words like epochs=45 or sparsity.target=0.6 override it.",
    )
    train.add_argument("config", metavar="CONFIG", help="YAML file, or the first key=value")
    train.add_argument("words", nargs="*", metavar="key=value")
    train.add_argument("--out", type=Path, help="run folder (default: runs/NETWORK, else runs/NETWORK-2 …)")
    train.add_argument("--resume", action="store_true", help="go on with a training that was stopped")
    overwrite_option(train)
    train.add_argument("--json", action="store_true", help="print the figures as one JSON object, nothing else")
    train.set_defaults(command=_train)
    adapt = commands.add_parser(
        "adapt",
        help="a new head on a run's network for a task that it has not seen",
        description="Learn a task from every start and tell how its figure rises: a run, several, and 'scratch'.",
    )
    adapt.add_argument("starts", nargs="+", metavar="RUN|scratch|key=value")
    adapt.add_argument("--task", required=True, metavar="NEW")
    adapt.add_argument("--alone", action="store_true", help="without the run's other tasks, which go on otherwise")
    adapt.add_argument("--reach", type=float, metavar="FIGURE", help="tell the steps to a figure, such as single's")
    adapt.add_argument("--out", type=Path, required=True, help="folder to write: a run for each start, adapt.png")
    adapt.add_argument("--resume", action="store_true", help="go on with trainings that were stopped")
    overwrite_option(adapt)
    adapt.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    adapt.set_defaults(command=_adapt)


def _init(args: argparse.Namespace) -> int:
    from ..config_file import json_schema, starter
    from ..errors import EdgemtlError

    file = args.name if args.name.suffix in (".yaml", ".yml") else args.name.with_name(f"{args.name.name}.yaml")
    if os.path.lexists(file):
        raise EdgemtlError(f"{file}: is there already; choose another name")
    schema = file.with_suffix(".schema.json")
    if args.schema:
        with AtomicFile(schema) as output:
            output.write(json.dumps(json_schema(), indent=1).encode())
    with AtomicFile(file) as output:
        first = f"# yaml-language-server: $schema={schema.name}\n" if args.schema else ""
        output.write((first + starter(file.name)).encode())
    print(f"wrote {file}; edit it, then: edgemtl train {file}")
    return 0


def _train(args: argparse.Namespace) -> int:
    from .. import distributed
    from ..config_file import load
    from ..console import print_table
    from ..evaluate import table

    words, file = list(args.words), args.config
    if "=" in file and not Path(file).exists():
        words, file = [file, *words], None
    config = load(file, words)
    runs = _trained(config, args.out, args.resume, args.overwrite)
    if not distributed.is_main():
        return 0
    if config.method == "single":
        return _told_single(runs, args.json)
    run = runs[0]
    if args.json:
        print(json.dumps({"run": str(run.path), **run.metrics}))
    elif "val" not in run.metrics:
        print(f"{run.path}: {run.metrics['steps']} steps; not judged: `edgemtl eval {run.path}`")
    else:
        print_table(table(run.metrics["val"]), f"{run.path}: {run.metrics['steps']} steps")
        if gained := run.metrics.get("delta_m"):
            print("against single: " + ", ".join(f"{name} {value:+.2f} %" for name, value in gained.items()))
    return 0


def _trained(config: Config, out: Path | None, resume: bool, overwrite: bool) -> list[Run]:
    """Train into a folder, or into the first free one of the default name."""
    from .. import distributed
    from ..experiments.lomt import train_lomt
    from ..experiments.single import train_single
    from ..train import train

    def into(folder: Path) -> list[Run]:
        if config.method == "single":
            return train_single(config, folder, resume, overwrite)
        return [(train_lomt if config.method == "lomt" else train)(config, folder, resume=resume, overwrite=overwrite)]

    default = Path("runs") / Path(config.network).stem
    if out or overwrite:
        return into(out or default)
    if resume and (last := _last(default, config)):
        return into(last)
    for free in filter(is_free, numbered(default)):
        try:
            return into(free)
        except BusyError:
            if distributed.world_size() > 1:  # the others have their folder's name by now
                raise
    raise AssertionError


def _last(default: Path, config: Config) -> Path | None:
    """Return the last training of the default name to go on with: of this configuration, else an unfinished one."""
    from ..checkpoint import lasting, lasting_of

    known = list(takewhile(lambda path: not is_free(path), numbered(default)))[::-1]
    same = [path for path in known if lasting_of(path) == lasting(config)]
    return next(iter([*same, *(path for path in known if os.path.lexists(unfinished(path)))]), None)


def _adapt(args: argparse.Namespace) -> int:
    from ..console import print_table
    from ..experiments.adapt import adapt, reached
    from ..tasks import TASKS

    words = [word for word in args.starts if "=" in word and not Path(word).exists()]
    starts = [start for start in args.starts if start not in words]
    found = adapt(starts, args.task, words, args.out, args.alone, args.resume, args.overwrite)
    better = TASKS[args.task].higher_is_better
    steps = {n: reached(points, args.reach, better) if args.reach is not None else None for n, points in found.items()}
    if args.json:
        print(json.dumps({n: {"points": points, "reached": steps[n]} for n, points in found.items()}))
        return 0
    rows = [["from", *(f"step {step:g}" for step, _ in next(iter(found.values()))), "steps"]]
    for name, points in found.items():
        reach = "-" if args.reach is None else str(steps[name] or "never")
        rows.append([name, *(f"{value:.3f}" for _, value in points), reach])
    aim = "" if args.reach is None else f", steps to {args.reach:g}"
    print_table(rows, f"{args.task}: {TASKS[args.task].primary}{aim}")
    return 0


def _told_single(runs: list[Any], as_json: bool) -> int:
    from ..compare import columns, rows
    from ..console import print_table

    if as_json:
        print(json.dumps({run.config.tasks[0]: {"run": str(run.path), **run.metrics} for run in runs}))
    else:
        print_table(rows(columns([run.path for run in runs])), "each task alone")
    return 0
