"""The only import of ultralytics (AGPL-3.0): its blocks, detection head and losses, kept offline and quiet."""

from __future__ import annotations

import math
import os
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from .private import settings_folder
from .ultralytics_checkpoint import CheckpointError, UltralyticsCheckpoint

# ultralytics sets OMP_NUM_THREADS=1, writes settings and probes the network when it is imported, unless told otherwise.
os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
os.environ.setdefault("YOLO_OFFLINE", "1")
os.environ.setdefault("YOLO_AUTOINSTALL", "0")
os.environ.setdefault("YOLO_VERBOSE", "false")
if "YOLO_CONFIG_DIR" not in os.environ:
    os.environ["YOLO_CONFIG_DIR"] = str(settings_folder())
_torch_save = torch.save

from ultralytics.cfg import get_cfg  # noqa: E402
from ultralytics.models.yolo.detect import DetectionTrainer  # noqa: E402
from ultralytics.nn import modules, tasks  # noqa: E402
from ultralytics.nn.modules import SPPF, C3k2, Conv, Detect  # noqa: E402
from ultralytics.utils import SETTINGS  # noqa: E402
from ultralytics.utils.loss import E2ELoss  # noqa: E402

torch.save = _torch_save  # ultralytics swaps in a retrying version for the whole process
SETTINGS["sync"] = False

__all__ = ["SPPF", "BoxHead", "BoxLoss", "C3k2", "Conv", "DetectionTrainer", "build_network"]


BRANCHES = ("one2many", "one2one")


