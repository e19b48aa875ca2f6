"""Learning how much to share, on real dense data: every method beside joint and single, shrunk and timed.

    make bench-methods                        # RedKitchen, MobileNetV2, two seeds; needs EDGEMTL_DATA, EDGEMTL_WEIGHTS
    python benchmarks/methods.py kitchen --network rgbir-resnet18 --seeds 0
    python benchmarks/methods.py kitchen --choose sparsity.reg_ratio=0 sparsity.reg_ratio=0.3   # on a held-out fifth
    python benchmarks/methods.py --cost       # what a step costs beside the joint one
    python benchmarks/methods.py --unseen     # steps to a task that was left out
    python benchmarks/methods.py --pairs      # LOMT against joint for every pair of tasks

What stands in the results file is not measured again, and a finished training in out/bench is used again (those of
`benchmarks/joint.py` too), so that a stopped benchmark goes on and several can run at once. Parameters, operations and
latency are those of the shrunk network.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable
from itertools import combinations, product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from common import choose, done, keep, results, shrunk, step_ratios
from joint import OUT as JOINT
from joint import OWN, configured, tasks_of
from methods_page import Matrix, write_page

from edgemtl.config import Config
from edgemtl.console import print_message
from edgemtl.data.datasets import open_datasets
from edgemtl.experiments.adapt import reached
from edgemtl.experiments.adapt_config import SCRATCH, adapted_config
from edgemtl.experiments.lomt import find_head_taps
from edgemtl.experiments.single import single_task
from edgemtl.run import Run
from edgemtl.tasks import TASKS
from edgemtl.train import begin, peak_mb
from edgemtl_export.latency import compare
from edgemtl_models.taps import DEEPEST

HERE = Path(__file__).parent
OUT = Path("out/bench/methods")
RESULTS = HERE / "results" / "methods.json"
USUAL = "rgbir-mobilenetv2"
NETWORKS = (USUAL, "rgbir-resnet18")
BALANCE = "uncertainty"
"""Of every row: with it the dense joint network is better on the part of train that `--choose` judges on."""
STRENGTHS = (3e-4, 6e-4, 1e-3, 2e-3, 4e-3)
TRUNK = "sparsity.scope=trunk"
SINGLY = "sparsity.channel_multiple=1"
METHODS: dict[str, tuple[str, ...]] = {
    "joint": (),
    **{
        f"sparse {s:g}": ("method=sparse", TRUNK, f"sparsity.strength={s:g}", "sparsity.min_keep_ratio=0.05")
        for s in STRENGTHS
    },
    "sparse to 70 %": ("method=sparse", TRUNK, "sparsity.target=0.7", SINGLY),
    "sparse to 70 %, by 8": ("method=sparse", TRUNK, "sparsity.target=0.7"),
    "lomt": (),
    "no exits": (),
    "mtml": ("method=mtml", "episodes.subsets=2"),
    "mtml, inner sgd": ("method=mtml", "episodes.subsets=2", "episodes.inner_optimizer=sgd"),
    "mtml, support 0": ("method=mtml", "episodes.subsets=2", "episodes.support_grad_weight=0"),
    "meta_sparsity": (
        "method=meta_sparsity",
        TRUNK,
        "sparsity.granularity=stage",
        "sparsity.target=0.7",
        "episodes.subsets=2",
    ),
}
"""What a row changes in `joint.yaml`; "no exits" is LOMT's network with every head at its end."""
STARTS = ("joint", "mtml", "mtml, inner sgd", "mtml, support 0")
"""What a task that comes later begins from, beside from scratch."""
LOMT = ("method=lomt", "sparsity.strength=2e-3", "lomt.threshold=0.1")
IDENTITY = ("dataset", "network", "method", "tasks", "seed")
"""What tells one run from the others."""
CASE = ("dataset", "task", "seed", "start")
"""The same of a task that comes later."""
STEPS = {
    "joint": (),
    "sparse": METHODS["sparse 0.001"],
    "sparse to 70 %, by 8": METHODS["sparse to 70 %, by 8"],
    "mtml, one subset": ("method=mtml",),
    "mtml, two": METHODS["mtml"],
    "meta_sparsity, one subset": (*METHODS["meta_sparsity"], "episodes.subsets=1"),
    "meta_sparsity, two": METHODS["meta_sparsity"],
}
"""What the cost of a step is measured of, from the first step on that makes something sparse."""


def folder_of(data: str, network: str) -> Path:
    """Return where the runs lie that `joint.py` has not made."""
    return OUT / data / network


def named(method: str) -> str:
    """Return a method's name as one of a folder."""
    return method.replace(" ", "-").replace("-%", "").replace(",", "")


def configuration(data: str, network: str, seed: int, *words: str) -> Config:
    """Return the configuration of a run."""
    return configured(data, f"network={network}", f"seed={seed}", f"task_weighting={BALANCE}", *words)


