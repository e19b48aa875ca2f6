"""Splits a backbone into its modules in the order they run in, and into stages that each end at a stride."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from .backbone import Backbone

PROBE = 128
"""Height and width of the image that shows what strides are."""


def module_sequence(backbone: Backbone, channels: int) -> dict[str, Tensor]:
    """Return the modules that a backbone runs one after the other, by path, and what each gives for a probe image.

    Raises `ValueError` when the backbone is more than such a sequence.
    """
    outputs: dict[str, Tensor] = {}
    training = {module: module.training for module in backbone.modules()}
    with torch.no_grad():
        features = image = torch.zeros(1, channels, PROBE, PROBE)
        expected = backbone.eval()(image)
        for path in _paths(backbone):
            features = backbone.get_submodule(path)(features)
            outputs[path] = features
    for module, was_training in training.items():
        module.training = was_training
    last = {PROBE // output.shape[2]: output for output in outputs.values()}
    if not all(torch.equal(e, last.get(stride, image)) for e, stride in zip(expected, (4, 8, 16), strict=True)):
        raise ValueError("the backbone is more than a sequence of modules: it cannot be split into stages")
    return outputs


def stages(backbone: Backbone, channels: int) -> dict[int, nn.Sequential]:
    """Return the stages of a backbone for images of so many channels, by number: stage k makes stride 2^k of 2^(k - 1).

    The features that the backbone gives at strides 4, 8 and 16 are those after stages 2, 3 and 4. Raises `ValueError`
    when the backbone is more than a sequence of modules.
    """
    members: dict[int, list[nn.Module]] = {}
    number = 1
    for path, output in module_sequence(backbone, channels).items():
        number = max(number, (PROBE // output.shape[2]).bit_length() - 1)
        members.setdefault(number, []).append(backbone.get_submodule(path))
    if sorted(members) != [1, 2, 3, 4]:
        strides = ", ".join(str(2**number) for number in sorted(members))
        raise ValueError(f"the backbone's stages end at strides {strides}, and not at 2, 4, 8 and 16")
    return {number: nn.Sequential(*modules) for number, modules in members.items()}


def _paths(backbone: Backbone) -> Iterator[str]:
    """Yield the paths of the modules that run one after the other: children, and the children of sequences."""
    prefix = f"{backbone.body_path}." if backbone.body_path else ""
    for name, child in backbone.get_submodule(backbone.body_path).named_children():
        yield from _members(prefix + name, child)


def _members(path: str, module: nn.Module) -> Iterator[str]:
    if type(module) is not nn.Sequential:
        yield path
        return
    for name, child in module.named_children():
        yield from _members(f"{path}.{name}", child)
