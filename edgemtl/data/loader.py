"""Batches for training, prepared one ahead of the step that needs them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgemtl_export.to_onnx import normalise
from edgemtl_runtime.bundle import Input

from ..config import Config
from ..errors import DataError
from .augment import Augmenter, to_item
from .labels import Batch, Item, Label
from .pairs import open_pairs
from .sample import Sample, Samples
from .streets import HELD_OUT, Streets


def open_data(config: Config) -> dict[str, Samples]:
    """Return the splits "train" and "val" that a configuration asks for."""
    data = config.data
    if data.source != "streets":
        splits: dict[str, Samples] = dict(open_pairs(data.source, data.labels))
        for split in ("train", "val"):
            if split not in splits or not len(splits[split]):
                raise DataError(f"{data.source}: split '{split}' has no pictures")
        return splits
    train = Streets(data.train, config.size, config.seed * data.train % (HELD_OUT - data.train), config.tasks)
    return {"train": train, "val": Streets(data.val, config.size, HELD_OUT, config.tasks)}


class Loader:
    """The batches of the steps from ``first`` to ``steps``, of augmented training items.

    A thread prepares the next batches while a step computes. It alone draws random numbers from torch's global state,
    anew for every step, so that a batch depends on nothing but the seed and the step.
    """

    def __init__(
        self,
        samples: Samples,
        config: Config,
        inputs: dict[str, Input],
        labels: dict[str, Label],
        steps: int,
        first: int = 0,
    ) -> None:
        self.samples, self.config, self.inputs, self.labels = samples, config, inputs, labels
        self.steps, self.first = steps, first
        self.augment = Augmenter(config.augment, inputs)
        self.items: dict[int, Item] = {}
        self.ready: queue.Queue[Batch | BaseException] = queue.Queue(maxsize=2)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._prepare, name="loader", daemon=True)

    def __iter__(self) -> Iterator[Batch]:
        self.thread.start()
        try:
            for _ in range(self.first, self.steps):
                batch = self.ready.get()
                if isinstance(batch, BaseException):
                    raise batch
                yield batch
        finally:
            self.stop.set()
            while self.thread.is_alive():
                try:
                    self.ready.get(timeout=0.05)
                except queue.Empty:
                    continue

    def _prepare(self) -> None:
        try:
            for step in range(self.first, self.steps):
                if self.stop.is_set():
                    return
                torch.default_generator.manual_seed(self._seed(1, step))
                mosaic = self.config.augment.mosaic if step < self.config.augment.mosaic_until * self.steps else 0.0
                items = [self._item(index, mosaic) for index in self._indices(step)]
                self.ready.put(collate(items, self.inputs, self.labels))
        except BaseException as error:  # handed to the training thread, which raises it
            self.ready.put(error)

    def _indices(self, step: int) -> list[int]:
        """Return the samples of a step: one permutation of all after the other."""
        places = range(step * self.config.batch, (step + 1) * self.config.batch)
        rounds = [divmod(place, len(self.samples)) for place in places]
        return [self._permutation(number)[place] for number, place in rounds]

    @lru_cache(maxsize=2)  # noqa: B019
    def _permutation(self, number: int) -> list[int]:
        generator = torch.Generator().manual_seed(self._seed(0, number))
        order: list[int] = torch.randperm(len(self.samples), generator=generator).tolist()
        return order

    def _seed(self, *what: int) -> int:
        return int(np.random.SeedSequence([self.config.seed, *what]).generate_state(1, np.uint64)[0] >> np.uint64(1))

    def _fitted(self, index: int) -> Item:
        if index not in self.items:
            self.items[index] = to_item(self.samples[index], self.inputs, self.labels)
        return self.items[index]

    def _item(self, index: int, mosaic: float) -> Item:
        others: list[Item] = []
        if mosaic and float(torch.rand(())) < mosaic:
            others = [self._fitted(i) for i in torch.randint(0, len(self.samples), (3,)).tolist()]
        return self.augment(dict(self._fitted(index)), others)


def collate(items: list[Item], inputs: dict[str, Input], labels: dict[str, Label]) -> Batch:
    """Return normalised images by name, and what is known of the labels of these tasks."""
    batch: Batch = {
        name: normalise(torch.stack([item[name].as_subclass(Tensor) for item in items]), spec).contiguous(
            memory_format=torch.channels_last
        )
        for name, spec in inputs.items()
    }
    first = next(iter(inputs.values()))
    for task, label in labels.items():
        batch |= label.stacked(task, items, (first.height, first.width))
    return batch


def fitted_images(sample: Sample, inputs: dict[str, Input]) -> dict[str, Any]:
    """Return a sample's images as an engine takes them: uint8 (1, H, W, C) arrays by input name."""
    item = to_item(sample, inputs, {})
    return {name: item[name].permute(1, 2, 0).contiguous().numpy()[None] for name in inputs}
