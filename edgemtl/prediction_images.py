"""The images that a prediction is made on: of a folder, of a file, or of a dataset, whose labels are not read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgemtl_runtime.camera.source import no_images

from .data.annotations import Entry, Index, check_partners, images_in
from .data.formats import index
from .data.image_lists import IMAGE_SUFFIXES
from .data.problems import Problems, raise_problems
from .errors import DataError

DESCRIPTION, DESCRIPTIONS = "data.yaml", (".yaml", ".yml")


@dataclass(frozen=True)
class Unlabelled:
    """The images of one sample: ``name`` and ``file`` are its own, ``split`` is "" where it is of no dataset."""

    name: str
    file: str
    split: str
    entry: Entry


def find_images(source: Path, modalities: list[str], split: str = "") -> tuple[list[Unlabelled], Problems]:
    """Return the images at ``source``, of a dataset those of ``split`` or of all, and what is skipped.

    Raises `DataError` where there are none.

    One modality's images are a file, or are in the folder itself or in its rgb/ or ir/; two modalities' are in both,
    under equal stems. Anything else is a dataset: its folder, or its data.yaml.
    """
    if not source.exists():
        raise DataError(f"{source}: there is no such folder")
    if source.is_file() and source.suffix.lower() in IMAGE_SUFFIXES:
        if len(modalities) > 1:
            raise DataError(f"{source}: is one image; the network needs {' and '.join(modalities)}: give a folder")
        return [_plain(Entry(source.stem, {modalities[0]: source}, {}))], Problems()
    if source.is_file() and source.suffix.lower() not in DESCRIPTIONS:
        raise DataError(f"{source}: is no image, folder of images, dataset or data.yaml")
    if source.is_file() or not any(map(_holds_images, (source, *(source / modality for modality in modalities)))):
        return _of_dataset(source, modalities, split)
    if split:
        raise DataError(f"--split {split}: {source} holds images and is no dataset with splits")
    return _of_folder(source, modalities)


def _plain(entry: Entry) -> Unlabelled:
    return Unlabelled(entry.name, next(iter(entry.images.values())).name, "", entry)


def _of_folder(folder: Path, modalities: list[str]) -> tuple[list[Unlabelled], Problems]:
    """Return the images of a folder; raises `DataError` when an image has no partner."""
    folders = {m: folder / m for m in modalities if (folder / m).is_dir()}
    if len(folders) < len(modalities):
        if len(modalities) > 1:
            raise DataError(f"{folder}: needs the folders {' and '.join(f'{m}/' for m in modalities)}, a camera each")
        folders = {modalities[0]: folder}
    folder_index = Index(folder)
    files = {modality: images_in(path, folder_index) for modality, path in folders.items()}
    check_partners(files, folders, folder_index)
    raise_problems(folder, folder_index.problems)
    for inner in sorted(folder.iterdir()):
        if inner.name not in modalities and _holds_images(inner):
            folder_index.problems.skip("folders within that of the images", inner)
    stems = sorted(next(iter(files.values())))
    entries = [Entry(stem, {m: files[m][stem] for m in modalities}, {}) for stem in stems]
    return [_plain(entry) for entry in entries], folder_index.problems


def _of_dataset(source: Path, modalities: list[str], split: str) -> tuple[list[Unlabelled], Problems]:
    """Return the images of a dataset, also where something is wrong with its labels."""
    root = (source if source.is_dir() else source.parent).resolve()
    dataset = index(root if source.is_dir() else source.resolve())
    if split and split not in dataset.splits:
        raise DataError(f"{source} has no split '{split}'; it has {', '.join(dataset.splits) or 'none'}")
    images, problems = list[Unlabelled](), Problems()
    for name in [split] if split else dataset.splits:
        for entry in dataset.splits[name]:
            first = next(iter(entry.images.values()))
            missing = [modality for modality in modalities if modality not in entry.images]
            if missing:
                problems.skip(f"samples without {missing[0]}", first)
                continue
            file = first.relative_to(root) if first.is_relative_to(root) else first
            unlabelled = Entry(entry.name, {m: entry.images[m] for m in modalities}, {})
            images.append(Unlabelled(f"{name}/{entry.name}", file.as_posix(), name, unlabelled))
    if not images and problems.skipped:
        raise DataError(f"{source}: {problems.skipped[0]}; the network needs {' and '.join(modalities)}")
    if not images and source.is_dir() and not dataset.splits and not (source / DESCRIPTION).is_file():
        raise DataError(f"{source}: {no_images(source)}")
    if not images:
        raise_problems(source, dataset.problems)
        raise DataError(f"{source}: holds no images")
    return images, problems


def _holds_images(folder: Path) -> bool:
    return folder.is_dir() and any(_is_image(file) for file in folder.iterdir())


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
