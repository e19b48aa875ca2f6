"""Single-task against joint training on real dense data: three task weightings, and two datasets as one.

    make bench-joint                          # all of it; needs EDGEMTL_DATA and EDGEMTL_WEIGHTS
    python benchmarks/joint.py kitchen --seeds 0 1
    python benchmarks/joint.py kitchen --choose lr=5e-4 lr=1e-3 lr=2e-3   # on the last fifth of train, not reported

A finished training in out/bench/joint is used again, so that a stopped benchmark can go on. The metrics of training
on both datasets are compared with single-task networks on one dataset each, every image as many times.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

from common import choose, step_ratios, trained

from edgemtl.config import Config
from edgemtl.config_file import load
from edgemtl.console import print_message, print_table
from edgemtl.delta_m import Figures, delta_m
from edgemtl.experiments.single import single_task
from edgemtl.run import Run
from edgemtl.tasks import TASKS

HERE = Path(__file__).parent
OUT = Path("out/bench/joint")
RESULTS = HERE / "results" / "joint.json"
PAGE = HERE.parent / "docs" / "joint.md"
DATASETS: dict[str, dict[str, tuple[str, ...]]] = {
    "kitchen": {"kitchen": ("depth", "normals", "semantic", "edges")},
    "camvid": {"camvid": ("semantic", "edges", "attributes")},
    "both": {"kitchen": ("depth", "normals"), "camvid": ("semantic", "edges", "attributes")},
}
"""The tasks whose labels each dataset gives, by what is trained on."""
WEIGHTINGS = ("equal", "uncertainty", "upgrad")


def tasks_of(name: str) -> tuple[str, ...]:
    """Return the tasks that the datasets of ``name`` give labels of."""
    return tuple(task for tasks in DATASETS[name].values() for task in tasks)


def configured(name: str, *words: str) -> Config:
    """Return the configuration of a training on the datasets of ``name``, of all their tasks."""
    listed = json.dumps(
        [{"source": str(HERE / f"{part}.yaml"), "tasks": tasks} for part, tasks in DATASETS[name].items()]
    )
    return load(HERE / "joint.yaml", [f"data.source={listed}", f"tasks=[{','.join(tasks_of(name))}]", *words])


def row(name: str, method: str, seed: int, run: Run, single: dict[str, list[Figures]]) -> dict[str, Any]:
    """Return what the results file holds of a run."""
    metrics, tasks = run.reports["all"].flat(), list(run.config.tasks)
    return {
        "data": name,
        "method": method,
        "tasks": tasks,
        "seed": seed,
        "figures": metrics,
        "delta_m": delta_m(metrics, single, tasks) if single else {},
        **{key: run.metrics[key] for key in ("parameters", "seconds_epoch", "data_wait", "steps")},
    }


def identity(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return the key of a row: dataset, method, tasks and seed."""
    return row["data"], row["method"], tuple(row["tasks"]), row["seed"]


def measure(name: str, seed: int) -> list[dict[str, Any]]:
    """Train every task alone and all together; return a row a run."""
    rows, single = [], {}
    for data, tasks in DATASETS[name].items():
        for task in tasks:
            config = configured(data, f"seed={seed}", "method=single")
            run = trained(single_task(config, task), OUT / data / f"single-{seed}" / task)
            rows.append(row(data, "single", seed, run, {}))
            single[task] = [run.reports["all"].flat()]
    for weighting in WEIGHTINGS:
        config = configured(name, f"seed={seed}", f"task_weighting={weighting}")
        rows.append(row(name, weighting, seed, trained(config, OUT / name / f"{weighting}-{seed}"), single))
    return rows


def step_cost(name: str, weightings: tuple[str, ...] = ("upgrad", "famo", "pcgrad")) -> list[dict[str, Any]]:
    """Return the cost of a step with each task weighting over one of the summed loss."""
    configs = {weighting: configured(name, f"task_weighting={weighting}") for weighting in ("equal", *weightings)}
    ratios, tasks = step_ratios(configs, turns=10), len(tasks_of(name))
    allowed = (1 + 2 * tasks) / 3 * 1.1
    common = {"data": name, "tasks": tasks, "allowed": allowed}
    return [common | {"task_weighting": weighting, "step_to_equal": ratios[weighting]} for weighting in weightings]


