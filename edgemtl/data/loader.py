"""Batches for training, prepared one ahead of the step that needs them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

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
    train = Streets(data.train, config.size, config.seed * data.train % (HELD_OUT - data.train))
    return {"train": train, "val": Streets(data.val, config.size, HELD_OUT)}


class Loader:
    """Endless batches of augmented training items, in an order that the seed decides.

    A thread prepares the next batches while a step computes. It alone draws random numbers from torch's global state,
    so that the same seed gives the same batches.
    """

    def __init__(
        self, samples: Samples, config: Config, inputs: dict[str, Input], labels: dict[str, Label], steps: int
    ) -> None:
        self.samples, self.config, self.inputs, self.labels, self.steps = samples, config, inputs, labels, steps
        self.augment = Augmenter(config.augment, inputs)
        self.items: dict[int, Item] = {}
        self.ready: queue.Queue[Batch | BaseException] = queue.Queue(maxsize=2)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._prepare, name="loader", daemon=True)

    def __iter__(self) -> Iterator[Batch]:
        self.thread.start()
        try:
            for _ in range(self.steps):
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
            order = iter(self._order())
            for step in range(self.steps):
                if self.stop.is_set():
                    return
                mosaic = self.config.augment.mosaic if step < self.config.augment.mosaic_until * self.steps else 0.0
                items = [self._item(next(order), mosaic) for _ in range(self.config.batch)]
                self.ready.put(collate(items, self.inputs, self.labels))
        except BaseException as error:  # handed to the training thread, which raises it
            self.ready.put(error)

    def _order(self) -> Iterator[int]:
        while True:
            yield from torch.randperm(len(self.samples)).tolist()

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
