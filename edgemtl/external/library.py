"""Networks of timm and torchvision by name, with weights from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgemtl_runtime.bundle import Head

from ..errors import EdgemtlError, brief
from ..initial_weights import read_initial_weights
from ..rng import isolated_rng
from .custom import OWN_LICENCE, described
from .downloads import downloaded
from .formats import LabelMaps
from .network import Adapter, ExternalNetwork
from .options import IMAGENET, RANGES, OpenOptions, image_input
from .source import NetworkSource, unknown_name


def open_timm(source: NetworkSource, options: OpenOptions) -> ExternalNetwork:
    """Open a network of timm, with the pixels and the size that it was trained with."""
    import timm

    if not timm.is_model(source.name):
        raise unknown_name(source, timm.list_models())
    with isolated_rng(0):
        network = timm.create_model(source.name, pretrained=False)
    _load(source, network, options)
    trained: Any = network.pretrained_cfg
    return described(
        source,
        network.eval(),
        options,
        statistics=(tuple(trained.get("mean", IMAGENET[0])), tuple(trained.get("std", IMAGENET[1]))),
        default_size=tuple(trained.get("input_size", (3, 224, 224)))[1:],
        classifier=True,
    )


def open_torchvision(source: NetworkSource, options: OpenOptions) -> ExternalNetwork:
    """Open a network of torchvision; one of its segmentation networks answers with a label map."""
    from torchvision import models

    if source.name not in models.list_models():
        raise unknown_name(source, models.list_models())
    builder: Any = models.get_model_builder(source.name)
    is_segmenter = ".segmentation." in builder.__module__
    if any(f".{kind}." in builder.__module__ for kind in ("detection", "quantization", "video", "optical_flow")):
        raise EdgemtlError(f"{source}: classifiers and segmentation networks of torchvision are read; this is another")
    with isolated_rng(0):
        network = builder(**({"weights": None, "weights_backbone": None} if is_segmenter else {"weights": None}))
    _load(source, network, options)
    if is_segmenter:
        return _segmenter(source, network.eval(), options, models.get_model_weights(source.name))
    return described(source, network.eval(), options, statistics=IMAGENET, classifier=True)


def _segmenter(source: NetworkSource, network: nn.Module, options: OpenOptions, weights: Any) -> ExternalNetwork:
    size = options.input_size or (480, 640)
    with torch.no_grad():
        count = network(torch.zeros(1, 3, 64, 64))["out"].shape[1]
    known = next((tuple(w.meta["categories"]) for w in weights if len(w.meta.get("categories", ())) == count), ())
    classes = known or tuple(f"class{index}" for index in range(count))
    mean, std = RANGES[options.pixels] if options.pixels else IMAGENET
    return ExternalNetwork(
        source.stem,
        Adapter(network, ["rgb"], LabelMaps("out"), options.bgr).eval(),
        (image_input("rgb", size, 3, mean, std),),
        (Head("semantic", "semantic", "label_map", classes),),
        OWN_LICENCE,
        output_names=("out", "aux"),
    )


def _load(source: NetworkSource, network: nn.Module, options: OpenOptions) -> None:
    """Load the weights of a file, or those fetched before; raises `EdgemtlError` where there are none that fit."""
    if options.random:
        return
    file = options.weights or downloaded(source)
    if file is None:
        raise EdgemtlError(
            f"{source}: comes without weights; fetch them by `edgemtl weights get {source}`, give --weights FILE, or "
            "--random to try it with random ones"
        )
    load_weights(source, network, file)


def load_weights(source: NetworkSource, network: nn.Module, file: Path) -> None:
    """Load a file of tensors by name into a network, all of them; raises `EdgemtlError` for those of another one."""
    if not file.is_file():
        raise EdgemtlError(f"--weights {file}: there is no such file")
    state = read_initial_weights(file).state.tensors
    try:
        missing, unexpected = network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise EdgemtlError(f"--weights {file}: is of another network than {source} ({brief(error)})") from error
    if missing or unexpected:
        parts = [f"it lacks {missing[0]}"] if missing else [f"it has {unexpected[0]} more"]
        raise EdgemtlError(f"--weights {file}: is of another network than {source}: {parts[0]}")
