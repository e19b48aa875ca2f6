"""Pruning of networks that were trained elsewhere, a case at a time; rows go to results/prune.json as they come.

    python benchmarks/prune.py --case label_free --budget 0.5 --seed 0
    python benchmarks/prune.py --case label_free --network "yolox_nano, five classes" --budget 0.5 --seed 0
    python benchmarks/prune.py --case labelled --network yolov8n --tool edgemtl --budget 0.5 --seed 0

label_free: YOLOX-nano of COCO (`yolox.py`) teaches its smaller self on colour images without labels; AP50 of three
classes on rgbir's colour val images, by day and by night, next to the dense network's.

labelled: yolo11n and yolov8n, trained here by ultralytics on rgbir's colour images, are pruned in ultralytics' own
training (`prune_labelled.py`), next to a dense twin that is trained on as long, and Torch-Pruning.

``budget`` is the share of the dense milliseconds that stays; ``latency_to_dense`` what was measured, ONNX Runtime on
one thread, images in and decoded boxes out, both in turns. docs/pruning.md is written again from the rows.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import prune_page
import torch
import yolox
from common import save_row
from torch import Tensor, nn

from edgemtl.console import print_message, progress_stages
from edgemtl.external.coco import COCO_NAMES
from edgemtl.external.images import unlabelled
from edgemtl.external.network import Adapter
from edgemtl.external.opening import open_network
from edgemtl.external.options import OpenOptions
from edgemtl.external.source import NetworkSource
from edgemtl.prune.options import PruneOptions
from edgemtl.prune.pruning import prune
from edgemtl_runtime.engine.cpu import cpu_name

RESULTS = Path(__file__).parent / "results" / "prune.json"
IDENTITY = ("case", "network", "tool", "budget", "seed", "steps")
STEPS = 1000
CHOSEN = tuple(COCO_NAMES[index] for index in yolox.CLASS_OF)
FIVE = "yolox_nano, five classes"
"""The network of which only the classes are kept that the evaluation reads."""
NEVER = -30.0
"""The logit of what is never seen."""
BUDGETS = {0.75: (0,), 0.5: (0, 1, 2)}
"""Seeds by budget."""


class OfYolox(nn.Module):
    """An adapter of YOLOX as `yolox.ap50` evaluates it: images in BGR to boxes and logits of COCO's classes."""

    def __init__(self, adapter: Adapter) -> None:
        super().__init__()
        self.adapter = adapter

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        raw = self.adapter.format.raw(self.adapter.core(images))
        batch, count, places = raw["scores"].shape
        if count == len(CHOSEN):
            whole = raw["scores"].new_full((batch, len(COCO_NAMES), places), NEVER)
            raw["scores"] = whole.index_copy(1, torch.tensor(list(yolox.CLASS_OF)), raw["scores"])
        return raw


def label_free(budget: float, seed: int, steps: int, classes: tuple[str, ...] = ()) -> dict[str, Any]:
    """Prune YOLOX-nano to a budget, or what some classes need of it; return its figures and the dense network's."""
    data = yolox.folder("EDGEMTL_DATA")
    file = yolox.folder("EDGEMTL_WEIGHTS") / "yolox_nano.onnx"
    network = open_network(NetworkSource(".onnx", file), OpenOptions((yolox.SIZE, yolox.SIZE), classes=classes))
    images = unlabelled(
        network, [data / "rgbir/rgb/train", data / "dense/camvid/train/rgb", data / "dense/rgbd/train/rgb"]
    )
    options = PruneOptions(target=1 - budget, steps=steps, seed=seed)
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, progress_stages() as progress:
        result = prune(network, images, Path(folder) / "small", options, progress)
        assert result.adapter is not None
        dense, pruned = (yolox.ap50(OfYolox(adapter)) for adapter in (network.adapter, result.adapter))
    figures = result.figures
    return {
        "ap50": round(pruned["day"], 4),
        "ap50_dense": round(dense["day"], 4),
        "ap50_night": round(pruned["night"], 4),
        "ap50_night_dense": round(dense["night"], 4),
        "latency_to_dense": round(figures.latency_to_dense, 4),
        "params": figures.parameters[1],
        "params_dense": figures.parameters[0],
        "agreement": round(figures.agreement["boxes"], 4),
        "epochs": round(steps * options.batch_size / len(images.train), 1),
        "seconds": round(time.perf_counter() - begun),
        "machine": cpu_name(),
    }


def rows_of(case: str, args: argparse.Namespace) -> list[tuple[dict[str, Any], Any]]:
    """Return the identity of every row that is asked for, and what computes it."""
    if case == "label_free":
        classes, network = (CHOSEN, FIVE) if args.network == FIVE else ((), "yolox_nano")
        budgets = {args.budget: BUDGETS.get(args.budget, (0,))} if args.budget else BUDGETS
        return [
            (
                {"case": case, "network": network, "tool": "edgemtl", "budget": b, "seed": s, "steps": args.steps},
                lambda b=b, s=s: label_free(b, s, args.steps, classes),
            )
            for b, seeds in budgets.items()
            for s in ((args.seed,) if args.seed is not None else seeds)
        ]
    import prune_labelled

    return prune_labelled.rows(args)


def main() -> None:
    """Compute the rows that are asked for, those that are there already left out unless they are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=("label_free", "labelled"))
    parser.add_argument("--network")
    parser.add_argument("--tool")
    parser.add_argument("--budget", type=float)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--steps", type=int, default=STEPS)
    args = parser.parse_args()
    known = json.loads(RESULTS.read_text())["runs"] if RESULTS.is_file() else []
    for case in [args.case] if args.case else ["label_free", "labelled"]:
        for row, compute in rows_of(case, args):
            if args.budget is None and any(all(r.get(k) == row.get(k) for k in IDENTITY) for r in known):
                continue
            print_message(f"{row}")
            save_row(RESULTS, "runs", row | compute(), *IDENTITY)
            prune_page.write(RESULTS)


if __name__ == "__main__":
    main()
