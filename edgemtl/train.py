"""Training: one loop for every network, task and method."""

from __future__ import annotations

import copy
import json
import os
import resource
import time
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

import edgemtl_models
from edgemtl_export.to_onnx import Deployed
from edgemtl_runtime.aside import FolderAside

from . import processes
from .board import Board
from .checkpoint import Checkpoint
from .config import Config
from .console import progress_bar, say
from .curves import JUDGED
from .data.loader import Batches, Loader, check_inputs
from .data.open import open_data
from .data.sample import Samples
from .delta import delta_m, references
from .errors import ConfigError
from .evaluate import Figures, Predictor, evaluate
from .loop import Loop
from .run import CONFIG, Interface, Run, interface_of, write_weights
from .run_report import write_run_report
from .start import freeze, take_over
from .tasks import TASKS, Task

__all__ = ["train"]


def train(
    config: Config,
    out: str | Path,
    data: dict[str, Samples] | None = None,
    judge: bool = True,
    resume: bool = False,
) -> Run:
    """Train a network as ``config`` says and write the run to the folder ``out``.

    ``data`` replaces the data that the configuration names. ``judge=False`` leaves out the evaluation at the end.
    ``resume`` goes on with a training that was stopped, to the weights that it would have ended with.
    """
    if config.method == "lomt":
        raise ConfigError("method=lomt is several trainings: call methods.lomt.train_lomt, or `edgemtl train`")
    if config.batch < processes.count():
        raise ConfigError(f"batch={config.batch} pictures cannot be shared out among {processes.count()} processes")
    with FolderAside(out, CONFIG) as aside, processes.together():
        threads = torch.get_num_threads()
        torch.set_num_threads(config.threads or threads)
        checkpoint = Checkpoint(out, config)
        try:
            _train_into(aside.folder, Path(out), config, data or open_data(config), judge, checkpoint, resume)
        finally:
            torch.set_num_threads(threads)
        if processes.first():
            aside.place()
            checkpoint.remove()
    return Run.open(out)


def _train_into(
    folder: Path,
    out: Path,
    config: Config,
    data: dict[str, Samples],
    judge: bool,
    checkpoint: Checkpoint,
    resume: bool,
) -> None:
    started = time.monotonic()
    loop, batches = begin(config, data)
    interface = loop.interface
    if resume:
        started -= checkpoint.load_into(loop)
    elif checkpoint.file.is_file():
        say(f"an unfinished training stands here: this one replaces it in {config.save_s:g} s (--resume goes on)")
    workers = config.data.workers
    if workers < 0:  # a processor that computes the steps has nothing to spare for others
        each = (os.cpu_count() or 1) // processes.count()
        workers = max(0, min(8, each - 1)) if torch.cuda.is_available() else 0
    if workers or config.data.source != "streets":  # streets are drawn while the first steps compute
        batches.fill()
    first = loop.step
    loader = Loader(batches, first, workers)
    board = Board(config.tensorboard if processes.first() else "", out.name, first)
    seconds = _fit(loop, loader, checkpoint, board, started, data["val"] if judge else None)
    if not processes.first():
        return
    average, interface = loop.finished()
    metrics: dict[str, Any] = {
        "steps": loop.steps,
        "seconds": round(time.monotonic() - started, 1),
        "parameters": sum(p.numel() for p in average.parameters()),
        "seconds_epoch": round(seconds / max(loop.steps - first, 1) * len(data["train"]) / config.batch, 1),
        "data_wait": round(loader.waited_s / max(seconds, 1e-9), 4),
        "peak_mb": peak_mb(),
        "loss": loop.log.last(),
    }
    write_weights(folder, config, average, interface)
    loop.log.write(folder)
    if judge:
        predictor = _predictor(average, interface)
        with progress_bar("judging", len(data["val"])) as bar:
            metrics["val"] = evaluate(predictor, data["val"], lambda n: bar(n, {}))
        metrics["judged"] = [*judged(loop), {"step": loop.steps, **primaries(metrics["val"], loop)}]
        if config.method != "single":
            gained = delta_m(metrics["val"]["all"], references(config, out.parent), list(loop.tasks))
            metrics |= {"delta_m": gained} if gained else {}
        shown = Predictor(predictor.engine, interface.inputs, interface.heads, None)
        write_run_report(folder, config, metrics, average, shown, data["val"], list(loop.tasks))
    board.close(loop.steps, metrics.get("val", {}))
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")


