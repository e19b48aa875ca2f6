"""Methods on sparse linear regressions whose solutions are known."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest
import torch
from teachers import FEATURES, RELEVANT, TASKS, Study, concatenate, samples

from edgemtl.config import Episodes, Sparsity

PLAIN: dict[str, Any] = {"groups": "input", "scope": "trunk", "begin": 0.0, "min_keep_ratio": 0.0}


def zero_columns(study: Study) -> torch.Tensor:
    return study.network.trunk.conv.weight[:, :, 0, 0].detach().norm(dim=0) == 0


def test_irrelevant_groups_become_zero_and_the_weights_are_the_minimum_of_the_lasso() -> None:
    """AdamW with the proximal step ends at the minimum of a convex problem: the lasso's KKT conditions hold."""
    batch, strength, steps = samples(200, 1, noise=0.3), 0.12, 800
    study = Study("sparse", 200, steps, Sparsity(strength=strength, **PLAIN), Episodes(), lr=0.03)
    for _ in range(steps):
        study.step(batch)
    zero = zero_columns(study)
    assert zero.tolist() == [False] * RELEVANT + [True] * (FEATURES - RELEVANT)
    weight = study.network.trunk.conv.weight
    total = torch.stack(list(study.loss_fn(batch).losses.values())).sum()
    slope = torch.autograd.grad(total, weight)[0][:, :, 0, 0]
    w, force = weight.detach()[:, :, 0, 0], strength * len(TASKS) ** 0.5
    assert bool((slope[:, zero].norm(dim=0) <= force).all())
    subgradient = force * w[:, ~zero] / w[:, ~zero].norm(dim=0)
    torch.testing.assert_close(-slope[:, ~zero], subgradient, atol=1e-4 * force, rtol=0)


def trained(strength: float, noise: float, strength_lr: float, steps: int, inner: Any = "adamw") -> Study:
    """Train on 60 samples, and the strength (where it has a rate) on 60 others."""
    support, query = samples(60, 1, noise), samples(60, 2, noise)
    episodes = Episodes(subsets=3, inner_optimizer=inner, inner_lr=0.1, query_fraction=0.5, strength_lr=strength_lr)
    study = Study("meta_sparsity", 120, steps, Sparsity(strength=strength, **PLAIN), episodes, lr=0.05)
    batch = concatenate(support, query)
    for _ in range(steps):
        study.step(batch)
    return study


@lru_cache
def best_of_grid(noise: float, grid: tuple[float, ...]) -> float:
    query = samples(60, 2, noise)
    return min(grid, key=lambda strength: trained(strength, noise, 0.0, 200).loss(query))


@pytest.mark.parametrize(
    ("start", "inner"),
    [
        pytest.param(1e-3, "adamw", marks=[pytest.mark.slow, pytest.mark.long]),
        (1.0, "sgd"),
        pytest.param(1e-3, "sgd", marks=pytest.mark.slow),
        pytest.param(1.0, "adamw", marks=pytest.mark.slow),
    ],
)
def test_the_trained_strength_is_near_the_best_of_a_grid_from_wherever_it_starts(start: float, inner: str) -> None:
    best = best_of_grid(1.0, (0.014, 0.028, 0.056, 0.112, 0.224))
    strength = trained(start, 1.0, 0.05, 350, inner).sparsity.sparsifier.strengths().item()
    assert 0.5 <= strength / best <= 2


def test_more_noise_asks_for_more_strength() -> None:
    little, much = (trained(0.05, noise, 0.05, 200).sparsity.sparsifier.strengths().item() for noise in (0.3, 2.0))
    assert much > 2 * little
