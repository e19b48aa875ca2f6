"""Training: one loop for every network, task and method."""

from __future__ import annotations

import copy
import os
import resource
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

import edgemtl_models
from edgemtl_runtime.atomic import FolderAside, check_folder

from . import config_file, distributed
from .checkpoint import Checkpoint, as_json, check_same
from .config import Config
from .console import print_message, progress_bar
from .data.loader import Batches, Loader, check_inputs
from .data.open import open_data
from .data.sample import Samples
from .errors import ConfigError
from .evaluate import evaluate
from .finish import guarded, predictor_of, primaries, write_run
from .pretrained import freeze, take_over
from .run import Run, interface_of
from .run_files import CONFIG, METRICS, RUN, WEIGHTS
from .stop import Stop
from .tasks import TASKS, Task
from .tensorboard import Board
from .trainer import Loop
from .training_log import JUDGED

__all__ = ["train"]


def train(
    config: Config,
    out: str | Path,
    data: dict[str, Samples] | None = None,
    judge: bool = True,
    resume: bool = False,
    overwrite: bool = False,
    keep: bool = True,
) -> Run:
    """Train a network as ``config`` says and write the run to the folder ``out``.

    ``data`` replaces the data that the configuration names. ``judge=False`` leaves out the evaluation at the end.
    ``resume`` goes on with a training that was stopped, to the weights that it would have ended with, and gives back
    one that is finished. ``overwrite`` replaces a run of ours, finished or not. Without ``keep`` a training that is
    stopped leaves nothing to go on with.
    """
    if config.method == "lomt":
        raise ConfigError("method=lomt is several trainings: call methods.lomt.train_lomt, or `edgemtl train`")
    if config.batch_size < distributed.world_size():
        raise ConfigError(
            f"batch_size={config.batch_size} pictures cannot be shared out among {distributed.world_size()} processes"
        )
    out = Path(out)
    checkpoint = Checkpoint(out, config, keep)
    if resume and (run := finished(config, out)):
        checkpoint.clear()
        return run
    check_folder(out, RUN, overwrite)
    with ExitStack() as stack:
        aside = None
        if distributed.is_main():
            aside = stack.enter_context(FolderAside(out, RUN, overwrite, asked={"config": as_json(config)}))
        checkpoint.claim(resume, overwrite)
        stack.enter_context(distributed.process_group())
        threads = torch.get_num_threads()
        torch.set_num_threads(config.num_threads or threads)
        stack.callback(torch.set_num_threads, threads)
        try:
            _train_into(aside, out, config, data, judge, checkpoint, resume)
            if aside:
                aside.place()
        except BaseException as error:
            if told := checkpoint.told(error):
                print_message(told)
            raise
        checkpoint.remove()
    return Run.open(out)


def finished(config: Config, out: Path) -> Run | None:
    """Return the finished run at ``out``, if one is there; raises `EdgemtlError` when another configuration made it."""
    if not all((out / name).is_file() for name in (CONFIG, WEIGHTS, METRICS)):
        return None
    check_same(as_json(config_file.load(out / CONFIG)), config, "the finished run has")
    run = Run.open(out)
    print_message(f"{out} is finished: nothing to do")
    return run


def _train_into(
    aside: FolderAside | None,
    out: Path,
    config: Config,
    data: dict[str, Samples] | None,
    judge: bool,
    checkpoint: Checkpoint,
    resume: bool,
) -> None:
    started = time.monotonic()
    data = data or open_data(config)
    loop, batches = begin(config, data)
    if resume:
        started -= checkpoint.load_into(loop)
    workers = config.data.num_workers
    if workers < 0:  # a processor that computes the steps has nothing to spare for others
        each = (os.cpu_count() or 1) // distributed.world_size()
        workers = max(0, min(8, each - 1)) if torch.cuda.is_available() else 0
    if loop.step < loop.steps and (workers or config.data.source != "streets"):
        batches.fill()  # streets are drawn while the first steps compute
    first = loop.step
    loader = Loader(batches, first, workers)
    board = Board(config.tensorboard if distributed.is_main() else "", out.name, first)
    seconds = _fit(loop, loader, checkpoint, board, started, data["val"] if judge else None)
    if aside is None:
        return
    metrics: dict[str, Any] = {
        "steps": loop.steps,
        "seconds": round(time.monotonic() - started, 1),
        "seconds_epoch": round(seconds / max(loop.steps - first, 1) * len(data["train"]) / config.batch_size, 1),
        "data_wait": round(loader.waited_s / max(seconds, 1e-9), 4),
        "peak_mb": peak_mb(),
    }
    write_run(aside.folder, out, config, loop, metrics, data["val"] if judge else None)
    with guarded("TensorBoard could not be told", out):
        board.close(loop.steps, metrics.get("val", {}))


