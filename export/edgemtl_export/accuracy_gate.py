"""Accuracy gate: a precision is shipped only if each head's metric and outputs stay close to the run's.

Two bars: the metric on labelled frames, and the agreement with the fp32 network, which needs no label. A head without a
metric has the second alone, and a higher one. On few labels a metric decides nothing: int8 wants `MIN_IMAGES` labelled
images and `MIN_OBJECTS` objects of every head that has a metric.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from edgemtl_runtime.bundle import Head
from edgemtl_runtime.engine import Arrays
from edgemtl_runtime.engine.agreement import SIMILAR, agreement
from edgemtl_runtime.manifest_schema import PrecisionFigures

Inference = Callable[[Arrays], Arrays]
"""A network as an engine runs it: named uint8 (1, H, W, C) images to named outputs."""
MIN_IMAGES, MIN_OBJECTS = 64, 200
"""The fewest labelled images and objects that int8 is judged on: with fewer, chance moves a metric by more."""
MIN_AGREEMENT, MIN_AGREEMENT_ALONE = 0.5, 0.9
"""Smallest share of a head's outputs that must be like fp32's: beside a metric, and without one."""


class Score(NamedTuple):
    """Value of a head's metric for a network, and how many labels it is over where that is known.

    ``objects`` is None where labels are maps of pixels.
    """

    metric: str
    value: float
    higher_is_better: bool = True
    images: int | None = None
    objects: int | None = None

    def drop(self, reference: Score) -> float:
        """Return the relative loss against a reference, below 0 where this one is better; infinite for NaN."""
        loss = reference.value - self.value if self.higher_is_better else self.value - reference.value
        if not math.isfinite(loss):
            return math.inf
        return loss / max(abs(reference.value), 1e-12) if loss else 0.0


Scorer = Callable[[Inference], dict[str, Score]]
"""Evaluates a network on labelled frames, a score for each head that has labels; the metrics are the caller's."""


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
        shares = agreement(exact, network, heads, frames, SIMILAR)
        failures = [self._score_failure(name, scores.get(name), score) for name, score in reference.items()]
        failures += [_agreement_failure(name, share, name in reference) for name, share in shares.items()]
        return Evaluation(scores, shares, [failure for failure in failures if failure])

    def _score_failure(self, head: str, score: Score | None, reference: Score) -> str:
        """Return how a head's metric is too far from the reference's; empty where it is not."""
        if score is None:
            return f"{head}: {reference.metric} cannot be computed where the run has {reference.value:.4f}"
        drop = score.drop(reference)
        if drop <= self.max_drop:
            return ""
        return (
            f"{head}: {score.metric} {score.value:.4f} where the run has {reference.value:.4f}, "
            f"{drop:.1%} worse ({self.max_drop:.1%} allowed)"
        )


def too_few_labels(reference: dict[str, Score]) -> str:
    """Return which heads have too few labels for int8; empty where each has enough, or their number is not known."""
    few = []
    for head, score in reference.items():
        counts = ((score.images, MIN_IMAGES, "labelled images"), (score.objects, MIN_OBJECTS, "objects"))
        short = [f"{count} of {least} {what}" for count, least, what in counts if count is not None and count < least]
        if short:
            few.append(f"{head} has {' and '.join(short)}")
    return "; ".join(few)


def _agreement_failure(head: str, share: float, has_score: bool) -> str:
    least = MIN_AGREEMENT if has_score else MIN_AGREEMENT_ALONE
    if share >= least:
        return ""
    why = "" if has_score else ", as it has no metric here"
    return f"{head}: {share:.1%} of the outputs agree with fp32's ({least:.0%} required{why})"


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
