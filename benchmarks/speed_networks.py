"""What the cases of speed.py train: configurations by variant, budget and seed; networks of other widths."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import torch
import yaml
from joint import configured as joint_configured
from rgbir import VARIANTS

from edgemtl.config import Config, Sparsity
from edgemtl.config_file import load
from edgemtl.demo import PRUNED, STEPS, demo_config

HERE = Path(__file__).parent
KITCHEN_TASKS = ("depth", "normals", "semantic", "edges")
AUX = "unimodal_aux_loss=true"
RGBIR: dict[str, tuple[str, ...]] = {
    "ir": VARIANTS["ir"],
    "concat": ("fusion.kind=concat",),
    "concat_aux": ("fusion.kind=concat", AUX),
    "concat_sparse": ("fusion.kind=concat", AUX),
    "aligned_sparse": VARIANTS["aligned_sparse"],
}
"""What a variant changes in rgbir.yaml; the sparse ones may take so many milliseconds."""


def rgbir_config(variant: str, seed: int, most_ms: float) -> Config:
    """Return the configuration of a detector on real pairs."""
    source = f"data.source={Path(os.environ['EDGEMTL_DATA']) / 'rgbir'}"
    words = [word for word in RGBIR[variant] if not word.startswith("sparsity.")]
    config = load(HERE / "rgbir.yaml", [source, f"seed={seed}", "network=rgbir-lite0", *words])
    return within(config, most_ms)


def kitchen_config(seed: int, most_ms: float, network: str = "rgbir-lite0", epochs: float = 0) -> Config:
    """Return the configuration of four tasks in the kitchen."""
    words = [f"seed={seed}", f"network={network}", "modalities=[rgb]", "task_weighting=uncertainty"]
    return within(joint_configured("kitchen", *words, *([f"epochs={epochs}"] if epochs else [])), most_ms)


def demo_of(seed: int, pruned: bool) -> Config:
    """Return the configuration of the demo itself, dense or pruned."""
    config = demo_config(STEPS, torch.get_num_threads(), PRUNED if pruned else 0.0)
    return msgspec.structs.replace(config, seed=seed)


def streets_config(seed: int, most_ms: float, network: str = "rgbir-n", steps: int = STEPS) -> Config:
    """Return the configuration of the demo's network on drawn streets."""
    config = demo_config(STEPS, torch.get_num_threads(), 0.0)
    return within(msgspec.structs.replace(config, seed=seed, network=network, steps=steps), most_ms)


def within(config: Config, most_ms: float) -> Config:
    """Return a configuration whose network is pruned until it takes so many milliseconds; 0: dense."""
    sparsity = Sparsity(max_cost=most_ms, metric="latency", min_keep_ratio=0.1) if most_ms else Sparsity()
    return msgspec.structs.replace(config, sparsity=sparsity)


def narrow_network(width: float, folder: Path) -> Path:
    """Write rgbir-n at a share of its widths, in multiples of eight channels, and return the file."""
    text = (resources.files("edgemtl_models") / "zoo" / "rgbir-n.yaml").read_text()
    description: dict[str, Any] = yaml.safe_load(text)
    description["name"] = f"rgbir-n-{width:.2f}"
    for stream in description["streams"].values():
        stream["backbone"]["widths"] = [_scaled(count, width) for count in stream["backbone"]["widths"]]
    description["neck"] = [_scaled(count, width) for count in description["neck"]]
    for head in description["heads"].values():
        if "width" in head:
            head["width"] = _scaled(head["width"], width)
    file = folder / f"{description['name']}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(description, sort_keys=False))
    return file


def _scaled(count: int, width: float) -> int:
    return max(8, round(count * width / 8) * 8)
