"""Synthetic streets as a dataset: no download, every task labelled, the same images for the same seed."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np

from .. import synthetic
from ..data.sample import BoxLabels, Labels, Sample

HELD_OUT = 1_000_000
"""Seeds from this one on are never trained on."""


class Streets:
    """``count`` scenes of the given size from consecutive seeds, drawn when first requested and cached.

    With the labels of ``tasks`` alone, if any are named.
    """

    classes: dict[str, tuple[str, ...]] = {  # noqa: RUF012
        "boxes": synthetic.CLASSES,
        "semantic": synthetic.SEMANTIC_CLASSES,
        "depth": (),
        "normals": (),
        "edges": (),
        "attributes": ("day", *(f"has_{name}" for name in synthetic.CLASSES)),
    }

    modalities: tuple[str, ...] = ("rgb", "ir")

    def __init__(
        self, count: int, size: tuple[int, int], first_seed: int, tasks: tuple[str, ...] | None = None
    ) -> None:
        if tasks is not None:
            self.classes = {task: names for task, names in self.classes.items() if task in tasks}
        self.size = size
        self.first_seed = first_seed
        self._cache: list[Sample | None] = [None] * count

    def __len__(self) -> int:
        return len(self._cache)

    def __getitem__(self, index: int) -> Sample:
        sample = self._cache[index]
        if sample is None:
            drawn = street(self.first_seed + index, self.size)
            labels = {task: drawn.label(task) for task in self.classes}
            sample = self._cache[index] = replace(drawn, labels=cast(Labels, labels))
        return sample

    def is_day(self, index: int) -> bool | None:
        """Whether a scene is by day."""
        return self[index].is_day


def street(seed: int, size: tuple[int, int], is_day: bool | None = None, time_s: float = 0.0) -> Sample:
    """Draw one street as a sample; ``size`` is (height, width)."""
    scene = synthetic.draw(seed, height=size[0], width=size[1], is_day=is_day, time_s=time_s)
    has_class = [float(class_id in scene.classes) for class_id in range(len(synthetic.CLASSES))]
    labels: Labels = {
        "boxes": BoxLabels(scene.boxes, scene.classes),
        "semantic": scene.semantic,
        "depth": scene.depth_m,
        "normals": scene.normals,
        "edges": scene.edges,
        "attributes": np.array([scene.is_day, *has_class], np.float32),
    }
    return Sample({"rgb": scene.rgb, "ir": scene.ir}, labels, scene.is_day, f"{seed:07d}")
