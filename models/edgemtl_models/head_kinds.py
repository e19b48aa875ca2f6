"""Backbones and kinds of heads by the names that a network's description gives, and all parts that one may name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from .aligned import LEVELS
from .backbone import Backbone, TimmBackbone, YoloBackbone
from .box_head import BoxHead
from .heads import DenseHead, ImageHead
from .yolo11 import Yolo11Backbone


@dataclass(frozen=True)
class HeadInput:
    """What a head reads: feature maps, finest first, of an image of ``size`` (height, width)."""

    widths: list[int]
    strides: list[int]
    size: tuple[int, int]


@dataclass(frozen=True)
class HeadKind:
    """A kind of head; ``build(reads, outputs, **options)`` has the options of the network's description."""

    build: Callable[..., nn.Module]
    reads_finest: bool = True
    """Whether it reads the features at stride 4."""
    bottom_up: bool = False
    """Whether it needs a neck with a bottom-up path (PANet), as detection does."""


def _boxes(reads: HeadInput, classes: int, reg_max: int = 1, score_width: int = 0, eps: float = 0.0) -> nn.Module:
    levels = [(width, stride) for width, stride in zip(reads.widths, reads.strides, strict=True) if stride > 4]
    if not levels:
        raise ValueError("it reads strides 8 and on; its head tap cannot be at stride 4")
    head = BoxHead([width for width, _ in levels], [stride for _, stride in levels], classes, reg_max, score_width)
    for module in head.modules() if eps else ():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = eps
    head.bias_init()
    return head


def _dense(reads: HeadInput, outputs: int, width: int = 32, offset: float = 0.0, scale: float = 1.0) -> nn.Module:
    if reads.strides != [4 << index for index in range(len(reads.strides))]:
        raise ValueError(f"it reads all strides from 4 on; fuse_at needs {', '.join(LEVELS)}")
    return DenseHead(reads.widths, outputs, width, offset, scale)


def _image(reads: HeadInput, outputs: int, width: int = 64) -> nn.Module:
    return ImageHead(reads.widths[-1], outputs, width)


BACKBONES: dict[str, Callable[..., Backbone]] = {
    "yolo": YoloBackbone,
    "yolo11": Yolo11Backbone,
    "timm": TimmBackbone,
}
HEAD_KINDS: dict[str, HeadKind] = {
    "boxes": HeadKind(_boxes, reads_finest=False, bottom_up=True),
    "dense": HeadKind(_dense),
    "picture": HeadKind(_image, reads_finest=False),
}


@dataclass(frozen=True)
class Parts:
    """What a network's description may name: backbones and kinds of heads; and the heads of which it need not speak."""

    backbones: Mapping[str, Callable[..., Backbone]] = field(default_factory=lambda: BACKBONES)
    head_kinds: Mapping[str, HeadKind] = field(default_factory=lambda: HEAD_KINDS)
    default_heads: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


DEFAULT_PARTS = Parts()
