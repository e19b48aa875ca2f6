"""docs/methods-measured.md and its plots, written from the results of `methods.py`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from shrinking_page import rows

from edgemtl.delta_m import Figures, delta_m
from edgemtl.tasks import TASKS

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "methods-measured.md"
COSTS = {
    "params_trunk": ("trunk's parameters, thousands", 1e3),
    "flops": ("MFLOP", 1e6),
    "latency_by_8_to_dense": ("latency of what is exported, relative to dense", 1.0),
}
"""Costs of the shrunk network by the key of a row: the label of an axis, and its unit."""
COLOURS = ("blue", "orange", "green", "red", "purple", "black", "brown", "deeppink", "olive", "cyan", "navy")
"""Of methods in a plot; grey is the grid's."""
ROUNDING = 0.005
"""Of a share of parameters, where two are called equal."""
DEEPEST_TAPS = "deepest taps"
RENAMED = {"no exits": DEEPEST_TAPS}
"""Methods in rows of version 0.1, and today's names."""
Row = dict[str, Any]


def renamed(row: Row) -> Row:
    """Return a row with its method's name of today."""
    return row | {"method": RENAMED.get(row["method"], row["method"])} if "method" in row else row


class Matrix:
    """The runs of one dataset and network, compared with the mean of its single-task runs over the seeds."""

    def __init__(self, runs: Iterable[Row], data: str, network: str) -> None:
        self.runs = [renamed(r) for r in runs if (r["dataset"], r["network"]) == (data, network)]
        self.single: dict[str, list[Figures]] = {}
        self.tasks: list[str] = []
        for run in self.of("single"):
            self.single.setdefault(run["tasks"][0], []).append(run["metrics"])
        self.tasks = list(self.single)

    def of(self, method: str, tasks: Iterable[str] = ()) -> list[Row]:
        """Return the runs of a method over the seeds; of "single" those of all tasks."""
        wanted = set(tasks or self.tasks)
        return [r for r in self.runs if r["method"] == method and (method == "single" or set(r["tasks"]) == wanted)]

    def gained(self, run: Row) -> float:
        """Return a run's Δm, percent."""
        return delta_m(run["metrics"], self.single, run["tasks"])["delta_m"]

    def gains(self, method: str, tasks: Iterable[str] = ()) -> list[float]:
        """Return the Δm of a method over the seeds."""
        return [self.gained(run) for run in self.of(method, tasks)]


def spread(values: list[float]) -> str:
    """Return a mean and, of several, their standard error."""
    error = f" ± {stdev(values) / len(values) ** 0.5:.2f}" if len(values) > 1 else ""
    return f"{fmean(values):+.2f}{error}"


def matrix_table(matrix: Matrix, methods: list[str]) -> list[str]:
    """Return a table, methods down."""
    head = ["", *(f"{TASKS[t].primary} {'↑' if TASKS[t].higher_is_better else '↓'}" for t in matrix.tasks)]
    head += ["Δm %", "trunk's parameters", "of dense", "FLOPs, of dense", "latency, of dense"]
    head += ["by eights: of dense", "latency, of dense", "seconds", "seeds"]
    body = []
    for method in ("single", *methods):
        group = matrix.of(method)
        if not group:
            continue
        seeds = len({r["seed"] for r in group})
        cells = [method]
        for task in matrix.tasks:
            cells.append(f"{fmean(r['metrics'][TASKS[task].primary] for r in group if task in r['tasks']):.3f}")
        alone = method == "single"
        cells += [
            "" if alone else spread([matrix.gained(r) for r in group]),
            f"{sum(r['params_trunk'] for r in group) / seeds:,.0f}",
            "" if alone else f"{fmean(r['params_trunk'] / r['params_trunk_dense'] for r in group):.2f}",
            "" if alone else f"{fmean(r['flops'] / r['flops_dense'] for r in group):.2f}",
            "" if alone else f"{fmean(r['latency_to_dense'] for r in group):.2f}",
            "" if alone else f"{fmean(r['params_trunk_by_8'] / r['params_trunk_dense'] for r in group):.2f}",
            "" if alone else f"{fmean(r['latency_by_8_to_dense'] for r in group):.2f}",
            f"{sum(r['train_seconds'] for r in group) / seeds:,.0f}",
            str(seeds),
        ]
        body.append(cells)
    return rows(head, body)


