"""Random numbers by key: a draw depends on a seed and a purpose alone, and the global generators stay as they are.

Layers such as dropout, and the initialisation of networks, can only draw from PyTorch's global generators: they do so
within `isolated_rng`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

ORDER, ITEM, STEP = 0, 1, 2
"""Purposes: the order of the samples, an item's augmentation, a training step."""


def seed_of(*key: int) -> int:
    """Return the seed of a key: the seed of the training, a purpose, and counts such as the step."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator_of(*key: int) -> torch.Generator:
    """Return a generator of a key's own."""
    return torch.Generator().manual_seed(seed_of(*key))


@contextmanager
def isolated_rng(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed the global generators of the CPU and of ``device`` for the block, and restore their states after it."""
    index = device.index if device is not None and device.type == "cuda" else None
    with torch.random.fork_rng([] if index is None else [index]):
        torch.default_generator.manual_seed(seed)
        if index is not None:
            torch.cuda.default_generators[index].manual_seed(seed)
        yield
