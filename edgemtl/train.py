"""Training of one network: from a configuration to a run on disk."""

from __future__ import annotations

import os
import resource
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch

from edgemtl_models import MultiTask
from edgemtl_runtime.atomic import AtomicFolder, check_folder

from . import config_file, distributed, networks, ranks
from .checkpoint import Checkpoint, as_json, check_same
from .config import Config
from .console import print_message, progress_bar
from .data.datasets import open_datasets
from .data.loader import Batches, Loader, check_inputs
from .data.sample import Dataset
from .errors import ConfigError
from .evaluate import evaluate, of_network
from .finish import evaluate_part, guarded, primary_metrics, write_run
from .losses import emulates_bf16
from .pretrained import freeze, load_pretrained
from .rng import isolated_rng
from .run import Run, interface_of
from .run_files import CONFIG, METRICS, RUN, WEIGHTS
from .stop import Stop
from .tasks import TASKS, Task
from .tensorboard import TensorBoard
from .trainer import Trainer
from .training_log import VAL

__all__ = ["train"]


@dataclass(frozen=True)
class _Job:
    """A training's arguments."""

    config: Config
    out: Path
    data: dict[str, Dataset] | None
    evaluate: bool
    resume: bool


def train(
    config: Config,
    out: str | Path,
    data: dict[str, Dataset] | None = None,
    evaluate: bool = True,
    resume: bool = False,
    overwrite: bool = False,
    keep: bool = True,
) -> Run:
    """Train a network by a configuration and write the run to the folder ``out``.

    ``data`` replaces the datasets that the configuration names. ``evaluate=False`` skips the evaluation at the end.
    ``resume`` continues a training that was stopped, to the weights that it would have ended with, and returns one that
    is finished. ``overwrite`` replaces a run of ours, finished or not. Without ``keep`` a training that is stopped
    leaves no checkpoint.
    """
    if config.method == "lomt":
        raise ConfigError("method=lomt is several trainings: call experiments.lomt.train_lomt, or `edgemtl train`")
    if config.batch_size < distributed.world_size():
        raise ConfigError(
            f"batch_size={config.batch_size} images cannot be shared out among {distributed.world_size()} processes"
        )
    if line := ranks.ignored_environment():
        print_message(line)
    job = _Job(config, Path(out), data, evaluate, resume)
    checkpoint = Checkpoint(job.out, config, keep)
    if resume and (run := finished(config, job.out)):
        checkpoint.clear()
        return run
    check_folder(job.out, RUN, overwrite)
    with ExitStack() as stack:
        output = None
        if distributed.is_main():
            output = stack.enter_context(AtomicFolder(job.out, RUN, overwrite, settings={"config": as_json(config)}))
        checkpoint.claim(resume, overwrite)
        stack.enter_context(distributed.process_group())
        threads = torch.get_num_threads()
        torch.set_num_threads(config.num_threads or threads)
        stack.callback(torch.set_num_threads, threads)
        try:
            _train_into(output, job, checkpoint)
            if output:
                output.commit()
        except BaseException as error:
            checkpoint.close_log()
            if summary := checkpoint.summary(error):
                print_message(summary)
            raise
        checkpoint.remove()
    return Run.open(job.out)


def finished(config: Config, out: Path) -> Run | None:
    """Return the finished run at ``out``, if there is one; raises `EdgemtlError` if its configuration is another."""
    if not all((out / name).is_file() for name in (CONFIG, WEIGHTS, METRICS)):
        return None
    check_same(as_json(config_file.load(out / CONFIG)), config, "the finished run has")
    run = Run.open(out)
    print_message(f"{out} is finished: nothing to do")
    return run


def _train_into(output: AtomicFolder | None, job: _Job, checkpoint: Checkpoint) -> None:
    started = time.monotonic()
    config = job.config
    data = job.data or open_datasets(config, check_labels=True)
    val = data["val"] if job.evaluate else None
    trainer, batches = begin(config, data)
    if job.resume:
        started -= checkpoint.load_into(trainer)
    checkpoint.open_log(trainer.log)
    workers = config.data.num_workers
    if workers < 0:  # a processor that computes the steps has nothing to spare for others
        cores = (os.cpu_count() or 1) // distributed.world_size()
        workers = max(0, min(8, cores - 1)) if torch.cuda.is_available() else 0
    if trainer.step < trainer.steps and (workers or config.data.source != "streets"):
        batches.fill()  # streets are drawn while the first steps compute
    first_step = trainer.step
    loader = Loader(batches, first_step, workers)
    board = TensorBoard(config.tensorboard if distributed.is_main() else "", job.out.name, first_step)
    seconds = _fit(trainer, loader, checkpoint, board, started, val)
    if output is None:
        evaluate_part(trainer, val)
        return
    metrics: dict[str, Any] = {
        "steps": trainer.steps,
        "seconds": round(time.monotonic() - started, 1),
        "seconds_epoch": round(
            seconds / max(trainer.steps - first_step, 1) * len(data["train"]) / config.batch_size, 1
        ),
        "data_wait": round(loader.waited_s / max(seconds, 1e-9), 4),
        "peak_mb": peak_mb(),
    }
    write_run(output.folder, job.out, config, trainer, metrics, val)
    with guarded("TensorBoard could not be written", job.out):
        board.close(trainer.steps, metrics.get("val", {}))


