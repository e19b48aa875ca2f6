"""Ultralytics' own box head and loss in the place of ours, to train one network with either.

The head's parameters have the same names in both, so that what was trained opens as a run of ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from edgemtl_models import box_loss, head_kinds, yolo  # noqa: F401  # which keeps ultralytics offline
from edgemtl_models.box_head import BRANCHES, BoxHead


class LibraryHead(BoxHead):
    """A box head of ultralytics' layers, outputs and first biases, its weights drawn as those of ours."""

    def __init__(
        self, channels: list[int], strides: list[int], classes: int, reg_max: int = 1, score_width: int = 0
    ) -> None:
        from ultralytics.nn.modules import Detect

        super().__init__(channels, strides, classes, reg_max, score_width)
        with torch.random.fork_rng(devices=[]):  # so that a seed draws the same weights for either head
            detect: Any = Detect(classes, reg_max=reg_max, end2end=True, ch=channels)
        detect.stride = torch.tensor(strides, dtype=torch.float32)
        with suppress(AttributeError):  # in older releases the branches decide it
            detect.end2end = True  # which boxes' form depends on
        assert list(detect.state_dict()) == list(self.detect.state_dict())
        detect.load_state_dict(self.detect.state_dict())
        self.detect = detect

    def bias_init(self) -> None:
        """Start as ultralytics does."""
        detect: Any = self.detect
        detect.bias_init()

    def forward(self, features: list[Tensor]) -> Any:
        """Return what `BoxHead` returns."""
        detect: Any = self.detect
        features = features[-len(self.strides) :]
        if self.training:
            return detect(features)
        return detect._inference(detect.forward_head(features, **detect.one2one)).transpose(1, 2)


class LibraryLoss:
    """Ultralytics' loss of both branches, in the form of `BoxLoss`."""

    def __init__(self, head: BoxHead, epochs: int) -> None:
        from ultralytics.cfg import get_cfg
        from ultralytics.utils.loss import E2ELoss

        args = get_cfg(overrides={"box": 7.5, "cls": 0.5, "dfl": 1.5, "epochs": epochs})
        model: Any = SimpleNamespace(args=args, model=[head.detect], parameters=head.parameters)
        self.loss = E2ELoss(model)
        self.weights: dict[str, Tensor] = {}
        for name in BRANCHES:
            assigner = getattr(self.loss, name).assigner
            assigner.register_forward_hook(lambda _m, _i, out, name=name: self.weights.update({name: out[2].sum()}))

    def __call__(self, raw: Mapping[str, Mapping[str, Any]], target: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return each branch's loss as a sum, and the weight that it is the mean over."""
        totals = []
        for name, share in zip(BRANCHES, (self.loss.o2m, self.loss.o2o), strict=True):
            mean = getattr(self.loss, name).loss(raw[name], target)[0].sum() / len(raw[name]["scores"])
            totals.append(share * mean * self.weights[name].clamp(min=1))
        return torch.stack(totals), torch.stack([self.weights[name] for name in BRANCHES])

    def advance(self) -> None:
        """Move the weight from the one-to-many to the one-to-one branch."""
        self.loss.update()


@contextmanager
def library_head() -> Iterator[None]:
    """Build and train networks with ultralytics' head in this block."""
    with patch.object(head_kinds, "BoxHead", LibraryHead), patch.object(box_loss, "BoxLoss", LibraryLoss):
        yield
