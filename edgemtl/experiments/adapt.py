"""Adaptation of trained networks to a new task: a new head, and how fast its metric rises from different starts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from .. import distributed
from ..checkpoint import lasting
from ..config import Config
from ..config_file import load
from ..console import print_message
from ..errors import ConfigError, EdgemtlError
from ..finish import guarded
from ..group import group, is_finished
from ..plots import metric_over_steps
from ..run import Run
from ..run_files import CONFIG
from ..tasks import TASKS
from ..train import train

ADAPTATION = "adaptation"
"""The name of such a folder in its listing (`edgemtl_runtime.atomic`)."""
SCRATCH = "scratch"
"""The start that is no run: the network at its initial weights."""
Curve = list[tuple[int, float]]
"""(steps taken, the new task's primary metric) of each evaluation."""


def adapted_config(start: str, task: str, words: Sequence[str], like: str, single_task: bool) -> Config:
    """Return the configuration of training ``task`` from a run ``start``, or from scratch as the run ``like``.

    The run's other tasks are trained too, unless ``single_task``; words override everything.
    """
    run = Run.open(like if start == SCRATCH else start)
    if task not in TASKS:
        raise ConfigError(f"--task {task}: not one of {', '.join(TASKS)}")
    if task in run.config.tasks:
        raise ConfigError(f"{run.path}: is trained on {task} already; its tasks are {', '.join(run.config.tasks)}")
    tasks = [task] if single_task else [*run.config.tasks, task]
    defaults = [f"tasks=[{','.join(tasks)}]", "num_evals=10", "method=joint"]
    defaults += ["sparsity={}", "loss_weights={}", "freeze=[]"]
    if start != SCRATCH:
        defaults.append(f"init_from={run.path}")
    return load(run.path / CONFIG, [*defaults, *words])


def adapt(
    starts: Sequence[str],
    task: str,
    words: Sequence[str],
    out: Path,
    single_task: bool,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Curve]:
    """Train ``task`` from every start, into ``out``/START; return the curve of its primary metric by start.

    Writes ``adapt.json`` and ``adapt.png``. There are ten evaluations unless words set another number. ``out`` is put
    in place when all is finished; ``resume`` continues what was stopped, ``overwrite`` replaces what exists.
    """
    like = next((start for start in starts if start != SCRATCH), "")
    if not like:
        raise ConfigError(f"--start {SCRATCH} alone: name a run too, whose network and data are taken")
    configs = {_name(start, starts): adapted_config(start, task, words, like, single_task) for start in starts}
    asked = {name: lasting(config) for name, config in configs.items()}
    if resume and is_finished(out, ADAPTATION, asked):
        saved: dict[str, Curve] = json.loads((out / "adapt.json").read_text())["starts"]
        return saved
    with group(out, ADAPTATION, asked, resume, overwrite) as folder:
        curves = {name: _curve(config, folder / name, task, name, resume) for name, config in configs.items()}
        if distributed.is_main():
            summary = {"task": task, "figure": TASKS[task].primary, "starts": curves}
            (folder / "adapt.json").write_text(json.dumps(summary) + "\n")
            with guarded("the curves could not be drawn", out):
                better = "↑" if TASKS[task].higher_is_better else "↓"
                label = f"{task}: {TASKS[task].primary} {better}"
                (folder / "adapt.png").write_bytes(metric_over_steps(curves, label))
    return curves


def _curve(config: Config, folder: Path, task: str, name: str, resume: bool) -> Curve:
    print_message(f"{task} from {name}")
    run = train(config, folder, resume=resume)
    if "evals" not in run.metrics:
        raise EdgemtlError(f"{name}: is trained, but could not be evaluated; see the warning, then --resume")
    return [(row["step"], row[task]) for row in run.metrics["evals"]]


def _name(start: str, starts: Sequence[str]) -> str:
    """Return the last part of a start's path, or as many as make it unique."""
    parts = Path(start).parts
    for count in range(1, len(parts) + 1):
        name = "-".join(parts[-count:])
        if sum("-".join(Path(other).parts[-count:]) == name for other in starts) == 1:
            return name
    raise ConfigError(f"{start}: given twice")


def reached(curve: Curve, value: float, higher_is_better: bool) -> int | None:
    """Return the first evaluated step from which on the metric is at least as good as ``value``, None for never."""
    first = None
    for step, metric in reversed(curve):
        if (metric < value) if higher_is_better else (metric > value):
            break
        first = int(step)
    return first
