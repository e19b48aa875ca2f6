"""Several processes that learn one network together, each from its share of every batch: ``torchrun -m edgemtl train``.

What they do is what one process would do with the whole batch. A loss is a sum over labelled units divided by the
count of all processes; batch statistics are those of the whole batch; gradients are summed by hand, because balances
that ask for each task's own gradient go past the hooks of DistributedDataParallel.

Alone, every function here gives back what it was given.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from .ranks import is_main, rank, world_size

__all__ = [
    "all_reduce",
    "all_reduce_gradients",
    "broadcast",
    "device",
    "is_main",
    "process_group",
    "rank",
    "synced_batch_statistics",
    "world_size",
]

PATIENCE = timedelta(days=1)
"""How long the others wait while the first one reads data, saves or judges."""


def device() -> torch.device:
    """Return where this process computes: its own GPU, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


@contextmanager
def process_group() -> Iterator[None]:
    """Join the other processes, if there are any; whoever is first at the end waits for the others."""
    if world_size() > 1 and not distributed.is_initialized():
        _join()
    yield
    all_reduce([torch.zeros(1)])  # on the CPU: a GPU would spin while it waits


def _join() -> None:
    """Meet the others once, for as long as this process lives: torchrun's store does not know a second time."""
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(device())
    distributed.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=PATIENCE)
    atexit.register(distributed.destroy_process_group)


@torch.no_grad()
def all_reduce(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the sums over all processes of tensors of one device and type."""
    if world_size() == 1:
        return list(tensors)
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    distributed.all_reduce(flat)
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


@torch.no_grad()
def all_reduce_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Sum the gradients of all processes in place; one that has none adds nothing."""
    if world_size() == 1:
        return
    learned = [p for p in parameters if p.requires_grad]
    for p, total in zip(
        learned, all_reduce([torch.zeros_like(p) if p.grad is None else p.grad for p in learned]), strict=True
    ):
        p.grad = torch.empty_like(p).copy_(total)


@torch.no_grad()
def broadcast(tensors: Iterable[Tensor]) -> None:
    """Give every process the first one's values."""
    if world_size() > 1:
        for tensor in tensors:
            distributed.broadcast(tensor, 0)


class _Sum(torch.autograd.Function):
    """A sum over all processes; what each asks of it is summed on the way back."""

    @staticmethod
    def forward(_ctx: Any, value: Tensor) -> Tensor:
        return all_reduce([value])[0]

    @staticmethod
    def backward(_ctx: Any, asked: Tensor) -> Tensor:  # type: ignore[override]
        return all_reduce([asked])[0]


def synced_batch_statistics() -> AbstractContextManager[Any]:
    """Return a context in which batch normalisation sees the whole batch."""
    return nullcontext() if world_size() == 1 else _WholeBatchStatistics()


class _WholeBatchStatistics(TorchFunctionMode):
    """Inside, batch normalisation in training takes the mean and variance of all processes' parts of the batch.

    On any device and whatever module calls it (torch's own SyncBatchNorm is for CUDA, and for its own class). The
    variance is put together from each part's own (Chan et al. 1979), not from sums of squares, which would cancel.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Replace the one function."""
        if func is functional.batch_norm:
            return _batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not training:
        return torch.batch_norm(x, weight, bias, running_mean, running_var, False, momentum, eps, True)
    wide = x.double() if x.dtype == torch.float64 else x.float()
    axes = [axis for axis in range(x.ndim) if axis != 1]
    each = x.numel() // x.shape[1]
    mine = torch.stack([wide.mean(axes), wide.var(axes, correction=0), wide.new_full((x.shape[1],), each)])
    rows = torch.zeros(world_size(), *mine.shape, dtype=mine.dtype, device=mine.device)
    rows[rank()] = mine
    means, variances, counts = _Sum.apply(rows).unbind(1)
    share = counts / counts.sum(0)
    mean = (share * means).sum(0)
    variance = (share * (variances + (means - mean).square())).sum(0)
    if running_mean is not None and running_var is not None:
        total = counts.sum(0)
        running_mean.lerp_(mean.detach(), momentum)
        running_var.lerp_((variance * total / (total - 1)).detach(), momentum)
    shape = [1, -1] + [1] * (x.ndim - 2)
    scale = (variance + eps).rsqrt() * (1.0 if weight is None else weight)
    shift = (0.0 if bias is None else bias) - mean * scale
    return (wide * scale.view(shape) + shift.view(shape)).to(x.dtype)
