"""The networks that exact removal is measured on, with random weights and calibrated batch statistics."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

TORCHVISION = """
    alexnet vgg11_bn vgg16 squeezenet1_0 squeezenet1_1 densenet121 densenet169 googlenet inception_v3 resnet18 resnet34
    resnet50 resnet101 wide_resnet50_2 resnext50_32x4d mobilenet_v2 mobilenet_v3_small mobilenet_v3_large mnasnet0_5
    mnasnet0_75 mnasnet1_0 mnasnet1_3 shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5 shufflenet_v2_x2_0
    efficientnet_b0 efficientnet_b1 efficientnet_v2_s regnet_x_400mf regnet_x_800mf regnet_y_400mf regnet_y_800mf
    regnet_y_1_6gf convnext_tiny
""".split()  # noqa: SIM905
SEGMENTERS = "deeplabv3_mobilenet_v3_large deeplabv3_resnet50 fcn_resnet50 lraspp_mobilenet_v3_large".split()  # noqa: SIM905
YOLOS = """
    yolov5n yolov6n yolov8n yolov8n-seg yolov9t yolov10n yolo11n yolo11n-seg yolo11n-pose yolo12n yolo26n yolo26n-seg
""".split()  # noqa: SIM905
NETWORKS = [*TORCHVISION, *SEGMENTERS, *YOLOS]
"""The 51 networks of the comparison."""

DETECTORS = ["ssdlite320_mobilenet_v3_large", "ssd300_vgg16", "retinanet_resnet50_fpn", "fcos_resnet50_fpn"]
TIMM = """
    mobilenetv4_conv_small efficientnet_lite0 ghostnet_100 hrnet_w18_small dla34 cspdarknet53 repvgg_a0 convnextv2_atto
    mobileone_s0 vit_tiny_patch16_224 levit_128s efficientformer_l1 mixnet_s tf_efficientnetv2_b0 rexnet_100 resnest14d
    xception41 selecsls42b tinynet_a lcnet_100 fbnetc_100 hardcorenas_a vovnet39a darknet53 nf_resnet26 gernet_s
    res2net50_26w_4s skresnet18 edgenext_xx_small fastvit_t8 repghostnet_100 inception_next_atto
    efficientvit_b0 mobilevit_xxs mobilevitv2_050 repvit_m0_9 starnet_s1 hgnetv2_b0 pvt_v2_b0 poolformer_s12 dpn48b
    regnetz_005 nf_regnet_b0 tiny_vit_5m_224
""".split()  # noqa: SIM905
CUSTOM = ["unet", "twin"]
PLAIN = [f"{name} plain" for name in ("yolov5nu", "yolov8n", "yolov9t", "yolov10n", "yolo11n", "yolo26n")]
"""YOLO networks as ultralytics builds them: with their decoded boxes, and no forward pass before."""
WIDE = [*PLAIN, *DETECTORS, *TIMM, *CUSTOM]


class RawHeads(nn.Module):
    """An ultralytics network with the raw maps of every head as its outputs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        result = self.network(x)
        raw = result[-1] if isinstance(result, tuple | list) else result
        outputs: dict[str, Tensor] = {}
        _collect(raw, "", outputs)
        return outputs


def _collect(tree: object, path: str, outputs: dict[str, Tensor]) -> None:
    """Flatten a tree of outputs by path, without the features that the heads read."""
    if isinstance(tree, Tensor):
        outputs[path] = tree
    elif isinstance(tree, dict):
        for key, item in tree.items():
            if key != "feats":
                _collect(item, f"{path}.{key}".lstrip("."), outputs)
    elif isinstance(tree, tuple | list):
        for i, item in enumerate(tree):
            _collect(item, f"{path}.{i}".lstrip("."), outputs)


class Features(nn.Module):
    """A torchvision detector without its post-processing: the raw outputs of its head."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = detector.get_submodule("backbone"), detector.get_submodule("head")
        for module in self.head.modules():
            if isinstance(module, nn.Conv2d):
                module.reset_parameters()  # torchvision's are too small to show next to a large constant in float32

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = self.head(list(self.backbone(x).values()))
        return outputs


def build(name: str, seed: int = 0) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Return a network by name in evaluation mode, with batch statistics calibrated on noise, and example inputs.

    The weights are random; without calibration no signal would reach the outputs and every removal would look exact.
    """
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net, shape = _make(name)
    inputs = tuple(random_images(1, *s) for s in shape)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, _BatchNorm) and module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.1)
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        calibrate(net, shape)
    return net.eval(), inputs


