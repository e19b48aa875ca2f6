"""Nodes with weights as torch's own layers, so that what trains, prunes and refits layers knows them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from ..errors import UnsupportedError
from .values import Call

Build = Callable[[Call], nn.Module | None]


def convolution(call: Call) -> nn.Module | None:
    """Return the layer of Conv or ConvTranspose; None where the weights are computed."""
    if not call.is_known(1):
        return None
    weight = call.constant(1)
    n, groups = weight.ndim - 2, call.attribute("group", 1)
    if n not in (1, 2, 3) or call.attribute("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise UnsupportedError(f"{call.label}: {n} dimensions, auto_pad {call.attribute('auto_pad', 'NOTSET')}")
    pads = call.attribute("pads", [0] * 2 * n)
    before, after = pads[:n], pads[n:]
    given = {
        "kernel_size": tuple(weight.shape[2:]),
        "stride": tuple(call.attribute("strides", [1] * n)),
        "dilation": tuple(call.attribute("dilations", [1] * n)),
        "groups": groups,
        "bias": call.has(2),
    }
    layer: nn.Module
    if call.node.op_type == "ConvTranspose":
        if before != after:
            raise UnsupportedError(f"{call.label}: padding {pads} that differs at both ends")
        kind = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[n - 1]
        extra = tuple(call.attribute("output_padding", [0] * n))
        layer = kind(weight.shape[0], weight.shape[1] * groups, padding=tuple(before), output_padding=extra, **given)
    else:
        kind_of = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[n - 1]
        even = before == after
        layer = kind_of(weight.shape[1] * groups, weight.shape[0], padding=tuple(before) if even else 0, **given)
        if not even:
            ends = [end for pair in reversed(list(zip(before, after, strict=True))) for end in pair]
            return _filled(nn.Sequential(nn.ZeroPad2d(tuple(ends)), layer), layer, call) if n == 2 else _odd(call)
    return _filled(layer, layer, call)


def _odd(call: Call) -> nn.Module:
    raise UnsupportedError(f"{call.label}: padding that differs at both ends, in other than two dimensions")


def _filled(whole: nn.Module, layer: nn.Module, call: Call) -> nn.Module:
    """Return a module whose layer has a node's weights."""
    with torch.no_grad():
        layer.get_parameter("weight").copy_(torch.from_numpy(np.array(call.constant(1))))
        if call.has(2):
            layer.get_parameter("bias").copy_(torch.from_numpy(np.array(call.constant(2))))
    return whole


def gemm(call: Call) -> nn.Module | None:
    """Return the linear layer of Gemm; None where it is another product."""
    plain = call.attribute("alpha", 1.0) == call.attribute("beta", 1.0) == 1 and not call.attribute("transA", 0)
    if not call.is_known(1) or not plain or (call.has(2) and not call.is_known(2)):
        return None
    weight = call.constant(1)
    matrix = weight if call.attribute("transB", 0) else weight.T
    return _linear(matrix, np.broadcast_to(call.constant(2), matrix.shape[:1]) if call.has(2) else None)


def matmul(call: Call) -> nn.Module | None:
    """Return the linear layer of MatMul with a constant matrix; None where it is another product."""
    return _linear(call.constant(1).T, None) if call.is_known(1) and call.constant(1).ndim == 2 else None


def _linear(matrix: np.ndarray[tuple[int, ...], np.dtype[np.float32]], bias: object) -> nn.Module:
    layer = nn.Linear(matrix.shape[1], matrix.shape[0], bias=bias is not None)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.array(matrix)))
        if bias is not None:
            layer.bias.copy_(torch.from_numpy(np.array(bias)))
    return layer


def batch_norm(call: Call) -> nn.Module | None:
    """Return the layer of BatchNormalization."""
    scale, shift, mean, variance = (torch.from_numpy(np.array(call.constant(i))) for i in range(1, 5))
    layer = nn.BatchNorm2d(len(scale), eps=call.attribute("epsilon", 1e-5))
    layer.load_state_dict({"weight": scale, "bias": shift, "running_mean": mean, "running_var": variance}, strict=False)
    return layer


LAYERS: dict[str, Build] = {
    "Conv": convolution,
    "ConvTranspose": convolution,
    "Gemm": gemm,
    "MatMul": matmul,
    "BatchNormalization": batch_norm,
}
