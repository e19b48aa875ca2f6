"""LOMT: layer-optimised multi-task networks, with each task's head tapped at the depth that the task needs.

After R. Upadhyay et al., "Layer-optimised multi-task" (arXiv 2406.03048). First a sparse single-task network is trained
for every task, over some seeds, by `edgemtl_export.sparsity` with the thesis' groups (what a convolution reads of a
channel) and no protected share: whole layers become zero from the end on. The survival profile of a task

    a_l = mean over seeds of the share of layer l's groups that are active

measures how deep it reaches, and its head is tapped at the block of

    l* = max { l : a_l > ε }

The paper reads l* off a plot and attaches decoders to a convolution's raw output; here the rule is the equation, and a
head reads the output of the whole block, with the ends of the strides before it. Then one network with these head taps,
its trunk cut after the last of them, is trained jointly and dense. Layers are those of the backbones and the stage
after them, in the order they run in; of several modalities the deepest counts.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
from torch import nn

from edgemtl_models import MultiTask
from edgemtl_models.taps import DEEPEST, HeadTapTrunk

from .. import distributed, networks
from ..checkpoint import lasting
from ..config import Config
from ..console import print_message
from ..errors import EdgemtlError
from ..finish import guarded
from ..group import group, is_finished
from ..plots import layer_profiles
from ..run import Run
from ..run_files import LOMT
from ..train import train
from .single import single_task

Profile = dict[str, float]
"""The share of active groups of every layer, by path, in the order they run in."""


def train_lomt(config: Config, out: str | Path, resume: bool = False, overwrite: bool = False) -> Run:
    """Find each task's head tap and train the network that has them, into ``out``/network, the run.

    ``out`` is put in place when all is finished. ``resume`` continues what was stopped; ``overwrite`` replaces what
    exists.
    """
    out, asked = Path(out), lasting(config)
    if not (resume and is_finished(out, LOMT, asked)):
        with group(out, LOMT, asked, resume, overwrite) as folder:
            taps = find_head_taps(config, folder, resume)
            train(msgspec.structs.replace(config, method="joint", head_taps=taps), folder / "network", resume=resume)
    return Run.open(out / "network")


def find_head_taps(config: Config, out: Path, resume: bool = False) -> dict[str, str]:
    """Return the block at which each task's head is tapped.

    Writes ``out``/profile/TASK-SEED, the sparse runs; ``out``/profile.json and .png.
    """
    profiles: dict[str, list[Profile]] = {}
    strides: dict[str, int] = {}
    least: dict[str, int] = {}
    """The finest stride that each task's head can read."""
    for task in config.tasks:
        for seed in range(config.lomt.seeds):
            folder = out / "profile" / f"{task}-{seed}"
            print_message(f"{task} by itself and sparse, {seed + 1} of {config.lomt.seeds}")
            run = train(_sparse(config, task, seed), folder, resume=resume)
            profiles.setdefault(task, []).append(survival(run.network))
            trunk = run.network.trunk
            assert isinstance(trunk, HeadTapTrunk)
            strides = trunk.blocks | {DEEPEST: 32}
            least[task] = 4 if networks.reads_finest(run.network, task) else 8
    taps, means = {}, {}
    for task, of_seeds in profiles.items():
        means[task] = mean(of_seeds)
        last = last_needed(means[task], config.lomt.threshold, task)
        taps[task] = block_of(last, list(means[task]), strides, least=least[task])
    print_message("head taps: " + ", ".join(f"{task} at {block}" for task, block in taps.items()))
    if distributed.is_main():
        _write_profile(config, out, taps, means)
    return taps


def _write_profile(config: Config, out: Path, taps: dict[str, str], means: dict[str, Profile]) -> None:
    (out / "profile.json").write_text(json.dumps({"head_taps": taps, "profiles": means}, indent=1) + "\n")
    with guarded("the profile could not be drawn", out):
        (out / "profile.png").write_bytes(layer_profiles(means, taps, config.lomt.threshold))


def _sparse(config: Config, task: str, seed: int) -> Config:
    """Return the configuration of one task's sparse network of full depth."""
    sparsity = msgspec.structs.replace(config.sparsity, scope="trunk", groups="input", min_keep_ratio=0.0)
    return msgspec.structs.replace(
        single_task(config, task),
        method="sparse",
        sparsity=sparsity,
        head_taps={task: DEEPEST},
        seed=config.seed + seed,
    )


def survival(network: MultiTask) -> Profile:
    """Return the share of active input groups in every convolution of the backbones and of the stage after them."""
    profile: Profile = {}
    for path, module in network.trunk.named_modules():
        layer = _without_modality(path)
        if isinstance(module, nn.Conv2d) and layer:
            weight = module.weight.detach()
            blocks = weight.unflatten(0, (module.groups, -1)).transpose(1, 2).flatten(0, 1).flatten(1)
            share = float(blocks.any(1).float().mean())
            profile[layer] = max(share, profile.get(layer, 0.0))
    return profile


def _without_modality(path: str) -> str:
    """Return a layer's path within any backbone, or in the stage after them; "" for a fusion layer."""
    if path.startswith("backbones."):
        return path.split(".", 2)[-1]
    return path if path.startswith(DEEPEST) else ""


def mean(profiles: list[Profile]) -> Profile:
    """Return the mean share of every layer over seeds."""
    return {layer: sum(p[layer] for p in profiles) / len(profiles) for layer in profiles[0]}


def last_needed(profile: Profile, threshold: float, task: str) -> str:
    """Return the last layer above ``threshold``; raises `EdgemtlError` when there is none."""
    needed = [layer for layer, share in profile.items() if share > threshold]
    if not needed:
        raise EdgemtlError(f"lomt: every layer was pruned for {task}; lower sparsity.strength")
    return needed[-1]


def block_of(layer: str, layers: list[str], strides: dict[str, int], least: int) -> str:
    """Return the block that a layer is in, or the next one after it, of a stride of at least ``least``.

    ``strides`` are those of all blocks, in order.
    """
    for block, stride in strides.items():
        inside = [other for other in layers if other == block or other.startswith(f"{block}.")]
        if stride >= least and inside and layers.index(layer) <= layers.index(inside[-1]):
            return block
    return DEEPEST