def begin(config: Config, data: dict[str, Samples]) -> tuple[Loop, Batches]:
    """Return a training before its first step, and the batches it will learn from."""
    torch.manual_seed(config.seed)
    tasks = choose_tasks(config, data["train"])
    network = _build(config, tasks)
    if config.init_from:
        take_over(network, config.init_from)
    freeze(network, config.freeze)
    distributed.broadcast(network.state_dict().values())
    interface = interface_of(network, config, tuple(task.head() for task in tasks.values()))
    inputs = {spec.name: spec for spec in interface.inputs}
    for samples in data.values():
        check_inputs(inputs, samples)
    labels = {name: task.label for name, task in tasks.items()}
    round_ = len(data["train"]) / config.batch_size
    steps = config.steps or max(1, round(config.epochs * round_))
    loop = Loop(network, tasks, config, interface, steps, max(1, round(round_)))
    return loop, Batches(data["train"], config, inputs, labels, steps)


def _fit(
    loop: Loop, batches: Loader, checkpoint: Checkpoint, board: Board, started: float, val: Samples | None
) -> float:
    """Learn from every batch, judging now and then; return how many seconds the learning took."""
    begun, judging = time.monotonic(), 0.0
    with Stop() as stop, checkpoint.kept(loop, stop, started), progress_bar("training", loop.steps) as bar:
        judging += _judge_if_due(loop, val)  # a training may have been stopped while it was judged
        for batch in batches:
            with stop.whole(), checkpoint.uncertain():
                row = loop.learn(batch)
            stop.answer()
            judging += _judge_if_due(loop, val)
            if distributed.is_main():
                with stop.whole():
                    checkpoint.save_if_due(loop, time.monotonic() - started)
            board.add(loop.log.last())
            bar(loop.step, row)
        if distributed.is_main():
            checkpoint.save(loop, time.monotonic() - started)  # nothing behind the last step can lose it
    sparsity = loop.sparsity
    if sparsity and sparsity.target and not sparsity.frozen:
        keep = loop.config.sparsity.min_keep_ratio
        print_message(
            f"only {sparsity.share:.0%} of the {loop.config.sparsity.metric} could go: "
            f"sparsity.min_keep_ratio={keep} holds the rest"
        )
    return time.monotonic() - begun - judging


def _judge_if_due(loop: Loop, val: Samples | None) -> float:
    """Judge the network behind a step, where that is due and was not done; return the seconds that it took."""
    row = loop.log.rows[-1] if loop.log.rows else {}
    done = any(name.startswith(JUDGED) for name in row)
    if val is None or not distributed.is_main() or not row or not loop.judges or done:
        return 0.0
    paused = time.monotonic()
    with guarded(f"step {loop.step} could not be judged"):
        average = copy.deepcopy(loop.average.network).cpu()
        figures = primaries(evaluate(predictor_of(average, loop.interface), val), loop)
        row |= {f"{JUDGED}{name}": value for name, value in figures.items()}
    return time.monotonic() - paused


def _build(config: Config, tasks: dict[str, Task]) -> nn.Module:
    try:
        channels = {name: task.channels for name, task in tasks.items()}
        fusion = msgspec.to_builtins(config.fusion) if config.fusion.kind else None
        return edgemtl_models.build(
            config.network,
            channels,
            config.input_size,
            modalities=config.modalities,
            head_taps=config.head_taps,
            fusion=fusion,
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
            print_message(f"the data have no {name} labels: that head takes no part")
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
