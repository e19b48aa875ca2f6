"""The settings of a sparsifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..cost_model.deployment import engine_config
from .costs import MetricName
from .importance import ImportanceName
from .partition import GroupForm

Granularity = Literal["global", "stage", "layer"]


@dataclass(frozen=True)
class Settings:
    """What is pruned, how much of it, and when. Raises ValueError for a value out of its range."""

    target: float = 0.0
    """The share of the metric that goes; 0, with ``max_cost`` 0: a fixed ``strength`` and no target."""
    max_cost: float = 0.0
    """Or how much of the metric may stay, in its own unit."""
    metric: MetricName = "parameters"
    """Latency is that of the whole network as it is deployed, in milliseconds, measured."""
    costs: str = ""
    """Of latency: a file that ``edgemtl-runtime profile`` wrote on the device; "": it is measured here."""
    engine: str = ""
    """Of latency: the back end, precision and threads that count, like "tensorrt/fp16" or "onnxruntime-cpu/fp32/2";
    "": those of ``costs``, or ONNX Runtime in fp32 with one thread."""
    scope: str = ""
    """A part of the network like "trunk", which alone is pruned and counted; "" for all of it."""
    importance: ImportanceName | Literal["auto"] = "taylor"
    """What is pruned first; "auto": the first that has a say, until `Sparsifier.choose_importance` has chosen."""
    refit: bool = False
    """With a target: each time that groups are pruned, what reads them is fitted by least squares (`refit`)."""
    groups: GroupForm = "coupled"
    strength: float = 1e-4
    """λ of the group lasso where there is no target."""
    reg_ratio: float = 0.1
    """With a target: λ, as a share of that which would make as many groups zero by itself."""
    begin: float = 0.1
    """The share of the training before the schedule begins."""
    end: float = 0.4
    """The share of the training by which the target is met."""
    min_keep_ratio: float = 0.2
    """At least this share of every layer's groups is kept."""
    channel_multiple: int = 0
    """With a target: every layer keeps a multiple of so many channels; of coupled groups. 0: 8, and of a latency as
    many as the device computes at a time."""
    granularity: Granularity = "global"
    """What has a strength of its own: the whole network, the layers of one resolution, or a layer."""

    def __post_init__(self) -> None:
        for name in ("target", "reg_ratio", "begin", "end", "min_keep_ratio"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name}={value:g}: is a share, from 0 to 1")
        if self.engine:
            engine_config(self.engine)
        if self.target == 1:
            raise ValueError("target=1: nothing would be left; it is the share that goes")
        if self.target and self.max_cost:
            raise ValueError(f"target={self.target:g} and max_cost={self.max_cost:g}: give one of them")
        if self.end < self.begin:
            raise ValueError(f"end={self.end:g} is before begin={self.begin:g}")
        for name, least in (("strength", 0), ("max_cost", 0), ("channel_multiple", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name):g}: is {least} or more")
