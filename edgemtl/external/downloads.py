"""Pretrained weights of timm and torchvision, fetched by their own downloaders when that is asked for."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from edgemtl_models.pretrained_weights import find_weights, weights_folders

from ..errors import EdgemtlError, brief
from .source import NetworkSource, unknown_name

PATIENCE_S = 5.0
"""How long a server may take to answer at all."""


@dataclass(frozen=True, eq=False)
class Download:
    """Tensors by name, with their origin and licence."""

    state: Mapping[str, Tensor]
    origin: str
    licence: str
    """Empty where the library states none."""


def file_name(source: NetworkSource) -> str:
    """Return the name of the file of a network's weights."""
    return f"{source.kind}-{source.name}.safetensors"


def downloaded(source: NetworkSource) -> Path | None:
    """Return the file of a network's weights, if it was fetched before."""
    try:
        return find_weights(file_name(source))
    except FileNotFoundError:
        return None


def default_file(source: NetworkSource) -> Path:
    """Return where a network's weights are written: in the user's cache."""
    return weights_folders()[-1] / file_name(source)


def download(source: NetworkSource) -> Download:
    """Fetch a network's weights; raises `EdgemtlError` where there are none, or none can be fetched."""
    try:
        return _of_timm(source) if source.kind == "timm" else _of_torchvision(source)
    except EdgemtlError:
        raise
    except Exception as error:  # of a library's downloader, which may fail in any way
        raise EdgemtlError(f"{source}: cannot be fetched; is this machine online? ({brief(error)})") from error


def _of_timm(source: NetworkSource) -> Download:
    import timm
    from huggingface_hub import constants

    if not timm.is_model(source.name):
        raise unknown_name(source, timm.list_models())
    trained: Any = timm.get_pretrained_cfg(source.name)
    if trained is None or not trained.has_weights:
        kin = timm.list_models(f"{source.name.split('_')[0]}*", pretrained=True)[:3]
        raise EdgemtlError(f"{source}: timm has no weights of it" + f"; of its kin it has {', '.join(kin)}" * bool(kin))
    if not constants.HF_HUB_OFFLINE and not _answers(constants.ENDPOINT):
        constants.HF_HUB_OFFLINE = True  # or it tries for a minute; what it has fetched before it finds all the same
    network = timm.create_model(source.name, pretrained=True)
    return Download(network.state_dict(), trained.hf_hub_id or trained.url, trained.license or "")


def _of_torchvision(source: NetworkSource) -> Download:
    from torchvision import models

    if source.name not in models.list_models():
        raise unknown_name(source, models.list_models())
    weights: Any = models.get_model_weights(source.name)
    if not len(weights):
        raise EdgemtlError(f"{source}: torchvision has no weights of it")
    best = weights.DEFAULT
    return Download(best.get_state_dict(progress=True, check_hash=True, weights_only=True), best.url, "")


def _answers(endpoint: str) -> bool:
    """Whether a server answers at all."""
    try:
        urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=PATIENCE_S).close()
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False
    return True
