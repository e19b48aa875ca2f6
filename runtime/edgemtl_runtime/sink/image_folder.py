"""Image folder sink: pairs as a dataset in the layout that training reads, named by their capture times."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import EdgemtlError, flag
from ..frame import FramePair, Size
from ..pixels import PixelError, as_modality
from ..result import Result
from .partial_file import PartialFile, rename_no_replace

if TYPE_CHECKING:
    from ..rig import Rig
    from ..rig.register import Registration

DATA_YAML, NO_CLASSES = "data.yaml", "names: []\n"
OURS = re.compile(r"names: \[\]|[\w-]+: \S+/[\w-]+")
"""Lines of a data.yaml that nobody has edited."""
MODALITIES = ("rgb", "ir")
"""What training reads: colour, and one channel."""
DEPTH = "depth"
"""The modality of distances, of a camera of that name: training is told where they are."""
KEPT_AS_IS = "an MCAP file keeps what cameras give: --out FILE.mcap"
log = logging.getLogger("edgemtl_runtime")


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
    """Writes CAMERA/SPLIT/STAMP.png for every camera, and data.yaml, so that training reads them.

    STAMP is the pair's capture time as Unix nanoseconds, so that a second recording adds to the first; an existing
    image is not replaced, and ``tally`` counts it. Images are those that training would read of the camera's, 16 bits
    kept: colour of a camera named rgb, one channel of one named ir, distances of one named depth; of another name the
    first image tells. With a rig
    the thermal image is registered to the colour camera's pixels, as training needs it; without one it is resized to
    them where its size differs. Each image is written as a partial file and renamed when it is complete; the second of
    a pair is renamed last.
    """

    name = "folder"
    on_main_thread = False

    def __init__(self, folder: Path, split: str = "train", rig: Rig | None = None) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", split):
            raise EdgemtlError(f"--split {split}: is a plain name, as train, val or test")
        self.folder, self.split, self.rig = folder, split, rig
        self.registration: Registration | None = None
        self.modalities: dict[str, str] = {}
        self.tally = FolderTally()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EdgemtlError(f"--out {folder}: cannot be written ({error.strerror})") from error

    def write(self, pair: FramePair, result: Result | None = None) -> None:
        """Write the images of a pair; raises `EdgemtlError` where training would not read them."""
        if not self.modalities:
            self.modalities = self._modalities(pair)
            try:
                self._describe()
            except OSError as error:
                raise EdgemtlError(f"--out {self.folder}: cannot be written ({error.strerror})") from error
        size = next(iter(pair.frames.values())).size
        taken_ns = pair.unix_ns
        is_new = False
        for name, frame in pair.frames.items():
            modality = self.modalities[name]
            try:
                image = as_modality(frame.image, modality)
            except PixelError as error:
                raise EdgemtlError(f"{flag(name)}: frame {frame.index} {error}; {KEPT_AS_IS}") from error
            if self.rig is not None and name == self.rig.ir.name:
                image = self._registered(image, size)
            elif image.shape[:2] != size:
                method = cv2.INTER_NEAREST if modality == DEPTH else cv2.INTER_AREA  # no distance is between two
                image = np.asarray(cv2.resize(image, size[::-1], interpolation=method))
            folder = self.folder / name / self.split
            folder.mkdir(parents=True, exist_ok=True)
            good, data = cv2.imencode(".png", image if image.ndim == 2 else image[:, :, ::-1])
            assert good, "OpenCV writes every image of 8 or 16 bits as PNG"
            is_new |= self._write_new(folder / f"{taken_ns}.png", data.tobytes())
        if is_new:
            self.tally.pairs += 1
        else:
            self.tally.there_already += 1

    def _modalities(self, pair: FramePair) -> dict[str, str]:
        """Return the modality of each camera; raises `EdgemtlError` where the split has images of other cameras."""
        names = sorted(pair.frames)
        present = sorted(n for n in {*MODALITIES, DEPTH, *names} if any((self.folder / n / self.split).glob("*.png")))
        if present and present != names:
            raise EdgemtlError(
                f"--out {self.folder}: its split {self.split} holds {' and '.join(present)}, this recording is "
                f"{' and '.join(names)}: give another --out or --split"
            )
        return {name: self._modality(name, frame.image) for name, frame in pair.frames.items()}

    def _modality(self, name: str, image: NDArray[Any]) -> str:
        if name in (*MODALITIES, DEPTH):
            return name
        is_reference = self.rig is not None and name == self.rig.reference and image.dtype == np.uint8
        return MODALITIES[image.ndim == 2 and not is_reference]

    def _describe(self) -> None:
        """Write data.yaml where there is none, or add this split to one of ours."""
        lines, described = [], set[str]()
        for name, modality in self.modalities.items():
            if modality in described:
                log.warning("%s: training reads one %s camera, so data.yaml does not name it", flag(name), modality)
            elif name != modality or modality == DEPTH:
                lines.append(
                    f"{self.split}{'' if modality == MODALITIES[0] else f'_{modality}'}: {name}/{self.split}\n"
                )
            described.add(modality)
        file = self.folder / DATA_YAML
        text = file.read_text() if file.is_file() else NO_CLASSES
        missing = [line for line in lines if line not in text.splitlines(keepends=True)]
        if not missing and file.is_file():
            return
        if not all(OURS.fullmatch(line) for line in text.splitlines()):
            log.warning("%s: was edited; add to it %s", file, ", ".join(line.strip() for line in missing))
            return
        file.write_text("".join([*missing, text]))

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
