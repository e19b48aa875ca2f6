"""ONNX's operators that move elements, as functions of torch: sizes and places are known ahead."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..errors import UnsupportedError
from .values import Call


def slice_(call: Call) -> Tensor:
    """Return Slice, of numbers that are known ahead."""
    x, starts, ends = call.tensor(0), call.numbers(1, "starts"), call.numbers(2, "ends")
    assert starts is not None and ends is not None
    axes = call.numbers(3, "axes") or list(range(len(starts)))
    steps = call.numbers(4) or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        indices = range(x.shape[axis])[start:end:step]
        if step > 0:
            x = x[(slice(None),) * (axis % x.ndim) + (slice(indices.start, indices.stop, step),)]
        else:
            x = x.index_select(axis, torch.tensor(list(indices), device=x.device))
    return x


def reshape(call: Call) -> Tensor:
    """Return Reshape; 0 keeps a size."""
    x, shape = call.tensor(0), call.numbers(1)
    assert shape is not None
    if not call.attribute("allowzero", 0):
        shape = [x.shape[i] if size == 0 else size for i, size in enumerate(shape)]
    return x.reshape(shape)


def split(call: Call) -> tuple[Tensor, ...]:
    """Return Split, into sizes or into equal parts."""
    x, axis = call.tensor(0), call.attribute("axis", 0)
    sizes = call.numbers(1, "split")
    if sizes is None:
        parts = call.attribute("num_outputs", len(call.node.output))
        size = -(-x.shape[axis] // parts)
        sizes = [min(size, x.shape[axis] - i * size) for i in range(parts)]
    parts_of: tuple[Tensor, ...] = x.split(sizes, axis)
    return parts_of


def resize(call: Call) -> Tensor:
    """Return Resize by nearest or linear interpolation of the last two dimensions."""
    x, mode = call.tensor(0), call.attribute("mode", "nearest")
    if call.has(3) and call.constant(3).size:
        size = [int(n) for n in call.constant(3)]
    else:
        scales = call.constant(2) if call.has(2) and call.constant(2).size else call.constant(1)
        size = [int(n * s) for n, s in zip(x.shape, scales, strict=True)]
    where = call.attribute("coordinate_transformation_mode", "half_pixel")
    if x.ndim != 4 or x.shape[1] != size[1]:
        raise UnsupportedError(f"{call.label}: resizes other than the last two of four dimensions")
    if mode == "nearest" and (
        where == "asymmetric" or all(new % old == 0 for new, old in zip(size[2:], x.shape[2:], strict=True))
    ):
        return functional.interpolate(x, size[2:], mode="nearest")
    if mode == "linear" and where in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        return functional.interpolate(x, size[2:], mode="bilinear", align_corners=where == "align_corners")
    raise UnsupportedError(f"{call.label}: mode {mode} with {where}")


def pad(call: Call) -> Tensor:
    """Return Pad."""
    x, pads, mode = call.tensor(0), call.numbers(1, "pads"), call.attribute("mode", "constant")
    assert pads is not None
    value = float(call.constant(2)) if call.has(2) else float(call.attribute("value", 0.0))
    axes = call.numbers(3) or list(range(x.ndim))
    ends = [0] * (2 * x.ndim)
    for i, axis in enumerate(axes):
        offset = 2 * (x.ndim - 1 - axis % x.ndim)
        ends[offset : offset + 2] = pads[i], pads[i + len(axes)]
    names = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    if mode != "constant":
        while len(ends) > 2 and ends[-2:] == [0, 0]:
            ends = ends[:-2]
        return functional.pad(x, ends, names[mode])
    return functional.pad(x, ends, value=value)


def squeeze(call: Call) -> Tensor:
    """Return Squeeze."""
    axes = call.numbers(1, "axes")
    return call.tensor(0).squeeze() if axes is None else call.tensor(0).squeeze(tuple(axes))


def unsqueeze(call: Call) -> Tensor:
    """Return Unsqueeze, whose axes are of the result."""
    x, axes = call.tensor(0), call.numbers(1, "axes")
    assert axes is not None
    for axis in sorted(a % (x.ndim + len(axes)) for a in axes):
        x = x.unsqueeze(axis)
    return x


def gather(call: Call) -> Tensor:
    """Return Gather along an axis."""
    x, index, axis = call.tensor(0), call.tensor(1), call.attribute("axis", 0)
    index = torch.where(index < 0, index + x.shape[axis], index)
    if index.ndim == 0 and call.is_known(1):
        return x.select(axis, int(call.constant(1)))
    chosen = x.index_select(axis, index.reshape(-1))
    return chosen.reshape(*x.shape[:axis], *index.shape, *x.shape[axis % x.ndim + 1 :])


def flatten(call: Call) -> Tensor:
    """Return Flatten into a matrix."""
    x, axis = call.tensor(0), call.attribute("axis", 1)
    rows = int(np.prod(x.shape[: axis % (x.ndim + 1)], dtype=np.int64))
    return x.reshape(rows, -1)


def rearrange(call: Call) -> Tensor:
    """Return DepthToSpace or SpaceToDepth."""
    x, block = call.tensor(0), call.attribute("blocksize")
    b, c, h, w = x.shape
    if call.node.op_type == "SpaceToDepth":
        x = x.reshape(b, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
        return x.reshape(b, c * block**2, h // block, w // block)
    if call.attribute("mode", "DCR") == "CRD":
        return functional.pixel_shuffle(x, block)
    x = x.reshape(b, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return x.reshape(b, c // block**2, h * block, w * block)


def transpose(call: Call) -> Tensor:
    """Return Transpose: the dimensions in another order."""
    x = call.tensor(0)
    return x.permute(call.attribute("perm", list(reversed(range(x.ndim)))))


def expand(call: Call) -> Tensor:
    """Return Expand to a shape that is known ahead."""
    x, shape = call.tensor(0), call.numbers(1)
    assert shape is not None
    return x.expand(torch.broadcast_shapes(x.shape, tuple(shape)))


def concat(call: Call) -> Tensor:
    """Return Concat along an axis."""
    return torch.cat([call.tensor(i) for i in range(len(call.inputs))], call.attribute("axis"))


MOVEMENTS: dict[str, Callable[[Call], Tensor | tuple[Tensor, ...]]] = {
    "Concat": concat,
    "Split": split,
    "Slice": slice_,
    "Reshape": reshape,
    "Transpose": transpose,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Flatten": flatten,
    "Expand": expand,
    "Tile": lambda call: call.tensor(0).repeat(*(call.numbers(1) or [])),
    "Resize": resize,
    "Upsample": resize,
    "Pad": pad,
    "Gather": gather,
    "GatherElements": lambda call: call.tensor(0).gather(call.attribute("axis", 0), call.tensor(1)),
    "DepthToSpace": rearrange,
    "SpaceToDepth": rearrange,
}
"""By name."""