def random_images(count: int, channels: int, height: int, width: int) -> Tensor:
    """Return random images (N, C, H, W): blots of several sizes, each image with a random brightness and contrast.

    White noise will not do: after a mean over the image all noise is alike, and next to so small a signal every
    rounding looks like an error.
    """
    scales = [torch.randn(count, channels, n, n) for n in (2, 5, 12, 40)]
    blots = sum(nn.functional.interpolate(s, (height, width), mode="bilinear") for s in scales)
    return 0.5 * torch.randn(count, channels, 1, 1) + (0.2 + torch.rand(count, 1, 1, 1)) * blots


def calibrate(net: nn.Module, shapes: Sequence[Sequence[int]]) -> None:
    """Set every batch normalisation's statistics to those of random images of these shapes (channels, height, width).

    So many of them, because statistics of too few images amplify every rounding.
    """
    batches = [tuple(random_images(12, *shape) for shape in shapes) for _ in range(2)]
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm)]
    momenta = [m.momentum for m in norms]
    net.eval()
    for m in norms:
        m.reset_running_stats()
        m.momentum = None
        m.train()
    with torch.no_grad():
        for batch in batches:
            net(*batch)
    for m, momentum in zip(norms, momenta, strict=True):
        m.momentum = momentum
        m.eval()


def _make(name: str) -> tuple[nn.Module, list[tuple[int, ...]]]:
    import torchvision

    shape: list[tuple[int, ...]] = [(3, 160, 160)]
    if name in YOLOS:
        return _yolo(name), shape
    if name in PLAIN:
        from ultralytics.models import YOLO

        plain: Any = YOLO(f"{name.removesuffix(' plain').removesuffix('u')}.yaml", verbose=False).model
        return plain.eval().float(), shape
    if name in SEGMENTERS:
        return torchvision.models.get_model(name, weights=None, weights_backbone=None), shape
    if name in DETECTORS:
        size = 300 if name.startswith("ssd300") else 160
        return Features(torchvision.models.get_model(name, weights=None, weights_backbone=None)), [(3, size, size)]
    if name in TIMM:
        import timm

        return timm.create_model(name), [
            (3, 224, 224) if "vit" in name or "levit" in name or "former" in name else shape[0]
        ]
    if name in CUSTOM:
        return _CUSTOM[name]()
    extra = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(name, weights=None, **extra), shape


def _yolo(name: str) -> nn.Module:
    from ultralytics.nn.tasks import DetectionModel, PoseModel, SegmentationModel
    from ultralytics.utils import LOGGER

    LOGGER.setLevel(50)
    model_type = SegmentationModel if "seg" in name else PoseModel if "pose" in name else DetectionModel
    return RawHeads(model_type(f"{name}.yaml", verbose=False))


def _block(a: int, b: int) -> nn.Sequential:
    def conv(i: int) -> list[nn.Module]:
        return [nn.Conv2d(i, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True)]

    return nn.Sequential(*conv(a), *conv(b))


class UNet(nn.Module):
    """The U-Net of Ronneberger et al. (2015), with padding and transposed convolutions, narrower."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        widths = [width * 2**i for i in range(4)]
        self.down = nn.ModuleList(_block(a, b) for a, b in zip([3, *widths], widths, strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in itertools.pairwise(widths))
        self.join = nn.ModuleList(_block(2 * a, a) for a in widths[:-1])
        self.out = nn.Conv2d(width, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept: list[Tensor] = []
        for i, block in enumerate(self.down):
            x = block(x if i == 0 else nn.functional.max_pool2d(x, 2))
            kept.append(x)
        for i in reversed(range(len(self.up))):
            x = self.join[i](torch.cat([self.up[i](x), kept[i]], 1))
        logits: Tensor = self.out(x)
        return logits


class Twin(nn.Module):
    """Two inputs, a sum of two streams, and three heads in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.rgb, self.ir, self.deep = _block(3, 32), _block(1, 32), _block(32, 64)
        self.boxes, self.depth, self.tags = nn.Conv2d(64, 6, 1), nn.ConvTranspose2d(64, 1, 4, 2, 1), nn.Linear(64, 10)

    def forward(self, rgb: Tensor, ir: Tensor) -> dict[str, Tensor]:
        x = nn.functional.max_pool2d(self.rgb(rgb) + self.ir(ir), 2)
        x = self.deep(x)
        return {"boxes": self.boxes(x), "depth": self.depth(x), "tags": self.tags(x.mean((2, 3)))}


_CUSTOM: dict[str, Callable[[], tuple[nn.Module, list[tuple[int, ...]]]]] = {
    "unet": lambda: (UNet(), [(3, 96, 96)]),
    "twin": lambda: (Twin(), [(3, 64, 64), (1, 64, 64)]),
}
