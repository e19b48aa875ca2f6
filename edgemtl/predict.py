"""Predictions on images without labels: drawn, as results in JSON, and boxes in COCO's results format."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from edgemtl_runtime.atomic import AtomicFolder
from edgemtl_runtime.result import Boxes

from .console import progress_bar
from .data.annotations import Entry, Index, Problems, check_partners, images_in, raise_problems
from .data.sample import Sample
from .errors import DataError
from .evaluate import Predictor, open_predictor
from .reports.html import png
from .run_files import PREDICTION
from .visualize import draw_results

IMAGES, BOXES, RESULTS = "pictures", "boxes.json", "results.jsonl"


def predict(model: Path, folder: Path, out: Path, overwrite: bool = False) -> int:
    """Run a network on a folder of images; write drawn images, results.jsonl and, where it has boxes, boxes.json.

    One modality's images lie in the folder itself or in its rgb/ or ir/, two modalities' in both, under equal stems.
    With ``overwrite`` a prediction of ours at ``out`` is replaced. Returns how many samples there were.
    """
    coco = CocoResults()
    with AtomicFolder(out, PREDICTION, overwrite) as output, ExitStack() as bars:
        predictor = open_predictor(model, threshold=None)
        entries = image_entries(folder, [spec.modality for spec in predictor.inputs.values()])
        bar = bars.enter_context(progress_bar("predicting", len(entries)))
        (output.folder / IMAGES).mkdir()
        with (output.folder / RESULTS).open("w") as lines:
            for done, entry in enumerate(entries):
                record = _predict_entry(predictor, folder, entry, output.folder / IMAGES, coco)
                lines.write(json.dumps(record) + "\n")
                bar(done + 1, {})
        if coco.names:
            (output.folder / BOXES).write_text(json.dumps(coco.to_dict()) + "\n")
        output.commit()
    return len(entries)


def image_entries(folder: Path, modalities: list[str]) -> list[Entry]:
    """Return the samples in a folder of images; raises `DataError` when an image has no partner."""
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    index = Index(folder)
    folders = {m: folder / m for m in modalities if (folder / m).is_dir()}
    if len(folders) < len(modalities):
        if len(modalities) > 1:
            raise DataError(f"{folder}: needs the folders {' and '.join(f'{m}/' for m in modalities)}, a camera each")
        folders = {modalities[0]: folder}
    files = {modality: images_in(path, index) for modality, path in folders.items()}
    check_partners(files, folders, index)
    raise_problems(folder, index.problems)
    stems = sorted(next(iter(files.values())))
    if not stems:
        raise DataError(f"{folder}: holds no pictures")
    return [Entry(stem, {m: files[m][stem] for m in modalities}, {}) for stem in stems]


def _predict_entry(predictor: Predictor, folder: Path, entry: Entry, images: Path, coco: CocoResults) -> dict[str, Any]:
    problems: Problems = []
    sample = entry.read(problems)
    raise_problems(folder, problems)
    assert sample is not None
    heads = predictor(sample)
    (images / f"{entry.name}.png").write_bytes(png(draw_results(sample, heads)))
    for head in heads.values():
        if isinstance(head, Boxes):
            coco.add(next(iter(entry.images.values())).name, sample, head)
    return {"name": entry.name, "heads": {name: head.to_dict() for name, head in heads.items()}}


class CocoResults:
    """Boxes in COCO's object detection format, with a score each: images, annotations, categories."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []

    def add(self, file: str, sample: Sample, boxes: Boxes) -> None:
        """Add an image with its boxes; ids count from 1."""
        self.names = boxes.names
        height, width = sample.size
        image_id = len(self.images) + 1
        self.images.append({"id": image_id, "file_name": file, "height": height, "width": width})
        for (x0, y0, x1, y1), score, class_id in zip(
            boxes.xyxy.tolist(), boxes.scores.tolist(), boxes.classes.tolist(), strict=True
        ):
            self.annotations.append(
                {
                    "id": len(self.annotations) + 1,
                    "image_id": image_id,
                    "category_id": class_id + 1,
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
