"""The commands ``edgemtl init``, ``train`` and ``adapt``."""

from __future__ import annotations

import argparse
import json
import os
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from edgemtl_runtime.atomic import AtomicFile, BusyError, is_free, numbered, unfinished
from edgemtl_runtime.cli_parser import add_examples, answer_words
from edgemtl_runtime.renamed_options import renamed

from ..other_tools import setting_hint
from ..tasks import TASKS
from .outputs import json_option, overwrite_option
from .plugin_options import TRUST, load_configured, load_plugins, plugin_options

if TYPE_CHECKING:
    from ..config import Config
    from ..data.datasets import Splits
    from ..run import Run
    from .outputs import Commands


def add(commands: Commands) -> None:
    """Add the commands to the parser."""
    _add_init(commands)
    _add_train(commands)
    _add_adapt(commands)


def _add_init(commands: Commands) -> None:
    init = commands.add_parser("init", help="write a configuration to start from, every key with a comment")
    init.add_argument("name", metavar="NAME", type=Path, help="NAME.yaml is written")
    init.add_argument("--schema", action="store_true", help="write NAME.schema.json too, for editors")
    add_examples(init, "mine", "mine --schema")
    init.set_defaults(command=_init)


def _add_train(commands: Commands) -> None:
    train = commands.add_parser(
        "train",
        help="train a network",
        description="Train by the configuration CONFIG; pairs like epochs=45 or sparsity.target=0.6 override it.\n"
        "`edgemtl init NAME` writes a file with every key, its default and what it may be.",
    )
    train.add_argument("config", metavar="CONFIG", help="YAML file, or the first key=value")
    train.add_argument("overrides", nargs="*", default=[], metavar="key=value")
    train.add_argument(
        "--out", metavar="RUN", type=Path, help="run folder (default: runs/NETWORK, else runs/NETWORK-2 …)"
    )
    train.add_argument("--resume", action="store_true", help="resume a training that was interrupted")
    overwrite_option(train)
    train.add_argument("--trust", action="store_true", help=TRUST)
    json_option(train, "print the metrics as one JSON object, nothing else")
    add_examples(
        train,
        "mine.yaml --out runs/mine",
        "data.source=DATASET tasks=boxes,depth epochs=45 lr=1e-3 --out runs/two",
        "mine.yaml init_from=runs/mine sparsity.target=0.7 --out runs/pruned",
        "mine.yaml --out runs/mine --resume",
    )
    answer_words(train, setting_hint)
    train.set_defaults(command=_train)


def _add_adapt(commands: Commands) -> None:
    adapt = commands.add_parser(
        "adapt",
        help="train a new head on a run's network, for a task that it was not trained on",
        description="Train a task from several starts (runs, or 'scratch') and report its metric over the steps.",
    )
    adapt.add_argument("starts", nargs="+", metavar="RUN|scratch|key=value")
    adapt.add_argument("--task", required=True, metavar="NEW", help=f"of {', '.join(TASKS)}")
    adapt.add_argument("--single-task", action="store_true", help="without the run's other tasks")
    renamed(adapt, "--alone", "--single-task")
    adapt.add_argument("--reach", type=float, metavar="VALUE", help="report the steps to a metric, such as single's")
    adapt.add_argument("--out", type=Path, required=True, help="folder to write: a run for each start, adapt.png")
    adapt.add_argument("--resume", action="store_true", help="resume trainings that were interrupted")
    overwrite_option(adapt)
    plugin_options(adapt)
    json_option(adapt)
    add_examples(adapt, "runs/mine scratch --task depth --out runs/depth epochs=5")
    answer_words(adapt, setting_hint)
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
        header = f"# yaml-language-server: $schema={schema.name}\n" if args.schema else ""
        output.write((header + starter(file.name)).encode())
    print(f"wrote {file}; edit it, then: edgemtl train {file}")
    return 0


def _train(args: argparse.Namespace) -> int:
    from ..config_file import load
    from ..run_files import LOMT, RUN, SINGLE
    from ..used_keys import check_used
    from .checks import check_config, check_data, check_out

    overrides, file = list(args.overrides), args.config
    if "=" in file and not Path(file).exists():
        overrides, file = [file, *overrides], None
    config = load_configured(load(file, overrides), file, overrides, args.trust)
    check_config(config, args.resume)
    if not args.resume:  # the configuration of an older training may hold what nothing used
        check_used(config)
    kind = {"single": SINGLE, "lomt": LOMT}.get(config.method, RUN)
    if args.out:
        check_out(args.out, kind, args.resume, args.overwrite)
    data = None if args.resume else check_data(config)
    return _train_and_report(config, args, data if kind == RUN else None)


