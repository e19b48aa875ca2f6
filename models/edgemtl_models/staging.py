"""A backbone taken apart into stages: stage k is all that makes features at stride 2^k from those of stage k - 1."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from .backbone import TimmBackbone

PROBE = 128
"""Height and width of the picture that tells strides."""


def stages(backbone: nn.Module, channels: int) -> dict[int, nn.Sequential]:
    """Return the stages of a backbone for pictures of so many channels, by their number, 1 to 4.

    The features that the backbone gives at strides 4, 8 and 16 are those behind stages 2, 3 and 4. Raises `ValueError`
    when the backbone is more than a row of modules.
    """
    image = torch.zeros(1, channels, PROBE, PROBE)
    training = {module: module.training for module in backbone.modules()}
    backbone.eval()
    found: dict[int, list[nn.Module]] = {}
    with torch.no_grad():
        expected, now, number = backbone(image), image, 1
        for piece in _row(backbone):
            now = piece(now)
            number = max(number, (PROBE // now.shape[2]).bit_length() - 1)
            found.setdefault(number, []).append(piece)
        made = {number: nn.Sequential(*pieces) for number, pieces in sorted(found.items())}
        ends, now = [], image
        for number, stage in made.items():
            now = stage(now)
            if number > 1:
                ends.append(now)
    for module, was in training.items():
        module.training = was
    if list(made) != [1, 2, 3, 4]:
        strides = ", ".join(str(2**number) for number in made)
        raise ValueError(f"the backbone's stages end at strides {strides}, and not at 2, 4, 8 and 16")
    if not all(torch.equal(e, m) for e, m in zip(expected, ends, strict=True)):
        raise ValueError("the backbone is more than a row of modules: it cannot be taken apart into stages")
    return made


def _row(backbone: nn.Module) -> Iterator[nn.Module]:
    """Give the modules that a backbone runs one after the other."""
    body = backbone.body if isinstance(backbone, TimmBackbone) else backbone
    for child in body.children():  # type: ignore[union-attr]
        if type(child) is nn.Sequential:
            yield from child
        else:
            yield child
