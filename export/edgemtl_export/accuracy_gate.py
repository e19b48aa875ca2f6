"""The gate: a precision is shipped only when it is as good as the run, on labelled frames, by each head's metric."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from edgemtl_runtime.bundle import Head
from edgemtl_runtime.engine.agreement import Arrays, agreement

Run = Callable[[Arrays], Arrays]
"""A network as an engine runs it: named uint8 (1, H, W, C) images to named outputs."""


class Score(NamedTuple):
    """What a head's own metric says of a network."""

    metric: str
    value: float
    higher_is_better: bool = True

    def drop(self, reference: Score) -> float:
        """Return by what share of the reference's this one is worse, below 0 where it is better; NaN is the worst."""
        worse = reference.value - self.value if self.higher_is_better else self.value - reference.value
        if not math.isfinite(worse):
            return math.inf
        return worse / max(abs(reference.value), 1e-12) if worse else 0.0


Scorer = Callable[[Run], dict[str, Score]]
"""Judges a network on labelled frames, head by head; this room knows no metric of its own."""


@dataclass(frozen=True)
class Gate:
    """What a precision is judged by, and the largest share of the run's figure that it may lose."""

    scorer: Scorer
    max_drop: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.max_drop < 1:
            raise ValueError(f"max_drop is a share from 0 to 1, not {self.max_drop}")


class Judgement(NamedTuple):
    """How a precision did: its scores, the share of its output that is the exact one's, and what is wrong with it."""

    scores: dict[str, Score]
    agreement: dict[str, float]
    faults: list[str]

    def told(self) -> dict[str, Any]:
        """Return it as a manifest holds it."""
        return {"scores": told(self.scores), "agreement": {h: round(share, 4) for h, share in self.agreement.items()}}


def told(scores: dict[str, Score]) -> dict[str, dict[str, float]]:
    """Return scores as a manifest holds them: by head and metric."""
    return {head: {score.metric: round(float(score.value), 6)} for head, score in scores.items()}


def judge(
    gate: Gate, reference: dict[str, Score], run: Run, exact: Run, heads: Sequence[Head], frames: Sequence[Arrays]
) -> Judgement:
    """Judge a network against the reference's scores, and its outputs against those of the ``exact`` one."""
    scores = gate.scorer(run)
    faults = []
    for head, score in scores.items():
        drop = score.drop(reference[head])
        if drop > gate.max_drop:
            faults.append(
                f"{head}: {score.metric} {score.value:.4f} where the run has {reference[head].value:.4f}, "
                f"{drop:.1%} worse ({gate.max_drop:.1%} allowed)"
            )
    return Judgement(scores, agreement(exact, run, heads, frames), faults)
