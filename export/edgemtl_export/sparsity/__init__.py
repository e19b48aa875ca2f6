"""Structured pruning while a network trains: channels become exactly zero on a schedule to a target cost.

`Sparsifier` is the whole of it for any training loop; it knows of no data, tasks or losses.
"""

from .settings import Settings
from .sparsifier import Sparsifier

__all__ = ["Settings", "Sparsifier"]
