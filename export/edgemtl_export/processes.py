"""What one of several training processes decides for all, or their networks would differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import distributed

T = TypeVar("T")


def first_decides(decide: Callable[[], T]) -> T:
    """Return what the first process decides, in all of them; in a single one its own."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return decide()
    decided = [decide() if distributed.get_rank() == 0 else None]
    distributed.broadcast_object_list(decided, 0)
    result = decided[0]
    assert result is not None
    return result
