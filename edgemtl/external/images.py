"""The images for a network: those that it trains on, those that are held out, and labels where there are some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..config import Config, Data
from ..data.datasets import open_datasets
from ..data.sample import Dataset, Sample
from ..errors import DataError
from .network import ExternalNetwork
from .unlabelled import UnlabelledImages

HELD_OUT = 16
"""One image in so many is held out of a training without labels, and a hundred at most."""
MOST_HELD_OUT = 100
LEAST = 8
"""Images that a training needs, at least."""


@dataclass(frozen=True, eq=False)
class NetworkImages:
    """Images to train on, images that are held out, and of these the labelled ones."""

    train: Dataset
    held_out: Dataset
    labelled: Dataset | None = None
    notes: tuple[str, ...] = ()
    """What a user should know of them, a sentence each."""
    unreadable: set[str] = field(default_factory=set)
    """Images that could not be decoded, which is known once they were read."""


class Part:
    """Some samples of a dataset, by index."""

    def __init__(self, dataset: Dataset, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, list(indices)
        self.classes, self.modalities = dataset.classes, dataset.modalities

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[self.indices[index]]

    def is_day(self, index: int) -> bool | None:
        """Whether a sample was taken by day."""
        return self.dataset.is_day(self.indices[index])


def unlabelled(network: ExternalNetwork, sources: Sequence[Path], least: int = LEAST) -> NetworkImages:
    """Return images without labels; raises `DataError` where there are fewer than ``least``."""
    images = UnlabelledImages(sources, [spec.modality for spec in network.inputs])
    count = len(images)
    names = " and ".join(map(str, sources))
    if count < least:
        raise DataError(
            f"--images {names}: {count} images are too few to train on; give {least} or more, better hundreds"
        )
    step = max(HELD_OUT, -(-count // MOST_HELD_OUT))
    held = range(step // 2, count, step) if count >= 2 * HELD_OUT else range(count)
    train = [index for index in range(count) if index not in held] or list(range(count))
    notes = [str(skipped) for skipped in images.skipped.skipped]
    if count < 2 * HELD_OUT and least > 1:
        notes.append(f"{count} images are too few to hold some out: figures are of images that it is trained on")
    return NetworkImages(Part(images, train), Part(images, held), notes=tuple(notes), unreadable=images.unreadable)


def labelled(network: ExternalNetwork, source: str) -> NetworkImages:
    """Return the train and val split of a dataset; raises `DataError` where the network lacks one of its classes."""
    spec = network.inputs[0]
    config = Config(
        input_size=network.size,
        data=Data(source),
        tasks=tuple(head.task for head in network.heads if head.decoder != "tensor") or ("boxes",),
        modalities=tuple(s.modality for s in network.inputs),
    )
    splits = open_datasets(config)
    train, val = splits["train"], splits["val"]
    if spec.modality not in train.modalities:
        raise DataError(f"{source}: has {', '.join(train.modalities)} images, the network takes {spec.modality}")
    for head in network.heads:
        wanted = val.classes.get(head.name)
        lacking = [name for name in wanted or () if name.casefold() not in {c.casefold() for c in head.classes}]
        if head.decoder != "tensor" and lacking:
            raise DataError(f"{source}: has the class {lacking[0]}, which {network.name} does not know; train it first")
    has_labels = any(head.name in val.classes for head in network.heads if head.decoder != "tensor")
    if network.trains_with_labels and val.classes.get("boxes") != network.heads[0].classes:
        known, given = ", ".join(network.heads[0].classes[:8]), ", ".join(val.classes.get("boxes", ())) or "none"
        raise DataError(
            f"{source}: has the classes {given}, {network.name} has {known}; train it on them first, or give --images"
        )
    return NetworkImages(train, val, val if has_labels else None)
