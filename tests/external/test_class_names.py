"""Networks that know more classes than the data: boxes of theirs alone, by name and in their order."""

from __future__ import annotations

import numpy as np
import pytest

from edgemtl.errors import EdgemtlError
from edgemtl.evaluate import Predictor, evaluate
from edgemtl.external.class_names import for_classes
from edgemtl.gate_scores import FunctionEngine
from edgemtl.synthetic.streets import Streets
from edgemtl_runtime.bundle import Head, Input

KNOWN = ("tree", "CAR", "person", "bicycle", "dog")
SAMPLES = Streets(6, (64, 96), 0, ("boxes",))
INPUT = Input("rgb", 64, 96, 3, (0.0,) * 3, (1.0,) * 3)


def perfect(classes: tuple[str, ...]) -> Predictor:
    """A predictor that knows the boxes of the streets by their names, and a dog in every corner."""
    answers = {}
    for index in range(len(SAMPLES)):
        sample = SAMPLES[index]
        labels = sample.labels["boxes"]
        names = [SAMPLES.classes["boxes"][c] for c in labels.classes]
        ids = [[c.casefold() for c in classes].index(name) for name in names]
        rows = [[*box, 0.9, class_id] for box, class_id in zip(labels.xyxy, ids, strict=True)]
        answers[sample.images["rgb"].tobytes()] = np.array([*rows, [0, 0, 5, 5, 0.99, len(classes) - 1]], np.float32)
    engine = FunctionEngine(lambda images: {"boxes": answers[images["rgb"].tobytes()][None]})
    return Predictor(engine, (INPUT,), (Head("boxes", "boxes", "topk_boxes", classes),), 0.0)


def test_boxes_of_the_datas_classes_count_alone() -> None:
    classes = (*SAMPLES.classes["boxes"][::-1], "tree", "DOG")
    predictor, note = for_classes(perfect(tuple(name.upper() for name in classes)), SAMPLES)
    assert "2 others of the network are left out" in note and predictor.heads[0].classes == SAMPLES.classes["boxes"]
    assert evaluate(predictor, SAMPLES)["all"]["boxes"]["ap50"] == pytest.approx(1.0)


def test_a_class_that_the_network_lacks_is_named() -> None:
    given = perfect((*SAMPLES.classes["boxes"], "dog"))
    lacking = Predictor(given.engine, (INPUT,), (Head("boxes", "boxes", "topk_boxes", ("dog", "tree")),), 0.0)
    predictor, note = for_classes(lacking, SAMPLES)
    assert predictor is lacking and not note
    with pytest.raises(EdgemtlError, match="knows the classes dog, tree; the data have"):
        evaluate(predictor, SAMPLES)
