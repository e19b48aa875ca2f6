"""Convolution of any kind and linear layers: the operators that make channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from ..channels import Channels, Grouped, Value, foldable, known, name_of, rule, shaped

CONV = [f"aten.conv{n}d" for n in (1, 2, 3)]
TRANSPOSED = [f"aten.conv_transpose{n}d" for n in (1, 2, 3)]


@dataclass(frozen=True)
class Geometry:
    """How a convolution's arguments lie: ``arguments`` after the bias, with the place of ``groups`` among all."""

    groups: int
    at: int
    transposed: bool
    padded: bool
    """Whether some output sees fewer inputs than others, so that constants give no constant."""


def geometry(node: fx.Node) -> Geometry:
    """Read a convolution node's arguments."""
    name, args = name_of(node), list(node.args)
    transposed, at = name in TRANSPOSED, 6
    if name == "aten.convolution":
        transposed, at = bool(args[6]), 8
    groups = args[at] if len(args) > at else node.kwargs.get("groups", 1)
    padding = args[4] if len(args) > 4 else node.kwargs.get("padding", 0)
    kernel = node.args[1].meta["val"].shape[2:]  # type: ignore[union-attr]
    padded = transposed or (max(kernel) > 1 if padding == "same" else padding != "valid" and _any(padding))
    assert isinstance(groups, int)
    return Geometry(groups, at, transposed, bool(padded))


def _any(padding: Any) -> bool:
    return any(p != 0 for p in (padding if isinstance(padding, list | tuple) else [padding]))


def repeat(node: fx.Node, x: Tensor, weight: Tensor, bias: Tensor | None = None, groups: int | None = None) -> Tensor:
    """Run a convolution node's operator on other tensors."""
    args, place = list(node.args), geometry(node)
    args[0], args[1] = x, weight
    if len(args) > 2:
        args[2] = bias
    elif bias is not None:
        args.append(bias)
    if groups is not None and len(args) > place.at:
        args[place.at] = groups
    assert callable(node.target)
    kwargs = {k: v for k, v in node.kwargs.items() if k not in ("groups", "bias")}
    result = node.target(*args, **kwargs)
    assert isinstance(result, Tensor)
    return result


def by_group(weight: Tensor, place: Geometry) -> Tensor:
    """Return a weight as (groups, outputs a group, inputs a group, taps)."""
    flat = weight.flatten(2)
    if place.transposed:
        return flat.reshape(place.groups, -1, *flat.shape[1:]).transpose(1, 2)
    return flat.reshape(place.groups, -1, *flat.shape[1:])


def contribution(node: fx.Node, x: Value, weight: Tensor, which: Tensor) -> Tensor:
    """Return what the constant input channels ``which`` (bool, of the input's channels) give, float64."""
    data = x.spread(x.value.double() * shaped(which.double(), 1, len(x.shape)))
    data = data if x.value.shape[0] > 1 else data[:1]
    return repeat(node, data, weight.double(), groups=geometry(node).groups)


@rule(*CONV, *TRANSPOSED, "aten.convolution")
def convolution(
    channels: Channels, node: fx.Node, x: Value, weight: Value, bias: Value | None = None, *rest: Any, **kwargs: Any
) -> Any:
    """Make new channels from old, in groups, or filter each channel by itself (depthwise)."""
    if len(x.shape) != len(weight.shape) or not weight.source or (bias is not None and not bias.source):
        return NotImplemented
    place = geometry(node)
    if x.ids is None:
        return NotImplemented
    groups = place.groups
    if groups > 1 and x.shape[1] > groups and channels.cut(node):
        x = channels.gather(node, 0, x, 1)
    in_ids = channels.along(x, 1).reshape(groups, -1)
    taps = by_group(weight.value != 0, place).any(-1)
    outs = taps.shape[1]
    depthwise = taps.shape[1:] == (1, 1) and groups > 1
    out_ids = in_ids.clone() if depthwise else channels.fresh(groups * outs).reshape(groups, outs)
    _own(channels, weight, bias, in_ids, out_ids, place)
    constant, zero = _constants(x, 1)
    uniform, amount = foldable(x, 1)
    folds = constant if not channels.program.dynamic else uniform
    if not depthwise:
        channels.read(node, out_ids, in_ids, taps, ~folds, constant & ~zero, weight.source)
        if groups > 1:
            channels.grouped.append(Grouped(node, in_ids.numpy(), out_ids.numpy()))
    still = ~(taps & ~constant.reshape(groups, 1, -1)).any(-1).reshape(-1)
    value = _still(node, x, weight, bias, place, still, constant & ~zero, uniform, amount, taps)
    shape = tuple(int(s) for s in _out_shape(node, x, weight))
    result, const = known(value, shaped(still, 1, len(shape)))
    made = Value(shape, result, const, shaped(out_ids.reshape(-1), 1, len(shape)))
    if groups > 1 and not depthwise and channels.cut(node):
        made = channels.gather(node, -1, made, 1)
    return made