def on_grid(method: str) -> bool:
    """Whether a method is one of a grid of fixed strengths."""
    return method.startswith("sparse ") and not method.startswith("sparse to ")


def asked(matrix: Matrix, methods: list[str]) -> list[str]:
    """Return the requirements for meta_sparsity and for the networks of few parameters, and the results."""
    share = {
        m: fmean(r["params_trunk"] / r["params_trunk_dense"] for r in matrix.of(m)) for m in methods if matrix.of(m)
    }
    seconds = {m: fmean(r["train_seconds"] for r in matrix.of(m)) for m in share}
    body = []
    if "meta_sparsity" in share:
        cheap = [m for m in share if on_grid(m) and share[m] <= share["meta_sparsity"] + ROUNDING]
        front = max(cheap, key=lambda m: fmean(matrix.gains(m)))
        both = [matrix.gains(m) for m in ("meta_sparsity", front)]
        error = sum(stdev(g) ** 2 / len(g) for g in both if len(g) > 1) ** 0.5
        text = f"{spread(both[0])}; {front}: {spread(both[1])}, the difference ± {error:.2f}"
        body.append(["meta_sparsity is on the grid's front within a standard error", text])
        time = seconds["meta_sparsity"] / seconds["joint"]
        body.append(["and takes at most 2.5 of a plain training's time", f"{time:.2f}"])
    if few := [m for m in share if share[m] <= 0.3 + ROUNDING]:
        best = max(few, key=lambda m: fmean(matrix.gains(m)))
        latency = fmean(r["latency_by_8_to_dense"] for r in matrix.of(best))
        text = f"{best}: {spread(matrix.gains(best))}, latency {latency:.2f}; joint {spread(matrix.gains('joint'))}"
        body.append(["with 70 % of the trunk pruned, Δm no worse than joint's", text])
    return rows(["required", "measured"], body)


def pairs_table(matrix: Matrix) -> list[str]:
    """Return a table of LOMT against joint, sets of tasks down; empty where only the full set is known."""
    sets = sorted({tuple(r["tasks"]) for r in matrix.runs if r["method"] == "lomt"}, key=lambda s: (len(s), s))
    if len(sets) < 2:
        return []
    body = []
    for tasks in sets:
        size = {m: fmean(r["params"] for r in matrix.of(m, tasks)) for m in ("joint", "lomt")}
        body.append(
            [
                ", ".join(tasks),
                *(spread(matrix.gains(m, tasks)) for m in ("joint", DEEPEST_TAPS, "lomt")),
                f"{size['lomt'] / size['joint']:.2f}",
                f"{fmean(r['latency_by_8_to_dense'] for r in matrix.of('lomt', tasks)):.2f}",
                str(len(matrix.of("lomt", tasks))),
            ]
        )
    head = ["tasks", "joint Δm %", f"{DEEPEST_TAPS} Δm %", "lomt Δm %"]
    head += ["parameters, of joint", "latency, of joint", "seeds"]
    return rows(head, body)


def held_from(row: Row, slack: float) -> float | None:
    """Return the step from which on a figure stays within ``slack`` of its bar, between evaluations on a line.

    None where it never does.
    """
    higher = TASKS[row["task"]].higher_is_better
    bar = row["figure"] * (1 - slack if higher else 1 + slack)
    points = [(step, value - bar if higher else bar - value) for step, value in row["points"]]
    below = max((index for index, (_, ahead) in enumerate(points) if ahead < 0), default=-1)
    if below + 1 == len(points):
        return None
    step, ahead = points[below + 1]
    if below < 0:
        return float(step)
    before, deficit = points[below]
    return float(before + (step - before) * deficit / (deficit - ahead))


