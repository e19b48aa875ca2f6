"""Runs side by side: a table of their metrics and costs, and a figure of the tasks' metrics and relative changes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import msgspec

from . import config_file
from .config import Config, Data
from .delta_m import delta_m, references
from .errors import EdgemtlError
from .metric_report import from_json
from .plots import BarPanel, bar_panels
from .run_files import CONFIG, read_metrics
from .tables import Table
from .tasks import TASKS

COSTS = {
    "parameters": ("parameters", 0),
    "parameters_nonzero": ("parameters, not zero", 0),
    "parameters_after_removal": ("parameters after removal", 0),
    "mflop": ("MFLOP", 1),
    "mflop_after_removal": ("MFLOP after removal", 1),
    "latency_ms": ("ms after removal, 1 thread", 2),
    "seconds_epoch": ("training, s an epoch", 1),
}
"""Costs by name: the label of their row, and its decimals. Those of single-task networks add up."""
CHANGE = "Δ "
"""Prefix of a task's relative change in percent."""
MEAN_CHANGE = f"{CHANGE}delta_m"
Costs = Mapping[Path, Mapping[str, float]]
"""Costs of runs by folder, as `run_cost.run_costs` returns them."""


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
    folder: Path
    config: Config
    seeds: tuple[int, ...]
    values: dict[str, list[float]]

    def cell(self, name: str, digits: int) -> str:
        """Return a metric as its mean and, where seeds differ, their standard deviation."""
        values = self.values.get(name, [])
        if not values:
            return "-"
        if len(set(values)) == 1:
            return f"{values[0]:,.{digits}f}"
        return f"{fmean(values):,.{digits}f} ± {stdev(values):.{digits}f}"


def columns(folders: Sequence[Path], costs: Costs | None = None, baseline: Sequence[Path] = ()) -> list[Column]:
    """Read runs, those of one configuration under several seeds into one column.

    Changes are against the ``baseline``'s runs, of the same seed where it has that, else against the single-task runs
    of the same protocol next to a run.
    """
    against = [_read(folder) for folder in baseline]
    groups: dict[str, list[TrainedRun]] = {}
    for folder in folders:
        run = _read(folder)
        groups.setdefault(_group_key(run), []).append(run)
    named = [_column(group, costs or {}, against) for group in groups.values()]
    names = unique_names([column.folder for column in named])
    return [
        replace(c, name=name if len(c.seeds) == 1 else f"{name} ({len(c.seeds)} seeds)")
        for c, name in zip(named, names, strict=True)
    ]


def _read(folder: Path) -> TrainedRun:
    run = TrainedRun(folder, config_file.load(folder / CONFIG), read_metrics(folder))
    if not from_json(run.metrics):
        raise EdgemtlError(f"{folder}: was never evaluated; run `edgemtl eval {folder}`")
    return run


def unique_names(folders: Sequence[Path]) -> list[str]:
    """Return the last part of each folder's path, or as many as make it unique."""
    paths = [folder.absolute().parts for folder in folders]
    names = []
    for parts in paths:
        count = next(
            n for n in range(1, len(parts) + 1) if n == len(parts) or sum(p[-n:] == parts[-n:] for p in paths) == 1
        )
        names.append("/".join(parts[-count:]))
    return names


def _group_key(run: TrainedRun) -> str:
    """Return what runs of one column have in common."""
    config = msgspec.structs.replace(run.config, seed=0, num_threads=0, checkpoint_interval_s=0, tensorboard="")
    parent = ""
    if config.method == "single":  # the single-task networks, in OUT/TASK, are one column
        config = msgspec.structs.replace(config, tasks=(), data=Data())
        parent = str(run.folder.absolute().parent.parent)
    return json.dumps([msgspec.to_builtins(config), parent])


def _column(group: list[TrainedRun], costs: Costs, against: list[TrainedRun]) -> Column:
    values: dict[str, list[float]] = {}
    for run in group:
        for name, value in _values(run, costs, against).items():
            values.setdefault(name, []).append(value)
    config = group[0].config
    seeds = tuple(dict.fromkeys(run.config.seed for run in group))
    if config.method == "single":
        for name in COSTS:
            by_seed = [[_costs(r, costs).get(name) for r in group if r.config.seed == seed] for seed in seeds]
            values[name] = [sum(v for v in of_seed if v is not None) for of_seed in by_seed if None not in of_seed]
    return Column("", _named_folder(group[0]), config, seeds, values)