def begin(config: Config, data: dict[str, Dataset]) -> tuple[Trainer, Batches]:
    """Return a training before its first step, and its batches."""
    tasks = choose_tasks(config, data["train"])
    with isolated_rng(config.seed):
        network = _build(config, tasks)
    interface = interface_of(network, config, tuple(task.head() for task in tasks.values()))
    if config.init_from:
        load_pretrained(network, interface, config.init_from)
    freeze(network, config.freeze)
    distributed.broadcast(network.state_dict().values())
    inputs = {spec.name: spec for spec in interface.inputs}
    for samples in data.values():
        check_inputs(inputs, samples)
    target_types = {name: task.target_type for name, task in tasks.items()}
    steps_per_epoch = len(data["train"]) / config.batch_size
    steps = config.steps or max(1, round(config.epochs * steps_per_epoch))
    trainer = Trainer(network, tasks, config, interface, steps, max(1, round(steps_per_epoch)))
    if config.precision == "bf16" and emulates_bf16(trainer.device):
        print_message("warning: precision=bf16 is slow on this processor, which emulates it; auto would take fp32")
    return trainer, Batches(data["train"], config, inputs, target_types, steps)


def _fit(
    trainer: Trainer, batches: Loader, checkpoint: Checkpoint, board: TensorBoard, started: float, val: Dataset | None
) -> float:
    """Train on every batch, evaluating now and then; return the seconds without the evaluations."""
    begun, evaluating = time.monotonic(), 0.0
    with Stop() as stop, checkpoint.kept(trainer, stop, started), progress_bar("training", trainer.steps) as bar:
        evaluating += _evaluate_if_due(trainer, val)  # a training may have been stopped during its evaluation
        for batch in batches:
            with stop.deferred(), checkpoint.uncertain():
                row = trainer.train_step(batch)
            stop.check()
            evaluating += _evaluate_if_due(trainer, val)
            if distributed.is_main():
                with stop.deferred():
                    checkpoint.save_if_due(trainer, time.monotonic() - started)
            board.add(trainer.log.last())
            bar(trainer.step, row)
        if distributed.is_main():
            checkpoint.save(trainer, time.monotonic() - started)  # nothing after the last step can lose it
    for regularizer in trainer.regularizers.values():
        for warning in regularizer.warnings():
            print_message(warning)
    labelled = {name for row in trainer.log.plotted() for name in row}
    for name in [task for task in trainer.tasks if task not in labelled]:
        print_message(f"warning: no step had a known label of {name}: its head is not trained")
    return time.monotonic() - begun - evaluating


def _evaluate_if_due(trainer: Trainer, val: Dataset | None) -> float:
    """Evaluate the averaged network after a step, where that is due and was not done; return the seconds taken."""
    row = trainer.log.last()
    done = any(name.startswith(VAL) for name in row)
    if val is None or not row or not trainer.is_eval_due or done:
        return 0.0
    paused = time.monotonic()
    with guarded(f"step {trainer.step} could not be evaluated"):
        predictor = of_network(trainer.ema.network, trainer.interface)
        metrics = primary_metrics(evaluate(predictor, val, shared=True), trainer)
        trainer.log.annotate({f"{VAL}{name}": value for name, value in metrics.items()})
    return time.monotonic() - paused


def _build(config: Config, tasks: dict[str, Task]) -> MultiTask:
    try:
        channels = {name: task.channels for name, task in tasks.items()}
        fusion = msgspec.to_builtins(config.fusion) if config.fusion.kind else None
        return networks.build(
            config.network,
            channels,
            config.input_size,
            modalities=config.modalities,
            head_taps=config.head_taps,
            fusion=fusion,
            activation=config.activation,
        )
    except (ValueError, FileNotFoundError, KeyError, TypeError, AttributeError) as error:
        reason = f"{error} is missing or misplaced" if isinstance(error, KeyError) else error
        raise ConfigError(f"network {config.network}: {reason}") from error


def choose_tasks(config: Config, samples: Dataset) -> dict[str, Task]:
    """Return the tasks of the configuration that the data have labels of."""
    labelled = samples.classes
    tasks: dict[str, Task] = {}
    for name in config.tasks:
        task = TASKS.require(name, "tasks:")
        if name in labelled:
            tasks[name] = task(labelled[name])
        else:
            print_message(f"the data have no {name} labels: that head is not trained")
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
