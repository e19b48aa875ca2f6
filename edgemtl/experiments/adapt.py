"""A task that a run has not seen: a new head on its network, and how many steps that takes from different starts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
"""What `edgemtl_runtime.atomic` calls such a folder."""
SCRATCH = "scratch"
"""The start that is no run: the network as it is built."""


def adapted(start: str, task: str, words: Sequence[str], like: str, alone: bool) -> Config:
    """Return the configuration of learning ``task`` from a run ``start``, or from scratch as the run ``like``.

    The run's other tasks go on, unless the new one learns ``alone``; words override everything.
    """
    first = Run.open(like if start == SCRATCH else start)
    if task not in TASKS:
        raise ConfigError(f"--task {task}: not one of {', '.join(TASKS)}")
    if task in first.config.tasks:
        raise ConfigError(f"{first.path}: has learned {task} already; it knows {', '.join(first.config.tasks)}")
    tasks = [task] if alone else [*first.config.tasks, task]
    ours = [f"tasks=[{','.join(tasks)}]", "num_evals=10", "method=joint", "sparsity={}", "loss_weights={}", "freeze=[]"]
    if start != SCRATCH:
        ours.append(f"init_from={first.path}")
    return load(first.path / CONFIG, [*ours, *words])


def adapt(
    starts: Sequence[str],
    task: str,
    words: Sequence[str],
    out: Path,
    alone: bool,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, list[Any]]:
    """Learn ``task`` from every start, into ``out``/START; return (step, figure) pairs of its primary metric.

    Writes ``adapt.json`` and ``adapt.png``. Judged ten times where words say nothing else. ``out`` is there when all is
    done; ``resume`` goes on with what was stopped, ``overwrite`` replaces what is there.
    """
    like = next((start for start in starts if start != SCRATCH), "")
    if not like:
        raise ConfigError(f"--start {SCRATCH} alone: name a run too, whose network and data are taken")
    configs = {_name(start, starts): adapted(start, task, words, like, alone) for start in starts}
    asked = {name: lasting(config) for name, config in configs.items()}
    if resume and is_finished(out, ADAPTATION, asked):
        told: dict[str, list[Any]] = json.loads((out / "adapt.json").read_text())["starts"]
        return told
    with group(out, ADAPTATION, asked, resume, overwrite) as folder:
        found = {name: _points(config, folder / name, task, name, resume) for name, config in configs.items()}
        told = {"task": task, "figure": TASKS[task].primary, "starts": found}
        if distributed.is_main():
            (folder / "adapt.json").write_text(json.dumps(told) + "\n")
            with guarded("the figures could not be drawn", out):
                better = "↑" if TASKS[task].higher_is_better else "↓"
                label = f"{task}: {TASKS[task].primary} {better}"
                (folder / "adapt.png").write_bytes(metric_over_steps(found, label))
    return found


def _points(config: Config, folder: Path, task: str, name: str, resume: bool) -> list[Any]:
    print_message(f"{task} from {name}")
    run = train(config, folder, resume=resume)
    if "judged" not in run.metrics:
        raise EdgemtlError(f"{name}: has learned, but could not be judged; mend what the warning tells, then --resume")
    return [(row["step"], row[task]) for row in run.metrics["judged"]]


def _name(start: str, starts: Sequence[str]) -> str:
    """Return a start's last name, or enough of its path to tell it from the others."""
    parts = Path(start).parts
    for count in range(1, len(parts) + 1):
        name = "-".join(parts[-count:])
        if sum("-".join(Path(other).parts[-count:]) == name for other in starts) == 1:
            return name
    raise ConfigError(f"{start}: given twice")


def reached(points: Sequence[Any], figure: float, higher_is_better: bool) -> int | None:
    """Return the first judged step from which on the figure is at least as good as this one; None when it never is."""
    last = None
    for step, value in reversed(points):
        if (value < figure) if higher_is_better else (value > figure):
            break
        last = int(step)
    return last