def _out_shape(node: fx.Node, x: Value, weight: Value) -> torch.Size:
    val = node.meta["val"]
    if all(isinstance(s, int) for s in val.shape):
        return torch.Size(val.shape)
    return repeat(node, torch.empty(x.shape, device="meta"), torch.empty(weight.shape, device="meta")).shape


def _constants(x: Value, dim: int) -> tuple[Tensor, Tensor]:
    """Return for every channel whether it is constant, and whether it is zero, everywhere."""

    def everywhere(mask: Tensor) -> Tensor:
        return mask.movedim(dim, 0).flatten(1).all(1).expand(x.shape[dim])

    return everywhere(x.const), everywhere(x.zero)


def _still(
    node: fx.Node,
    x: Value,
    weight: Value,
    bias: Value | None,
    place: Geometry,
    still: Tensor,
    loud: Tensor,
    uniform: Tensor,
    amount: Tensor,
    taps: Tensor,
) -> Tensor:
    """Return the value of the output channels that no changing input reaches, compressed float64."""
    ndim = len(x.shape)
    shift = bias.value.double() if bias is not None else torch.zeros(len(still), dtype=torch.float64)
    hears = (taps & loud.reshape(place.groups, 1, -1)).any(-1).reshape(-1) & still
    if not bool(hears.any()):
        return shaped(shift, 1, ndim)
    if bool((uniform | ~loud).all()) and not place.padded:
        weights = by_group(weight.value.double(), place).sum(-1)
        sums = torch.einsum("goi,gi->go", weights, amount.reshape(place.groups, -1)).reshape(-1)
        return shaped(shift + sums, 1, ndim)
    return contribution(node, x, weight.value, loud) + shaped(shift, 1, ndim)


def _own(
    channels: Channels, weight: Value, bias: Value | None, in_ids: Tensor, out_ids: Tensor, place: Geometry
) -> None:
    """Tie the weight's and bias's dimensions to the channels they make and read."""
    first, second = (in_ids, out_ids) if place.transposed else (out_ids, in_ids)
    if out_ids.shape[1] > 1 or second.shape[1] > 1 or place.groups == 1:  # a depthwise filter is its channel's own
        channels.columns.setdefault(weight.source, set()).add(0 if place.transposed else 1)
    if place.groups == 1:
        channels.tie(weight.source, 0, first[0])
        channels.tie(weight.source, 1, second[0])
    else:
        if channels.uniform and second.shape[1] > 1:
            for ids in (first, second):
                channels.unify(ids, ids[:1])
        channels.tie(weight.source, 0, first.reshape(-1))
        known_blocks = channels.blocks.get(weight.source)
        if known_blocks is None:
            channels.blocks[weight.source] = second.numpy().copy()
        else:
            channels.unify(torch.from_numpy(known_blocks), second)
        if second.shape[1] == 1:
            channels.unify(first, second)
    channels.writers.add(weight.source)
    if place.transposed:
        channels.transposed.add(weight.source)
    if bias is not None:
        channels.tie(bias.source, 0, out_ids.reshape(-1))
        channels.writers.add(bias.source)


@rule("aten.linear", "aten.addmm")
def linear(channels: Channels, node: fx.Node, x: Value, weight: Value, bias: Value | None = None) -> Any:
    """Make new channels from the last dimension's."""
    if name_of(node) == "aten.addmm" or x.ids is None or len(weight.shape) != 2:
        return NotImplemented
    if not weight.source or (bias is not None and not bias.source):
        return NotImplemented
    last = len(x.shape) - 1
    in_ids, out_ids = channels.along(x, last), channels.fresh(weight.shape[0])
    for part, dim, ids in ((weight, 0, out_ids), (bias, 0, out_ids), (weight, 1, in_ids)):
        if part is not None:
            channels.tie(part.source, dim, ids)
    channels.writers.update(part.source for part in (weight, bias) if part is not None)
    channels.columns.setdefault(weight.source, set()).add(1)
    taps = weight.value.numpy() != 0  # numpy is quicker at this
    constant, zero = _constants(x, last)
    uniform, amount = foldable(x, last)
    channels.read(
        node, out_ids[None], in_ids[None], torch.from_numpy(taps)[None], ~uniform, constant & ~zero, weight.source
    )
    changing = ~uniform  # a constant that differs from place to place counts as changing here
    still = torch.from_numpy(~(taps & changing.numpy()).any(1))
    value = bias.value.double() if bias is not None else torch.zeros(len(still), dtype=torch.float64)
    if bool((amount != 0).any()):
        value = value + weight.value[:, amount != 0].double() @ amount[amount != 0]
    shape = (*x.shape[:-1], weight.shape[0])
    result, const = known(shaped(value, last, len(shape)), shaped(still, last, len(shape)))
    return Value(shape, result, const, shaped(out_ids, last, len(shape)))
