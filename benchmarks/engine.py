"""The engine of small and fast networks, a case at a time; rows go to results/engine.json as they come.

    python benchmarks/engine.py --case overhead --network resnet18 --seed 0

overhead: what a `Sparsifier` adds to a training step, as a share of the step: forward, backward and the optimiser on
random images, in turns with the bookkeeping; the construction is timed apart.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import networks
import torch
from common import save_row
from torch import Tensor, nn

from edgemtl.console import print_table
from edgemtl.machine import cpu_name
from edgemtl_export.sparsity import Sparsifier
from edgemtl_models import build

RESULTS = Path(__file__).parent / "results" / "engine.json"
WARM_UP, STEPS = 2, 20
TRAINING = 1000
"""Steps of the training that the timed ones are the first of."""


class Case(NamedTuple):
    """A network, its example inputs, and how many images a step takes."""

    network: nn.Module
    args: tuple[Tensor, ...]
    kwargs: dict[str, Tensor]
    batch: int


def four_tasks(size: tuple[int, int]) -> nn.Module:
    """Return the network of depth, normals, edges and segmentation of the RedKitchen benchmarks."""
    heads = {"depth": 1, "normals": 3, "edges": 1, "semantic": 4}
    return build("rgbir-mobilenetv2", heads, size, pretrained=False, modalities=("rgb",))


NETWORKS: dict[str, Callable[[int], Case]] = {
    "resnet18": lambda seed: Case(networks.build("resnet18", seed)[0], (torch.rand(1, 3, 224, 224),), {}, 8),
    "yolo11n": lambda seed: Case(networks.build("yolo11n", seed)[0], (torch.rand(1, 3, 320, 320),), {}, 4),
    "four_tasks": lambda seed: Case(four_tasks((256, 320)), (), {"rgb": torch.rand(1, 3, 256, 320)}, 8),
}


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


CASES: dict[str, Callable[[str, int], dict[str, Any]]] = {"overhead": overhead}


def main() -> None:
    """Measure the rows that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=list(CASES), action="append", help="repeatable (default: all)")
    parser.add_argument("--network", choices=list(NETWORKS), action="append", help="repeatable (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for case in args.case or CASES:
        for network in args.network or NETWORKS:
            row = {"case": case, "network": network, "seed": args.seed, **CASES[case](network, args.seed)}
            save_row(RESULTS, "runs", row, "case", "network", "seed")
            print_table([list(row), [str(value) for value in row.values()]], case)


if __name__ == "__main__":
    main()