def begin(config: Config, data: dict[str, Samples]) -> tuple[Loop, Batches]:
    """Return a training before its first step, and the batches it will learn from."""
    torch.manual_seed(config.seed)
    tasks = choose_tasks(config, data["train"])
    network = _build(config, tasks)
    if config.init_from:
        take_over(network, config.init_from)
    freeze(network, config.freeze)
    processes.agree(network.state_dict().values())
    interface = interface_of(network, config, tuple(task.head() for task in tasks.values()))
    inputs = {spec.name: spec for spec in interface.inputs}
    for samples in data.values():
        check_inputs(inputs, samples)
    labels = {name: task.label for name, task in tasks.items()}
    round_ = len(data["train"]) / config.batch
    steps = config.steps or max(1, round(config.epochs * round_))
    loop = Loop(network, tasks, config, interface, steps, max(1, round(round_)))
    return loop, Batches(data["train"], config, inputs, labels, steps)


def _fit(
    loop: Loop, batches: Loader, checkpoint: Checkpoint, board: Board, started: float, val: Samples | None
) -> float:
    """Learn from every batch, judging now and then; return how many seconds the learning took."""
    begun, judging = time.monotonic(), 0.0
    with progress_bar("training", loop.steps) as bar:
        for batch in batches:
            row = loop.learn(batch)
            if val is not None and processes.first() and loop.judges:
                paused = time.monotonic()
                average = copy.deepcopy(loop.average.network).cpu()
                figures = primaries(evaluate(_predictor(average, loop.interface), val), loop)
                loop.log.rows[-1] |= {f"{JUDGED}{name}": value for name, value in figures.items()}
                judging += time.monotonic() - paused
            if processes.first():
                checkpoint.save_if_due(loop, time.monotonic() - started)
            board.add(loop.log.last())
            bar(loop.step, row)
    sparsity = loop.sparsity
    if sparsity and sparsity.target and not sparsity.frozen:
        keep = loop.config.sparsity.keep
        say(f"only {sparsity.share:.0%} of the {loop.config.sparsity.of} could go: sparsity.keep={keep} holds the rest")
    return time.monotonic() - begun - judging


def _predictor(network: nn.Module, interface: Interface) -> Predictor:
    """Return what judges a network: boxes of every score take part."""
    deployed = Deployed(network, interface.inputs, interface.heads)
    return Predictor(deployed, interface.inputs, interface.heads, 0.0)


def primaries(figures: Figures, loop: Loop) -> dict[str, float]:
    """Return each task's primary metric over the whole split, where it has one."""
    whole = figures["all"]
    return {name: whole[task.primary] for name, task in loop.tasks.items() if task.primary in whole}


def judged(loop: Loop) -> list[dict[str, float]]:
    """Return what was judged while the training went on: the steps taken, and each task's primary metric."""
    return [
        {"step": row["step"] + 1, **{n.removeprefix(JUDGED): v for n, v in row.items() if n.startswith(JUDGED)}}
        for row in loop.log.rows
        if any(name.startswith(JUDGED) for name in row)
    ]


def _build(config: Config, tasks: dict[str, Task]) -> nn.Module:
    try:
        channels = {name: task.channels for name, task in tasks.items()}
        fusion = msgspec.to_builtins(config.fusion) if config.fusion.kind else None
        return edgemtl_models.build(
            config.network, channels, config.size, cameras=config.cameras, exits=config.exits, fusion=fusion
        )
    except (ValueError, FileNotFoundError, KeyError, TypeError, AttributeError) as error:
        reason = f"{error} is missing or misplaced" if isinstance(error, KeyError) else error
        raise ConfigError(f"network {config.network}: {reason}") from error


def choose_tasks(config: Config, samples: Samples) -> dict[str, Task]:
    """Return the tasks that the configuration asks for and the data have labels of."""
    labelled = samples.classes
    tasks: dict[str, Task] = {}
    for name in config.tasks:
        if name not in TASKS:
            raise ConfigError(f"tasks: '{name}' is not one of {', '.join(TASKS)}")
        if name in labelled:
            tasks[name] = TASKS[name](labelled[name])
        else:
            say(f"the data have no {name} labels: that head takes no part")
    if not tasks:
        raise ConfigError(f"the data have labels for {', '.join(labelled) or 'none'} of tasks={list(config.tasks)}")
    return tasks


def peak_mb() -> int:
    """Return the largest resident memory of this process so far, MB."""
    status = Path("/proc/self/status")
    if status.is_file():  # on Linux getrusage counts what the process was started from, too
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) >> 10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (1 << 20 if os.uname().sysname == "Darwin" else 1 << 10)
