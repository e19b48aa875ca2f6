"""One training for each value of a key, and what each costs and reaches: accuracy over latency."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from edgemtl_runtime.atomic import unfinished

from ..checkpoint import lasting, lasting_of
from ..compare import Column, columns
from ..config import Config
from ..errors import ConfigError, EdgemtlError
from ..plots import encoded, new_figure
from ..run_cost import LATENCY, run_costs
from ..run_files import is_run
from ..tables import Table
from ..tasks import TASKS
from ..train import train

SEVERAL = ("single", "lomt")
"""Methods that train several networks."""
PARAMETERS = "parameters_after_removal"
PANEL_IN = 3.6


@dataclass(frozen=True)
class Point:
    """The runs of one value, their metrics and costs a value a seed."""

    value: str
    runs: tuple[Path, ...]
    values: Mapping[str, Sequence[float]]

    def mean(self, name: str) -> float | None:
        """Return a metric's mean over the seeds, None where there is none."""
        values = self.values.get(name)
        return fmean(values) if values else None


def check_runs(configs: Mapping[Path, Config]) -> None:
    """Raise `EdgemtlError` where a training cannot be one of a sweep, or its folder holds that of another one."""
    for folder, config in configs.items():
        if config.method in SEVERAL:
            raise ConfigError(f"method={config.method} trains several networks; a sweep is of one network a value")
        if (trained := lasting_of(folder)) and trained != lasting(config):
            raise EdgemtlError(f"{folder}: a training of another configuration; give another --out, or delete it")


def train_all(configs: Mapping[Path, Config], report: Callable[[str], None]) -> None:
    """Train what is not trained yet; what was interrupted goes on."""
    for number, (folder, config) in enumerate(configs.items(), 1):
        if not is_run(folder):
            report(f"{number}/{len(configs)}  {folder.name}")
            train(config, folder, resume=unfinished(folder).exists())


def points(by_value: Mapping[str, Sequence[Path]], progress: Callable[[int], None]) -> list[Point]:
    """Return every value's metrics and costs, latencies in turns; raises `EdgemtlError` for a run without either."""
    folders = [folder for runs in by_value.values() for folder in runs]
    costs, failures = run_costs(folders, True, progress)
    for folder, reason in failures.items():
        raise EdgemtlError(f"{folder}: cannot be measured ({reason})")
    return [Point(value, tuple(runs), _values(runs, costs)) for value, runs in by_value.items()]


def _values(runs: Sequence[Path], costs: Mapping[Path, Mapping[str, float]]) -> Mapping[str, Sequence[float]]:
    values: dict[str, list[float]] = {}
    of_runs: list[Column] = [columns([run], costs)[0] for run in runs]
    for column in of_runs:
        for name, of_seed in column.values.items():
            values.setdefault(name, []).extend(of_seed)
    return values


def rows(swept: Sequence[Point], key: str, tasks: Sequence[str]) -> Table:
    """Return a row a value: the tasks' primary metrics, milliseconds and parameters after removal."""
    arrows = ["↑" if TASKS[task].higher_is_better else "↓" for task in tasks]
    names = [TASKS[task].primary for task in tasks]
    head = [key, *(f"{name} {arrow}" for name, arrow in zip(names, arrows, strict=True))]
    table = [[*head, "ms, 1 thread", "of the first", "parameters"]]
    first = swept[0].mean(LATENCY) or 0.0
    for point in swept:
        latency_ms = point.mean(LATENCY) or 0.0
        cells = [point.value, *(_cell(point.mean(name), 3) for name in names)]
        share = latency_ms / first if first else None
        table.append([*cells, _cell(latency_ms, 2), _cell(share, 2), _cell(point.mean(PARAMETERS), 0)])
    return table


def _cell(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def as_json(swept: Sequence[Point], key: str) -> dict[str, object]:
    """Return the sweep as plain values."""
    runs = [
        {"value": p.value, "runs": [run.name for run in p.runs], "metrics": {k: list(v) for k, v in p.values.items()}}
        for p in swept
    ]
    return {"key": key, "points": runs}


def draw(swept: Sequence[Point], key: str, tasks: Sequence[str]) -> bytes:
    """Draw a panel a task: its primary metric over milliseconds, a mark a value, with the range of the seeds."""
    figure = new_figure(PANEL_IN * len(tasks), 3.2)
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        name = TASKS[task].primary
        drawn = [p for p in swept if p.mean(name) is not None and p.mean(LATENCY) is not None]
        line = [(p.mean(LATENCY) or 0.0, p.mean(name) or 0.0) for p in drawn]
        axes.plot(*zip(*sorted(line), strict=True), linewidth=0.8, color="tab:blue")
        for point, (x, y) in zip(drawn, line, strict=True):
            values = point.values[name]
            axes.errorbar(x, y, [[y - min(values)], [max(values) - y]], fmt="o", markersize=4, color="tab:blue")
            axes.annotate(point.value, (x, y), xytext=(4, 4), textcoords="offset points", fontsize=7)
        axes.set_title(f"{task}, by {key}", fontsize=8)
        axes.set_xlabel("ms after removal, one thread", fontsize=8)
        axes.set_ylabel(f"{name} {'↑' if TASKS[task].higher_is_better else '↓'}", fontsize=8)
        axes.set_xlim(left=0)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
    return encoded(figure, 130)
