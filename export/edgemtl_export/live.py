"""Which channels stay: the needed ones, and those without which no tensor would have a shape."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from torch import fx
from torch.utils import _pytree as pytree

from .channels import PINNED, Channels, Ids, Mask, Value, name_of
from .layout import compact, missing
from .movement import Move, Planner, is_movement


@dataclass
class Liveness:
    """The growing set of channels that stay: add to it, and whatever those need comes along."""

    channels: Channels
    roots: Ids = field(init=False)
    needed: Mask = field(init=False)
    bound: Mask = field(init=False)
    """What is needed before a movement that cannot be written down, or an alignment, asks for more."""

    def __post_init__(self) -> None:
        self.roots = self.channels.roots()
        self.needed = np.zeros(len(self.roots), bool)
        self._reads = [
            (r, self.roots[r.out_ids], self.roots[r.in_ids], np.zeros(r.out_ids.shape, bool))
            for r in reversed(self.channels.reads)
        ]
        self.keep([PINNED])
        self.bound = np.zeros_like(self.needed)

    def of(self, ids: Ids) -> Mask:
        """Return which of these ids stay."""
        mask: Mask = self.needed[self.roots[ids]]
        return mask

    def hold(self, ids: Ids) -> None:
        """Keep a place without what it reads: nobody needs its value, only a tensor its shape."""
        roots = np.unique(self.roots[ids])
        self.needed[roots] = True
        for _, out, _, seen in self._reads:
            seen |= np.isin(out, roots)

    def keep(self, ids: Iterable[int] | Ids) -> None:
        """Keep these channels, and what they read: the fixed point of both ways to be dead."""
        self.needed[self.roots[np.asarray(ids if isinstance(ids, np.ndarray) else list(ids), dtype=np.int64)]] = True
        changed = True
        while changed:
            changed = False
            for read, out, into, seen in self._reads:
                fresh = self.needed[out] & ~seen
                if fresh.any():
                    seen |= fresh
                    reached = into[read.heard(fresh) & read.open]
                    if not self.needed[reached].all():
                        self.needed[reached] = changed = True


def settle(channels: Channels, align: dict[str, int] | int = 1) -> tuple[Liveness, dict[fx.Node, Move]]:
    """Grow what is needed until every tensor keeps a shape and every movement can be written down."""
    live = Liveness(channels)
    planner = Planner(channels)
    while not np.array_equal(live.bound, live.needed):
        live.bound = live.needed.copy()
        _last_ones(channels, live)
        _groups(channels, live)
        _heads(channels, live)
    while True:
        before = live.needed.copy()
        _last_ones(channels, live)
        _groups(channels, live)
        _heads(channels, live)
        moves = planner.plan(live)
        if np.array_equal(before, live.needed):
            _round_up(channels, live, align)
            if np.array_equal(before, live.needed):
                return live, moves


def _last_ones(channels: Channels, live: Liveness) -> None:
    """The last channel of a tensor stays, and tensors that are read keep a shape."""
    for node, value in reversed(channels.values.items()):  # what readers ask for comes first
        for part in pytree.tree_leaves(value):
            if not isinstance(part, Value) or part.ids is None or not part.ids.numel():
                continue
            ids = part.ids.numpy()
            mask = live.of(ids)
            if mask.all():
                continue
            if not mask.any():
                live.hold(ids.reshape(-1)[:1])
            elif _is_read(node) and compact(mask) is None:
                channels.pins.setdefault(f"{name_of(node)} (uneven)", []).append(ids[~mask])
                live.keep(ids[missing(mask)])


def _is_read(node: fx.Node) -> bool:
    """Whether somebody computes with a node's tensor, so that it must have a shape: a movement may be passed over."""
    return not is_movement(node) or any(not is_movement(user) for user in node.users)


def _groups(channels: Channels, live: Liveness) -> None:
    """Every group of a grouped convolution that stays keeps as many inputs and outputs as the others."""
    for grouped in channels.grouped:
        inside, outside = live.of(grouped.in_ids), live.of(grouped.out_ids)
        stays: Mask = np.logical_or(inside.any(1), outside.any(1))
        stays[0] |= not stays.any()
        for ids, mask in ((grouped.in_ids, inside), (grouped.out_ids, outside)):
            most = max(1, int(mask.sum(1).max()))
            short = (most - mask.sum(1, keepdims=True)) * stays[:, None]
            lacking = ~mask & (np.cumsum(~mask, axis=1) <= short)
            if lacking.any():
                live.keep(ids[lacking])


def _heads(channels: Channels, live: Liveness) -> None:
    """A head stays in every operand or in none; those that stay keep as many channels each."""
    for left, right in channels.agree:
        a, b = live.of(left), live.of(right)
        for ids, mask, other in ((left, a, b), (right, b, a)):
            lost = ~mask.any(1) & other.any(1)
            if lost.any():
                live.keep(ids[lost, 0])


def _round_up(channels: Channels, live: Liveness, align: dict[str, int] | int) -> None:
    """Keep dead channels until those of every layer come to a multiple of ``align``, or all stay."""
    for name in channels.writers:
        multiple = align if isinstance(align, int) else align.get(name, 1)
        ids = channels.made(name)
        if multiple > 1 and channels.program.state[name].ndim > 1:
            dead = np.flatnonzero(~live.of(ids))
            short = -(len(ids) - len(dead)) % multiple
            if short and len(dead):
                live.keep(ids[dead[:short]])
