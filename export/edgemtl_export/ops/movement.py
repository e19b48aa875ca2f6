"""Operators that only move elements about: executed on values, constancy and channel ids alike."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from ..channels import Channels, Value, rule

MOVEMENT = """
    view reshape _unsafe_view permute transpose t flatten unflatten slice select narrow split split_with_sizes
    chunk unbind cat stack unsqueeze squeeze expand contiguous clone alias detach movedim pixel_shuffle
    pixel_unshuffle channel_shuffle roll flip lift_fresh_copy
""".split()  # noqa: SIM905


@rule(*(f"aten.{name}" for name in MOVEMENT), "aten.upsample_nearest2d")
def move(channels: Channels, node: fx.Node, *args: Any, **kwargs: Any) -> Any:
    """Execute the operator three times."""

    def run(part: str) -> Any:
        def pick(v: Value) -> Tensor:
            if part == "value":
                return v.value
            if part == "const":
                return v.const.double()
            # A constant beside channels is pinned, and must stay as large as it is.
            return (torch.zeros(v.value.shape) if v.ids is None else v.ids).double()

        a, k = pytree.tree_map_only(Value, pick, (args, kwargs))
        assert callable(node.target)
        return node.target(*a, **k)

    parts = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Value)]
    channels.loose.update(part.source for part in parts)
    values, spec = pytree.tree_flatten(run("value"))
    const, ids = pytree.tree_leaves(run("const")), pytree.tree_leaves(run("ids"))
    made = [Value(v, c > 0.5, i.round().long()) for v, c, i in zip(values, const, ids, strict=True)]
    return pytree.tree_unflatten(made, spec)
