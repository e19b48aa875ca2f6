"""Convolution of any kind: new channels from old, in groups, or each channel filtered by itself (depthwise)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, fx

from ...program import op_name
from ..builder import ChannelBuilder, Rule
from ..values import Grouped, Value, along, mask_unknown, rows, uniform_constants

CONV = [f"aten.conv{n}d" for n in (1, 2, 3)]
TRANSPOSED = [f"aten.conv_transpose{n}d" for n in (1, 2, 3)]
CONVOLUTIONS = (*CONV, *TRANSPOSED, "aten.convolution")


@dataclass(frozen=True)
class Geometry:
    """Groups, direction and padding of a convolution node."""

    groups: int
    groups_arg: int
    """The position of ``groups`` among the arguments."""
    transposed: bool
    padded: bool
    """Whether some output positions read fewer inputs than others, so that constants give no uniform constant."""


def geometry(node: fx.Node) -> Geometry:
    """Read a convolution node's arguments."""
    name, args = op_name(node), list(node.args)
    transposed, groups_arg = name in TRANSPOSED, 6
    if name == "aten.convolution":
        transposed, groups_arg = bool(args[6]), 8
    groups = args[groups_arg] if len(args) > groups_arg else node.kwargs.get("groups", 1)
    padding = args[4] if len(args) > 4 else node.kwargs.get("padding", 0)
    weight = args[1]
    assert isinstance(groups, int) and isinstance(weight, fx.Node)
    kernel = weight.meta["val"].shape[2:]
    padded = transposed or (max(kernel) > 1 if padding == "same" else padding != "valid" and _any_nonzero(padding))
    return Geometry(groups, groups_arg, transposed, bool(padded))


def _any_nonzero(padding: object) -> bool:
    return any(p != 0 for p in (padding if isinstance(padding, list | tuple) else [padding]))


def run_convolution(
    node: fx.Node, x: Tensor, weight: Tensor, bias: Tensor | None = None, groups: int | None = None
) -> Tensor:
    """Run a convolution node's operator on other tensors."""
    args, conv = list(node.args), geometry(node)
    args[0], args[1] = x, weight
    if len(args) > 2:
        args[2] = bias
    elif bias is not None:
        args.append(bias)
    if groups is not None and len(args) > conv.groups_arg:
        args[conv.groups_arg] = groups
    assert callable(node.target)
    kwargs = {k: v for k, v in node.kwargs.items() if k not in ("groups", "bias")}
    result = node.target(*args, **kwargs)
    assert isinstance(result, Tensor)
    return result


def split_groups(weight: Tensor, conv: Geometry) -> Tensor:
    """Return a weight as (groups, outputs a group, inputs a group, taps)."""
    flat = weight.flatten(2)
    if conv.transposed:
        return flat.reshape(conv.groups, -1, *flat.shape[1:]).transpose(1, 2)
    return flat.reshape(conv.groups, -1, *flat.shape[1:])


def contribution(node: fx.Node, x: Value, weight: Tensor, inputs: Tensor) -> Tensor:
    """Return what the constant channels ``inputs`` (bool, of the input's channels) add to the result, float64."""
    data = x.expand(x.value.double() * along(inputs.double(), 1, len(x.shape)))
    data = data if x.value.shape[0] > 1 else data[:1]
    return run_convolution(node, data, weight.double(), groups=geometry(node).groups)


def convolution(
    builder: ChannelBuilder,
    node: fx.Node,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    *rest: object,
    **kw: object,
) -> Value | None:
    """Make new channels from old, in groups, or filter each channel by itself (depthwise)."""
    if len(x.shape) != len(weight.shape) or not weight.source or (bias is not None and not bias.source):
        return None
    conv = geometry(node)
    if x.ids is None:
        return None
    groups = conv.groups
    if groups > 1 and x.shape[1] > groups and builder.may_gather(node):
        x = builder.gather(node, 0, x, 1)
    in_ids = builder.ids_along(x, 1).reshape(groups, -1)
    needs = split_groups(weight.value != 0, conv).any(-1)
    outputs = needs.shape[1]
    depthwise = needs.shape[1:] == (1, 1) and groups > 1
    out_ids = in_ids.clone() if depthwise else builder.new_ids(groups * outputs).reshape(groups, outputs)
    _bind_parameters(builder, weight, bias, in_ids, out_ids, conv)
    constant, zero = constant_channels(x, 1)
    uniform, amount = uniform_constants(x, 1)
    foldable = constant if not builder.program.dynamic else uniform
    if not depthwise:
        builder.add_read(node, out_ids, in_ids, needs, ~foldable, constant & ~zero, weight.source)
        if groups > 1:
            builder.grouped.append(Grouped(node, in_ids.numpy(), out_ids.numpy()))
    const_out = ~(needs & ~constant.reshape(groups, 1, -1)).any(-1).reshape(-1)
    inputs = _ConstantInputs(constant & ~zero, uniform, amount)
    value = _constant_outputs(node, x, weight, bias, conv, inputs, needs, const_out)
    shape = tuple(int(s) for s in _out_shape(node, x, weight))
    value, const = mask_unknown(value, along(const_out, 1, len(shape)))
    result = Value(shape, value, const, along(out_ids.reshape(-1), 1, len(shape)))
    if groups > 1 and not depthwise and builder.may_gather(node):
        result = builder.gather(node, -1, result, 1)
    return result


