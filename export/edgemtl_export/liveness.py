"""Liveness analysis: the channels that outputs need, and those that tensors need to keep a shape, to a fixed point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from torch import fx

from .analysis.channels import Channels
from .analysis.ops.movement import is_movement
from .analysis.values import PINNED, Ids, Mask, values_in
from .plan import Plan, ViewRewrite
from .program import op_name
from .ragged import missing_channels, selection
from .view_rewrite import ViewPlanner


@dataclass
class Liveness:
    """The growing set of active channels, closed under the dependency graph."""

    channels: Channels
    active: Mask = field(init=False)
    bound: Mask = field(init=False)
    """What is active before a view that cannot be rewritten, or an alignment, asks for more."""
    pins: dict[str, list[Ids]] = field(init=False)

    def __post_init__(self) -> None:
        roots = self.channels.roots
        self.active = np.zeros(len(roots), bool)
        self.pins = {reason: list(ids) for reason, ids in self.channels.pins.items()}
        self._reads = [
            (r, roots[r.out_ids], roots[r.in_ids], np.zeros(r.out_ids.shape, bool))
            for r in reversed(self.channels.reads)
        ]
        self.keep(np.array([PINNED]))
        self.bound = np.zeros_like(self.active)

    def is_active(self, ids: Ids) -> Mask:
        """Return which of these ids stay."""
        mask: Mask = self.active[self.channels.roots[ids]]
        return mask

    def pin(self, ids: Ids, reason: str) -> None:
        """Record that these channels are kept for a reason that the report names."""
        self.pins.setdefault(reason, []).append(ids)

    def hold(self, ids: Ids) -> None:
        """Keep channels without what they read: nobody needs their values, only a tensor its shape."""
        roots = np.unique(self.channels.roots[ids])
        self.active[roots] = True
        for _, out, _, visited in self._reads:
            visited |= np.isin(out, roots)

    def keep(self, ids: Ids) -> None:
        """Keep these channels, and all that they need: the fixed point over the dependency graph."""
        self.active[self.channels.roots[ids]] = True
        changed = True
        while changed:
            changed = False
            for read, out, into, visited in self._reads:
                new = self.active[out] & ~visited
                if new.any():
                    visited |= new
                    reached = into[read.needed_by(new) & read.required]
                    if not self.active[reached].all():
                        self.active[reached] = changed = True

    def freeze(self, views: Mapping[fx.Node, ViewRewrite]) -> Plan:
        """Return the decisions as they are now."""
        active, bound = self.active.copy(), self.bound.copy()
        for mask in (active, bound):
            mask.setflags(write=False)
        pins = {reason: tuple(ids) for reason, ids in self.pins.items()}
        return Plan(self.channels, active, bound, MappingProxyType(dict(views)), MappingProxyType(pins))


def make_plan(channels: Channels, align: Mapping[str, int] | int = 1) -> Plan:
    """Grow the active channels until every tensor keeps a shape and every view can be rewritten."""
    liveness = Liveness(channels)
    planner = ViewPlanner(channels)
    while not np.array_equal(liveness.bound, liveness.active):
        liveness.bound = liveness.active.copy()
        _keep_shapes(liveness)
        _even_groups(liveness)
        _pair_heads(liveness)
    while True:
        before = liveness.active.copy()
        _keep_shapes(liveness)
        _even_groups(liveness)
        _pair_heads(liveness)
        views = planner.plan(liveness)
        if np.array_equal(before, liveness.active):
            _round_up(liveness, align)
            if np.array_equal(before, liveness.active):
                return liveness.freeze(views)


def _keep_shapes(liveness: Liveness) -> None:
    """Keep at least one channel of every tensor, and as many in each row of a tensor that is read."""
    for node, value in reversed(list(liveness.channels.values.items())):  # what readers ask for comes first
        for part in values_in(value):
            if part.ids is None or not part.ids.numel():
                continue
            ids = part.ids.numpy()
            mask = liveness.is_active(ids)
            if mask.all():
                continue
            if not mask.any():
                liveness.hold(ids.reshape(-1)[:1])
            elif _is_read(node) and selection(mask) is None:
                liveness.pin(ids[~mask], f"{op_name(node)} (uneven)")
                liveness.keep(ids[missing_channels(mask)])


def _is_read(node: fx.Node) -> bool:
    """Whether something computes with a node's tensor, so that it must have a shape: a movement may be passed over."""
    return not is_movement(node) or any(not is_movement(user) for user in node.users)


def _even_groups(liveness: Liveness) -> None:
    """Keep as many inputs and outputs in every group of a grouped convolution that stays as in the others."""
    for grouped in liveness.channels.grouped:
        inside, outside = liveness.is_active(grouped.in_ids), liveness.is_active(grouped.out_ids)
        stays: Mask = np.logical_or(inside.any(1), outside.any(1))
        stays[0] |= not stays.any()
        for ids, mask in ((grouped.in_ids, inside), (grouped.out_ids, outside)):
            most = max(1, int(mask.sum(1).max()))
            short = (most - mask.sum(1, keepdims=True)) * stays[:, None]
            lacking = ~mask & (np.cumsum(~mask, axis=1) <= short)
            if lacking.any():
                liveness.keep(ids[lacking])


def _pair_heads(liveness: Liveness) -> None:
    """Keep a head in every operand or in none."""
    for left, right in liveness.channels.paired_rows:
        a, b = liveness.is_active(left), liveness.is_active(right)
        for ids, mask, other in ((left, a, b), (right, b, a)):
            lost = ~mask.any(1) & other.any(1)
            if lost.any():
                liveness.keep(ids[lost, 0])


def _round_up(liveness: Liveness, align: Mapping[str, int] | int) -> None:
    """Keep pruned channels until those of every layer come to a multiple of ``align``, or all stay."""
    channels = liveness.channels
    for name in sorted(channels.producers):
        multiple = align if isinstance(align, int) else align.get(name, 1)
        ids = channels.output_ids(name)
        if multiple > 1 and channels.program.state[name].ndim > 1:
            pruned = np.flatnonzero(~liveness.is_active(ids))
            short = -(len(ids) - len(pruned)) % multiple
            if short and len(pruned):
                liveness.keep(ids[pruned[:short]])
