"""Labelled rows of the pruning benchmark: networks of ultralytics, their dense twins, and Torch-Pruning.

Every network is first trained on rgbir's colour images by ultralytics (`BASE_EPOCHS`, kept in out/), then pruned, or
trained on dense, for `EPOCHS` more, with the same arguments and seed.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import yolox
from torch import nn

from edgemtl.console import progress_stages
from edgemtl.evaluate import evaluate
from edgemtl.external.images import NetworkImages, labelled
from edgemtl.external.network import Adapter, ExternalNetwork
from edgemtl.external.opening import open_network
from edgemtl.external.options import OpenOptions
from edgemtl.external.predictor import predictor_of
from edgemtl.external.source import NetworkSource
from edgemtl.latency import latencies_ms
from edgemtl.prune.labelled import prune_with_labels
from edgemtl.prune.options import PruneOptions
from edgemtl.prune.pruning import prune
from edgemtl_export.to_onnx import write_onnx
from edgemtl_models.blocks import Conv
from edgemtl_models.yolo_detector import YoloDetector
from edgemtl_models.yolo_training import train_detector
from edgemtl_runtime.engine.cpu import cpu_name

NETWORKS = ("yolov8n", "yolo11n")
BUDGETS = {0.5: (0, 1, 2), 0.75: (0,), 0.35: (0,)}
TOOLS = ("edgemtl", "torch-pruning")
BASE_EPOCHS, EPOCHS = 60, 20
OUT = Path("out/bench/prune")
ARGUMENTS = {"batch": 16, "nbs": 16, "optimizer": "AdamW", "lr0": 0.001, "warmup_epochs": 1.0, "close_mosaic": 5}
NAMES = ("person", "bicycle", "car")


def dataset() -> Path:
    """Return rgbir's colour images with the boxes that are seen in them, as ultralytics reads them."""
    folder, source = OUT.resolve() / "rgb", yolox.folder("EDGEMTL_DATA") / "rgbir"
    for split in ("train", "val"):
        for part, given in (("images", "rgb"), ("labels", "labels_rgb")):
            (folder / part / split).mkdir(parents=True, exist_ok=True)
            for file in (source / given / split).iterdir():
                link = folder / part / split / file.name
                if not link.exists():
                    link.symlink_to(file)
    names = "".join(f"  {index}: {name}\n" for index, name in enumerate(NAMES))
    (folder / "data.yaml").write_text(f"path: {folder}\ntrain: images/train\nval: images/val\nnames:\n{names}")
    return folder


def base(name: str) -> Path:
    """Return the checkpoint of a network that was trained from scratch."""
    file = OUT / f"{name}.pt"
    if not file.is_file():
        from ultralytics.nn.tasks import DetectionModel

        torch.manual_seed(0)
        network = DetectionModel(f"{name}.yaml", nc=len(NAMES), verbose=False)
        network.names = dict(enumerate(NAMES))
        arguments = {**ARGUMENTS, "epochs": BASE_EPOCHS, "lr0": 0.002, "warmup_epochs": 3.0, "close_mosaic": 10}
        average: Any = _trained(network, arguments, 0)
        average.criterion = None
        torch.save({"model": average.half(), "train_args": {"imgsz": yolox.SIZE}}, file)
    return file


def _trained(network: nn.Module, arguments: dict[str, Any], seed: int) -> nn.Module:
    with tempfile.TemporaryDirectory() as folder, progress_stages() as progress:
        data = str(dataset() / "data.yaml")
        return train_detector(
            network,
            data,
            yolox.SIZE,
            Path(folder),
            arguments,
            seed,
            progress=lambda done, total, _: progress("training", done, total),
        )


def ap50(network: ExternalNetwork, adapter: Adapter, images: NetworkImages) -> float:
    """Return the mean AP50 on the val images."""
    return evaluate(predictor_of(network, adapter, 0.0), images.held_out)["all"]["boxes"]["ap50"]


def opened(name: str) -> tuple[ExternalNetwork, NetworkImages]:
    """Return a trained network and its data."""
    network = open_network(NetworkSource(".pt", base(name)), OpenOptions(input_size=(yolox.SIZE, yolox.SIZE)))
    return network, labelled(network, str(dataset()))


def twin(name: str, seed: int) -> float:
    """Return the AP50 of the dense network, trained on as long as the pruned ones; kept in out/."""
    kept = OUT / f"{name}-twin-{seed}.txt"
    if not kept.is_file():
        network, images = opened(name)
        core: Any = copy.deepcopy(network.adapter.core)
        average = _trained(core.network.requires_grad_(True), {**ARGUMENTS, "epochs": EPOCHS}, seed)
        kept.write_text(str(ap50(network, network.adapter.around(YoloDetector(average)), images)))
    return float(kept.read_text())


def pruned_by_edgemtl(name: str, budget: float, seed: int) -> dict[str, Any]:
    """Prune by `edgemtl prune --data`."""
    network, images = opened(name)
    options = PruneOptions(target=1 - budget, seed=seed, train={**ARGUMENTS, "epochs": EPOCHS})
    with tempfile.TemporaryDirectory() as folder, progress_stages() as progress:
        train = prune_with_labels(str(dataset()))
        result = prune(network, images, Path(folder) / "small", options, progress, train=train)
        assert result.adapter is not None
        return {
            "ap50": round(ap50(network, result.adapter, images), 4),
            "latency_to_dense": round(result.figures.latency_to_dense, 4),
            "params": result.figures.parameters[1],
        }


