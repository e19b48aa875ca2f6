"""Runs side by side: a table of their figures and a picture of what each task gained or lost."""

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
from .reports.html import drawing
from .run import CONFIG, read_metrics
from .tasks import TASKS

COSTS = ("parameters", "seconds_epoch")


@dataclass(frozen=True)
class Column:
    """Runs that differ by their seeds alone: every figure once a seed."""

    name: str
    config: Config
    seeds: tuple[int, ...]
    figures: dict[str, list[float]]

    def told(self, name: str, digits: int) -> str:
        """Return a figure as its mean and, of several seeds, its standard deviation."""
        values = self.figures.get(name, [])
        if not values:
            return "-"
        if len(values) == 1:
            return f"{values[0]:,.{digits}f}"
        return f"{fmean(values):,.{digits}f} ± {stdev(values):.{digits}f}"


def columns(runs: Sequence[Path]) -> list[Column]:
    """Read runs, those of one configuration under several seeds together; a folder of runs stands for all of them."""
    found: dict[str, list[tuple[Path, Config, dict[str, Any]]]] = {}
    for folder in [inner for run in runs for inner in _expand(run)]:
        config = config_file.load(folder / CONFIG)
        metrics = read_metrics(folder)
        if "val" not in metrics:
            raise EdgemtlError(f"{folder}: was never judged; run `edgemtl eval {folder}`")
        alike = msgspec.structs.replace(config, seed=0, num_threads=0, checkpoint_interval_s=0, tensorboard="")
        place = ""
        if config.method == "single":  # the tasks' own networks, in OUT/TASK, stand together in one column
            alike = msgspec.structs.replace(alike, tasks=(), data=Data())
            place = str(folder.absolute().parent.parent)
        key = json.dumps([msgspec.to_builtins(alike), place])
        found.setdefault(key, []).append((folder, config, metrics))
    return [_column(group) for group in found.values()]


def _expand(run: Path) -> list[Path]:
    if (run / CONFIG).is_file():
        return [run]
    inner = sorted(file.parent for file in run.glob(f"*/{CONFIG}"))
    if not inner:
        raise EdgemtlError(f"{run}: no run here, nor a folder of runs")
    return inner


def _column(group: list[tuple[Path, Config, dict[str, Any]]]) -> Column:
    figures: dict[str, list[float]] = {}
    for folder, config, metrics in group:
        single = references(config, folder.parent) or references(config, folder.parent.parent)
        gained = delta_m(metrics["val"]["all"], single, list(config.tasks)) if config.method != "single" else {}
        told = metrics["val"]["all"] | {f"Δ {name}": value for name, value in gained.items()}
        told |= {name: metrics[name] for name in COSTS if name in metrics}
        for name, value in told.items():
            figures.setdefault(name, []).append(value)
    folder, config, _ = group[0]
    seeds = tuple(dict.fromkeys(config.seed for _, config, _ in group))
    if config.method == "single":  # what the tasks' networks cost, they cost together
        folder = folder.parent
        for name in COSTS:
            figures[name] = [
                sum(metrics.get(name, 0) for _, config, metrics in group if config.seed == seed) for seed in seeds
            ]
    name = folder.name if len(seeds) == 1 else f"{folder.name} ({len(seeds)} seeds)"
    return Column(name, config, seeds, figures)


def rows(compared: Sequence[Column]) -> list[list[str]]:
    """Return the figures as rows of words, a header first; an arrow at each primary metric says what is better."""
    names = list(dict.fromkeys(name for column in compared for name in column.figures))
    better = {task.primary: "↑" if task.higher_is_better else "↓" for task in TASKS.values()}
    order = [n for n in names if n in better]
    order += [n for n in names if n.startswith("Δ ")]
    order += [n for n in names if n not in order and n not in COSTS] + [n for n in COSTS if n in names]
    digits = {"parameters": 0, "seconds_epoch": 1}
    out = [["", *(column.name for column in compared)]]
    for name in order:
        told = "Δm %" if name == "Δ delta_m" else f"{name} %" if name.startswith("Δ ") else name
        if name in better:
            told += f" {better[name]}"
        count = digits.get(name, 2 if name.startswith("Δ ") else 3)
        out.append([told, *(column.told(name, count) for column in compared)])
    return out


def draw(compared: Sequence[Column], ending: str = "png") -> bytes:
    """Return a drawing of each task's change against its single-task reference, as a file of a kind.

    A run is a group of bars; the mean is Δm. Raises `EdgemtlError` where no run has a reference.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [column for column in compared if "Δ delta_m" in column.figures]
    if not shown:
        raise EdgemtlError("no run here has single-task references (method=single) of its protocol beside it")
    bars = list(dict.fromkeys(n for c in shown for n in c.figures if n.startswith("Δ ") and n != "Δ delta_m"))
    bars.append("Δ delta_m")
    figure = Figure(figsize=(2.6 + 1.5 * len(shown), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    width = 0.8 / len(bars)
    for index, bar in enumerate(bars):
        places = [x + (index - (len(bars) - 1) / 2) * width for x in range(len(shown))]
        values = [fmean(column.figures.get(bar, [0.0])) for column in shown]
        spread = [stdev(c.figures[bar]) if len(c.figures.get(bar, [])) > 1 else 0.0 for c in shown]
        mean = bar == "Δ delta_m"
        axes.bar(
            places,
            values,
            width * 0.92,
            yerr=spread if any(spread) else None,
            label="Δm" if mean else bar.removeprefix("Δ "),
            color="0.25" if mean else f"C{index}",
            error_kw={"elinewidth": 0.8},
        )
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(shown)), [column.name for column in shown], fontsize=8)
    axes.set_ylabel("change against single, %  (+ is better)", fontsize=8)
    axes.tick_params(axis="y", labelsize=8)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.legend(fontsize=8, loc="outside right upper", frameon=False)
    return drawing(figure, 150, ending)
