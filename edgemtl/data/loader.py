"""Batches for training, prepared ahead of the steps that need them."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from edgemtl_export.inputs import normalise
from edgemtl_runtime.bundle import Input
from edgemtl_runtime.letterbox import Letterbox

from .. import distributed
from ..config import Config
from ..console import progress_bar
from ..corruptions import CLEAN, Corruption
from ..errors import ConfigError
from ..rng import ITEM, ORDER, generator_of
from .augment import Augmenter, to_item
from .batch import PRESENT, Batch, Item
from .datasets import THREADS
from .read_ahead import read_ahead
from .sample import Dataset, Sample
from .targets import SampleTarget, Target
from .workers import Workers


class Batches:
    """The batch of every step, of augmented training items; of several processes, this one's part of it.

    Every item has its own random numbers, so that a batch depends on nothing but the seed and the step, whichever
    process or thread prepares it.
    """

    def __init__(
        self,
        dataset: Dataset,
        config: Config,
        inputs: dict[str, Input],
        target_types: Mapping[str, type[SampleTarget]],
        steps: int,
    ) -> None:
        self.dataset, self.config, self.steps = dataset, config, steps
        self.inputs, self.target_types = inputs, target_types
        self.augment = Augmenter(config.augment, inputs)
        self.num_query = math.ceil(config.episodes.query_fraction * len(dataset))
        if self.num_query and self.num_query == len(dataset):
            fraction = f"episodes.query_fraction={config.episodes.query_fraction}"
            raise ConfigError(f"{fraction} leaves none of {self.num_query} images to train")
        self.by_light = _by_light(dataset) if config.data.balance_light else []
        self.cache = Cache(config.data.cache_mb * 2**20)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Batch:
        mosaic = self.config.augment.mosaic if step < self.config.augment.mosaic_until * self.steps else 0.0
        positions = range(step * self.config.batch_size, (step + 1) * self.config.batch_size)
        shard = positions[distributed.rank() :: distributed.world_size()]
        return collate([self._item(position, mosaic) for position in shard], self.inputs, self.target_types)

    def fill(self) -> None:
        """Read and fit samples ahead, by several threads, until the cache is full."""
        count = len(self.dataset)
        with progress_bar("reading", count) as bar, closing(read_ahead(self._read, range(count), THREADS)) as items:
            for index, item in enumerate(items):
                if not self.cache.add(index, item):
                    return
                bar(index + 1, {})

    def _item(self, position: int, mosaic: float) -> Item:
        """Return an augmented item by its position in the training, a permutation of the samples an epoch."""
        rank, members = self._pool(position)
        epoch, index = divmod(rank, len(members))
        rng = generator_of(self.config.seed, ITEM, position)
        others: list[Item] = []
        if mosaic and float(torch.rand((), generator=rng)) < mosaic:
            others = [self._fitted(members[i]) for i in torch.randint(0, len(members), (3,), generator=rng).tolist()]
        item = self._fitted(members[self._permutation(epoch, members[0], len(members))[index]])

        def another() -> Item:
            return self._fitted(members[int(torch.randint(len(members), (), generator=rng))])

        return self.augment(item, others, rng, another)

    def _pool(self, position: int) -> tuple[int, Sequence[int]]:
        """Return a position's rank among those filled from the same samples, and the indices of these samples.

        Where queries are held out, they fill each batch's second half; where light is balanced, positions are filled by
        day and by night in turns.
        """
        size, total = self.config.batch_size, len(self.dataset)
        if self.by_light:
            return position // 2, self.by_light[position % 2]
        if not self.num_query:
            return position, range(total)
        step, index = divmod(position, size)
        half = size // 2
        if index < half:
            return step * half + index, range(total - self.num_query)
        return step * (size - half) + index - half, range(total - self.num_query, total)

    @lru_cache(maxsize=4)  # noqa: B019
    def _permutation(self, epoch: int, first: int, count: int) -> list[int]:
        rng = generator_of(self.config.seed, ORDER, epoch, *([first] if first else []))
        order: list[int] = torch.randperm(count, generator=rng).tolist()
        return order

    def _fitted(self, index: int) -> Item:
        item = self.cache.items.get(index)
        if item is None:
            item = self._read(index)
            self.cache.add(index, item)
        return item

    def _read(self, index: int) -> Item:
        return to_item(self.dataset[index], self.inputs, self.target_types)


class Cache:
    """Decoded items by index, as many as fit into ``budget`` bytes; the first that does not fit makes it full."""

    def __init__(self, budget: int) -> None:
        self.items: dict[int, Item] = {}
        self.budget, self.is_full = budget, budget <= 0

    def add(self, index: int, item: Item) -> bool:
        """Keep an item if there is room for it; return whether it was kept."""
        self.is_full = self.is_full or item.nbytes > self.budget
        if not self.is_full:
            self.budget -= item.nbytes
            self.items[index] = item
        return not self.is_full


def _by_light(dataset: Dataset) -> list[list[int]]:
    """Return the samples taken by day and those by night; where it is not known, among both."""
    known = [dataset.is_day(index) for index in range(len(dataset))]
    if not (True in known and False in known):
        raise ConfigError("data.balance_light needs images that are known to be by day, and by night (attributes.csv)")
    return [[index for index, day in enumerate(known) if day is not other] for other in (False, True)]


class Loader:
    """Iterates over the batches from step ``start`` on, prepared ahead by a thread, or by ``workers`` processes.

    ``waited_s`` is how long the steps had to wait for them, without the first one.
    """

    def __init__(self, batches: Batches, start: int = 0, workers: int = 0) -> None:
        self.batches, self.start, self.workers = batches, start, workers
        self.waited_s = 0.0
        self.ready: queue.Queue[Batch | BaseException] = queue.Queue(maxsize=2)
        self.stop = threading.Event()

    def __iter__(self) -> Iterator[Batch]:
        source = (
            iter(Workers(self.batches.__getitem__, self.start, len(self.batches), self.workers))
            if self.workers
            else self._from_thread()
        )
        requested, is_first = time.monotonic(), True
        for batch in source:
            self.waited_s += 0.0 if is_first else time.monotonic() - requested
            yield batch
            requested, is_first = time.monotonic(), False

    def _from_thread(self) -> Iterator[Batch]:
        thread = threading.Thread(target=self._prepare, name="loader", daemon=True)
        thread.start()
        try:
            for _ in range(self.start, len(self.batches)):
                batch = self.ready.get()
                if isinstance(batch, BaseException):
                    raise batch
                yield batch
        finally:
            self.stop.set()
            while thread.is_alive():
                try:
                    self.ready.get(timeout=0.05)
                except queue.Empty:
                    continue

    def _prepare(self) -> None:
        try:
            for step in range(self.start, len(self.batches)):
                if self.stop.is_set():
                    return
                self.ready.put(self.batches[step])
        except BaseException as error:  # handed to the training thread, which raises it
            self.ready.put(error)


def collate(items: Sequence[Item], inputs: dict[str, Input], target_types: Mapping[str, type[SampleTarget]]) -> Batch:
    """Return the batch of some items: normalised images, and the targets of these tasks that any item has."""
    images = {
        name: normalise(torch.stack([item.images[name] for item in items]), spec).contiguous(
            memory_format=torch.channels_last
        )
        for name, spec in inputs.items()
    }
    targets: dict[str, Target] = {}
    for task, target_type in target_types.items():
        if (target := target_type.collate([item.targets.get(task) for item in items])) is not None:
            targets[task] = target
    missing = [item.missing for item in items]
    any_missing = any(index != PRESENT for index in missing)
    return Batch(images, targets, torch.tensor(missing) if any_missing else None, tuple(item.source for item in items))


def fitted_images(
    sample: Sample, inputs: dict[str, Input], corruption: Corruption = CLEAN
) -> dict[str, NDArray[np.uint8]]:
    """Return a sample's images as an engine takes them: uint8 (1, H, W, C) arrays by input name."""
    first = next(iter(inputs.values()))
    scale = Letterbox.plan(sample.size, (first.height, first.width)).scale
    images = corruption(to_item(sample, inputs, {}).images, inputs, scale)
    return {name: images[name].permute(1, 2, 0).contiguous().numpy()[None] for name in inputs}


def check_inputs(inputs: dict[str, Input], dataset: Dataset) -> None:
    """Raise `ConfigError` when a network needs a modality that the data do not have."""
    for spec in inputs.values():
        if spec.modality not in dataset.modalities:
            available = ", ".join(dataset.modalities)
            raise ConfigError(
                f"the network needs {spec.modality} images, the data have {available}: modalities=[{available}]"
            )
