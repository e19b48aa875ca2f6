"""Runs side by side: a table of their metrics, and a figure of each task's relative change."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import msgspec

from . import config_file
from .config import Config, Data
from .delta_m import delta_m, references
from .errors import EdgemtlError
from .metric_report import from_json
from .plots import task_changes
from .run_files import CONFIG, read_metrics
from .tables import Table
from .tasks import TASKS

COSTS = ("parameters", "seconds_epoch")
CHANGE = "Δ "
"""Prefix of a task's relative change in percent."""
MEAN_CHANGE = f"{CHANGE}delta_m"


@dataclass(frozen=True)
class TrainedRun:
    """A run as it is compared: its folder, configuration and metrics."""

    folder: Path
    config: Config
    metrics: dict[str, Any]


@dataclass(frozen=True)
class Column:
    """Runs that differ by their seeds alone: every metric once a seed."""

    name: str
    config: Config
    seeds: tuple[int, ...]
    values: dict[str, list[float]]

    def cell(self, name: str, digits: int) -> str:
        """Return a metric as its mean and, of several seeds, its standard deviation."""
        values = self.values.get(name, [])
        if not values:
            return "-"
        if len(values) == 1:
            return f"{values[0]:,.{digits}f}"
        return f"{fmean(values):,.{digits}f} ± {stdev(values):.{digits}f}"


def columns(folders: Sequence[Path]) -> list[Column]:
    """Read runs, those of one configuration under several seeds into one column."""
    groups: dict[str, list[TrainedRun]] = {}
    for folder in folders:
        run = TrainedRun(folder, config_file.load(folder / CONFIG), read_metrics(folder))
        if not from_json(run.metrics):
            raise EdgemtlError(f"{folder}: was never evaluated; run `edgemtl eval {folder}`")
        groups.setdefault(_group_key(run), []).append(run)
    return [_column(group) for group in groups.values()]


def _group_key(run: TrainedRun) -> str:
    """Return what runs of one column have in common."""
    config = msgspec.structs.replace(run.config, seed=0, num_threads=0, checkpoint_interval_s=0, tensorboard="")
    parent = ""
    if config.method == "single":  # the single-task networks, in OUT/TASK, are one column
        config = msgspec.structs.replace(config, tasks=(), data=Data())
        parent = str(run.folder.absolute().parent.parent)
    return json.dumps([msgspec.to_builtins(config), parent])


def _column(group: list[TrainedRun]) -> Column:
    values: dict[str, list[float]] = {}
    for run in group:
        for name, value in _values(run).items():
            values.setdefault(name, []).append(value)
    folder, config = group[0].folder, group[0].config
    seeds = tuple(dict.fromkeys(run.config.seed for run in group))
    if config.method == "single":  # the costs of the tasks' networks add up
        folder = folder.parent
        for name in COSTS:
            values[name] = [sum(r.metrics.get(name, 0) for r in group if r.config.seed == seed) for seed in seeds]
    name = folder.name if len(seeds) == 1 else f"{folder.name} ({len(seeds)} seeds)"
    return Column(name, config, seeds, values)


def _values(run: TrainedRun) -> dict[str, float]:
    """Return a run's metrics on the whole split, its tasks' relative changes and its costs."""
    values = from_json(run.metrics)["all"].flat()
    changes: dict[str, float] = {}
    if run.config.method != "single":
        single = references(run.config, run.folder.parent) or references(run.config, run.folder.parent.parent)
        changes = delta_m(values, single, list(run.config.tasks))
    costs = {name: run.metrics[name] for name in COSTS if name in run.metrics}
    return values | {f"{CHANGE}{name}": value for name, value in changes.items()} | costs


def rows(compared: Sequence[Column]) -> Table:
    """Return a row for every metric; an arrow at each primary metric points to the better direction."""
    names = list(dict.fromkeys(name for column in compared for name in column.values))
    better = {task.primary: "↑" if task.higher_is_better else "↓" for task in TASKS.values()}
    order = [n for n in names if n in better]
    order += [n for n in names if n.startswith(CHANGE)]
    order += [n for n in names if n not in order and n not in COSTS] + [n for n in COSTS if n in names]
    digits = {"parameters": 0, "seconds_epoch": 1}
    table = [["", *(column.name for column in compared)]]
    for name in order:
        label = "Δm %" if name == MEAN_CHANGE else f"{name} %" if name.startswith(CHANGE) else name
        if name in better:
            label += f" {better[name]}"
        count = digits.get(name, 2 if name.startswith(CHANGE) else 3)
        table.append([label, *(column.cell(name, count) for column in compared)])
    return table


def draw(compared: Sequence[Column], file_format: str = "png") -> bytes:
    """Draw each task's change against its single-task reference; the mean is Δm.

    Raises `EdgemtlError` where no run has a reference.
    """
    shown = [column for column in compared if MEAN_CHANGE in column.values]
    if not shown:
        raise EdgemtlError("no run here has single-task references (method=single) of its protocol next to it")
    names = list(dict.fromkeys(n for c in shown for n in c.values if n.startswith(CHANGE) and n != MEAN_CHANGE))
    bars = {name.removeprefix(CHANGE): [c.values.get(name, []) for c in shown] for name in names}
    bars["Δm"] = [column.values[MEAN_CHANGE] for column in shown]
    return task_changes([column.name for column in shown], bars, file_format)
