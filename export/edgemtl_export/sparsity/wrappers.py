"""The network inside of what trainings wrap it in."""

from __future__ import annotations

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

WRAPPERS = (DistributedDataParallel, DataParallel, AveragedModel)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the network inside of DistributedDataParallel, DataParallel, AveragedModel and torch.compile."""
    while True:
        compiled = getattr(model, "_orig_mod", None)  # by name: the import of torch.compile's class takes seconds
        if isinstance(model, WRAPPERS):
            model = model.module
        elif isinstance(compiled, nn.Module):
            model = compiled
        else:
            return model
