"""How far a pruned network answers as the dense one does, on images without labels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edgemtl_runtime.result import Boxes, HeadResult, LabelMap, Tensor

from ..data.datasets import evenly_spaced
from ..data.sample import BoxLabels, Dataset
from ..evaluate import Predictor
from ..tasks.matches import Matches

SCORE = 0.25
"""Boxes of the dense network from this score on are the objects that the pruned one is to find."""
MOST_IMAGES = 64
TINY = 1e-7


def agreement(dense: Predictor, pruned: Predictor, images: Dataset) -> dict[str, float]:
    """Return a figure from 0 to 1 for each head, on up to 64 images.

    Boxes: AP50 with the dense network's boxes as objects, the mean of the classes that it finds. Label maps: the share
    of equal pixels. Tensors: the mean correlation of their channels. A head of which the dense network gives nothing to
    compare has no figure.
    """
    answers: dict[str, list[tuple[HeadResult, HeadResult]]] = {head.name: [] for head in dense.heads}
    for index in evenly_spaced(len(images), min(MOST_IMAGES, len(images))):
        sample = images[index]
        wanted, given = dense(sample), pruned(sample)
        for name in answers:
            answers[name].append((wanted[name], given[name]))
    return {name: figure for name, pairs in answers.items() if (figure := _figure(pairs)) is not None}


def _figure(pairs: list[tuple[HeadResult, HeadResult]]) -> float | None:
    wanted, given = pairs[0]
    if isinstance(wanted, Boxes):
        return _boxes(pairs, len(wanted.names))
    if isinstance(wanted, LabelMap) and isinstance(given, LabelMap):
        return float(np.mean([(a.labels == b.labels).mean() for a, b in _maps(pairs)]))
    if isinstance(wanted, Tensor):
        a, b = (np.stack([_numbers(pair[side]) for pair in pairs]) for side in (0, 1))
        return _correlation(a, b)
    return None


def _correlation(dense: NDArray[np.float64], pruned: NDArray[np.float64]) -> float | None:
    """Return the mean correlation of the numbers of each channel, (images, channels, ...), over images and positions.

    A channel that is constant in the dense network does not count, one that has become constant counts as 0.
    """
    values = []
    for a, b in zip(np.moveaxis(dense, 1, 0), np.moveaxis(pruned, 1, 0), strict=True):
        if a.std() > TINY * max(1.0, float(np.abs(a).max())):
            alive = b.std() > TINY * max(1.0, float(np.abs(b).max()))
            values.append(float(np.corrcoef(a.ravel(), b.ravel())[0, 1]) if alive else 0.0)
    return float(np.mean(values)) if values else None


def _boxes(pairs: list[tuple[HeadResult, HeadResult]], classes: int) -> float | None:
    matches = Matches(classes)
    for wanted, given in pairs:
        assert isinstance(wanted, Boxes) and isinstance(given, Boxes)
        objects = wanted.pick(wanted.scores >= SCORE)
        matches.update(given, BoxLabels(objects.xyxy, objects.classes))
    times = np.ones(len(pairs), np.int64)
    figures = [of_class.ap50(times) for of_class in matches.by_class()]
    return float(np.nanmean(figures)) if not np.isnan(figures).all() else None


def _maps(pairs: list[tuple[HeadResult, HeadResult]]) -> list[tuple[LabelMap, LabelMap]]:
    return [(a, b) for a, b in pairs if isinstance(a, LabelMap) and isinstance(b, LabelMap)]


def _numbers(result: HeadResult) -> NDArray[np.float64]:
    assert isinstance(result, Tensor)
    return np.atleast_1d(np.nan_to_num(result.values.astype(np.float64)))


def by_kind(figures: Mapping[str, float], heads: Mapping[str, str]) -> dict[str, str]:
    """Return each figure in words; ``heads`` are the decoders by name."""
    words = {"label_map": "of pixels equal", "tensor": "correlation"}
    return {
        name: f"{value:.3f} {words.get(heads[name], 'AP50 against the dense boxes')}" for name, value in figures.items()
    }
