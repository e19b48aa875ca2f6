"""Image folder sink: pairs as a dataset in the layout that training reads, named by their capture times."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import EdgemtlError
from ..frame import FramePair, Size
from ..result import Result
from .partial_file import PartialFile, rename_no_replace

if TYPE_CHECKING:
    from ..rig import Rig
    from ..rig.register import Registration

DATA_YAML = "data.yaml"


@dataclass
class FolderTally:
    """Counts of a recording: pairs written, and pairs that existed already."""

    sink: str = "folder"
    pairs: int = 0
    there_already: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return one object for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        """Return the counts in one line."""
        return f"{self.pairs} new pairs" + (f", {self.there_already} were there already" if self.there_already else "")


class ImageFolder:
    """Writes rgb/SPLIT/STAMP.png and ir/SPLIT/STAMP.png, and data.yaml where there is none yet.

    STAMP is the pair's capture time as Unix nanoseconds, so that a second recording adds to the first; an
    existing image is not replaced, and ``tally`` counts it. With a rig the thermal image is registered to the colour
    camera's pixels, as training needs it; without one it is resized to them where its size differs. 16-bit images
    keep their bits. Each image is written as a partial file and renamed when it is complete; the second of a pair is
    renamed last, and training skips images without a partner.
    """

    name = "folder"
    on_main_thread = False

    def __init__(self, folder: Path, split: str = "train", rig: Rig | None = None) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", split):
            raise EdgemtlError(f"--split {split}: is a plain name, as train, val or test")
        self.folder, self.split, self.rig = folder, split, rig
        self.registration: Registration | None = None
        self.tally = FolderTally()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError), (folder / DATA_YAML).open("x") as stream:
                stream.write(f"{split}: rgb/{split}\nnames: []\n")
        except OSError as error:
            raise EdgemtlError(f"--out {folder}: cannot be written ({error.strerror})") from error

    def write(self, pair: FramePair, result: Result | None = None) -> None:
        """Write the images of a pair."""
        size = next(iter(pair.frames.values())).size
        taken_ns = pair.unix_ns
        is_new = False
        for name, frame in pair.frames.items():
            image = frame.image
            if self.rig is not None and name == self.rig.ir.name:
                image = self._registered(image, size)
            elif image.shape[:2] != size:
                image = np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA))
            folder = self.folder / name / self.split
            folder.mkdir(parents=True, exist_ok=True)
            good, data = cv2.imencode(".png", image if image.ndim == 2 else image[:, :, ::-1])
            assert good, "OpenCV writes every image of 8 or 16 bits as PNG"
            is_new |= self._write_new(folder / f"{taken_ns}.png", data.tobytes())
        if is_new:
            self.tally.pairs += 1
        else:
            self.tally.there_already += 1

    def _write_new(self, file: Path, data: bytes) -> bool:
        """Write a file; False where its name exists. Raises `EdgemtlError` when the disk is full."""
        try:
            partial = PartialFile(file.with_name(f".{file.stem}.{os.getpid()}.part{file.suffix}"))
            try:
                partial.write(data)
                return rename_no_replace(partial.path, file)
            finally:
                partial.discard()
        except OSError as error:
            raise EdgemtlError(f"--out {self.folder}: cannot be written ({error.strerror or error})") from error

    def _registered(self, image: NDArray[Any], size: Size) -> NDArray[Any]:
        from ..rig.register import Registration

        assert self.rig is not None
        if self.registration is None:
            self.registration = Registration(self.rig, size, image.shape[:2])
        return self.registration.registered(image)

    def close(self) -> None:
        """Do nothing: no file is left open."""
