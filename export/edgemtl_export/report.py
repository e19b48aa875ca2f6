"""What shrinking took away, for people and for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from torch import nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Layer:
    """One weight: its output channels before and after, and why the others went."""

    name: str
    before: int
    after: int
    zero: int
    unread: int


@dataclass(frozen=True)
class Report:
    """Parameters and FLOPs (two a multiply-add) before and after, by layer, and what could not be removed.

    ``pinned`` counts the channels that an operator without a rule kept; ``constant`` counts channels that are constant
    but not zero: this version leaves them in.
    """

    parameters_before: int
    parameters_after: int
    flops_before: int
    flops_after: int
    layers: list[Layer]
    pinned: dict[str, int]
    constant: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain objects for JSON."""
        return asdict(self)

    def summary(self) -> dict[str, Any]:
        """Return the totals alone."""
        return {key: value for key, value in self.to_dict().items() if key != "layers"}

    def __str__(self) -> str:
        gone = 1 - self.parameters_after / max(self.parameters_before, 1)
        lines = [
            f"parameters {self.parameters_before:,} -> {self.parameters_after:,} ({gone:.1%} gone), "
            f"FLOPs {self.flops_before:,} -> {self.flops_after:,}"
        ]
        width = max((len(layer.name) for layer in self.layers), default=0)
        lines += [
            f"  {layer.name:{width}}  {layer.before:5d} -> {layer.after:5d}   zero {layer.zero}, unread {layer.unread}"
            for layer in self.layers
            if layer.after < layer.before
        ]
        lines += [f"  pinned by {why}: {count} channels" for why, count in sorted(self.pinned.items())]
        if self.constant:
            lines.append(f"  {self.constant} channels are constant but not zero and were left in")
        return "\n".join(lines)


def count_flops(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Return the floating-point operations of one forward pass, two a multiply-add."""
    with FlopCounterMode(display=False) as counter:
        model(*args, **kwargs)
    return int(counter.get_total_flops())
