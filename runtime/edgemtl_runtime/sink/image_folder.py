"""Pairs as a data set: pictures in the folder layout that training reads, named by their capture times."""

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
    """Pairs that were written, and those that were there already."""

    sink: str = "folder"
    pairs: int = 0
    there_already: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return one object for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        """Return it in one line."""
        return f"{self.pairs} new pairs" + (f", {self.there_already} were there already" if self.there_already else "")


class Folder:
    """Writes rgb/SPLIT/STAMP.png and ir/SPLIT/STAMP.png, and data.yaml where there is none yet.

    STAMP is the pair's capture time as Unix nanoseconds, so that a second recording adds to the first; a picture that
    is there is not replaced, and ``tally`` counts it. With a rig the thermal picture is registered: both have the
    colour camera's pixels, as training wants them; without one it is resized to them where its size differs. 16-bit
    pictures keep their bits. Each picture is written aside and has its name when it is whole; the second of a pair is
    the last to be named, and training skips pictures without a partner.
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
        """Write the pictures of a pair."""
        size = next(iter(pair.frames.values())).size
        taken_ns = pair.unix_ns
        is_new = False
        for name, frame in pair.frames.items():
            image = frame.image
            if self.rig is not None and name == self.rig.ir.name:
                image = self._registered(image, size)
            elif image.shape[:2] != size:
                image = np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA))
            place = self.folder / name / self.split
            place.mkdir(parents=True, exist_ok=True)
            good, data = cv2.imencode(".png", image if image.ndim == 2 else image[:, :, ::-1])
            assert good, "OpenCV writes every picture of 8 or 16 bits as PNG"
            is_new |= self._put(place / f"{taken_ns}.png", data.tobytes())
        if is_new:
            self.tally.pairs += 1
        else:
            self.tally.there_already += 1

    def _put(self, file: Path, data: bytes) -> bool:
        """Write a picture; False where one of its name is there. Raises `EdgemtlError` when the disk is full."""
        try:
            part = PartialFile(file.with_name(f".{file.stem}.{os.getpid()}.part{file.suffix}"))
            try:
                part.write(data)
                return rename_no_replace(part.path, file)
            finally:
                part.discard()
        except OSError as error:
            raise EdgemtlError(f"--out {self.folder}: cannot be written ({error.strerror or error})") from error

    def _registered(self, image: NDArray[Any], size: Size) -> NDArray[Any]:
        from ..rig.register import Registration

        assert self.rig is not None
        if self.registration is None:
            self.registration = Registration(self.rig, size, image.shape[:2])
        return self.registration.registered(image)

    def close(self) -> None:
        """Nothing is left open."""