def unseen_table(unseen: list[Row], slack: float) -> list[str]:
    """Return a table of the steps to a task's single-task metric and their ratios: tasks down, starts across."""
    starts = list(dict.fromkeys(row["start"] for row in unseen))
    cases: dict[tuple[str, str, int], dict[str, float | None]] = {}
    for row in unseen:
        cases.setdefault((row["dataset"], row["task"], row["seed"]), {})[row["start"]] = held_from(row, slack)
    body = []
    for (data, task, seed), by_start in sorted(cases.items()):
        steps = [("never" if by_start[s] is None else f"{by_start[s]:.0f}") if s in by_start else "" for s in starts]
        body.append([data, task, str(seed), *steps])
    ratios = []
    for start in starts:
        both = [(by_start.get(start), by_start.get("joint")) for by_start in cases.values()]
        logs = [math.log(a / b) for a, b in both if a and b]
        error = (
            f" (x or / {math.exp(stdev(logs) / len(logs) ** 0.5):.2f})" if len(logs) > 1 and start != "joint" else ""
        )
        ratios.append(f"{math.exp(fmean(logs)):.2f}{error}" if logs else "")
    body.append(["of joint's, geometric mean (its standard error)", "", "", *ratios])
    return rows(["dataset", "unseen task", "seed", *starts], body)


def draw(matrix: Matrix, methods: list[str], file: Path) -> None:
    """Plot Δm over the costs of the shrunk network: the grid of strengths as a line, the others as points."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 3, sharey=True)
    others = [method for method in methods if not on_grid(method)]
    for panel, (key, (label, unit)) in zip(axes, COSTS.items(), strict=True):
        grid = []
        for method in methods:
            group = matrix.of(method)
            if not group:
                continue
            gained, x = matrix.gains(method), fmean(r[key] for r in group) / unit
            error = stdev(gained) / len(gained) ** 0.5 if len(gained) > 1 else 0.0
            fixed = on_grid(method)
            if fixed:
                grid.append((x, fmean(gained)))
            name = None if fixed else method
            colour = "0.6" if fixed else COLOURS[others.index(method) % len(COLOURS)]
            panel.errorbar(x, fmean(gained), error, fmt="o", color=colour, label=name, capsize=2)
        if grid:
            panel.plot(*zip(*sorted(grid), strict=True), color="0.6", zorder=0, label="sparse, a grid of strengths")
        panel.set_xlabel(label)
        panel.grid(alpha=0.3)
    axes[0].set_ylabel("Δm against single, %")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right upper", fontsize=8, frameon=False)
    figure.savefig(file, dpi=110)


def write_page(results: dict[str, Any], methods: list[str]) -> None:
    """Write the page and a plot for each dataset and network."""
    lines = [
        "# The methods, measured",
        "",
        "Written by `make bench-methods` from `benchmarks/results/methods.json`. The settings are those of",
        "[joint.md](joint.md) for every method; what each row changes stands in `benchmarks/methods.py`. Parameters,",
        "operations and latency (ONNX Runtime, one thread, in turns with the dense joint network) are those of the",
        "network after `edgemtl shrink`; *by eights*: as `edgemtl export` writes it, where every layer keeps a",
        "multiple of 8 channels, zero ones among them where need be. Δm is against the mean of the single-task",
        "networks over the seeds, ± its standard error over the seeds. Seconds are of training on one processor core;",
        "those of *single* are added up, and those of *lomt* are of its last network alone.",
        "",
    ]
    for data, network in dict.fromkeys((r["dataset"], r["network"]) for r in results["runs"]):
        matrix = Matrix(results["runs"], data, network)
        plot = f"methods-{data}-{network}.png"
        draw(matrix, methods, DOCS / plot)
        lines += [f"## {data}, {network}", "", *matrix_table(matrix, methods), f"![]({plot})", ""]
        lines += asked(matrix, methods)
        if table := pairs_table(matrix):
            lines += ["LOMT against joint, by the tasks trained together:", "", *table]
    if results["unseen"]:
        lines += ["## A task that comes later", "", "Steps after which a task's own figure is reached and held, from"]
        lines += ["a network that was trained on the other tasks, or from the start that they all have:", ""]
        lines += [*unseen_table(results["unseen"], 0.0), "And after which it stays within 5 % of that figure:", ""]
        lines += unseen_table(results["unseen"], 0.05)
    if results["step_cost"]:
        costs = results["step_cost"]
        body = [[c["dataset"], c["method"], f"{c['step_to_joint']:.2f}", str(c["peak_mb"])] for c in costs]
        lines += ["## What a step costs", "", "In turns on the same batches; memory is the process's peak.", ""]
        lines += rows(["dataset", "method", "step, of a joint one's", "peak, MB"], body)
    PAGE.write_text("\n".join(lines))
    print(f"wrote {PAGE}")
