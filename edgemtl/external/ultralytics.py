"""Checkpoints of ultralytics as networks: detectors with their boxes, others with their outputs as they are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edgemtl_export.teacher import Kind
from edgemtl_models.ultralytics_checkpoint import CheckpointError, UltralyticsCheckpoint, read_checkpoint
from edgemtl_models.yolo_detector import YoloDetector
from edgemtl_runtime.bundle import Head

from ..errors import EdgemtlError, brief
from ..licence import AGPL, ULTRALYTICS
from ..torch_file import foreign_class
from .custom import described
from .formats import GridBoxes, UltralyticsFile, tensors_of
from .network import Adapter, ExternalNetwork
from .options import OpenOptions, image_input
from .source import NetworkSource


class RawHeads(nn.Module):
    """A network of ultralytics with the raw outputs of its last layer, by name, in training and in evaluation."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the outputs, of two branches those of the one-to-one branch."""
        outputs: Any = self.network(images)
        raw: Any = outputs[1] if isinstance(outputs, tuple) else outputs
        raw = raw.get("one2one", raw)
        return {name: value for name, value in raw.items() if isinstance(value, Tensor)}


DEFAULT_SIZE = (640, 640)
UNITS = "pixels of the camera, xyxy"


def open_network(source: NetworkSource, options: OpenOptions) -> ExternalNetwork:
    """Open a checkpoint; nothing in it is run unless it is trusted. Raises `CheckpointError` or `EdgemtlError`."""
    try:
        checkpoint = read_checkpoint(source.path)
        network = _library(source).build_network(checkpoint)
    except CheckpointError as error:
        if options.trust:
            return _trusted(source, options)
        hint = "; --trust loads it as it is, and runs what is in it"
        if not foreign_class(source.path):
            hint = f"; tensors alone make no network: give FILE.py:FUNCTION or timm:NAME with --weights {source.path}"
        raise CheckpointError(f"{error}{hint}") from error
    return of_checkpoint(source.stem, checkpoint, network, options)


def _library(source: NetworkSource) -> Any:
    """Return what builds networks of ultralytics, which is an extra."""
    try:
        from edgemtl_models import yolo
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "ultralytics":
            raise
        raise EdgemtlError(
            f"{source}: a network of ultralytics (AGPL-3.0), which is not installed; pip install 'ultralytics>=8.4,<9'"
        ) from error
    return yolo


def of_checkpoint(
    name: str, checkpoint: UltralyticsCheckpoint, network: nn.Module, options: OpenOptions
) -> ExternalNetwork:
    """Return a network that was built from a checkpoint."""
    size = options.input_size or checkpoint.input_size or DEFAULT_SIZE
    channels = int(checkpoint.yaml.get("channels", 3))
    if channels not in (1, 3):
        raise EdgemtlError(f"{name}: takes images of {channels} channels; grey or colour images are wanted")
    inputs = (image_input("rgb" if channels == 3 else "ir", size, channels),)
    try:
        core = YoloDetector(network)
    except ValueError as error:
        return _without_decoder(name, checkpoint, network, inputs, str(error))
    step = max(core.strides)
    if any(side % step for side in size):
        raise EdgemtlError(f"--input-size {size[0]} {size[1]}: {name} wants multiples of {step}")
    classes = tuple(checkpoint.names[index] for index in sorted(checkpoint.names))
    if sorted(checkpoint.names) != list(range(core.head.nc)):
        raise EdgemtlError(f"{name}: names {len(classes)} classes, its head gives {core.head.nc}; save it again")
    decoder = "topk_boxes" if core.is_one_to_one else "nms_boxes"
    return ExternalNetwork(
        name,
        Adapter(core, [inputs[0].name], GridBoxes(size, core.strides)).eval(),
        inputs,
        (Head("boxes", "boxes", decoder, classes, units=UNITS),),
        ULTRALYTICS,
        output_names=("output0",),
        checkpoint=checkpoint,
    )


def _without_decoder(
    name: str, checkpoint: UltralyticsCheckpoint, network: nn.Module, inputs: Any, reason: str
) -> ExternalNetwork:
    core = RawHeads(network)
    with torch.no_grad():
        outputs = core.eval()(torch.zeros(1, inputs[0].channels, inputs[0].height, inputs[0].width))
    output_format, heads, _ = tensors_of(outputs, taken=[spec.name for spec in inputs])
    kinds: dict[str, Kind] = {"boxes": "boxes", "scores": "scores"}
    output_format.kinds = {key: kind for key, kind in kinds.items() if kinds.keys() <= outputs.keys()}
    return ExternalNetwork(
        name,
        Adapter(core, [inputs[0].name], output_format).eval(),
        inputs,
        heads,
        ULTRALYTICS,
        output_names=tuple(head.name for head in heads),
        notes=(f"{name} {reason}: its outputs are taken as they are, without a decoder",),
        checkpoint=checkpoint,
    )


def _trusted(source: NetworkSource, options: OpenOptions) -> ExternalNetwork:
    """Open a pickled module, which runs what is in the file."""
    try:
        content = torch.load(source.path, map_location="cpu", weights_only=False)
    except Exception as error:  # foreign code may fail in any way
        raise EdgemtlError(f"{source}: cannot be loaded ({brief(error)})") from error
    parts = [content] + ([content.get(key) for key in ("ema", "model")] if isinstance(content, dict) else [])
    network = next((part for part in parts if isinstance(part, nn.Module)), None)
    if network is None:
        raise EdgemtlError(f"{source}: holds no module; give FILE.py:FUNCTION that makes it, and --weights {source}")
    return described(source, network.float().eval(), options)


def file_metadata(network: ExternalNetwork) -> dict[str, str]:
    """Return what ultralytics reads of an ONNX file of one of its detectors, by key; {} for another network."""
    core = network.adapter.core
    if network.checkpoint is None or not isinstance(core, YoloDetector):
        return {}
    names = dict(enumerate(network.heads[0].classes))
    values = {
        "task": "detect",
        "stride": max(core.strides),
        "batch": 1,
        "imgsz": list(network.size),
        "names": names,
        "channels": network.inputs[0].channels,
        "end2end": core.is_one_to_one,
        "args": {"batch": 1, "dynamic": False, "nms": None},
        "description": f"{network.name}, written by edgemtl",
        "license": AGPL,
    }
    return {key: str(value) for key, value in values.items()}


def file_network(network: ExternalNetwork, core: nn.Module) -> nn.Module:
    """Return a core as an ONNX file of it is to be: a detector of ultralytics with the output of ultralytics' own."""
    given = network.adapter.core
    if not isinstance(given, YoloDetector):
        return core
    boxes = network.adapter.format
    assert isinstance(boxes, GridBoxes)
    return UltralyticsFile(core, boxes, given.is_one_to_one).eval()
