"""Element-wise operators: one operand passes its channels on, two tie theirs together."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from ..channels import Channels, Value, known, name_of, rule

UNARY = """
    silu relu relu6 sigmoid tanh gelu elu leaky_relu hardswish hardsigmoid hardtanh softplus mish exp log sqrt
    rsqrt neg abs clamp clamp_min clamp_max dropout to _to_copy pow erf sin cos reciprocal floor round rsub
""".split()  # noqa: SIM905
BINARY = ["add", "sub", "mul", "div", "maximum", "minimum"]


@rule(*(f"aten.{name}" for name in UNARY))
def unary(channels: Channels, node: fx.Node, x: Value, *args: Any, **kwargs: Any) -> Any:
    """Apply the function to the constants; channels pass as they are."""
    if any(isinstance(a, Value) for a in (*args, *kwargs.values())):
        return NotImplemented
    assert callable(node.target)
    kwargs = {k: v for k, v in kwargs.items() if k not in ("dtype", "device", "layout", "memory_format")}
    value = node.target(x.value, *args, **kwargs) if name_of(node) not in ("aten.to", "aten._to_copy") else x.value
    return Value(known(value, x.const), x.const, x.ids)


@rule(*(f"aten.{name}" for name in BINARY))
def binary(channels: Channels, node: fx.Node, a: Any, b: Any, **kwargs: Any) -> Any:
    """Combine two operands; where both carry channels they become one."""
    assert callable(node.target)
    left, right = (v.value if isinstance(v, Value) else v for v in (a, b))
    value = node.target(left, right, **kwargs)
    const = _const(a) & _const(b)
    if name_of(node) == "aten.mul":
        for factor in (a, b):
            if isinstance(factor, Value):
                const = const | factor.is_zero
        value = known(value, const)
    ids = _merge(channels, a, b, value.shape)
    if ids is None:
        return NotImplemented
    const = const.expand(value.shape)
    return Value(known(value, const), const, ids)


def _const(operand: Any) -> Tensor:
    return operand.const if isinstance(operand, Value) else torch.tensor(True)


def _merge(channels: Channels, a: Any, b: Any, shape: torch.Size) -> Tensor | None:
    """Return the result's ids, or None when a broadcast would hide which channel a value belongs to."""
    carriers = [v for v in (a, b) if isinstance(v, Value) and v.ids is not None]
    bare = [v for v in (a, b) if isinstance(v, Value) and v.ids is None]
    if any(_hides(v, other) for v in carriers for other in carriers if v is not other):
        return None
    ids = [v.ids.expand(shape) for v in carriers if v.ids is not None]
    for constant in bare:
        if not _fits(channels, constant, carriers[0], shape):
            return None
    if len(ids) == 2:
        channels.unify(ids[0], ids[1])
    return ids[0]


def _hides(v: Value, other: Value) -> bool:
    """Whether ``v`` is broadcast along a dimension in which the other operand has several channels."""
    assert v.ids is not None and other.ids is not None
    for back in range(1, other.value.ndim + 1):
        own = v.value.shape[-back] if back <= v.value.ndim else 1
        if own == 1 and other.value.shape[-back] > 1:
            first = other.ids.narrow(-back, 0, 1)
            if not bool((other.ids == first).all()):
                return True
    return False


def _fits(channels: Channels, constant: Value, carrier: Value, shape: torch.Size) -> bool:
    """Whether a constant needs no slicing beside the carrier, or is a parameter that can be sliced with it."""
    assert carrier.ids is not None
    ids = carrier.ids.expand(shape)
    varying = [
        d
        for d in range(-constant.value.ndim, 0)
        if constant.value.shape[d] > 1 and not bool((ids == ids.narrow(d, 0, 1)).all())
    ]
    if not varying:
        channels.loose.add(constant.source)
        return True
    along = channels.along(Value(ids, ids, ids), varying[0]) if len(varying) == 1 else None
    if along is None or not constant.source:
        return False
    channels.tie(constant.source, varying[0] % constant.value.ndim, along)
    return True