def single_runs(data: str, network: str, seed: int) -> dict[str, Run]:
    """Return a run a task, each learned alone."""
    config = configuration(data, network, seed, "method=single")
    folder = (JOINT / data if network == USUAL else folder_of(data, network)) / f"single-{seed}"
    return {task: done(single_task(config, task), folder / task) for task in tasks_of(data)}


def lomt_exits(data: str, network: str) -> dict[str, str]:
    """Return where each task leaves, found once on the first seeds and used with every seed."""
    for row in told("exits"):
        if (row["dataset"], row["network"]) == (data, network):
            return dict(row["exits"])
    folder = folder_of(data, network) / "lomt"
    find_head_taps(configuration(data, network, 0, *LOMT), folder, resume=True)
    found = json.loads((folder / "profile.json").read_text())
    taps: dict[str, str] = found["head_taps"]
    row = {"dataset": data, "network": network, "exits": taps, "profiles": found["profiles"]}
    keep(RESULTS, "exits", row, "dataset", "network")
    return taps


def leaving(exits: dict[str, str]) -> str:
    """Return exits as a word of a configuration."""
    return f"head_taps={json.dumps(exits)}"


def method_run(data: str, network: str, seed: int, method: str) -> Run:
    """Return the run of a method, trained if that was not done yet."""
    if method == "joint" and network == USUAL:
        return done(configuration(data, network, seed), JOINT / data / f"{BALANCE}-{seed}")
    folder = folder_of(data, network) / f"{named(method)}-{seed}"
    if method == "lomt":
        return done(configuration(data, network, seed, leaving(lomt_exits(data, network))), folder)
    if method == "no exits":
        deepest = dict.fromkeys(tasks_of(data), DEEPEST)
        return done(configuration(data, network, seed, leaving(deepest)), folder)
    return done(configuration(data, network, seed, *METHODS[method]), folder)


def measured(run: Run, dense: Run) -> dict[str, Any]:
    """Return the sizes of a run's shrunk network and its latency, in turns with the dense one's.

    Shrunk to the last channel, and by eights as `edgemtl export` does.
    """
    (file, sizes), (dense_file, dense_sizes) = shrunk(run), shrunk(dense)
    by_8, sizes_by_8 = shrunk(run, 8)
    seconds = compare([file, by_8, dense_file])
    return {
        **{key: sizes[key] for key in ("params_trunk", "params", "flops")},
        **{f"{key}_dense": dense_sizes[f"{key}_before"] for key in ("params_trunk", "flops")},
        "latency_ms": 1e3 * seconds[0],
        "latency_to_dense": seconds[0] / seconds[2],
        "params_trunk_by_8": sizes_by_8["params_trunk"],
        "latency_by_8_to_dense": seconds[1] / seconds[2],
    }


def row(data: str, network: str, method: str, seed: int, run: Run, dense: Run) -> dict[str, Any]:
    """Return what the results file holds of a run."""
    strength = run.config.sparsity.strength if method.startswith("sparse") and not run.config.sparsity.target else None
    told = {
        "dataset": data,
        "network": network,
        "method": method,
        "tasks": list(run.config.tasks),
        "strength": strength,
        "seed": seed,
        "metrics": run.metrics["val"]["all"],
        "train_seconds": run.metrics["seconds"],
        "peak_mb": run.metrics["peak_mb"],
        "steps": run.metrics["steps"],
    }
    return told | measured(run, dense)


def told(kind: str) -> list[dict[str, Any]]:
    """Return the rows of a kind that the results file holds."""
    return json.loads(RESULTS.read_text()).get(kind, []) if RESULTS.is_file() else []


def known(data: str, network: str, method: str, tasks: Iterable[str], seed: int) -> bool:
    """Return whether a run's row is there."""
    wanted = (data, network, method, list(tasks), seed)
    return any(wanted == tuple(r[key] for key in IDENTITY) for r in told("runs"))


def measure(data: str, network: str, seed: int, methods: list[str]) -> None:
    """Train what is missing of a seed, keeping every row as it comes."""
    if not all(known(data, network, "single", [task], seed) for task in tasks_of(data)):
        for run in single_runs(data, network, seed).values():
            add(data, network, "single", seed, run, method_run(data, network, seed, "joint"))
    for method in methods:
        if not known(data, network, method, tasks_of(data), seed):
            print_message(f"{data}, {network}, seed {seed}: {method}")
            run = method_run(data, network, seed, method)
            add(data, network, method, seed, run, method_run(data, network, seed, "joint"))


def add(data: str, network: str, method: str, seed: int, run: Run, dense: Run) -> None:
    """Keep the row of a run."""
    keep(RESULTS, "runs", row(data, network, method, seed, run, dense), *IDENTITY)


