"""Datasets: the splits that a configuration names, decoded sample by sample, and several sources as one."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from ..config import Config, Data, Source
from ..console import print_message, progress_bar
from ..errors import DataError
from ..synthetic.streets import HELD_OUT, Streets
from .annotations import Entry, Index
from .box_counts import count_boxes
from .formats import index
from .modalities import keep_complete
from .problems import Problems, raise_problems
from .sample import Dataset, Sample

THREADS = min(8, os.cpu_count() or 1)
Splits = dict[str, Dataset]


class FileDataset:
    """Entries of an index as a dataset, with the labels of ``tasks`` alone if any are named."""

    def __init__(self, dataset_index: Index, entries: Sequence[Entry], tasks: Sequence[str] = ()) -> None:
        self.root = dataset_index.root
        self.classes = {task: names for task, names in dataset_index.classes.items() if not tasks or task in tasks}
        self.entries = [
            replace(entry, labels={t: read for t, read in entry.labels.items() if t in self.classes})
            for entry in entries
        ]
        self.modalities = tuple(self.entries[0].images) if self.entries else ()

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Sample:
        problems = Problems()
        sample = self.entries[index].read(problems)
        raise_problems(self.root, problems)
        assert sample is not None
        return sample

    def is_day(self, index: int) -> bool | None:
        """Whether a sample was taken by day."""
        return self.entries[index].is_day


class ConcatDataset:
    """Several datasets one after the other; each labels the tasks that it has, under the same classes."""

    def __init__(self, parts: Sequence[Dataset], names: Sequence[str]) -> None:
        self.parts = parts
        self.classes: dict[str, tuple[str, ...]] = {}
        self.modalities = tuple(m for m in parts[0].modalities if all(m in part.modalities for part in parts))
        owner: dict[str, str] = {}
        for part, name in zip(parts, names, strict=True):
            for task, classes in part.classes.items():
                if self.classes.setdefault(task, classes) != classes:
                    raise DataError(
                        f"{task}: {owner[task]} has the classes {', '.join(self.classes[task])}, "
                        f"{name} has {', '.join(classes)}; "
                        "leave the task out of one of them (tasks: [...] next to its source)"
                    )
                owner.setdefault(task, name)

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, index: int) -> Sample:
        part, index_in_part = self._locate(index)
        return part[index_in_part]

    def is_day(self, index: int) -> bool | None:
        """Whether a sample was taken by day."""
        part, index_in_part = self._locate(index)
        return part.is_day(index_in_part)

    def _locate(self, index: int) -> tuple[Dataset, int]:
        for part in self.parts:
            if index < len(part):
                return part, index
            index -= len(part)
        raise IndexError(index)


def open_datasets(config: Config, needed: tuple[str, ...] = ("train", "val"), check_labels: bool = False) -> Splits:
    """Open the splits that there are of "train", "val" and "test"; raises `DataError` with all problems.

    With ``check_labels`` all boxes are read once, before a training begins, and what is skipped is printed.
    """
    data = config.data
    if data.source == "streets":
        return _synthetic(config)
    if not data.sources:
        raise DataError("data.source lists nothing")
    opened = [_open(source, config, needed, check_labels) for source in data.sources]
    if len(opened) == 1:
        return opened[0]
    names = [source.source for source in data.sources]
    splits = [split for split in opened[0] if all(split in parts for parts in opened)]
    return {split: ConcatDataset([parts[split] for parts in opened], names) for split in splits}


def name_of(data: Data) -> str:
    """Return the data's name for people."""
    return " + ".join(source.source for source in data.sources)


def _synthetic(config: Config) -> Splits:
    num_train, num_val = config.data.synthetic.num_train, config.data.synthetic.num_val
    first_seed = config.seed * num_train % (HELD_OUT - num_train)
    train = Streets(num_train, config.input_size, first_seed, config.tasks)
    return {"train": train, "val": Streets(num_val, config.input_size, HELD_OUT, config.tasks)}


def _open(source: Source, config: Config, needed: tuple[str, ...], check_labels: bool) -> Splits:
    if source.source == "streets":
        raise DataError("synthetic streets cannot be mixed with other sources: data.source=streets")
    dataset_index = index(source.source, source.label_policy, source.modality)
    keep_complete(dataset_index, config.modalities, needed)
    dataset_index.raise_problems()
    for task in source.tasks:
        if task not in dataset_index.classes:
            labelled = ", ".join(dataset_index.classes) or "none"
            raise DataError(f"{source.source} has no {task} labels; it has {labelled}")
    data, entries = config.data, dict(dataset_index.splits)
    if data.val_fraction:
        has_train = bool(entries.get("train"))  # COCO's val2017 alone is divided like a training split
        train = entries.get("train" if has_train else "val", [])
        kept = round(len(train) * (1 - data.val_fraction))
        entries = {"train": train[:kept], "val": train[kept:], "test": entries.get("val", []) if has_train else []}
        if not entries["train"] or not entries["val"]:
            raise DataError(
                f"{source.source}: data.val_fraction={data.val_fraction:g} of {len(train)} images leaves no split"
            )
    for split in needed:
        if not entries.get(split):
            has_other = split != "test" and bool(entries.get("val" if split == "train" else "train"))
            hint = "; data.val_fraction=0.2 divides the images of the other" if has_other else ""
            raise DataError(f"{source.source}: split '{split}' has no images{hint}")
    dataset_index.splits = entries
    if check_labels and "boxes" in dataset_index.classes and "boxes" in config.tasks and source.gives("boxes"):
        for split in needed:
            count_boxes(dataset_index, split, entries[split])
        dataset_index.raise_problems()
    if check_labels:
        for skipped in dataset_index.problems.skipped:
            print_message(str(skipped))
    return {split: FileDataset(dataset_index, part, source.tasks) for split, part in entries.items()}


def read_all(entries: Sequence[Entry], problems: Problems, title: str = "reading") -> Iterator[Sample | None]:
    """Decode entries in their order, some ahead, and add every problem."""
    with ThreadPoolExecutor(THREADS) as pool, progress_bar(title, len(entries)) as bar:
        pending: deque[Future[tuple[Sample | None, Problems]]] = deque()
        for done in range(len(entries)):
            while len(pending) < 4 * THREADS and done + len(pending) < len(entries):
                pending.append(pool.submit(_read, entries[done + len(pending)]))
            sample, new_problems = pending.popleft().result()
            problems.extend(new_problems)
            bar(done + 1, {})
            yield sample


def _read(entry: Entry) -> tuple[Sample | None, Problems]:
    problems = Problems()
    return entry.read(problems), problems


def evenly_spaced(length: int, count: int) -> list[int]:
    """Return at most ``count`` indices of a sequence, evenly spaced from its first to its last."""
    count = max(1, min(count, length))
    return sorted({round(i * (length - 1) / max(count - 1, 1)) for i in range(count)})
