"""Three patterns of zeros that sparse training leaves, applied to a network in place."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram
from torch.nn.modules.batchnorm import _BatchNorm

from edgemtl_export.groups import Groups

MODES = ("coupled", "independent", "constant")


def zero(
    net: nn.Module, exported: ExportedProgram, groups: Groups, mode: str, seed: int = 0, share: float = 0.4
) -> None:
    """Zero a share of the channels of ``net`` in place.

    coupled: a ``share`` of the channel groups, in everything that writes them. independent: 30 to 50 % of the filters
    of each convolution, with the scale and shift of the batch normalisation right after it. constant: as coupled, but
    the shifts of batch normalisation stay, so that a pruned channel is a constant.
    """
    rng = np.random.default_rng(seed)
    parameters = dict(net.named_parameters())
    if mode == "independent":
        for weight, followers in filters(exported, groups).items():
            rows = parameters[weight]
            pruned = torch.from_numpy(rng.random(len(rows)) < rng.uniform(0.3, 0.5))
            for name in (weight, *followers):
                parameters[name].data[pruned] = 0
        return
    shifts = {f"{n}.bias" for n, m in net.named_modules() if isinstance(m, _BatchNorm)} if mode == "constant" else set()
    pruned_groups = np.append(rng.random(groups.count) < share, False)
    for name, channels in groups.rows.items():
        if name not in shifts:
            parameters[name].data.movedim(groups.axis(name), 0)[torch.from_numpy(pruned_groups[channels])] = 0


def filters(exported: ExportedProgram, groups: Groups) -> dict[str, list[str]]:
    """Return for every convolution that is not an output its weight, with its bias and the norm's scale and shift."""
    signature = exported.graph_signature
    names = dict(signature.inputs_to_parameters)
    filters: dict[str, list[str]] = {}
    for node in exported.graph.nodes:
        if node.op != "call_function" or not str(node.target).startswith("aten.conv2d"):
            continue
        weight = names.get(node.args[1].name)
        if weight is None or weight not in groups.rows or (groups.rows[weight] < 0).all():
            continue
        norms = [u for u in node.users if "batch_norm" in str(u.target)]
        parts = [*node.args[2:3], *(norms[0].args[1:3] if len(norms) == 1 and len(node.users) == 1 else ())]
        filters[weight] = [names[p.name] for p in parts if p is not None and p.name in names]
    return filters