@dataclass(frozen=True, eq=False)
class _ConstantInputs:
    """Of every input channel: whether it is constant but not zero, whether it is one number, and that number."""

    nonzero: Tensor
    uniform: Tensor
    amount: Tensor


def _constant_outputs(
    node: fx.Node,
    x: Value,
    weight: Value,
    bias: Value | None,
    conv: Geometry,
    inputs: _ConstantInputs,
    needs: Tensor,
    const_out: Tensor,
) -> Tensor:
    """Return the value of the output channels that read constants alone (``const_out``), compressed float64."""
    ndim = len(x.shape)
    shift = bias.value.double() if bias is not None else torch.zeros(len(const_out), dtype=torch.float64)
    shifted = (needs & inputs.nonzero.reshape(conv.groups, 1, -1)).any(-1).reshape(-1) & const_out
    if not bool(shifted.any()):
        return along(shift, 1, ndim)
    if bool((inputs.uniform | ~inputs.nonzero).all()) and not conv.padded:
        weights = split_groups(weight.value.double(), conv).sum(-1)
        sums = torch.einsum("goi,gi->go", weights, inputs.amount.reshape(conv.groups, -1)).reshape(-1)
        return along(shift + sums, 1, ndim)
    return contribution(node, x, weight.value, inputs.nonzero) + along(shift, 1, ndim)


def constant_channels(x: Value, dim: int) -> tuple[Tensor, Tensor]:
    """Return for every channel whether it is constant, and whether it is zero, everywhere."""

    def everywhere(mask: Tensor) -> Tensor:
        return rows(mask, dim).all(1).expand(x.shape[dim])

    return everywhere(x.const), everywhere(x.zero)


def _out_shape(node: fx.Node, x: Value, weight: Value) -> torch.Size:
    """Return the result's concrete shape, also where the recorded one is symbolic."""
    val = node.meta["val"]
    if all(isinstance(s, int) for s in val.shape):
        return torch.Size(val.shape)
    return run_convolution(node, torch.empty(x.shape, device="meta"), torch.empty(weight.shape, device="meta")).shape


def _bind_parameters(
    builder: ChannelBuilder, weight: Value, bias: Value | None, in_ids: Tensor, out_ids: Tensor, conv: Geometry
) -> None:
    """Bind the weight's and bias's dimensions to the channels that they make and read."""
    name = weight.source
    first, second = (in_ids, out_ids) if conv.transposed else (out_ids, in_ids)
    if out_ids.shape[1] > 1 or second.shape[1] > 1 or conv.groups == 1:  # a depthwise filter belongs to one channel
        builder.input_dims.setdefault(name, set()).add(0 if conv.transposed else 1)
    if conv.groups == 1:
        builder.bind(name, 0, first[0])
        builder.bind(name, 1, second[0])
    else:
        if builder.couple_groups and second.shape[1] > 1:
            for ids in (first, second):
                builder.couple(ids, ids[:1])
        builder.bind(name, 0, first.reshape(-1))
        bound = builder.block_ids.get(name)
        if bound is None:
            builder.block_ids[name] = second.numpy().copy()
        else:
            builder.couple(torch.from_numpy(bound), second)
        if second.shape[1] == 1:
            builder.couple(first, second)
    builder.producers.add(name)
    if conv.transposed:
        builder.transposed.add(name)
    builder.bind_output([bias], out_ids.reshape(-1))


RULES: dict[str, Rule] = dict.fromkeys(CONVOLUTIONS, convolution)
