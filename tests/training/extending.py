"""The files of docs/extending.md, and the data that its commands are run on."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import cv2
import numpy as np

DOCUMENT = Path(__file__).parents[2] / "docs" / "extending.md"
SIZE = (64, 96)


def files() -> dict[str, str]:
    """Return the document's files by name."""
    return dict(re.findall(r"`([\w.]+)`:\n\n```(?:python|yaml)\n(.*?)```", DOCUMENT.read_text(), re.S))


def commands() -> list[str]:
    """Return the document's command lines."""
    return [line for block in re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text(), re.S) for line in block.splitlines()]


def write(folder: Path, train: int = 8, val: int = 3) -> Path:
    """Write the files, drawn streets with temperatures in ``thermal/``, and the same as a list in ``listed/``."""
    from edgemtl.data.readers.maps import write_map
    from edgemtl.synthetic.streets import street

    for name, text in files().items():
        (folder / name).write_text(text)
    rows = ["split,rgb,ir,temperature"]
    for split, first, count in (("train", 0, train), ("val", 900_000, val)):
        for part in ("rgb", "ir", "temperature", "depth"):
            (folder / "thermal" / part / split).mkdir(parents=True)
        for seed in range(first, first + count):
            sample = street(seed, SIZE)
            ir = sample.images["ir"]
            kelvin_100 = (27315 + 5000 * (ir / 255.0)).astype(np.uint16)
            kelvin_100[:4] = 0  # not known
            pixels = {"rgb": sample.images["rgb"][:, :, ::-1], "ir": ir, "temperature": kelvin_100}
            for part, image in pixels.items():
                cv2.imwrite(str(folder / "thermal" / part / split / f"{seed}.png"), image)
            write_map("depth", folder / "thermal" / "depth" / split / f"{seed}.png", sample.labels["depth"])
            rows.append(",".join([split, *(f"{part}/{split}/{seed}.png" for part in pixels)]))
    (folder / "thermal" / "data.yaml").write_text("depth: metric\n")
    shutil.copytree(folder / "thermal", folder / "listed")
    (folder / "listed" / "files.csv").write_text("\n".join(rows) + "\n")
    return folder
