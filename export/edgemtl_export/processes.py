"""What several training processes agree on, or their networks would differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor, distributed

T = TypeVar("T")


def first_decides(decide: Callable[[], T]) -> T:
    """Return what the first process decides, in all of them; in a single one its own."""
    if not _are_several():
        return decide()
    decided = [decide() if distributed.get_rank() == 0 else None]
    distributed.broadcast_object_list(decided, 0)
    result = decided[0]
    assert result is not None
    return result


def mean_over_processes(value: Tensor) -> Tensor:
    """Return the mean of a tensor of all processes; in a single one the tensor itself."""
    if not _are_several():
        return value
    total = value.clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()


def _are_several() -> bool:
    return distributed.is_available() and distributed.is_initialized()
