"""ONNX's operators without weights, as functions of torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from onnx import helper
from torch import Tensor
from torch.nn import functional

from ..errors import UnsupportedError
from .movement import MOVEMENTS
from .values import Call

Result = Tensor | tuple[Tensor, ...]
Operator = Callable[[Call], Result]


def unary(function: Callable[[Tensor], Tensor]) -> Operator:
    """Return an operator of one input."""
    return lambda call: function(call.tensor(0))


def binary(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    """Return an operator of two inputs that are broadcast to each other."""

    def apply(call: Call) -> Tensor:
        return function(call.tensor(0), call.tensor(1))

    return apply


def variadic(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    """Return an operator of any number of inputs."""

    def apply(call: Call) -> Tensor:
        result = call.tensor(0)
        for index in range(1, len(call.inputs)):
            result = function(result, call.tensor(index))
        return result

    return apply


def reduce(function: Callable[[Tensor, list[int], bool], Tensor]) -> Operator:
    """Return a reduction over axes, all where none are given."""

    def apply(call: Call) -> Tensor:
        x = call.tensor(0)
        axes = call.numbers(1, "axes")
        if not axes and call.attribute("noop_with_empty_axes", 0):
            return x
        return function(x, axes or list(range(x.ndim)), bool(call.attribute("keepdims", 1)))

    return apply


def pool(call: Call) -> Tensor:
    """Return MaxPool or AveragePool in two dimensions."""
    x, kernel = call.tensor(0), call.attribute("kernel_shape")
    n = len(kernel)
    pads = call.attribute("pads", [0] * 2 * n)
    if n != 2 or call.attribute("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise UnsupportedError(f"{call.label}: a pooling of {n} dimensions, or with auto_pad")
    stride, ceil = call.attribute("strides", [1] * n), bool(call.attribute("ceil_mode", 0))
    is_max = call.node.op_type == "MaxPool"
    counts_pads = bool(call.attribute("count_include_pad", 0))
    if pads[:n] != pads[n:]:
        if not is_max and not counts_pads:
            raise UnsupportedError(f"{call.label}: padding {pads} that differs at both ends and does not count")
        x = functional.pad(x, (pads[1], pads[3], pads[0], pads[2]), value=float("-inf") if is_max else 0.0)
        pads = [0, 0]
    if is_max:
        dilation = call.attribute("dilations", [1] * n)
        return functional.max_pool2d(x, kernel, stride, pads[:n], dilation, ceil)
    return functional.avg_pool2d(x, kernel, stride, pads[:n], ceil, counts_pads)


def top_k(call: Call) -> tuple[Tensor, Tensor]:
    """Return TopK of a number that is known ahead."""
    numbers = call.numbers(1, "k")
    assert numbers is not None
    largest, ordered = bool(call.attribute("largest", 1)), bool(call.attribute("sorted", 1))
    best = call.tensor(0).topk(numbers[0], call.attribute("axis", -1), largest, ordered)
    return best.values, best.indices


def clip(call: Call) -> Tensor:
    """Return Clip, of bounds that are inputs or attributes."""
    low = float(call.constant(1)) if call.has(1) else call.attribute("min")
    high = float(call.constant(2)) if call.has(2) else call.attribute("max")
    return call.tensor(0).clamp(low, high)


def softmax(call: Call) -> Tensor:
    """Return Softmax along one axis."""
    return call.tensor(0).softmax(call.attribute("axis", -1))


def cast(call: Call) -> Tensor:
    """Return Cast."""
    dtype = helper.tensor_dtype_to_np_dtype(call.attribute("to"))
    return call.tensor(0).to(torch.from_numpy(np.zeros(0, dtype)).dtype)


def gemm(call: Call) -> Tensor:
    """Return Gemm of computed matrices."""
    a, b = call.tensor(0), call.tensor(1)
    a = a.T if call.attribute("transA", 0) else a
    b = b.T if call.attribute("transB", 0) else b
    product: Tensor = float(call.attribute("alpha", 1.0)) * (a @ b)
    return product + float(call.attribute("beta", 1.0)) * call.tensor(2) if call.has(2) else product


def layer_norm(call: Call) -> Tensor:
    """Return LayerNormalization over the last dimensions."""
    x = call.tensor(0)
    shape = x.shape[call.attribute("axis", -1) % x.ndim :]
    bias = call.tensor(2) if call.has(2) else None
    return functional.layer_norm(x, shape, call.tensor(1), bias, call.attribute("epsilon", 1e-5))


def _gelu(call: Call) -> Tensor:
    return functional.gelu(call.tensor(0), approximate=call.attribute("approximate", "none"))


def _hard_sigmoid(call: Call) -> Tensor:
    slope, offset = float(call.attribute("alpha", 0.2)), float(call.attribute("beta", 0.5))
    return (slope * call.tensor(0) + offset).clamp(0, 1)


def _arg_max(call: Call) -> Tensor:
    return call.tensor(0).argmax(call.attribute("axis", 0), bool(call.attribute("keepdims", 1)))


def _mean(call: Call) -> Tensor:
    total: Any = OPERATORS["Sum"](call)
    result: Tensor = total / len(call.inputs)
    return result


OPERATORS: dict[str, Operator] = {
    "Identity": unary(lambda x: x),
    "Dropout": unary(lambda x: x),
    "Relu": unary(functional.relu),
    "Sigmoid": unary(torch.sigmoid),
    "Tanh": unary(torch.tanh),
    "HardSwish": unary(functional.hardswish),
    "Mish": unary(functional.mish),
    "Softplus": unary(functional.softplus),
    "Exp": unary(torch.exp),
    "Log": unary(torch.log),
    "Sqrt": unary(torch.sqrt),
    "Neg": unary(torch.neg),
    "Abs": unary(torch.abs),
    "Erf": unary(torch.erf),
    "Floor": unary(torch.floor),
    "Ceil": unary(torch.ceil),
    "Round": unary(torch.round),
    "Reciprocal": unary(torch.reciprocal),
    "Not": unary(torch.logical_not),
    "Sin": unary(torch.sin),
    "Cos": unary(torch.cos),
    "LeakyRelu": lambda call: functional.leaky_relu(call.tensor(0), call.attribute("alpha", 0.01)),
    "Elu": lambda call: functional.elu(call.tensor(0), call.attribute("alpha", 1.0)),
    "HardSigmoid": _hard_sigmoid,
    "Gelu": _gelu,
    "PRelu": binary(lambda x, slope: torch.where(x < 0, x * slope, x)),
    "Add": binary(torch.add),
    "Sub": binary(torch.sub),
    "Mul": binary(torch.mul),
    "Div": binary(lambda a, b: a / b if a.is_floating_point() else a.div(b, rounding_mode="trunc")),
    "Pow": binary(torch.pow),
    "MatMul": binary(torch.matmul),
    "Equal": binary(torch.eq),
    "Greater": binary(torch.gt),
    "Less": binary(torch.lt),
    "GreaterOrEqual": binary(torch.ge),
    "LessOrEqual": binary(torch.le),
    "And": binary(torch.logical_and),
    "Or": binary(torch.logical_or),
    "Mod": binary(lambda a, b: a.fmod(b) if a.is_floating_point() else a.remainder(b)),
    "Sum": variadic(torch.add),
    "Max": variadic(torch.maximum),
    "Min": variadic(torch.minimum),
    "Mean": _mean,
    "Where": lambda call: torch.where(call.tensor(0), call.tensor(1), call.tensor(2)),
    "Clip": clip,
    "Softmax": softmax,
    "LogSoftmax": lambda call: call.tensor(0).log_softmax(call.attribute("axis", -1)),
    "Cast": cast,
    "Gemm": gemm,
    "LayerNormalization": layer_norm,
    "InstanceNormalization": lambda call: functional.instance_norm(
        call.tensor(0), weight=call.tensor(1), bias=call.tensor(2), eps=call.attribute("epsilon", 1e-5)
    ),
    "MaxPool": pool,
    "AveragePool": pool,
    "GlobalAveragePool": unary(lambda x: x.mean(tuple(range(2, x.ndim)), keepdim=True)),
    "GlobalMaxPool": unary(lambda x: x.amax(tuple(range(2, x.ndim)), keepdim=True)),
    "ReduceMean": reduce(lambda x, axes, keep: x.mean(axes, keepdim=keep)),
    "ReduceSum": reduce(lambda x, axes, keep: x.sum(axes, keepdim=keep)),
    "ReduceMax": reduce(lambda x, axes, keep: x.amax(axes, keepdim=keep)),
    "ReduceMin": reduce(lambda x, axes, keep: x.amin(axes, keepdim=keep)),
    "ReduceL2": reduce(lambda x, axes, keep: x.square().sum(axes, keepdim=keep).sqrt()),
    "TopK": top_k,
    "ArgMax": _arg_max,
    **MOVEMENTS,
}
"""By name, in the default domain; others are refused."""