def pruned_by_torch_pruning(name: str, budget: float, seed: int) -> dict[str, Any]:
    """Prune by Torch-Pruning's group norm in one go, at the ratio whose milliseconds meet the budget; then train."""
    network, images = opened(name)
    core = _torch_pruned(network, _ratio_of(network, budget))
    average = _trained(core.network.requires_grad_(True), {**ARGUMENTS, "epochs": EPOCHS}, seed)
    small = YoloDetector(average)
    return {
        "ap50": round(ap50(network, network.adapter.around(small), images), 4),
        "latency_to_dense": round(_latency_share(network, small), 4),
        "params": sum(p.numel() for p in small.parameters()),
    }


def _ratio_of(network: ExternalNetwork, budget: float) -> float:
    """Return the ratio whose milliseconds are nearest to the budget; the nearest few are measured twice more."""

    def shares(ratios: list[float]) -> dict[float, float]:
        return {ratio: _latency_share(network, _torch_pruned(network, ratio)) for ratio in ratios}

    def nearest(shares: dict[float, float]) -> list[float]:
        return sorted(shares, key=lambda ratio: abs(shares[ratio] - budget))

    once = shares([step / 24 for step in range(1, 24)])
    again = [shares(nearest(once)[:5]) for _ in range(2)]
    return nearest({ratio: fmean((once[ratio], *(turn[ratio] for turn in again))) for ratio in again[0]})[0]


class TwoConvolutions(nn.Module):
    """A C2f block whose split of channels is two convolutions, as Torch-Pruning's example for YOLOv8 needs it."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.first, self.second = _part(block.cv1, slice(block.c)), _part(block.cv1, slice(block.c, None))
        self.m, self.cv2 = block.m, block.cv2
        self.f, self.i, self.type, self.np = block.f, block.i, block.type, block.np

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the block returns."""
        parts = [self.first(x), self.second(x)]
        for block in self.m:
            parts.append(block(parts[-1]))
        out: torch.Tensor = self.cv2(torch.cat(parts, 1))
        return out


def _part(whole: Any, rows: slice) -> nn.Module:
    """Return a convolution and norm with some of the channels that another one makes."""
    state = {name: tensor[rows] if tensor.ndim else tensor for name, tensor in whole.state_dict().items()}
    part = Conv(whole.conv.in_channels, len(state["conv.weight"]))
    part.bn.eps, part.bn.momentum = whole.bn.eps, whole.bn.momentum
    part.load_state_dict(state)
    return part.train(whole.training)


def _without_splits(network: nn.Module) -> None:
    for path, module in list(network.named_modules()):
        if type(module).__name__ == "C2f":
            parent, _, name = path.rpartition(".")
            setattr(network.get_submodule(parent), name, TwoConvolutions(module))


def _torch_pruned(network: ExternalNetwork, ratio: float) -> Any:
    import torch_pruning

    core: Any = copy.deepcopy(network.adapter.core)
    core.requires_grad_(True)
    _without_splits(core)
    last = [module for module in core.head.modules() if isinstance(module, nn.Conv2d) and module.bias is not None]
    pruner = torch_pruning.pruner.GroupNormPruner(
        core,
        network.args,
        importance=torch_pruning.importance.GroupMagnitudeImportance(),
        pruning_ratio=ratio,
        global_pruning=True,
        max_pruning_ratio=0.9,
        round_to=16,
        ignored_layers=[*last, core.head.dfl],
    )
    pruner.step()
    return core


def _latency_share(network: ExternalNetwork, core: nn.Module) -> float:
    images = {s.name: s for s in network.inputs}
    with tempfile.TemporaryDirectory() as folder:
        files = {"dense": Path(folder) / "dense.onnx", "pruned": Path(folder) / "pruned.onnx"}
        write_onnx(network.deployed(), files["dense"])
        write_onnx(network.deployed(network.adapter.around(core)), files["pruned"])
        blank = {name: network.deployed().blank_images()[i].numpy() for i, name in enumerate(images)}
        measured = latencies_ms(files, blank)
    return measured["pruned"] / measured["dense"]


BY_TOOL: dict[str, Callable[[str, float, int], dict[str, Any]]] = {
    "edgemtl": pruned_by_edgemtl,
    "torch-pruning": pruned_by_torch_pruning,
}


def compute(name: str, tool: str, budget: float, seed: int) -> dict[str, Any]:
    """Return the figures of a row, and its twin's."""
    begun = time.perf_counter()
    row = BY_TOOL[tool](name, budget, seed)
    row |= {"ap50_dense": round(twin(name, seed), 4), "epochs": EPOCHS, "base_epochs": BASE_EPOCHS}
    return row | {"seconds": round(time.perf_counter() - begun), "machine": cpu_name()}


def rows(args: argparse.Namespace) -> list[tuple[dict[str, Any], Callable[[], dict[str, Any]]]]:
    """Return the identity of every row that is asked for, and what computes it."""
    asked = []
    for network in [args.network] if args.network else NETWORKS:
        for budget in [args.budget] if args.budget else BUDGETS:
            for seed in [args.seed] if args.seed is not None else BUDGETS.get(budget, (0,)):
                for tool in [args.tool] if args.tool else TOOLS:
                    if tool == "torch-pruning" and network != "yolov8n" and not args.tool:
                        continue
                    row = {"case": "labelled", "network": network, "tool": tool, "budget": budget, "seed": seed}
                    row["steps"] = 0
                    asked.append((row, partial(compute, network, tool, budget, seed)))
    return asked
