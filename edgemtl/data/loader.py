"""Batches for training, prepared ahead of the steps that need them."""

from __future__ import annotations

import math
import multiprocessing
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch
import torch.utils.data
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from edgemtl_export.inputs import normalise
from edgemtl_runtime.bundle import Input
from edgemtl_runtime.letterbox import Fit

from .. import distributed
from ..config import Config
from ..console import progress_bar
from ..corruptions import CLEAN, Corruption
from ..errors import ConfigError
from .augment import Augmenter, to_item
from .batch import PRESENT, Batch, Item
from .datasets import THREADS
from .sample import Dataset, Sample
from .targets import SampleTarget, Target


class Batches:
    """The batch of every step, of augmented training items; of several processes, this one's part of it.

    All random numbers come from torch's global state, set anew for every item, so that a batch depends on nothing but
    the seed and the step, whoever prepares it.
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
        self.held = math.ceil(config.episodes.query_fraction * len(dataset))
        if self.held and self.held == len(dataset):
            raise ConfigError(
                f"episodes.query_fraction={config.episodes.query_fraction} leaves none of {self.held} images to train"
            )
        self.light = _by_light(dataset) if config.data.balance_light else []
        self.items: dict[int, Item] = {}
        self.budget = config.data.cache_mb * 2**20

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Batch:
        mosaic = self.config.augment.mosaic if step < self.config.augment.mosaic_until * self.steps else 0.0
        mine = range(step * self.config.batch_size, (step + 1) * self.config.batch_size)[
            distributed.rank() :: distributed.world_size()
        ]
        return collate([self._item(place, mosaic) for place in mine], self.inputs, self.target_types)

    def fill(self) -> None:
        """Read and fit the samples, as many as the memory for them holds, by several threads."""
        count = len(self.dataset)
        with ThreadPoolExecutor(THREADS) as pool, progress_bar("reading", count) as bar:
            for done, index in enumerate(range(0, count, 4 * THREADS)):
                if self.budget <= 0:
                    return
                for _ in pool.map(self._fitted, range(index, min(index + 4 * THREADS, count))):
                    pass
                bar(min((done + 1) * 4 * THREADS, count), {})

    def _item(self, place: int, mosaic: float) -> Item:
        """Return an item of the training by its place in one permutation of all samples after the other."""
        rank, members = self._pool(place)
        number, within = divmod(rank, len(members))
        torch.default_generator.manual_seed(self._seed(1, place))
        others: list[Item] = []
        if mosaic and float(torch.rand(())) < mosaic:
            others = [self._fitted(members[i]) for i in torch.randint(0, len(members), (3,)).tolist()]
        mine = self._fitted(members[self._permutation(number, members[0], len(members))[within]])
        return self.augment(mine, others, lambda: self._fitted(members[int(torch.randint(len(members), ()))]))

    def _pool(self, place: int) -> tuple[int, Sequence[int]]:
        """Return a place's rank among those filled from the same samples, and these.

        Where queries are held out, they fill each batch's second half; where light is balanced, places are filled by
        day and by night in turns.
        """
        size, total = self.config.batch_size, len(self.dataset)
        if self.light:
            return place // 2, self.light[place % 2]
        if not self.held:
            return place, range(total)
        step, within = divmod(place, size)
        half = size // 2
        if within < half:
            return step * half + within, range(total - self.held)
        return step * (size - half) + within - half, range(total - self.held, total)

    @lru_cache(maxsize=4)  # noqa: B019
    def _permutation(self, number: int, first: int, count: int) -> list[int]:
        generator = torch.Generator().manual_seed(self._seed(0, number, *([first] if first else [])))
        order: list[int] = torch.randperm(count, generator=generator).tolist()
        return order

    def _seed(self, *what: int) -> int:
        return int(np.random.SeedSequence([self.config.seed, *what]).generate_state(1, np.uint64)[0] >> np.uint64(1))

    def _fitted(self, index: int) -> Item:
        if index in self.items:
            return self.items[index]
        item = to_item(self.dataset[index], self.inputs, self.target_types)
        if item.nbytes <= self.budget:
            self.budget -= item.nbytes
            self.items[index] = item
        return item


def _by_light(dataset: Dataset) -> list[list[int]]:
    """Return the samples taken by day and those by night; one of which that is not known is among both."""
    known = [dataset.is_day(index) for index in range(len(dataset))]
    if not (True in known and False in known):
        raise ConfigError(
            "data.balance_light needs pictures that are known to be by day, and by night (attributes.csv)"
        )
    return [[index for index, day in enumerate(known) if day is not other] for other in (False, True)]


class Loader:
    """Hands out the batches from step ``first`` on, prepared ahead: by a thread, or by ``workers`` processes.

    ``waited_s`` is how long the steps had to wait for them, but for the first one.
    """

    def __init__(self, batches: Batches, first: int = 0, workers: int = 0) -> None:
        self.batches, self.first, self.workers = batches, first, workers
        self.waited_s = 0.0
        self.ready: queue.Queue[Batch | BaseException] = queue.Queue(maxsize=2)
        self.stop = threading.Event()

    def __iter__(self) -> Iterator[Batch]:
        source = self._from_processes() if self.workers else self._from_thread()
        asked, first = time.monotonic(), True
        for batch in source:
            self.waited_s += 0.0 if first else time.monotonic() - asked
            yield batch
            asked, first = time.monotonic(), False

    def _from_processes(self) -> Iterator[Batch]:
        steps = range(self.first, len(self.batches))
        # Forked, so that they share what was read before.
        context = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
        pinned = torch.cuda.is_available()
        for batch in DataLoader(
            _Guarded(self.batches),
            batch_size=None,
            sampler=steps,
            num_workers=self.workers,
            multiprocessing_context=context,
            pin_memory=pinned,
        ):
            if isinstance(batch, BaseException):
                raise batch
            yield batch

    def _from_thread(self) -> Iterator[Batch]:
        thread = threading.Thread(target=self._prepare, name="loader", daemon=True)
        thread.start()
        try:
            for _ in range(self.first, len(self.batches)):
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
            for step in range(self.first, len(self.batches)):
                if self.stop.is_set():
                    return
                self.ready.put(self.batches[step])
        except BaseException as error:  # handed to the training thread, which raises it
            self.ready.put(error)


class _Guarded(torch.utils.data.Dataset[Batch | BaseException]):
    """Gives an error as it is: a worker's own way to tell it is its whole traceback."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __getitem__(self, step: int) -> Batch | BaseException:
        try:
            return self.batches[step]
        except Exception as error:
            return error


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
    scale = Fit.plan(sample.size, (first.height, first.width)).scale
    images = corruption(to_item(sample, inputs, {}).images, inputs, scale)
    return {name: images[name].permute(1, 2, 0).contiguous().numpy()[None] for name in inputs}


def check_inputs(inputs: dict[str, Input], dataset: Dataset) -> None:
    """Raise `ConfigError` when a network needs a modality that the data do not have."""
    for spec in inputs.values():
        if spec.modality not in dataset.modalities:
            available = ", ".join(dataset.modalities)
            raise ConfigError(
                f"the network needs {spec.modality} pictures, the data have {available}: modalities=[{available}]"
            )
