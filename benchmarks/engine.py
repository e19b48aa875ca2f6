"""The engine of small and fast networks, a case at a time; rows go to results/engine.json as they come.

    python benchmarks/engine.py --case overhead --network resnet18 --seed 0

overhead: what a `Sparsifier` adds to a training step, as a share of the step: forward, backward and the optimiser on
random images, in turns with the bookkeeping; the construction is timed apart.

cost_model: the latency that the cost model predicts for patterns of pruned channels, against the median of each
measured in turns: the mean error, and the rank correlation. No pattern is one that the model was fitted on.

aim: a network is pruned to half of its latency in a short training; then the shrunk network is measured by itself.

probe: what a second process measures of a probe, as a robot does, against what this one has measured: the latencies
that follow for the same patterns.

importance: half of a network's latency is pruned by each importance, with and without refits, taught by the dense
network alone; metrics when the schedule ends and after the recovery (`engine_importance.py`).

The rows are docs/latency.md, which is written again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import engine_importance
import engine_page
import numpy as np
import torch
from common import save_row
from engine_networks import NETWORKS
from onnx import ModelProto
from torch import Tensor

from edgemtl.console import print_table
from edgemtl_export.cost_model.latency import CPU_STEP, Latency
from edgemtl_export.cost_model.measured import HERE, costs_from, latencies, measured_costs, write_probe
from edgemtl_export.cost_model.narrow import onnx_without_weights
from edgemtl_export.cost_model.probe import Probe
from edgemtl_export.sparsity import Sparsifier
from edgemtl_runtime.engine.cpu import cpu_name
from edgemtl_runtime.progress import print_progress

RESULTS = Path(__file__).parent / "results" / "engine.json"
WARM_UP, STEPS = 2, 20
TRAINING = 1000
"""Steps of the training that the timed ones are the first of."""
PATTERNS, ROUNDS = 30, 8
AIM_STEPS = 60


def overhead(name: str, seed: int) -> dict[str, Any]:
    """Return the share of a step that a sparsifier adds, and the milliseconds that it is made of."""
    torch.manual_seed(seed)
    case = NETWORKS[name](seed)
    network = case.network.train()
    begin = time.perf_counter()
    settings = {"target": 0.5, "begin": 0.0, "end": 1.0}  # never frozen here: the dearest part of the bookkeeping
    sparsifier = Sparsifier(network, case.args, case.kwargs, steps=TRAINING, **settings)
    construction_s = time.perf_counter() - begin
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4)
    args, kwargs = torch.utils._pytree.tree_map(
        lambda t: torch.rand(case.batch, *t.shape[1:]), (case.args, case.kwargs)
    )
    step_ms, added_ms = [], []
    for _ in range(WARM_UP + STEPS):
        start = time.perf_counter()
        optimizer.zero_grad()
        outputs = network(*args, **kwargs)
        sum(t.float().square().mean() for t in torch.utils._pytree.tree_leaves(outputs)).backward()
        after_backward = time.perf_counter()
        sparsifier.before_step()
        before = time.perf_counter()
        optimizer.step()
        after = time.perf_counter()
        sparsifier.after_step(optimizer)
        end = time.perf_counter()
        step_ms.append(1e3 * (after_backward - start + after - before))
        added_ms.append(1e3 * (before - after_backward + end - after))
    step = statistics.median(step_ms[WARM_UP:])
    added = statistics.fmean(added_ms[WARM_UP:])  # groups are chosen in every tenth step
    return {
        "sparsifier_to_step": round(added / step, 4),
        "step_ms": round(step, 1),
        "sparsifier_ms": round(added, 1),
        "construction_s": round(construction_s, 1),
        "weights": sum(p.numel() for p in network.parameters()),
        "batch": case.batch,
        "threads": torch.get_num_threads(),
        "machine": cpu_name(),
    }


def cost_model(name: str, seed: int) -> dict[str, Any]:
    """Return how far the predicted latencies are from the measured ones."""
    torch.manual_seed(seed)
    case = NETWORKS[name](seed)
    begin = time.perf_counter()
    probe = Probe(*case.deployment)
    latency = Latency(probe, measured_costs(probe, progress=print_progress).times_ms, CPU_STEP)
    seconds = time.perf_counter() - begin
    rng = np.random.default_rng(1000 + seed)
    patterns = [probe.patterns.random(rng) for _ in range(PATTERNS)]
    models = []
    for number, pruned in enumerate(patterns):
        models.append(probe.network_model(pruned))
        print_progress("writing narrow networks", number + 1, PATTERNS)
    measured = 1e3 * np.mean([_in_a_fresh_process(models) for _ in range(ROUNDS)], 0)
    predicted = np.array([latency(pruned) for pruned in patterns])
    error = np.abs(predicted / measured - 1)
    return {
        "mean_error": round(float(error.mean()), 4),
        "largest_error": round(float(error.max()), 4),
        "rank_correlation": round(_rank_correlation(predicted, measured), 4),
        "patterns": PATTERNS,
        "narrowest_to_dense": round(float(measured.min() / latency()), 3),
        "widest_to_dense": round(float(measured.max() / latency()), 3),
        "dense_ms": round(latency(), 2),
        "channels_at_a_time": latency.step,
        "blocks": len(probe.blocks),
        "models": len(probe.names),
        "seconds": round(seconds, 1),
        "machine": cpu_name(),
    }


def _in_a_fresh_process(models: list[ModelProto]) -> list[float]:
    """Return the median seconds of each model, in turns: a process keeps where its memory lies, which is a percent."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(latencies, (models, HERE, 0.6, statistics.median))