def _named_folder(run: TrainedRun) -> Path:
    """Return the folder that has a run's name: of a training of several networks the one that they are in."""
    folder = run.folder.absolute()
    is_part = run.config.method == "single" or (folder.name == "network" and (folder.parent / "profile.json").is_file())
    return folder.parent if is_part else folder


def _values(run: TrainedRun, costs: Costs, against: list[TrainedRun]) -> dict[str, float]:
    """Return a run's metrics on the whole split, its tasks' relative changes and its costs."""
    values = from_json(run.metrics)["all"].flat()
    changes: dict[str, float] = {}
    if against:
        figures = _baseline(run, against)
        changes = delta_m(values, figures, [task for task in run.config.tasks if task in figures])
    elif run.config.method != "single":
        single = references(run.config, run.folder.parent) or references(run.config, run.folder.parent.parent)
        changes = delta_m(values, single, list(run.config.tasks))
    return values | {f"{CHANGE}{name}": value for name, value in changes.items()} | _costs(run, costs)


def _costs(run: TrainedRun, costs: Costs) -> dict[str, float]:
    """Return a run's costs by name, in the order of `COSTS`."""
    known = {**run.metrics, **costs.get(run.folder, {})}
    return {name: known[name] for name in COSTS if name in known}


def _baseline(run: TrainedRun, against: list[TrainedRun]) -> dict[str, list[dict[str, float]]]:
    """Return the metrics of the baseline's runs by task: those of the run's own seed, where there are some."""
    by_task: dict[str, list[dict[str, float]]] = {}
    for task in run.config.tasks:
        runs = [other for other in against if task in other.config.tasks]
        paired = [other for other in runs if other.config.seed == run.config.seed]
        if runs:
            by_task[task] = [from_json(other.metrics)["all"].flat() for other in paired or runs]
    return by_task


def rows(compared: Sequence[Column]) -> Table:
    """Return a row for every metric; an arrow at each primary metric points to the better direction."""
    names = list(dict.fromkeys(name for column in compared for name in column.values))
    better = {task.primary: "↑" if task.higher_is_better else "↓" for task in TASKS.values()}
    order = [n for n in names if n in better]
    order += sorted((n for n in names if n.startswith(CHANGE)), key=lambda name: name == MEAN_CHANGE)
    order += [n for n in names if n not in order and n not in COSTS]
    order += [n for n in COSTS if any(column.values.get(n) for column in compared)]
    table = [["", *(column.name for column in compared)]]
    for name in order:
        label, digits = COSTS.get(name, (name, 2 if name.startswith(CHANGE) else 3))
        label = "Δm %" if name == MEAN_CHANGE else f"{label} %" if name.startswith(CHANGE) else label
        if name in better:
            label += f" {better[name]}"
        table.append([label, *(column.cell(name, digits) for column in compared)])
    return table


def has_changes(compared: Sequence[Column]) -> bool:
    """Whether some run has a Δm."""
    return any(MEAN_CHANGE in column.values for column in compared)


def draw(compared: Sequence[Column], against: str = "single-task networks", file_format: str = "png") -> bytes:
    """Draw each task's primary metric, and where there is a Δm each task's change ``against`` the references."""
    runs = [column.name for column in compared]
    metrics: dict[str, list[list[float]]] = {}
    for task in dict.fromkeys(task for column in compared for task in column.config.tasks):
        name, arrow = TASKS[task].primary, "↑" if TASKS[task].higher_is_better else "↓"
        if any(column.values.get(name) for column in compared):
            metrics[f"{task}: {name} {arrow}"] = [column.values.get(name, []) for column in compared]
    changed = [column for column in compared if MEAN_CHANGE in column.values]
    names = dict.fromkeys(n for c in changed for n in c.values if n.startswith(CHANGE) and n != MEAN_CHANGE)
    changes = {name.removeprefix(CHANGE): [c.values.get(name, []) for c in changed] for name in names}
    panels = [BarPanel(name, runs, {name: values}) for name, values in metrics.items()]
    if changes:
        changes["Δm"] = [column.values[MEAN_CHANGE] for column in changed]
        title = f"change against {against}, %  (+ is better)"
        panels.append(BarPanel(title, [column.name for column in changed], changes))
    return bar_panels(panels, file_format)
