"""Accuracy gate: a precision is shipped only if each head's metric on labelled frames stays close to the run's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from edgemtl_runtime.bundle import Head
from edgemtl_runtime.engine import Arrays
from edgemtl_runtime.engine.agreement import agreement
from edgemtl_runtime.manifest_schema import PrecisionFigures

Inference = Callable[[Arrays], Arrays]
"""A network as an engine runs it: named uint8 (1, H, W, C) images to named outputs."""


class Score(NamedTuple):
    """Value of a head's metric for a network."""

    metric: str
    value: float
    higher_is_better: bool = True

    def drop(self, reference: Score) -> float:
        """Return the relative loss against a reference, below 0 where this one is better; infinite for NaN."""
        loss = reference.value - self.value if self.higher_is_better else self.value - reference.value
        if not math.isfinite(loss):
            return math.inf
        return loss / max(abs(reference.value), 1e-12) if loss else 0.0


Scorer = Callable[[Inference], dict[str, Score]]
"""Evaluates a network on labelled frames, a score for each head; the metrics are the caller's."""


@dataclass(frozen=True)
class AccuracyGate:
    """How a precision is evaluated, and the largest relative drop of a head's metric that it may have."""

    scorer: Scorer
    max_drop: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.max_drop < 1:
            raise ValueError(f"max_drop is a share from 0 to 1, not {self.max_drop}")

    def evaluate(
        self,
        network: Inference,
        reference: dict[str, Score],
        exact: Inference,
        heads: Sequence[Head],
        frames: Sequence[Arrays],
    ) -> Evaluation:
        """Evaluate a network against the scores of the reference, and its outputs against those of ``exact``."""
        scores = self.scorer(network)
        failures = []
        for head, score in scores.items():
            drop = score.drop(reference[head])
            if drop > self.max_drop:
                failures.append(
                    f"{head}: {score.metric} {score.value:.4f} where the run has {reference[head].value:.4f}, "
                    f"{drop:.1%} worse ({self.max_drop:.1%} allowed)"
                )
        return Evaluation(scores, agreement(exact, network, heads, frames), failures)


class Evaluation(NamedTuple):
    """Result of the gate: scores, the share of each head's output that agrees with fp32's, and what failed."""

    scores: dict[str, Score]
    agreement: dict[str, float]
    failures: list[str]

    def figures(self) -> PrecisionFigures:
        """Return scores and agreement as the manifest has them."""
        shares: dict[str, float | None] = {head: round(share, 4) for head, share in self.agreement.items()}
        return {"scores": score_table(self.scores), "agreement": shares}


def score_table(scores: dict[str, Score]) -> dict[str, dict[str, float | None]]:
    """Return scores as the manifest has them: by head and metric."""
    return {head: {score.metric: round(float(score.value), 6)} for head, score in scores.items()}
