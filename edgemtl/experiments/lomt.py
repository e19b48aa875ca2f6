"""LOMT: each task leaves the shared network at the depth that it needs, found by sparse networks of one task.

After R. Upadhyay et al., "Layer-optimised multi-task" (arXiv 2406.03048). First every task is learned alone, over some
seeds, by `sparsity.group_lasso` with the thesis' groups (what a convolution reads of a channel) and no floor: whole
layers die from the end on. The survival profile of a task

    a_l = mean over seeds of the share of layer l's groups that are not zero

says how deep it reaches, and it leaves behind the block of

    l* = max { l : a_l > ε }

The paper reads l* off a plot and attaches decoders to a convolution's raw output; here the rule is the equation, and a
head reads the output of the whole block, beside the ends of the strides before it. Then one network with these exits,
its trunk cut behind the last of them, is learned jointly and dense. Layers are those of the backbones and the stage
behind them, in the order they run in; of several cameras the deepest counts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
from torch import nn

from edgemtl_models.taps import DEEPEST

from .. import distributed
from ..checkpoint import lasting
from ..config import Config
from ..console import print_message
from ..errors import EdgemtlError
from ..finish import guarded
from ..group import group, is_finished
from ..plots import layer_profiles
from ..run import Run
from .single import only

LOMT = "lomt training"
"""What `edgemtl_runtime.atomic` calls such a folder."""

Profile = dict[str, float]
"""The share of living groups of every layer, by path, in the order they run in."""


def train_lomt(config: Config, out: str | Path, resume: bool = False, overwrite: bool = False) -> Run:
    """Find each task's exit and train the network that has them, into ``out``/network, the run.

    ``out`` is there when all is done. ``resume`` goes on with what was stopped; ``overwrite`` replaces what is there.
    """
    from ..train import train

    out, asked = Path(out), lasting(config)
    if not (resume and is_finished(out, LOMT, asked)):
        with group(out, LOMT, asked, resume, overwrite) as folder:
            exits = find_exits(config, folder, resume)
            train(msgspec.structs.replace(config, method="joint", head_taps=exits), folder / "network", resume=resume)
    return Run.open(out / "network")


def find_exits(config: Config, out: Path, resume: bool = False) -> dict[str, str]:
    """Return the block at which each task leaves.

    Writes ``out``/profile/TASK-SEED, the runs that tell; ``out``/profile.json and .png.
    """
    from ..train import train

    profiles: dict[str, list[Profile]] = {}
    for task in config.tasks:
        for seed in range(config.lomt.seeds):
            folder = out / "profile" / f"{task}-{seed}"
            print_message(f"{task} alone and sparse, {seed + 1} of {config.lomt.seeds}")
            run = train(_sparse(config, task, seed), folder, resume=resume)
            profiles.setdefault(task, []).append(survival(run.network))
            strides = run.network.trunk.blocks | {DEEPEST: 32}  # type: ignore[union-attr, operator]
    exits, means = {}, {}
    for task, found in profiles.items():
        means[task] = mean(found)
        last = last_needed(means[task], config.lomt.threshold, task)
        exits[task] = block_of(last, list(means[task]), strides, least=8 if task == "boxes" else 4)
    print_message("exits: " + ", ".join(f"{task} at {place}" for task, place in exits.items()))
    if distributed.is_main():
        _write_profile(config, out, exits, means)
    return exits


def _write_profile(config: Config, out: Path, exits: dict[str, str], means: dict[str, Profile]) -> None:
    (out / "profile.json").write_text(json.dumps({"exits": exits, "profiles": means}, indent=1) + "\n")
    with guarded("the profile could not be drawn", out):
        (out / "profile.png").write_bytes(layer_profiles(means, exits, config.lomt.threshold))


def _sparse(config: Config, task: str, seed: int) -> Config:
    """Return the configuration of one task's sparse network on the whole depth."""
    sparsity = msgspec.structs.replace(config.sparsity, scope="trunk", groups="input", min_keep_ratio=0.0)
    alone = only(config, task)
    return msgspec.structs.replace(
        alone, method="sparse", sparsity=sparsity, head_taps={task: DEEPEST}, seed=config.seed + seed
    )


def survival(network: nn.Module) -> Profile:
    """Return the share of input groups that are not zero in every convolution of the backbones and behind them."""
    trunk: Any = network.trunk
    profile: Profile = {}
    for path, module in trunk.named_modules():
        place = _without_camera(path)
        if isinstance(module, nn.Conv2d) and place:
            weight = module.weight.detach()
            blocks = weight.unflatten(0, (module.groups, -1)).transpose(1, 2).flatten(0, 1).flatten(1)
            share = float(blocks.any(1).float().mean())
            profile[place] = max(share, profile.get(place, 0.0))
    return profile


def _without_camera(path: str) -> str:
    """Return a layer's path in any camera's backbone, or in the stage behind; nothing for what fuses."""
    if path.startswith("backbones."):
        return path.split(".", 2)[-1]
    return path if path.startswith(DEEPEST) else ""


def mean(profiles: list[Profile]) -> Profile:
    """Return the mean share of every layer over seeds."""
    return {layer: sum(p[layer] for p in profiles) / len(profiles) for layer in profiles[0]}


def last_needed(profile: Profile, alive: float, task: str) -> str:
    """Return the last layer above ``alive``; raises `EdgemtlError` when there is none."""
    needed = [layer for layer, share in profile.items() if share > alive]
    if not needed:
        raise EdgemtlError(f"lomt: every layer died for {task}; lower sparsity.strength")
    return needed[-1]


def block_of(layer: str, layers: list[str], strides: dict[str, int], least: int) -> str:
    """Return the block that a layer is in, or the next one behind it, of a stride of at least ``least``.

    ``strides`` are those of all blocks, in order.
    """
    for block, stride in strides.items():
        inside = [other for other in layers if other == block or other.startswith(f"{block}.")]
        if stride >= least and inside and layers.index(layer) <= layers.index(inside[-1]):
            return block
    return DEEPEST
