"""A network that knows more classes than some data: its boxes of the others are left out, by name."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from edgemtl_runtime.bundle import Head
from edgemtl_runtime.result import Boxes, HeadResult

from ..corruptions import Corruption
from ..data.sample import Dataset, Sample
from ..evaluate import SamplePredictor


def for_classes(predictor: SamplePredictor, samples: Dataset) -> tuple[SamplePredictor, str]:
    """Return a predictor of the classes that the data have, and what was left out, in words.

    The same predictor and "" where its classes are theirs, or where it lacks one of them.
    """
    for head in predictor.heads:
        wanted = samples.classes.get(head.name)
        exact = {name: index for index, name in enumerate(head.classes)}
        known = {name.casefold(): index for name, index in reversed(exact.items())}
        if head.task != "boxes" or wanted is None or wanted == head.classes:
            continue
        if all(name.casefold() in known for name in wanted):
            index = np.full(len(head.classes), -1, np.int64)
            index[[exact.get(name, known[name.casefold()]) for name in wanted]] = np.arange(len(wanted))
            others = len(head.classes) - len(wanted)
            note = f"{head.name}: classes by name, {', '.join(wanted)}"
            note += f"; {others} others of the network are left out" if others else ""
            return OfClasses(predictor, head.name, wanted, index), note
    return predictor, ""


class OfClasses:
    """A predictor whose boxes of one head are those of some classes."""

    def __init__(self, predictor: SamplePredictor, head: str, names: tuple[str, ...], index: np.ndarray) -> None:
        """``index`` is the new id of each class, -1 of those that are left out."""
        self.predictor, self.head, self.names, self.index = predictor, head, names, index
        self.inputs, self.batch_size = predictor.inputs, predictor.batch_size
        self.heads: tuple[Head, ...] = tuple(
            msgspec.structs.replace(h, classes=names) if h.name == head else h for h in predictor.heads
        )

    def predict(self, samples: Sequence[Sample], corruptions: Sequence[Corruption]) -> list[dict[str, HeadResult]]:
        """Return the results of up to ``batch_size`` samples."""
        results = self.predictor.predict(samples, corruptions)
        return [result | {self.head: self._of_classes(result[self.head])} for result in results]

    def _of_classes(self, boxes: HeadResult) -> Boxes:
        assert isinstance(boxes, Boxes)
        classes = self.index[boxes.classes]
        kept = classes >= 0
        return Boxes(boxes.xyxy[kept], boxes.scores[kept], classes[kept], self.names)
