"""Linear layers: new channels from those of the last dimension."""

from __future__ import annotations

import torch
from torch import fx

from ..builder import ChannelBuilder, Rule
from ..values import Value, along, mask_unknown, uniform_constants
from .convolution import constant_channels


def linear(builder: ChannelBuilder, node: fx.Node, x: Value, weight: Value, bias: Value | None = None) -> Value | None:
    """Make new channels from the last dimension's."""
    if x.ids is None or len(weight.shape) != 2:
        return None
    if not weight.source or (bias is not None and not bias.source):
        return None
    last = len(x.shape) - 1
    in_ids, out_ids = builder.ids_along(x, last), builder.new_ids(weight.shape[0])
    builder.bind_output([weight, bias], out_ids)
    builder.bind(weight.source, 1, in_ids)
    builder.input_dims.setdefault(weight.source, set()).add(1)
    needs = weight.value.numpy() != 0  # numpy is quicker at this
    constant, zero = constant_channels(x, last)
    uniform, amount = uniform_constants(x, last)
    varies = ~uniform  # a constant that differs from position to position counts as varying here
    builder.add_read(
        node, out_ids[None], in_ids[None], torch.from_numpy(needs)[None], varies, constant & ~zero, weight.source
    )
    const_out = torch.from_numpy(~(needs & varies.numpy()).any(1))
    value = bias.value.double() if bias is not None else torch.zeros(len(const_out), dtype=torch.float64)
    if bool((amount != 0).any()):
        value = value + weight.value[:, amount != 0].double() @ amount[amount != 0]
    shape = (*x.shape[:-1], weight.shape[0])
    value, const = mask_unknown(along(value, last, len(shape)), along(const_out, last, len(shape)))
    return Value(shape, value, const, along(out_ids, last, len(shape)))


RULES: dict[str, Rule] = {"aten.linear": linear}
