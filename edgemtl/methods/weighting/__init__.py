"""Task weighting: how the losses of several tasks make one step of the weights that they share.

    equal         the sum of the losses
    uncertainty   uncertainty weighting, exp(-s) L + s with s trained       Kendall et al. 2018, arXiv 1705.07115
    dwa           dynamic weight average: more to slowly falling losses      Liu et al. 2019, arXiv 1803.10704
    famo          equal relative falls of all losses, in one backward pass   Liu et al. 2023, arXiv 2306.03792
    upgrad, mgda, cagrad, aligned-mtl    gradient weighting: from the tasks' gradients of the trunk, one more backward
                                         pass each, by torchjd's weightings  Quinton & Rey 2024, arXiv 2406.16232
    pcgrad        gradient surgery: conflicting gradients are projected      Yu et al. 2020, arXiv 2001.06782

A task without labels in a batch takes no part in that step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...registry import Registry

if TYPE_CHECKING:
    from .base import TaskWeighting

_OF_LOSSES = {"equal": "Equal", "uncertainty": "Uncertainty", "dwa": "DWA", "famo": "FAMO"}
_OF_GRADIENTS = {
    "upgrad": "UPGrad",
    "pcgrad": "PCGrad",
    "mgda": "MGDA",
    "cagrad": "CAGrad",
    "aligned-mtl": "AlignedMTL",
}
TASK_WEIGHTINGS: Registry[type[TaskWeighting]] = Registry(
    "task weighting",
    {
        **{name: f"{__name__}.loss_weighting:{attribute}" for name, attribute in _OF_LOSSES.items()},
        **{name: f"{__name__}.gradient_weighting:{attribute}" for name, attribute in _OF_GRADIENTS.items()},
    },
)
