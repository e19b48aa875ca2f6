"""The data that a configuration asks for."""

from __future__ import annotations

from ..config import Config, Data, Source
from ..errors import DataError
from ..synthetic.streets import HELD_OUT, Streets
from .datasets import Files, Joined
from .formats import index
from .sample import Samples

Splits = dict[str, Samples]


def open_data(config: Config, needed: tuple[str, ...] = ("train", "val")) -> Splits:
    """Return the splits that there are of "train", "val" and "test"; raises `DataError` with what is wrong."""
    data = config.data
    if data.source == "streets":
        return _streets(config)
    if not data.sources:
        raise DataError("data.source lists nothing")
    opened = [_open(source, data, needed) for source in data.sources]
    if len(opened) == 1:
        return opened[0]
    names = [source.source for source in data.sources]
    splits = [split for split in opened[0] if all(split in parts for parts in opened)]
    return {split: Joined([parts[split] for parts in opened], names) for split in splits}


def name_of(data: Data) -> str:
    """Return the data's name for people."""
    return " + ".join(source.source for source in data.sources)


def _streets(config: Config) -> Splits:
    data = config.data
    train = Streets(
        data.synthetic.num_train,
        config.input_size,
        config.seed * data.synthetic.num_train % (HELD_OUT - data.synthetic.num_train),
        config.tasks,
    )
    return {"train": train, "val": Streets(data.synthetic.num_val, config.input_size, HELD_OUT, config.tasks)}


def _open(source: Source, data: Data, needed: tuple[str, ...]) -> Splits:
    if source.source == "streets":
        raise DataError("drawn streets stand alone: data.source=streets")
    found = index(source.source, source.label_policy)
    found.raise_problems()
    for task in source.tasks:
        if task not in found.classes:
            raise DataError(f"{source.source} has no {task} labels; it has {', '.join(found.classes) or 'none'}")
    entries = dict(found.splits)
    if data.val_fraction:
        train = entries.get("train", [])
        kept = round(len(train) * (1 - data.val_fraction))
        entries = {"train": train[:kept], "val": train[kept:], "test": entries.get("val", [])}
        if not entries["train"] or not entries["val"]:
            raise DataError(
                f"{source.source}: data.val_fraction={data.val_fraction:g} of {len(train)} pictures leaves no split"
            )
    for split in needed:
        if not entries.get(split):
            raise DataError(f"{source.source}: split '{split}' has no pictures")
    return {split: Files(found, part, source.tasks) for split, part in entries.items()}