class BoxHead(nn.Module):
    """Anchor-free boxes without NMS: ultralytics' `Detect` with a one-to-many and a one-to-one branch.

    Training gives the raw predictions of both branches, as `BoxLoss` wants them. Evaluation gives (B, A, 4 + classes):
    xyxy in network pixels and class scores in [0, 1], from the one-to-one branch alone.
    """

    def __init__(self, channels: list[int], strides: list[int], classes: int, reg_max: int = 1) -> None:
        super().__init__()
        self.detect = Detect(classes, reg_max=reg_max, end2end=True, ch=channels)
        self.detect.end2end = True
        self.detect.stride = torch.tensor(strides, dtype=torch.float32)
        self.strides = strides

    def bias_init(self, height: int, width: int) -> None:
        """Start the class scores at the chance of about five objects an image of this size."""
        detect = self.detect
        detect.bias_init()
        for head in (detect.one2many["cls_head"], detect.one2one["cls_head"]):
            for level, stride in zip(head, self.strides, strict=True):
                cells = height * width / stride**2
                level[-1].bias.data[:] = math.log(5 / detect.nc / max(cells, 10.0))

    def forward(self, features: list[Tensor]) -> Tensor | dict[str, dict[str, Tensor]]:
        """Return both raw branches in training, decoded boxes (B, A, 4 + classes) in evaluation.

        ``features`` are the trunk's; the coarsest, one a stride, are read.
        """
        features = features[-len(self.strides) :]
        if self.training:
            branches: dict[str, dict[str, Tensor]] = self.detect(features)
            return branches
        raw = self.detect.forward_head(features, **self.detect.one2one)
        distances = self.detect.dfl(raw["boxes"])
        centres, stride = self._grid(features)
        lt, rb = distances.split(2, 1)
        xyxy = torch.cat([centres - lt, centres + rb], 1) * stride
        return torch.cat([xyxy, raw["scores"].sigmoid()], 1).transpose(1, 2)

    def _grid(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Cell centres (2, A) in cells and strides (1, A) in pixels, as constants of the given shapes."""
        centres, strides = [], []
        for feature, stride in zip(features, self.strides, strict=True):
            h, w = feature.shape[2:]
            y, x = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
            centres.append(torch.stack([x.flatten(), y.flatten()]))
            strides.append(torch.full((1, h * w), float(stride)))
        like = features[0]
        return torch.cat(centres, 1).to(like), torch.cat(strides, 1).to(like)


class BoxLoss:
    """Box, class and distance losses of both branches (ultralytics' `E2ELoss`), the weight moving to one-to-one.

    ``epochs`` is how often `advance` is called over a training: the share of the one-to-many branch falls with it.
    """

    def __init__(self, head: BoxHead, epochs: int, box: float = 7.5, cls: float = 0.5, dfl: float = 1.5) -> None:
        args = get_cfg(overrides={"box": box, "cls": cls, "dfl": dfl, "epochs": max(epochs, 1)})
        model: Any = SimpleNamespace(args=args, model=[head.detect], parameters=head.parameters)  # all that it reads
        self.loss = E2ELoss(model)
        self.weight: dict[str, Tensor] = {}
        for name in BRANCHES:  # the weight of all assigned scores, which a branch's loss is the mean over
            assigner = getattr(self.loss, name).assigner
            assigner.register_forward_hook(lambda _m, _i, out, name=name: self.weight.update({name: out[2].sum()}))

    def __call__(self, raw: dict[str, dict[str, Tensor]], target: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return each branch's loss summed over what was assigned, (2,), and the weight of all that, (2,).

        For ``batch_idx`` (N,), ``cls`` (N,) and ``bboxes`` (N, 4): normalised centre x, centre y, width, height.
        """
        totals = []
        for name, share in zip(BRANCHES, (self.loss.o2m, self.loss.o2o), strict=True):
            mean = getattr(self.loss, name).loss(raw[name], target)[0].sum() / raw[name]["boxes"].shape[0]
            totals.append(share * mean * self.weight[name].clamp(min=1))
        return torch.stack(totals), torch.stack([self.weight[name] for name in BRANCHES])

    def advance(self) -> None:
        """Move the weight one step from the one-to-many to the one-to-one branch."""
        self.loss.update()


KINDS = ("DetectionModel", "SegmentationModel", "PoseModel", "OBBModel")
"""The networks that a checkpoint may be of."""
ACTIVATIONS = ("SiLU()", "ReLU()", "ReLU6()", "LeakyReLU(0.1)", "Hardswish()", "GELU()", "Mish()", "Identity()")
PLAIN_LAYERS = ("nn.Upsample", "nn.Conv2d", "nn.ConvTranspose2d", "nn.MaxPool2d", "nn.BatchNorm2d", "nn.Identity")
MOST_LAYERS, MOST_REPEATS, MOST_NUMBER = 500, 64, 1 << 14


def build_network(checkpoint: UltralyticsCheckpoint) -> nn.Module:
    """Return the network of a checkpoint, built of known layers alone, with its weights, in evaluation mode.

    Raises `CheckpointError` for a description of anything else, or weights that are not its own.
    """
    if checkpoint.kind not in KINDS:
        raise CheckpointError(f"is a {checkpoint.kind[:40]!a}; read are {', '.join(KINDS)}")
    description = {name: value for name, value in checkpoint.yaml.items() if name != "yaml_file"}
    _check_description(description)
    try:
        channels = int(description.get("channels", 3))
        network: nn.Module = getattr(tasks, checkpoint.kind)(description, ch=channels, verbose=False)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise CheckpointError(
            f"the ultralytics that is installed cannot build its network ({reason}); it may need a newer one"
        ) from None
    try:
        network.load_state_dict(checkpoint.state)
    except RuntimeError:
        raise CheckpointError(
            "its weights are not those of its description: the network was fused or pruned, or is of another release"
        ) from None
    network.names = dict(checkpoint.names)  # type: ignore[assignment]
    return network.eval()


def _check_description(description: dict[str, Any]) -> None:
    """Raise `CheckpointError` where building a description would run anything but known layers."""
    activation = description.get("activation")
    if activation is not None and str(activation).removeprefix("torch.").removeprefix("nn.") not in ACTIVATIONS:
        raise CheckpointError(f"activation {str(activation)[:60]!a} is none of {', '.join(ACTIVATIONS)}")
    layers = [row for part in ("backbone", "head") for row in description.get(part) or []]
    if not layers or len(layers) > MOST_LAYERS:
        raise CheckpointError(f"its description has {len(layers)} layers")
    for row in layers:
        if not isinstance(row, list) or len(row) != 4 or not isinstance(row[3], list):
            raise CheckpointError("a layer of its description is no [from, number, module, arguments]")
        name = row[2]
        module = getattr(modules, name, None) if isinstance(name, str) and name in modules.__all__ else None
        known = isinstance(module, type) and issubclass(module, nn.Module)
        if not known and name not in PLAIN_LAYERS:
            raise CheckpointError(f"layer {str(name)[:60]!a} is none that is known")
        if not isinstance(row[1], int) or not 0 < row[1] <= MOST_REPEATS:
            raise CheckpointError(f"a {name} is repeated {str(row[1])[:20]} times")
    for number in _numbers(description):
        if not abs(number) <= MOST_NUMBER:
            raise CheckpointError(f"its description holds the number {number:g}")


def _numbers(value: object) -> list[float]:
    if isinstance(value, dict | list):
        return [n for item in (value.values() if isinstance(value, dict) else value) for n in _numbers(item)]
    return [value] if isinstance(value, int | float) else []
