"""A network on pictures without labels: what it sees, drawn, and its boxes as COCO's JSON."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from edgemtl_runtime.atomic import AtomicFolder
from edgemtl_runtime.result import Boxes

from .console import progress_bar
from .data.annotations import Entry, Index, images_in, raise_problems
from .data.sample import Sample
from .errors import DataError
from .evaluate import Predictor, open_predictor
from .reports.html import png
from .visualize import drawn

PREDICTION = "prediction"
"""What `edgemtl_runtime.atomic` calls such a folder."""
BOXES, RESULTS = "boxes.json", "results.jsonl"


def predict(what: Path, folder: Path, out: Path, overwrite: bool = False) -> int:
    """Show a network a folder of pictures; write pictures/, results.jsonl and, where it has boxes, boxes.json.

    One camera's pictures lie in the folder itself or in its rgb/ or ir/, two cameras' in both, under equal stems.
    With ``overwrite`` a prediction of ours at ``out`` is replaced. Returns how many pictures there were.
    """
    coco = Coco()
    with AtomicFolder(out, PREDICTION, overwrite) as output, ExitStack() as bars:
        predictor = open_predictor(what, threshold=None)
        entries = listed(folder, [spec.modality for spec in predictor.inputs.values()])
        bar = bars.enter_context(progress_bar("predicting", len(entries)))
        (output.folder / "pictures").mkdir()
        with (output.folder / RESULTS).open("w") as lines:
            for done, entry in enumerate(entries):
                lines.write(json.dumps(_one(predictor, folder, entry, output.folder / "pictures", coco)) + "\n")
                bar(done + 1, {})
        if coco.names:
            (output.folder / BOXES).write_text(json.dumps(coco.to_dict()) + "\n")
        output.commit()
    return len(entries)


def listed(folder: Path, modalities: list[str]) -> list[Entry]:
    """Return the pictures of these cameras; raises `DataError` when one of them has no partner."""
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    index = Index(folder)
    inner = {m: folder / m for m in modalities if (folder / m).is_dir()}
    if len(inner) < len(modalities):
        if len(modalities) > 1:
            raise DataError(f"{folder}: needs the folders {' and '.join(f'{m}/' for m in modalities)}, a camera each")
        inner = {modalities[0]: folder}
    files = {modality: images_in(place, index) for modality, place in inner.items()}
    for modality, found in files.items():
        for other in files.keys() - {modality}:
            for stem in sorted(found.keys() - files[other].keys()):
                index.problem(found[stem], f"has no {other} partner in {inner[other]}")
    raise_problems(folder, index.problems)
    stems = sorted(next(iter(files.values())))
    if not stems:
        raise DataError(f"{folder}: holds no pictures")
    return [Entry(stem, {m: files[m][stem] for m in modalities}, {}) for stem in stems]


def _one(predictor: Predictor, folder: Path, entry: Entry, pictures: Path, coco: Coco) -> dict[str, Any]:
    problems: list[Any] = []
    sample = entry.read(problems)
    raise_problems(folder, problems)
    assert sample is not None
    heads = predictor(sample)
    (pictures / f"{entry.name}.png").write_bytes(png(drawn(sample, heads)))
    for head in heads.values():
        if isinstance(head, Boxes):
            coco.add(next(iter(entry.images.values())).name, sample, head)
    return {"name": entry.name, "heads": {name: head.to_dict() for name, head in heads.items()}}


class Coco:
    """Boxes as COCO's object detection format has them, with a score each: pictures, annotations, categories."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []

    def add(self, file: str, sample: Sample, boxes: Boxes) -> None:
        """Take in a picture's boxes; ids count from 1."""
        self.names = boxes.names
        height, width = sample.size
        image = len(self.images) + 1
        self.images.append({"id": image, "file_name": file, "height": height, "width": width})
        for (x0, y0, x1, y1), score, kind in zip(
            boxes.xyxy.tolist(), boxes.scores.tolist(), boxes.classes.tolist(), strict=True
        ):
            self.annotations.append(
                {
                    "id": len(self.annotations) + 1,
                    "image_id": image,
                    "category_id": kind + 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                    "iscrowd": 0,
                    "score": score,
                }
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the whole file."""
        categories = [{"id": i + 1, "name": name} for i, name in enumerate(self.names)]
        return {"images": self.images, "annotations": self.annotations, "categories": categories}
