"""Label maps and attributes of images whose boxes are in COCO's JSON: in folders of their task next to the images'."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ..annotations import Index, LabelReader
from ..description import Description, required_key
from ..readers.maps import READERS, read_map
from .coco_files import MODALITY_WORDS
from .coco_images import sibling

IMAGE_WORDS = ("images", *MODALITY_WORDS)
"""The names of folders of images, in whose stead those of labels stand."""


@dataclass
class LabelMaps:
    """Finds the label maps of images; ``folders`` are those of each task that hold any."""

    description: Description
    folders: dict[str, Path] = field(default_factory=dict)
    listed: dict[tuple[str, Path], dict[str, Path]] = field(default_factory=dict)

    def readers(self, image: Path, sample: str) -> dict[str, LabelReader]:
        """Return the readers of an image's maps, whose stem is the image's own or the sample's."""
        readers: dict[str, LabelReader] = {}
        classes = self.description.classes
        for task in READERS:
            files = self._files(task, image.parent)
            file = files.get(image.stem) or files.get(sample.rpartition("/")[2])
            if file is not None and (task in classes or not required_key(task)):
                readers[task] = partial(read_map, task, file, classes.get(task, ()))
        return readers

    def _files(self, task: str, images: Path) -> dict[str, Path]:
        """Return a task's files by stem, of the images of a folder."""
        if (task, images) not in self.listed:
            folder = sibling(images, self.description.base, [self.description.folder_name(task)], IMAGE_WORDS)
            files = sorted(folder.iterdir(), reverse=True) if folder else []
            maps = {file.stem: file for file in files if file.suffix.lower() in READERS[task].suffixes}
            self.listed[task, images] = maps
            if maps and folder:
                self.folders.setdefault(task, folder)
        return self.listed[task, images]

    def check(self, result: Index) -> None:
        """Keep the tasks that every split has labels of; names without labels are a problem, and maps without names."""
        description = self.description
        for task in (*READERS, "attributes"):
            folder = self.folders.get(task, description.base / task)
            key = required_key(task)
            if result.keep_task(task, description.attributes_file if task == "attributes" else folder):
                continue
            if task in self.folders and key and task not in description.classes:
                message = f"holds maps, whose classes a data.yaml names: {key}: [road, sky]"
                result.problem(folder, message)
            elif task in self.folders:
                result.problem(folder, "holds maps, and none has the name of an image")
            elif key and task in description.classes:
                what = description.attributes_file if task == "attributes" else folder
                result.problem(
                    description.file, f"names the classes of {task} ({key}), and {what} has none of an image"
                )
