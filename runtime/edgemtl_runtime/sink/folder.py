"""Pairs as a data set: pictures in the folder layout that training reads, named by their capture times."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import EdgemtlError
from ..frame import FramePair, Size
from ..result import Result

if TYPE_CHECKING:
    from ..rig import Rig
    from ..rig.register import Registration

DATA_YAML = "data.yaml"


class Folder:
    """Writes rgb/SPLIT/STAMP.png and ir/SPLIT/STAMP.png, and data.yaml where there is none yet.

    STAMP is the pair's capture time as Unix nanoseconds, so that a second recording adds to the first. With a rig the
    thermal picture is registered: both have the colour camera's pixels, as training wants them; without one it is
    resized to them where its size differs. 16-bit pictures keep their bits. Each picture is written aside and has its
    name when it is whole; the second of a pair is the last to be named, and training skips pictures without a partner.
    """

    name = "folder"
    on_main_thread = False

    def __init__(self, folder: Path, split: str = "train", rig: Rig | None = None) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", split):
            raise EdgemtlError(f"--split {split}: is a plain name, as train, val or test")
        self.folder, self.split, self.rig = folder, split, rig
        self.offset_ns = time.time_ns() - time.monotonic_ns()
        self.registration: Registration | None = None
        self.written = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / DATA_YAML).exists():
                (folder / DATA_YAML).write_text(f"{split}: rgb/{split}\nnames: []\n")
        except OSError as error:
            raise EdgemtlError(f"--out {folder}: cannot be written ({error.strerror})") from error

    def write(self, pair: FramePair, result: Result | None = None) -> None:
        """Write the pictures of a pair."""
        size = next(iter(pair.frames.values())).size
        taken_ns = max(frame.unix_ns or frame.stamp_ns + self.offset_ns for frame in pair.frames.values())
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
            file = place / f"{taken_ns}.png"
            part = file.with_name(f".{file.name}.part")
            try:
                part.write_bytes(data.tobytes())
                part.replace(file)
            finally:
                part.unlink(missing_ok=True)
        self.written += 1

    def _registered(self, image: NDArray[Any], size: Size) -> NDArray[Any]:
        from ..rig.register import Registration

        assert self.rig is not None
        if self.registration is None:
            self.registration = Registration(self.rig, size, image.shape[:2])
        return self.registration.registered(image)

    def close(self) -> None:
        """Nothing is left open."""