def _rank_correlation(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> float:
    """Return Spearman's correlation of the ranks."""
    ranks = [np.argsort(np.argsort(values)) for values in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1])


def aim(name: str, seed: int) -> dict[str, Any]:
    """Return the share of the dense latency that a network is left with that was to be left with half."""
    torch.manual_seed(seed)
    case = NETWORKS[name](seed)
    network = case.network.train()
    settings = {"target": 0.5, "metric": "latency", "begin": 0.0, "end": 0.6}
    sparsifier = Sparsifier(
        network, case.args, case.kwargs, steps=AIM_STEPS, tied=case.tied, deployment=case.deployment, **settings
    )
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4)
    begin = time.perf_counter()
    for _ in range(AIM_STEPS):
        args, kwargs = torch.utils._pytree.tree_map(lambda t: torch.rand(2, *t.shape[1:]), (case.args, case.kwargs))
        optimizer.zero_grad()
        outputs = torch.utils._pytree.tree_leaves(network(*args, **kwargs))
        sum(t.float().square().mean() for t in outputs if isinstance(t, Tensor)).backward()
        sparsifier.before_step()
        optimizer.step()
        sparsifier.after_step(optimizer)
    seconds = time.perf_counter() - begin
    dense = NETWORKS[name](seed).deployment
    models = [onnx_without_weights(d.network.eval(), *d[1:]) for d in (dense, case.deployment)]
    dense_s, small_s = latencies(models, seconds=4.0)
    return {
        "asked": 0.5,
        "measured": round(small_s / dense_s, 4),
        "difference": round(abs(small_s / dense_s - 0.5), 4),
        "predicted": round(1 - sparsifier.pruned_share, 4),
        "measured_on_the_way": [round(share, 3) for _, share in sparsifier.aim.measured],
        "frozen": sparsifier.frozen,
        "parameters_kept": round(_parameters_kept(sparsifier), 4),
        "channel_multiple": int(sparsifier.blocks.multiple.max()),
        "dense_ms": round(1e3 * dense_s, 2),
        "seconds": round(seconds, 1),
        "machine": cpu_name(),
    }


def probe(name: str, seed: int) -> dict[str, Any]:
    """Return how far latencies by a second process' measurement are from those by this one's."""
    torch.manual_seed(seed)
    measured_here = Probe(*NETWORKS[name](seed).deployment)
    rng = np.random.default_rng(1000 + seed)
    patterns = [measured_here.patterns.random(rng) for _ in range(PATTERNS)]
    of_this = Latency(measured_here, measured_costs(measured_here, progress=print_progress).times_ms, CPU_STEP)
    with tempfile.TemporaryDirectory() as folder:
        write_probe(measured_here, Path(folder) / "probe", progress=print_progress)
        file = Path(folder) / "costs.json"
        words = ["profile", f"{folder}/probe", "--out", str(file)]
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "edgemtl_runtime", *words], check=True)
        seconds = time.perf_counter() - begin
        megabytes = sum(f.stat().st_size for f in Path(folder).rglob("*.onnx")) / 1e6
        of_second = Latency(measured_here, costs_from(file, measured_here).times_ms, CPU_STEP)
    shares = [np.array([latency(p) / latency() for p in patterns]) for latency in (of_this, of_second)]
    return {
        "mean_difference": round(float(np.abs(shares[1] / shares[0] - 1).mean()), 4),
        "rank_correlation": round(_rank_correlation(*shares), 4),
        "dense_ms": [round(of_this(), 2), round(of_second(), 2)],
        "models": len(measured_here.names),
        "megabytes": round(megabytes, 1),
        "profile_s": round(seconds, 1),
        "machine": cpu_name(),
    }


def _parameters_kept(sparsifier: Sparsifier) -> float:
    groups = sparsifier.penalised.groups
    return groups.parameters(sparsifier.pruned_channels()) / groups.parameters()


CASES: dict[str, Callable[[str, int], dict[str, Any]]] = {
    "overhead": overhead,
    "cost_model": cost_model,
    "aim": aim,
    "probe": probe,
}
NETWORKS_OF = {
    "importance": tuple(engine_importance.SUBJECTS),
    "overhead": ("resnet18", "yolo11n", "four_tasks"),
    "cost_model": ("yolo11n", "resnet50", "four_tasks", "rgbir-n"),
    "probe": ("four_tasks",),
    "aim": ("resnet18", "resnet50", "mobilenet_v2", "yolo11n", "four_tasks", "rgbir-n"),
}
"""The networks of each case."""


def measure(case: str, network: str, seed: int, variant: str) -> None:
    """Measure one row."""
    row: dict[str, Any] = {"case": case, "network": network, "seed": seed}
    if case == "importance":
        row |= {"variant": variant, **engine_importance.importance(network, seed, variant)}
    else:
        row |= CASES[case](network, seed)
    save_row(RESULTS, "runs", row, "case", "network", "seed", "variant")
    print_table([list(row), [str(value) for value in row.values()]], case)


def main() -> None:
    """Measure the rows that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=[*CASES, "importance"], action="append", help="repeatable (default: all)")
    networks = [*NETWORKS, *engine_importance.SUBJECTS]
    parser.add_argument("--network", choices=networks, action="append", help="repeatable (default: all)")
    variants = list(engine_importance.VARIANTS)
    parser.add_argument("--variant", choices=variants, action="append", help="of importance; repeatable (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for case in args.case or [*CASES, "importance"]:
        for network in args.network or NETWORKS_OF[case]:
            for variant in (args.variant or variants) if case == "importance" else [""]:
                measure(case, network, args.seed, variant)
    engine_page.write_page(json.loads(RESULTS.read_text())["runs"])


if __name__ == "__main__":
    main()
