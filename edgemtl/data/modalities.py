"""Modalities of a dataset: a single camera's is recognised, or given; samples that lack one of several are skipped."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from edgemtl_runtime.image_file import ImageFileError
from edgemtl_runtime.pixels import COLOUR, describe, is_thermal, read_stored

from ..errors import DataError
from .annotations import Entry, Index

THERMAL = "ir"


def assign(index: Index, modality: str = "") -> None:
    """Give the images of a dataset of one camera their modality: ``modality``, or thermal where they hold counts.

    The first image tells. Raises `DataError` where a modality is given for two cameras.
    """
    present = modalities(index.splits.values())
    if len(present) != 1:
        if modality and present:
            raise DataError(f"{index.root}: modality={modality} is of one camera, the data have {', '.join(present)}")
        return
    if not modality and present == (COLOUR,):
        first = next(entry for entries in index.splits.values() for entry in entries)
        file = first.images[COLOUR]
        try:
            pixels = read_stored(file).pixels
        except ImageFileError:
            return  # reported when it is read
        if is_thermal(pixels):
            modality = THERMAL
            count = sum(map(len, index.splits.values()))
            index.problems.note("images as thermal ones (ir)", file, detail=describe(pixels), count=count)
    if modality and present != (modality,):
        for split, entries in index.splits.items():
            index.splits[split] = [replace(e, images={modality: next(iter(e.images.values()))}) for e in entries]


def modalities(splits: Collection[Sequence[Entry]]) -> tuple[str, ...]:
    """Return the modalities of which any sample has an image, in the order of the samples'."""
    return tuple(dict.fromkeys(modality for entries in splits for entry in entries for modality in entry.images))


def keep_complete(index: Index, wanted: Collection[str] = (), needed: Collection[str] = ("train", "val")) -> None:
    """Keep the samples that have an image of every modality; the others are counted as skipped.

    Of the modalities those are kept that are ``wanted`` (all, where none is), and that every ``needed`` split has.
    """
    present = modalities(index.splits.values())
    kept = [modality for modality in present if not wanted or modality in wanted] or list(present)
    for modality in list(kept):
        counts = {split: sum(modality in entry.images for entry in index.splits[split]) for split in index.splits}
        lacking = next((split for split, count in counts.items() if not count and split in needed), None)
        if lacking is not None and len(kept) > 1:
            first = next(e for entries in index.splits.values() for e in entries if modality in e.images)
            reason = f"{modality} images, as split '{lacking}' has none"
            index.problems.skip(reason, first.images[modality], count=sum(counts.values()))
            kept.remove(modality)
    for split, entries in index.splits.items():
        complete = [_with(entry, kept) for entry in entries if not _missing(entry, kept, present)]
        if entries and not complete:
            _report_none(index, split, kept)
        for entry in entries:
            missing = _missing(entry, kept, present)
            if missing and complete:
                has, file = next(iter(entry.images.items()))
                index.problems.skip(f"{has} images without an {missing[0]} image of the same name", file)
        index.splits[split] = complete


def _missing(entry: Entry, kept: Sequence[str], present: Sequence[str]) -> list[str]:
    """Return the modalities that a sample lacks; where images are registered onto another one, it needs that too."""
    return [modality for modality in (present if entry.registered else kept) if modality not in entry.images]


def _with(entry: Entry, kept: Collection[str]) -> Entry:
    """Return a sample with these modalities alone; where images are registered onto another, with that too."""
    if entry.registered is not None or len(entry.images) == len(kept):
        return entry
    return replace(entry, images={modality: entry.images[modality] for modality in kept})


def _report_none(index: Index, split: str, kept: Sequence[str]) -> None:
    names = {m: next((e.name for e in index.splits[split] if m in e.images), "") for m in kept}
    first = next(iter(index.splits[split][0].images.values()))
    listed = " and ".join(f"{modality} '{name}'" for modality, name in names.items())
    index.problem(
        first,
        f"no sample of split '{split}' has an image of every camera: the names must be equal, {listed}; "
        f"modalities=[{kept[0]}] trains on one of them",
    )
