"""Backbones: an image to feature maps at strides 4, 8 and 16."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from .blocks import Conv, CSPBlock
from .pretrained_weights import find_weights


class Backbone(nn.Module):
    """A network without heads: (B, C, H, W) to features at strides 4, 8 and 16 with ``widths`` channels."""

    widths: list[int]
    body_path = ""
    """Where the modules stand that run one after the other: the path of their parent."""

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the features, finest first."""
        raise NotImplementedError


class YoloBackbone(Backbone):
    """Strided convolutions, each followed by a cross-stage partial block (as YOLO11 has them), from scratch.

    ``widths`` are the channels at strides 2, 4, 8 and 16.
    """

    def __init__(self, channels: int, widths: list[int]) -> None:
        super().__init__()
        c2, c4, c8, c16 = widths
        self.stem = Conv(channels, c2, 3, 2)
        self.stage4 = nn.Sequential(Conv(c2, c4, 3, 2), CSPBlock(c4, c4))
        self.stage8 = nn.Sequential(Conv(c4, c8, 3, 2), CSPBlock(c8, c8))
        self.stage16 = nn.Sequential(Conv(c8, c16, 3, 2), CSPBlock(c16, c16))
        self.widths = [c4, c8, c16]

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the features at strides 4, 8 and 16."""
        c4: Tensor = self.stage4(self.stem(image))
        c8: Tensor = self.stage8(c4)
        return [c4, c8, self.stage16(c8)]


class TimmBackbone(Backbone):
    """The features at strides 4, 8 and 16 of a convolutional network of timm, for any number of input channels.

    ``weights`` names a file as `find_weights` does: the state of that model, or of another implementation of it that
    holds the same tensors in the same order (torchvision's MobileNetV2 is one). For fewer input channels than three the
    first filters are summed over colour, which is what a grey image shown as three equal channels would meet; channels
    beyond three begin with their mean. Stages beyond stride 16 are not built.
    """

    body_path = "body"

    def __init__(self, channels: int, model: str, weights: str = "") -> None:
        super().__init__()
        import timm

        if not timm.is_model(model):
            near = timm.list_models(f"*{model.split('_')[0]}*")[:4]
            raise ValueError(f"timm has no model '{model}'" + (f"; it has {', '.join(near)}, …" if near else ""))
        body: Any  # timm's classes share no type that says what they have
        try:
            body = timm.create_model(model, features_only=True)
            strides = body.feature_info.reduction()
            indices = tuple(strides.index(stride) for stride in (4, 8, 16))
            body = timm.create_model(
                model, features_only=True, in_chans=3 if weights else channels, out_indices=indices
            )
        except (ValueError, RuntimeError, AttributeError, AssertionError) as error:
            raise ValueError(f"{model} gives no features at strides 4, 8 and 16: {str(error)[:120]}") from error
        if stages := vars(body).get("_stage_out_idx"):  # timm's MobileNets run every stage, read or not
            del body.blocks[max(stages) :]
        if weights:
            _load(body, find_weights(weights), model)
            if channels != 3:
                _adapt_input_channels(body, channels)
        self.widths = body.feature_info.channels()
        self.body: nn.Module = body

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the features at strides 4, 8 and 16."""
        features: list[Tensor] = self.body(image)
        return features


def _load(body: nn.Module, file: Path, model: str) -> None:
    """Load a state by its names, or by the order and shapes of its tensors; what lies beyond the body is left."""
    loaded, state = _read(file), body.state_dict()
    if not state.keys() <= loaded.keys():
        ordered = [tensor for tensor in loaded.values() if tensor.ndim]  # but for batch normalisations' counters
        names = [name for name, tensor in state.items() if tensor.ndim]
        loaded = dict(zip(names, ordered, strict=False))
        for name in names:
            if name not in loaded or loaded[name].shape != state[name].shape:
                raise ValueError(f"{file} does not hold {model}'s state: nothing in it fits {name}")
    body.load_state_dict({name: loaded.get(name, tensor) for name, tensor in state.items()})


def _read(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name; raises `ValueError` where it holds none."""
    try:
        state = load_file(file) if file.suffix == ".safetensors" else torch.load(file, "cpu", weights_only=True)
        if tensors := {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}:
            return tensors
        reason = "nothing in it is a tensor"
    except (SafetensorError, UnpicklingError, OSError, RuntimeError, EOFError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:150] or type(error).__name__
    raise ValueError(f"{file}: no tensors in it ({reason}); give a state as .safetensors, or of torch.save")


def _adapt_input_channels(body: nn.Module, channels: int) -> None:
    """Give the first convolution other input channels: its filters' mean over colour, after the three of colour."""
    path, conv = next((path, m) for path, m in body.named_modules() if isinstance(m, nn.Conv2d))
    options: dict[str, Any] = {"stride": conv.stride, "padding": conv.padding, "bias": conv.bias is not None}
    adapted = type(conv)(channels, conv.out_channels, cast(tuple[int, int], conv.kernel_size), **options)
    state = {"weight": filters_for(conv.weight.data, channels)}
    adapted.load_state_dict(state if conv.bias is None else state | {"bias": conv.bias.data})
    parent, _, name = path.rpartition(".")
    setattr(body.get_submodule(parent), name, adapted)


def filters_for(filters: Tensor, channels: int) -> Tensor:
    """Return filters of colour (B, 3, H, W) for other input channels: after three of colour, or alone, their mean.

    Their size is that on three channels: one channel's are those of colour summed.
    """
    colour = filters if channels > 3 else filters[:, :0]
    grey = filters.mean(1, keepdim=True).repeat(1, channels - colour.shape[1], 1, 1)
    return torch.cat([colour, grey], 1) * 3 / channels
