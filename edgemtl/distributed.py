"""Data-parallel training of one network by several processes: ``torchrun -m edgemtl train``.

Each process has its share of every batch, and the result is that of one process with the whole batch. A loss is a sum
over labelled units divided by the count of all processes; batch statistics are those of the whole batch; gradients are
all-reduced explicitly, because gradient weighting, which needs each task's gradient, bypasses the hooks of
DistributedDataParallel.

In a single process every function returns its arguments unchanged.
"""

from __future__ import annotations

import atexit
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from .ranks import is_main, local_rank, rank, world_size

__all__ = [
    "all_reduce",
    "all_reduce_gradients",
    "barrier",
    "broadcast",
    "device",
    "gather",
    "is_main",
    "process_group",
    "rank",
    "synced_batch_statistics",
    "world_size",
]

T = TypeVar("T")
TIMEOUT = timedelta(days=1)
"""How long the others wait while the main process reads data, saves or evaluates."""


def device() -> torch.device:
    """Return the device of this process: its GPU, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", local_rank() % torch.cuda.device_count())


@contextmanager
def process_group() -> Iterator[None]:
    """Join the other processes, if there are any, and wait for all of them at the end."""
    if world_size() > 1 and not distributed.is_initialized():
        _join()
    yield
    all_reduce([torch.zeros(1)])  # on the CPU: a GPU would spin while it waits


def barrier() -> None:
    """Wait until all processes are here."""
    with process_group():
        pass


def _join() -> None:
    """Initialise the process group, once a process: torchrun's store does not allow it a second time."""
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(device())
    distributed.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=TIMEOUT)
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
    """Sum the gradients of all processes in place; a missing gradient counts as zero."""
    if world_size() == 1:
        return
    trainable = [p for p in parameters if p.requires_grad]
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in trainable]
    for p, total in zip(trainable, all_reduce(grads), strict=True):
        p.grad = torch.empty_like(p).copy_(total)


@torch.no_grad()
def broadcast(tensors: Iterable[Tensor]) -> None:
    """Copy the values of the main process to every process."""
    if world_size() > 1:
        for tensor in tensors:
            distributed.broadcast(tensor, 0)


def gather(value: T) -> list[T]:
    """Return every process's value, by rank, in the main process; the others get an empty list."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    distributed.gather_object(value, values if is_main() else None)
    return values if is_main() else []


class _Sum(torch.autograd.Function):
    """A differentiable all-reduce: gradients are summed over all processes too."""

    @staticmethod
    def forward(_ctx: Any, value: Tensor) -> Tensor:
        return all_reduce([value])[0]

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        return all_reduce([gradient])[0]


def synced_batch_statistics() -> AbstractContextManager[Any]:
    """Return a context in which batch normalisation has the statistics of the whole batch."""
    return nullcontext() if world_size() == 1 else _WholeBatchStatistics()


class _WholeBatchStatistics(TorchFunctionMode):
    """Inside, batch normalisation in training takes the mean and variance of all processes' parts of the batch.

    On any device and whatever module calls it (torch's own SyncBatchNorm is for CUDA, and for its own class). The
    variance is combined from those of the parts (Chan et al. 1979), not from sums of squares, which would cancel.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Replace `functional.batch_norm`."""
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
    count = x.numel() // x.shape[1]
    local = torch.stack([wide.mean(axes), wide.var(axes, correction=0), wide.new_full((x.shape[1],), count)])
    rows = torch.zeros(world_size(), *local.shape, dtype=local.dtype, device=local.device)
    rows[rank()] = local
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
    out: Tensor = (wide * scale.view(shape) + shift.view(shape)).to(x.dtype)
    return out
