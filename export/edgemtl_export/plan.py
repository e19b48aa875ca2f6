"""The pruning plan: which channels stay active, and how views are rewritten for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from torch import fx

from .analysis.channels import Channels
from .analysis.values import Ids, Mask


class ActiveChannels(Protocol):
    """The active channels: those that stay."""

    def is_active(self, ids: Ids) -> Mask:
        """Return which of these ids stay."""
        ...


class GrowingChannels(ActiveChannels, Protocol):
    """A growing set of active channels: a stage that needs more keeps them."""

    def keep(self, ids: Ids) -> None:
        """Keep these channels, and whatever they need."""
        ...

    def pin(self, ids: Ids, reason: str) -> None:
        """Record that these channels are kept for a reason that the report names."""
        ...


@dataclass(frozen=True, eq=False)
class NewCall:
    """A movement node's new operator and arguments."""

    target: Callable[..., Any]
    args: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class ChannelSelection:
    """A chain of movement nodes as one selection of channels from the tensor it began with.

    It takes channels ``index`` of ``source`` along ``dim``, views them as ``shape`` and permutes them to ``order``,
    where those are given. In ``shape``, -1 - d is the size of the source's dimension d, which may be a symbol.
    """

    source: fx.Node
    dim: int
    index: tuple[int, ...]
    shape: tuple[int, ...] = ()
    order: tuple[int, ...] = ()


ViewRewrite = NewCall | ChannelSelection


@dataclass(frozen=True, eq=False)
class Plan:
    """The decisions after the analysis; later stages read it and change neither it nor the analysis.

    ``active`` and ``bound`` are indexed by ``channels.roots``.
    """

    channels: Channels
    active: Mask
    bound: Mask
    """What stays before a view that cannot be rewritten, or an alignment, asks for more."""
    views: Mapping[fx.Node, ViewRewrite]
    """The movement nodes that change."""
    pins: Mapping[str, tuple[Ids, ...]]
    """The channels kept by the reason: those of the analysis, and views that could not be rewritten."""

    def is_active(self, ids: Ids) -> Mask:
        """Return which of these ids stay."""
        mask: Mask = self.active[self.channels.roots[ids]]
        return mask

    def lower_bound(self) -> Plan:
        """Return the plan that keeps no more than ``bound``."""
        return replace(self, active=self.bound)