def _train_and_report(config: Config, args: argparse.Namespace, data: Splits | None) -> int:
    from .. import ranks

    runs = _train_runs(config, args.out, args.resume, args.overwrite, data)
    if not ranks.is_main():
        return 0
    if config.method == "single":
        return _report_single(runs, args.json)
    run = runs[0]
    if args.json:
        print(json.dumps({"run": str(run.path), **run.metrics}))
    else:
        from ..summary import training_summary

        print(training_summary(run))
    return 0


def _train_runs(config: Config, out: Path | None, resume: bool, overwrite: bool, data: Splits | None) -> list[Run]:
    """Train into a folder, or into the first free one of the default name."""
    from .. import ranks
    from ..experiments.lomt import train_lomt
    from ..experiments.single import train_single
    from ..train import train

    def into(folder: Path) -> list[Run]:
        if config.method == "single":
            return train_single(config, folder, resume, overwrite)
        if config.method == "lomt":
            return [train_lomt(config, folder, resume, overwrite)]
        return [train(config, folder, data, resume=resume, overwrite=overwrite)]

    default = Path("runs") / Path(config.network).stem
    if out or overwrite:
        return into(out or default)
    if resume and (last := _last(default, config)):
        return into(last)
    for free in filter(is_free, numbered(default)):
        try:
            return into(free)
        except BusyError:
            if ranks.world_size() > 1:  # the other processes train into the folder of this name
                raise
    raise AssertionError


def _last(default: Path, config: Config) -> Path | None:
    """Return the last training of the default name to resume: of this configuration, else an unfinished one."""
    from ..checkpoint import lasting, lasting_of

    known = list(takewhile(lambda path: not is_free(path), numbered(default)))[::-1]
    same = [path for path in known if lasting_of(path) == lasting(config)]
    return next(iter([*same, *(path for path in known if os.path.lexists(unfinished(path)))]), None)


def _report_single(runs: list[Run], as_json: bool) -> int:
    from ..compare import columns, rows
    from ..console import print_table

    if as_json:
        print(json.dumps({run.config.tasks[0]: {"run": str(run.path), **run.metrics} for run in runs}))
    else:
        print_table(rows(columns([run.path for run in runs])), "single-task networks")
        parent = runs[0].path.parent
        print(f"reports: {parent}/*/report.html\nnext: edgemtl compare {parent} RUN, a multi-task run next to it")
    return 0


def _adapt(args: argparse.Namespace) -> int:
    from ..experiments.adapt_config import adaptation_configs
    from ..run_files import ADAPTATION
    from ..used_keys import check_used
    from .checks import check_config, check_out

    overrides = [start for start in args.starts if "=" in start and not Path(start).exists()]
    starts = [start for start in args.starts if start not in overrides]
    load_plugins(args, map(Path, starts))
    configs = adaptation_configs(starts, args.task, overrides, args.single_task)
    for config in configs.values():
        check_config(config, args.resume)
        check_used(config, [override.partition("=")[0] for override in overrides])
    check_out(args.out, ADAPTATION, args.resume, args.overwrite)
    return _adapt_and_report(configs, args)


def _adapt_and_report(configs: dict[str, Config], args: argparse.Namespace) -> int:
    from ..console import print_table
    from ..experiments.adapt import adapt, reached
    from ..tasks import TASKS

    curves = adapt(configs, args.task, args.out, args.resume, args.overwrite)
    better = TASKS[args.task].higher_is_better
    steps = {n: reached(points, args.reach, better) if args.reach is not None else None for n, points in curves.items()}
    if args.json:
        print(json.dumps({n: {"points": points, "reached": steps[n]} for n, points in curves.items()}))
        return 0
    rows = [["from", *(f"step {step:g}" for step, _ in next(iter(curves.values()))), "steps"]]
    for name, points in curves.items():
        reach = "-" if args.reach is None else str(steps[name] or "never")
        rows.append([name, *(f"{value:.3f}" for _, value in points), reach])
    goal = "" if args.reach is None else f", steps to {args.reach:g}"
    print_table(rows, f"{args.task}: {TASKS[args.task].primary}{goal}")
    return 0


DISTRIBUTED = (_train, _adapt)
"""The commands that several processes of a launcher run together."""