def tables(rows: list[dict[str, Any]]) -> dict[str, list[list[str]]]:
    """Return a table for each dataset: methods down, primary metrics and Δm across, means over seeds."""
    out = {}
    for name in [n for n in DATASETS if any(r["data"] == n for r in rows)]:
        tasks = tasks_of(name)
        arrows = ["↑" if TASKS[task].higher_is_better else "↓" for task in tasks]
        names = [f"{TASKS[task].primary} {arrow}" for task, arrow in zip(tasks, arrows, strict=True)]
        table = [["", *names, "Δm %", "parameters", "s an epoch", "seeds"]]
        alone = [
            r for r in rows if r["method"] == "single" and set(r["tasks"]) <= set(DATASETS[name].get(r["data"], ()))
        ]
        for method in ("single", *WEIGHTINGS):
            group = alone if method == "single" else [r for r in rows if (r["data"], r["method"]) == (name, method)]
            if not group:
                continue
            cells = []
            for task in tasks:
                values = [r["figures"][TASKS[task].primary] for r in group if task in r["tasks"]]
                cells.append(f"{fmean(values):.3f}")
            seeds = len({r["seed"] for r in group})
            parameters = sum(r["parameters"] for r in group) / seeds
            gained = [r["delta_m"]["delta_m"] for r in group if r["delta_m"]]
            epoch = sum(r["seconds_epoch"] for r in group) / seeds
            change = f"{fmean(gained):+.2f}" if gained else "-"
            table.append([method, *cells, change, f"{parameters:,.0f}", f"{epoch:.1f}", str(seeds)])
        out[name] = table
    return out


WHAT = {
    "kitchen": "RedKitchen: 175 images to train on, evaluated on 60, a new view of the same room",
    "camvid": "CamVid: 367 images to train on, evaluated on the 233 of its test split, one of its drives unseen",
    "both": "Both as one training set with disjoint labels: depth and normals from RedKitchen, the rest from CamVid",
}


def page(results: dict[str, Any]) -> str:
    """Return the text of docs/joint.md."""
    config = load(HERE / "joint.yaml")
    lines = [
        "# Joint training, measured",
        "",
        "Written by `make bench-joint` from `benchmarks/results/joint.json`. MobileNetV2 from ImageNet weights,",
        f"{config.input_size[1]}x{config.input_size[0]} pixels, {config.epochs:g} epochs, batch {config.batch_size},",
        f"AdamW at {config.lr:g} (between what `--choose` favoured for either set on the last fifth of its training",
        "images). *single* is a network for each task, their parameters and seconds added up; the others are one",
        "for all, by their task weighting. Δm is the mean change of the tasks' metrics against *single* in",
        "percent, + is better.",
        "",
    ]
    for name, table in tables(results["runs"]).items():
        lines += [f"**{WHAT[name]}**", "", f"| {' | '.join(table[0])} |", f"| {' | '.join(['---'] * len(table[0]))} |"]
        lines += [*(f"| {' | '.join(row)} |" for row in table[1:]), ""]
    lines += [
        "| dataset | task weighting | tasks | a step, of the summed loss's | (1 + 2T)/3 + 10 % |",
        "| --- | --- | --- | --- | --- |",
    ]
    for line in results["step_cost"]:
        weighting = line["task_weighting"] if "task_weighting" in line else line["balance"]  # the key of version 0.1
        cells = [line["data"], weighting, str(line["tasks"])]
        cells += [f"{line['step_to_equal']:.2f}", f"{line['allowed']:.2f}" if weighting == "upgrad" else ""]
        lines.append(f"| {' | '.join(cells)} |")
    waits = max(r["data_wait"] for r in results["runs"])
    lines += [
        "",
        f"Time that a training waited for its data: at most {waits:.1%}. Seconds are of two processor cores that had",
        "other work at times.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure the datasets named on the command line, or all, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", help="kitchen, camvid, both (default: all)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--choose", nargs="+", metavar="key=value", help="evaluate these settings on a part of train")
    given = parser.parse_args()
    for variable in ("EDGEMTL_DATA", "EDGEMTL_WEIGHTS"):
        if variable not in os.environ:
            sys.exit(f"benchmarks/joint.py: {variable} is not set")
    names = given.data or list(DATASETS)
    if given.choose:
        for name in names:
            choose({word: configured(name, "data.val_fraction=0.2", word) for word in given.choose}, OUT / name)
        return
    saved = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"runs": [], "step_cost": []}
    runs = {identity(r): r for r in saved["runs"]}
    for seed in given.seeds:
        for name in names:
            print_message(f"{name}, seed {seed}")
            runs |= {identity(r): r for r in measure(name, seed)}
    cost = [line for line in saved["step_cost"] if line["data"] not in names]
    cost += [line for name in names for line in step_cost(name)]
    saved = {"runs": list(runs.values()), "step_cost": cost}
    RESULTS.write_text(json.dumps(saved, indent=1) + "\n")
    PAGE.write_text(page(saved))
    for name, table in tables(saved["runs"]).items():
        print_table(table, name)
    print(f"wrote {RESULTS} and {PAGE}")


if __name__ == "__main__":
    main()
