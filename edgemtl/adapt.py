"""A task that a run has not seen: a new head on its network, and how many steps that takes from different starts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .config import Config, load
from .console import say
from .errors import ConfigError
from .run import CONFIG, Run
from .tasks import TASKS
from .train import train

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
    ours = [f"tasks=[{','.join(tasks)}]", "judgements=10", "method=joint", "sparsity={}", "weights={}", "freeze=[]"]
    if start != SCRATCH:
        ours.append(f"init_from={first.path}")
    return load(first.path / CONFIG, [*ours, *words])


def adapt(starts: Sequence[str], task: str, words: Sequence[str], out: Path, alone: bool) -> dict[str, list[Any]]:
    """Learn ``task`` from every start, into ``out``/START; return (step, figure) pairs of its primary metric.

    Writes ``adapt.json`` and ``adapt.png``. Judged ten times where words say nothing else.
    """
    like = next((start for start in starts if start != SCRATCH), "")
    if not like:
        raise ConfigError(f"--start {SCRATCH} alone: name a run too, whose network and data are taken")
    configs = {_name(start, starts): adapted(start, task, words, like, alone) for start in starts}
    found: dict[str, list[Any]] = {}
    for name, config in configs.items():
        say(f"{task} from {name}")
        run = train(config, out / name)
        found[name] = [(row["step"], row[task]) for row in run.metrics["judged"]]
    (out / "adapt.json").write_text(json.dumps({"task": task, "figure": TASKS[task].primary, "starts": found}) + "\n")
    draw(found, task, out / "adapt.png")
    return found


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


def draw(found: dict[str, list[Any]], task: str, file: Path) -> None:
    """Draw the figure over the steps, a line a start."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, points in found.items():
        steps, values = zip(*points, strict=True)
        axes.plot(steps, values, marker=".", label=name)
    axes.set_xlabel("step")
    axes.set_ylabel(f"{task}: {TASKS[task].primary} {'↑' if TASKS[task].higher_is_better else '↓'}")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(file, dpi=110)
