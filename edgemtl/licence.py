"""The licence of what a training leaves: edgemtl's, and that of the weights that others trained and it began with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from edgemtl_runtime.limits import decode_json
from edgemtl_runtime.text import shortened

from .config import Config
from .run_files import WEIGHTS
from .torch_file import foreign_class, metadata_of

AGPL = "AGPL-3.0-only"
DATA = "the terms of the training data come on top"
OF_ULTRALYTICS = "whose authors claim AGPL-3.0 for its weights and for engines built from them"
ULTRALYTICS = f"{AGPL}: a network of ultralytics, {OF_ULTRALYTICS}; {DATA}"
OLDER = f"{AGPL}: trained by an older edgemtl, by modules and losses of ultralytics, {OF_ULTRALYTICS}; {DATA}"
Origins = dict[str, str]
"""What a training began with or was taught by, and others trained: a licence by file name, "" where it is not known."""


class _Description(msgspec.Struct):
    """What is read of a run's interface."""

    origins: Origins | None = None


def licence(origins: Origins | None) -> str:
    """Return the licence of a run in a sentence, with the reason; None is of a run from before they were written."""
    if origins is None:
        return OLDER
    if claimed := [name for name, of in origins.items() if of == AGPL]:
        return f"{AGPL}: it comes from {', '.join(claimed)}, trained by ultralytics, {OF_ULTRALYTICS}; {DATA}"
    named = ", ".join(f"{name} ({of})" if of else name for name, of in origins.items())
    others = f", and so do those of {named}, which it comes from" if origins else ""
    return f"Apache-2.0: its layers and losses are edgemtl's, its weights of whoever trained them; {DATA}{others}"


def origins_of(config: Config, description: Mapping[str, Any]) -> Origins:
    """Return what a training begins with, by its configuration and its network's description."""
    origins: Origins = {}
    for stream in description.get("streams", {}).values():
        backbone = stream.get("backbone")
        if weights := backbone.get("weights") if isinstance(backbone, Mapping) else "":
            origins[_name(weights)] = _of_backbone(weights)
    for source in _sources(config):
        origins |= _origins_in(source)
    return origins


def _of_backbone(weights: str) -> str:
    """Return the licence of a backbone's weights, where their package or their file states it."""
    from edgemtl_models.pretrained_weights import PACKAGED, find_weights  # whose package loads torch

    if weights in PACKAGED:
        return PACKAGED[weights].licence
    try:
        return _stated(metadata_of(find_weights(weights)))
    except FileNotFoundError:
        return ""


def _stated(metadata: Mapping[str, str]) -> str:
    return shortened(metadata.get("license", ""), 60)


def _sources(config: Config) -> Iterator[Path]:
    for source in (config.init_from, config.teacher, *config.teachers.values()):
        if source:
            yield Path(source)


def _origins_in(source: Path) -> Origins:
    """Return the origins of a run's or a file's weights; a file whose description cannot be read is one itself."""
    file = source / WEIGHTS if source.is_dir() else source
    metadata = metadata_of(file)
    if "ultralytics" in metadata or "ultralytics" in foreign_class(file):
        return {_name(file): AGPL}
    if "interface" not in metadata:
        return {_name(file): _stated(metadata)}
    try:
        description = msgspec.convert(decode_json(metadata["interface"].encode()), _Description)
    except (msgspec.MsgspecError, ValueError):  # what is wrong with it is said where the weights are read
        return {_name(file): ""}
    return {_name(source): AGPL} if description.origins is None else description.origins


def _name(file: str | Path) -> str:
    return shortened(Path(file).name, 80)