def pairs(data: str, network: str, seed: int) -> None:
    """Train every pair of tasks jointly, by LOMT, and with its heads at the end of the whole trunk."""
    exits = lomt_exits(data, network)
    for pair in combinations(tasks_of(data), 2):
        folder, alone = folder_of(data, network) / f"{'-'.join(pair)}-{seed}", f"tasks=[{','.join(pair)}]"
        words = {"joint": (), "no exits": (leaving(dict.fromkeys(pair, DEEPEST)),)}
        words["lomt"] = (leaving({task: exits[task] for task in pair}),)
        if not all(known(data, network, method, pair, seed) for method in words):
            runs: dict[tuple[str, ...], Run] = {}
            for method, exits_ in words.items():  # LOMT may find that all tasks leave at the end
                if exits_ not in runs:
                    runs[exits_] = done(configuration(data, network, seed, alone, *exits_), folder / named(method))
                add(data, network, method, seed, runs[exits_], runs[()])


def step_cost(data: str) -> list[dict[str, Any]]:
    """Return what a step of each method costs beside a joint one, and its memory."""
    ratios = step_ratios({name: stepping(data, words) for name, words in STEPS.items()}, turns=12)
    rows = []
    for name, ratio in ratios.items():
        with get_context("spawn").Pool(1) as alone:
            peak = alone.apply(peak_of_steps, (data, STEPS[name]))
        rows.append({"dataset": data, "method": name, "step_to_joint": ratio, "peak_mb": peak})
    return rows


def stepping(data: str, words: tuple[str, ...]) -> Config:
    """Return the configuration of a method that is made sparse from its first step on."""
    return configuration(data, USUAL, 0, *words, *(["sparsity.begin=0"] if TRUNK in words else []))


def peak_of_steps(data: str, words: tuple[str, ...]) -> int:
    """Return the largest memory that some steps have taken in a process of their own, MB."""
    config = stepping(data, words)
    trainer, batches = begin(config, open_datasets(config))
    for step in range(4):
        trainer.train_step(batches[step])
    return peak_mb()


def unseen(data: str, task: str, seed: int, start: str) -> dict[str, Any]:
    """Return the steps to the single-task figure of a task from a network that learned the others, or from scratch."""
    alone = single_runs(data, USUAL, seed)[task].metrics["val"]["all"][TASKS[task].primary]
    rest = f"tasks=[{','.join(t for t in tasks_of(data) if t != task)}]"
    folder = folder_of(data, USUAL)
    words = METHODS["joint" if start == SCRATCH else start]
    first = done(configuration(data, USUAL, seed, *words, rest), folder / f"without-{task}-{seed}" / named(start))
    given = SCRATCH if start == SCRATCH else str(first.path)
    config = adapted_config(given, task, [f"seed={seed}", "num_evals=25"], str(first.path), single_task=True)
    run = done(config, folder / f"unseen-{task}-{seed}" / named(start))
    points = [(row["step"], row[task]) for row in run.metrics["evals"]]
    steps = reached(points, alone, TASKS[task].higher_is_better)
    told = {"dataset": data, "task": task, "seed": seed, "start": start}
    return told | {"figure": alone, "steps": steps, "points": points}


def main() -> None:
    """Measure what the command line names and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", choices=[n for n in OWN if n != "both"], default="kitchen")
    parser.add_argument("--network", choices=NETWORKS, default=USUAL)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--choose", nargs="+", metavar="key=value", help="judge these settings on a part of train")
    parser.add_argument("--method", choices=list(METHODS), default="sparse to 70 %", help="what --choose trains")
    parser.add_argument("--cost", action="store_true", help="what a step costs")
    parser.add_argument("--unseen", action="store_true", help="steps to a task that was left out")
    parser.add_argument("--pairs", action="store_true", help="every pair of tasks, jointly and by LOMT")
    parser.add_argument("--page", action="store_true", help="only write the page anew")
    given = parser.parse_args()
    for variable in ("EDGEMTL_DATA", "EDGEMTL_WEIGHTS"):
        if variable not in os.environ and not given.page:
            sys.exit(f"benchmarks/methods.py: {variable} is not set")
    if given.choose:
        folder = folder_of(given.data, given.network) / named(given.method)
        usual = (given.data, given.network, 0, "data.val_fraction=0.2", *METHODS[given.method])
        choose({word: configuration(*usual, *word.split(";")) for word in given.choose}, folder)
        return
    for cost in step_cost(given.data) if given.cost else []:
        keep(RESULTS, "step_cost", cost, "dataset", "method")
    for seed in given.seeds if not (given.cost or given.page) else []:
        if given.unseen:
            for case in product([given.data], tasks_of(given.data), [seed], (*STARTS, SCRATCH)):
                if not any(case == tuple(row[key] for key in CASE) for row in told("unseen")):
                    print_message("{}, {} unseen, seed {}: from {}".format(*case))
                    keep(RESULTS, "unseen", unseen(*case), *CASE)
        elif given.pairs:
            pairs(given.data, given.network, seed)
        else:
            measure(given.data, given.network, seed, given.methods)
    with results(RESULTS) as all_rows:
        for run in all_rows["runs"]:
            run["delta_m"] = Matrix(all_rows["runs"], run["dataset"], run["network"]).gained(run)
    write_page({kind: told(kind) for kind in ("runs", "unseen", "step_cost")}, list(METHODS))


if __name__ == "__main__":
    main()
