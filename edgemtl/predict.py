"""Predictions on images without labels: drawn, as results in JSON, and boxes in COCO's results format."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgemtl_runtime.atomic import AtomicFolder
from edgemtl_runtime.result import Boxes

from .console import progress_bar
from .data.problems import Problems, Skipped, raise_problems
from .data.sample import Sample
from .errors import DataError
from .evaluate import Predictor
from .prediction_images import Unlabelled, find_images
from .reports.html import png
from .run_files import PREDICTION
from .visualize import draw_results

IMAGES, BOXES, RESULTS = "pictures", "boxes.json", "results.jsonl"


@dataclass(frozen=True)
class Prediction:
    """How many samples were predicted, and what was skipped, by reason."""

    count: int
    skipped: list[Skipped]


def predict(predictor: Predictor, source: Path, out: Path, overwrite: bool = False, split: str = "") -> Prediction:
    """Run a network on images; write drawn images, results.jsonl and, where it has boxes, boxes.json.

    `find_images` describes ``source`` and ``split``. Images that cannot be read are skipped; where none can,
    `DataError` is raised. With ``overwrite`` a prediction of ours at ``out`` is replaced.
    """
    coco, count, unreadable = CocoResults(), 0, Problems()
    with AtomicFolder(out, PREDICTION, overwrite) as output, ExitStack() as bars:
        images, skipped = find_images(source, [spec.modality for spec in predictor.inputs.values()], split)
        bar = bars.enter_context(progress_bar("predicting", len(images)))
        with (output.folder / RESULTS).open("w") as lines:
            for done, image in enumerate(images, 1):
                sample = image.entry.read(unreadable)
                if sample is not None:
                    count += 1
                    lines.write(json.dumps(_predict_sample(predictor, image, sample, output.folder, coco)) + "\n")
                bar(done, {})
        if not count:
            raise_problems(source, unreadable)
            raise DataError(f"{source}: holds no images")
        for problem in unreadable:
            skipped.skip("images that cannot be used", problem.file, problem.line, problem.message)
        if coco.names:
            (output.folder / BOXES).write_text(json.dumps(coco.to_dict()) + "\n")
        output.commit()
    return Prediction(count, skipped.skipped)


def _predict_sample(
    predictor: Predictor, image: Unlabelled, sample: Sample, out: Path, coco: CocoResults
) -> dict[str, Any]:
    """Draw a sample's results, add its boxes, and return its line of results.jsonl."""
    heads = predictor(sample)
    drawn = out / IMAGES / f"{image.name}.png"
    drawn.parent.mkdir(parents=True, exist_ok=True)
    drawn.write_bytes(png(draw_results(sample, heads)))
    for head in heads.values():
        if isinstance(head, Boxes):
            coco.add(image.file, sample, head)
    record: dict[str, Any] = {"name": image.name, "heads": {name: head.to_dict() for name, head in heads.items()}}
    return record | ({"split": image.split} if image.split else {})


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
