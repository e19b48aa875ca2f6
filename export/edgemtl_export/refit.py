"""Refitting: what reads a pruned channel takes its part over from the channels that stay, by least squares.

After ThiNet (Luo et al. 2017, arXiv 1707.06342) and He et al. (2017, arXiv 1707.06168): for each convolution and linear
layer the weights w are moved by the least squares

    min Σ_samples ‖x (w + d) + b + e - y‖²  +  ridge · mean ‖x‖² ‖d‖²

over samples of its inputs x in the pruned network and of its outputs y in the network as it was. Layers are fitted in
the order in which they run, in one forward pass: each reads what those before it give once they are fitted, and is
fitted only where that brings images nearer that are held out of its fit. Filters that are zero stay so, and so do
weights that read zero channels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Layer = nn.Conv2d | nn.Linear
SAMPLES = 8192
"""Positions, over all images, at which a layer is fitted."""
COMPUTES = ("forward", "_conv_forward")
"""Methods that compute a layer's output."""
MOST_INPUTS = 4096
"""Weights of a filter; layers of larger ones stay as they are."""


@torch.no_grad()
def refit(
    pruned: nn.Module,
    before: nn.Module,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    ridge: float = 1e-3,
    samples: int = SAMPLES,
) -> dict[str, float]:
    """Refit the layers of ``pruned`` in place, to answer as the network ``before`` does on a batch of inputs.

    Both are the same network but for their weights, and are run in evaluation mode. Layers that are used more than
    once, share their weights or are frozen stay as they are. Returns by layer the share of the squared error that is
    left, of those that were fitted.
    """
    targets: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
    left: dict[str, float] = {}
    modules = dict(pruned.named_modules(remove_duplicate=False))
    uses = Counter(id(p) for m in modules.values() for p in m.parameters(recurse=False))
    wanted = {name for name, m in modules.items() if _can_be_fitted(m) and uses[id(m.weight)] == 1}
    calls: Counter[str] = Counter()

    def observe(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            rows = _rows(output, isinstance(module, nn.Linear))
            generator = torch.Generator().manual_seed(len(targets))
            chosen = torch.randperm(len(rows), generator=generator)[:samples].to(rows.device)
            targets[name] = chosen, rows[chosen], chosen // max(1, len(rows) // len(output))
            calls[name] += 1

        return hook

    def fit(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            assert isinstance(module, nn.Conv2d | nn.Linear)
            if calls[name] == 1:  # one fit would not do for all uses of a layer that is run several times
                left[name] = _fit(module, inputs[0], *targets[name], ridge)

        return hook

    _run(before, wanted, lambda m, name: m.register_forward_hook(observe(name)), args, kwargs)
    _run(pruned, wanted, lambda m, name: m.register_forward_pre_hook(fit(name)), args, kwargs)
    return left


def _run(
    network: nn.Module,
    names: set[str],
    register: Callable[[nn.Module, str], Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None,
) -> None:
    """Run a network in evaluation mode with a hook on some modules; its mode is what it was then."""
    modes = {module: module.training for module in network.modules()}
    hooks = [register(module, name) for name, module in network.named_modules() if name in names]
    try:
        network.eval()
        network(*args, **(kwargs or {}))
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training


def _can_be_fitted(module: nn.Module) -> bool:
    """Whether a layer's weights alone decide what it computes: not one with another forward, as timm's `Conv2dSame`."""
    kind = next((kind for kind in (nn.Conv2d, nn.Linear) if isinstance(module, kind)), None)
    if kind is None or any(getattr(type(module), f, None) is not getattr(kind, f, None) for f in COMPUTES):
        return False
    weight = module._parameters.get("weight")  # a parametrised weight is none: it is computed of others
    if weight is None or not weight.requires_grad or weight[0].numel() > MOST_INPUTS:
        return False
    return not isinstance(module, nn.Conv2d) or module.padding_mode == "zeros"


def _rows(values: Tensor, channels_last: bool) -> Tensor:
    """Return a tensor as (samples, channels)."""
    return values.flatten(0, -2) if channels_last else values.movedim(1, -1).flatten(0, -2)


def _inputs(module: Layer, x: Tensor, chosen: Tensor) -> Tensor:
    """Return what each group's filters read at the chosen positions, (groups, samples, weights of a filter)."""
    if isinstance(module, nn.Linear):
        return x.flatten(0, -2)[chosen][None]
    dilation, kernel = module.dilation, module.kernel_size
    if isinstance(module.padding, str):
        total = [d * (k - 1) if module.padding == "same" else 0 for d, k in zip(dilation, kernel, strict=True)]
        before = [t // 2 for t in total]
        x = functional.pad(x, (before[1], total[1] - before[1], before[0], total[0] - before[0]))
    else:
        x = functional.pad(x, (module.padding[1], module.padding[1], module.padding[0], module.padding[0]))
    height, width = (
        (n - d * (k - 1) - 1) // s + 1 for n, d, k, s in zip(x.shape[2:], dilation, kernel, module.stride, strict=True)
    )
    image, row, column = chosen // (height * width), chosen // width % height, chosen % width
    taps = [
        x[image, :, row * module.stride[0] + i * dilation[0], column * module.stride[1] + j * dilation[1]]
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]
    patches = torch.stack(taps, 2).unflatten(1, (module.groups, -1))  # (samples, groups, channels, taps)
    filters: Tensor = patches.flatten(2).transpose(0, 1)
    return filters


def _fit(module: Layer, x: Tensor, chosen: Tensor, target: Tensor, image: Tensor, ridge: float) -> float:
    """Move a layer's weights towards the target, and return the share of the squared error that is left.

    Both are of images that are held out of the fit; where the error of these grows, the weights stay.
    """
    groups = module.groups if isinstance(module, nn.Conv2d) else 1
    inputs = _inputs(module, x, chosen).double()
    weight = module.weight.flatten(1).unflatten(0, (groups, -1)).double()  # (groups, filters, weights)
    bias = torch.zeros(len(module.weight)) if module.bias is None else module.bias
    inputs = inputs * (weight != 0).any(1)[:, None]  # what no filter reads any more stays unread
    offset = bias.to(weight).unflatten(0, (groups, 1, -1))
    error = target.double().unflatten(1, (groups, -1)).transpose(0, 1) - inputs @ weight.transpose(1, 2) - offset
    active = (weight != 0).any(2)  # (groups, filters): what is pruned itself stays so
    held_out = _held_out(image)
    change, moved = _least_squares(inputs[:, ~held_out], error[:, ~held_out], module.bias is not None, ridge)
    change = change * (inputs.abs().amax(1) > 0)[:, :, None] * active[:, None, :]
    moved = moved * active[:, None, :]
    before = error[:, held_out]
    after = before - inputs[:, held_out] @ change - moved
    square = [float((e.square() * active[:, None, :]).sum()) for e in (before, after)]
    if not square[1] < square[0]:
        return 1.0
    module.weight.add_(change.transpose(1, 2).flatten(0, 1).reshape(module.weight.shape).to(module.weight))
    if module.bias is not None:
        module.bias.add_(moved.flatten().to(module.bias))
    return square[1] / square[0]


def _held_out(image: Tensor) -> Tensor:
    """Return which samples are of the last quarter of the images, (samples,); of few images every fourth sample."""
    count = int(image.max()) + 1
    held_out: Tensor = (
        image >= count - count // 4 if count >= 4 else torch.arange(len(image), device=image.device) % 4 == 3
    )
    return held_out if bool(held_out.any()) and not bool(held_out.all()) else torch.zeros_like(held_out)


def _least_squares(x: Tensor, error: Tensor, with_bias: bool, ridge: float) -> tuple[Tensor, Tensor]:
    """Return what weights, (groups, weights, filters), and offsets, (groups, 1, filters), are moved by."""
    mean = x.mean(1, keepdim=True) if with_bias else torch.zeros_like(x[:, :1])
    shift = error.mean(1, keepdim=True) if with_bias else torch.zeros_like(error[:, :1])
    centred = x - mean
    gram = centred.transpose(1, 2) @ centred
    scale = gram.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-12)
    gram = gram + ridge * scale[:, None, None] * torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    change = torch.linalg.solve(gram, centred.transpose(1, 2) @ (error - shift))
    return change, shift - mean @ change
