"""M3FD (Liu et al. 2022, TarDAL): 4200 registered pairs, six classes.

Vis/STEM.png   Ir/STEM.png   Annotation/STEM.xml   meta/{train,val}.txt: STEM or STEM.png a line, optional

There is no official split, and one drawn at random puts neighbours of a video on both sides. Lists in meta/ are
followed; without them whole blocks of a hundred consecutive numbers, every fifth of them, are held out: a custom split,
so metrics are not those of other papers.
"""

from __future__ import annotations

from pathlib import Path

from ..annotations import Entry, Index, pair_by_stem, read_list
from ..readers.voc_xml import VocXml

CLASSES = ("People", "Car", "Bus", "Lamp", "Motorcycle", "Truck")
BLOCK, EVERY = 100, 5


def matches(root: Path) -> bool:
    """Whether the folder has this format."""
    return all((root / name).is_dir() for name in ("Vis", "Ir", "Annotation"))


def index(root: Path, label_policy: str) -> Index:
    """Index the pairs by scenes."""
    result = Index(root, {"boxes": CLASSES}, {"train": [], "val": []})
    pairs = pair_by_stem({"rgb": root / "Vis", "ir": root / "Ir"}, result)
    for split, stems in _split(root, list(pairs), result).items():
        for stem in stems:
            boxes = VocXml(root / "Annotation" / f"{stem}.xml", CLASSES, {})
            result.splits[split].append(Entry(stem, pairs[stem], {"boxes": boxes}, None, boxes.stated_size))
    return result


def _split(root: Path, stems: list[str], result: Index) -> dict[str, list[str]]:
    lists = {split: root / "meta" / f"{split}.txt" for split in ("train", "val")}
    if not all(file.is_file() for file in lists.values()):
        held_out = {stem for stem in stems if stem.isdecimal() and int(stem) // BLOCK % EVERY == EVERY - 1}
        return {"train": [s for s in stems if s not in held_out], "val": [s for s in stems if s in held_out]}
    named = {split: [Path(line).stem for line in read_list(file, result)] for split, file in lists.items()}
    for split, inner in named.items():
        for stem in sorted(set(inner) - set(stems)):
            result.problem(lists[split], f"names {stem}, which Vis/ and Ir/ do not both have")
    return {split: [stem for stem in inner if stem in set(stems)] for split, inner in named.items()}
