"""Adaptation of trained networks to a new task: a new head, and how fast its metric rises from different starts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from .. import distributed
from ..checkpoint import lasting
from ..config import Config
from ..console import print_message
from ..errors import EdgemtlError
from ..finish import guarded
from ..group import group, is_finished
from ..plots import metric_over_steps
from ..run_files import ADAPTATION
from ..tasks import TASKS
from ..train import train

Curve = list[tuple[int, float]]
"""(steps taken, the new task's primary metric) of each evaluation."""


def adapt(
    configs: Mapping[str, Config], task: str, out: Path, resume: bool = False, overwrite: bool = False
) -> dict[str, Curve]:
    """Train ``task`` from every start, into ``out``/START; return the curve of its primary metric by start.

    ``configs`` are those of `adaptation_configs`. Writes ``adapt.json`` and ``adapt.png``. ``out`` is put in place when
    all is finished; ``resume`` continues what was stopped, ``overwrite`` replaces what exists.
    """
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
    if curve := [(row["step"], row[task]) for row in run.metrics["evals"] if task in row]:
        return curve
    primary = TASKS[task].primary
    raise EdgemtlError(f"{name}: is trained, but val gives no {primary}: it has nothing labelled for {task}")


def reached(curve: Curve, value: float, higher_is_better: bool) -> int | None:
    """Return the first evaluated step from which on the metric is at least as good as ``value``, None for never."""
    first = None
    for step, metric in reversed(curve):
        if (metric < value) if higher_is_better else (metric > value):
            break
        first = int(step)
    return first
