"""The drawn streets as a data set: no download, every task labelled, the same pictures for the same seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .. import synthetic
from ..data.sample import BoxLabels, Sample

HELD_OUT = 1_000_000
"""Seeds from here on are never trained on."""


class Streets:
    """``count`` scenes of the given size from consecutive seeds, drawn when first asked for and kept.

    Kept are the labels of ``tasks`` alone, if they are named.
    """

    classes: dict[str, tuple[str, ...]] = {  # noqa: RUF012
        "boxes": synthetic.CLASSES,
        "semantic": synthetic.SEMANTIC_CLASSES,
        "depth": (),
        "normals": (),
        "edges": (),
        "attributes": ("day", *(f"has_{name}" for name in synthetic.CLASSES)),
    }

    modalities = ("rgb", "ir")

    def __init__(
        self, count: int, size: tuple[int, int], first_seed: int, tasks: tuple[str, ...] | None = None
    ) -> None:
        if tasks is not None:
            self.classes = {task: names for task, names in self.classes.items() if task in tasks}
        self.size = size
        self.first_seed = first_seed
        self.drawn: list[Sample | None] = [None] * count

    def __len__(self) -> int:
        return len(self.drawn)

    def __getitem__(self, index: int) -> Sample:
        sample = self.drawn[index]
        if sample is None:
            whole = street(self.first_seed + index, self.size)
            sample = self.drawn[index] = replace(whole, labels={task: whole.labels[task] for task in self.classes})
        return sample

    def is_day(self, index: int) -> bool | None:
        """Whether a scene is by day."""
        return self[index].is_day


def street(seed: int, size: tuple[int, int], is_day: bool | None = None, time_s: float = 0.0) -> Sample:
    """Draw one street as a sample; ``size`` is (height, width)."""
    scene = synthetic.draw(seed, height=size[0], width=size[1], is_day=is_day, time_s=time_s)
    has = [float(kind in scene.classes) for kind in range(len(synthetic.CLASSES))]
    labels = {
        "boxes": BoxLabels(scene.boxes, scene.classes),
        "semantic": scene.semantic,
        "depth": scene.depth_m,
        "normals": scene.normals,
        "edges": scene.edges,
        "attributes": np.array([scene.is_day, *has], np.float32),
    }
    return Sample({"rgb": scene.rgb, "ir": scene.ir}, labels, scene.is_day, f"{seed:07d}")
