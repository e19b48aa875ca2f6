"""Small networks, one idea each, with calibrated batch statistics, for the tests of exact removal."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional


def block(a: int, b: int, k: int = 3, act: type[nn.Module] = nn.SiLU) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(a, b, k, padding=k // 2, bias=False), nn.BatchNorm2d(b), act())


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.out = block(3, 12), nn.Sequential(block(12, 8), block(8, 12)), nn.Conv2d(12, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.out(x + self.body(x))


class Split(nn.Module):
    """C2f's way: chunk in two, work on a half, concatenate all."""

    def __init__(self) -> None:
        super().__init__()
        self.cv1, self.m, self.cv2 = block(3, 16, 1), block(8, 8), nn.Conv2d(24, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.cv1(x).chunk(2, 1))
        parts.append(self.m(parts[-1]))
        return self.cv2(torch.cat(parts, 1))


class Slices(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = block(3, 16), nn.Conv2d(10, 4, 3), nn.Conv2d(6, 4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        return self.a(x[:, :10]), self.b(x[:, 10:])


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fc1, self.fc2, self.out = (
            block(3, 16),
            nn.Conv2d(16, 6, 1),
            nn.Conv2d(6, 16, 1),
            nn.Conv2d(16, 4, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        gate = self.fc2(functional.relu(self.fc1(x.mean((2, 3), keepdim=True)))).sigmoid()
        return self.out(x * gate)


class Depthwise(nn.Module):
    """MobileNetV2's inverted residual."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.up = block(3, 8, act=nn.ReLU6), block(8, 24, 1, nn.ReLU6)
        self.dw = nn.Sequential(nn.Conv2d(24, 24, 3, padding=1, groups=24, bias=False), nn.BatchNorm2d(24), nn.ReLU6())
        self.down, self.out = nn.Conv2d(24, 8, 1), nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.out(x + self.down(self.dw(self.up(x))))


class Flatten(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            block(3, 8), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 64, 10), nn.ReLU(), nn.Linear(10, 5)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class Pyramid(nn.Module):
    """Several outputs, an upsampling path, and a feature with two readers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep = block(3, 10), nn.Sequential(nn.MaxPool2d(2), block(10, 14))
        self.top, self.a, self.b = block(24, 8), nn.Conv2d(8, 2, 1), nn.Conv2d(14, 3, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.stem(x)
        y = self.deep(x)
        return {
            "fine": self.a(self.top(torch.cat([functional.interpolate(y, scale_factor=2.0), x], 1))),
            "coarse": self.b(y),
        }


class Shared(nn.Module):
    """One module used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.twice, self.out = block(3, 8), block(8, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.twice(self.twice(self.stem(x))))


class Grouped(nn.Module):
    """A grouped convolution: every group keeps as many channels as the others."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.grouped, self.out = block(3, 8), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.grouped(self.stem(x)))


class Attention(nn.Module):
    """Attention over positions with two heads, as YOLO11 writes it: channel numbers in views and splits."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.qkv, self.mixed = block(3, 8), nn.Conv2d(8, 32, 1), nn.Conv2d(16, 8, 1)
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        b, _, h, w = x.shape
        q, k, v = self.qkv(x).view(b, 2, 16, h * w).split([4, 4, 8], 2)
        share = (q.transpose(-2, -1) @ k * 0.5).softmax(-1)
        return self.out(x + self.mixed((v @ share.transpose(-2, -1)).view(b, 16, h, w)))


class Heads(nn.Module):
    """Attention on tokens by PyTorch's own operator, after layer normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.qkv, self.proj = (
            nn.Conv2d(3, 12, 4, 4),
            nn.LayerNorm(12),
            nn.Linear(12, 36),
            nn.Linear(12, 12),
        )
        self.mlp = nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 20), nn.GELU(), nn.Linear(20, 12))
        self.out = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        b, n, c = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, n, 3, 3, 4).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.proj(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))
        return self.out((x + self.mlp(x)).mean(1))


class Multiplier(nn.Module):
    """A depthwise convolution with two filters a channel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.dw, self.out = block(3, 6), nn.Conv2d(6, 12, 3, padding=1, groups=6), nn.Conv2d(12, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.dw(self.stem(x)).relu())


class Decoder(nn.Module):
    """Transposed convolutions, one of them in groups, and a pixel shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.up = block(3, 8), nn.ConvTranspose2d(8, 10, 4, 2, 1)
        self.grouped, self.wide, self.out = (
            nn.ConvTranspose2d(10, 6, 2, 2, groups=2),
            nn.Conv2d(6, 16, 1),
            nn.Conv2d(4, 2, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.out(functional.pixel_shuffle(self.wide(self.grouped(self.up(self.stem(x)).relu())), 2))


class Norms(nn.Module):
    """Instance, group and layer normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.instance = nn.Conv2d(3, 8, 3), nn.InstanceNorm2d(8, affine=True)
        self.b, self.group, self.c = nn.Conv2d(8, 12, 3), nn.GroupNorm(3, 12), nn.Conv2d(12, 10, 1)
        self.layer, self.out = nn.LayerNorm(10), nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.c(self.group(self.b(self.instance(self.a(x)).relu())))
        return self.out(self.layer(x.permute(0, 2, 3, 1)).relu())


class Gates(nn.Module):
    """A map of one channel that gates all, PReLU a channel, a gated linear unit, and padded channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gate, self.act, self.wide = block(3, 8), nn.Conv2d(8, 1, 1), nn.PReLU(8), nn.Conv2d(8, 12, 1)
        self.out = nn.Conv2d(8, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.stem(x)) * self.gate(self.stem(x)).sigmoid()
        return self.out(functional.pad(functional.glu(self.wide(x), 1), (1, 1, 1, 1, 0, 2)))


class Signal(nn.Module):
    """One dimension: a network for time series."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(3, 10, 5, padding=2), nn.BatchNorm1d(10), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(10, 4, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.flatten(2))


class Detached(nn.Module):
    """A branch after detach(), as detectors with two heads have it, and an output that is a feature."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep, self.a, self.b = block(3, 8), block(8, 12), nn.Conv2d(12, 2, 1), nn.Conv2d(12, 2, 1)
        self.side = block(8, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:
        x = self.stem(x)
        y = self.deep(x)
        return self.a(y), [self.b(y.detach())], {"feature": self.side(x)}


class Shuffle(nn.Module):
    """A channel shuffle between two convolutions (ShuffleNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.out = block(3, 8), nn.Conv2d(8, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        b, c, h, w = x.shape
        return self.out(x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w))


class Scaled(nn.Module):
    """A trainable scale a channel, and a constant factor."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.out = block(3, 8), nn.Conv2d(8, 2, 1)
        self.scale = nn.Parameter(torch.rand(1, 8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.scale * self.stem(x) * 2.0)


class TwoReadings(nn.Module):
    """A weight that is also read as a whole: its rows cannot be cut, or the second reading would change."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.out = block(3, 8), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.a(self.stem(x))) + self.a.weight.mean()


class Oddities(nn.Module):
    """Types named in the graph, a mask, a top-k with a gather, and a logarithm that bears no negative input."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.out = block(3, 8), nn.Conv2d(9, 4, 1)
        self.shift = torch.full((8, 1, 1), 0.5)

    def forward(self, x: Tensor) -> dict[str, Tensor | None]:
        light = torch.log(x.abs().mean(1, keepdim=True).to(torch.float32) + 1e-3)
        y = self.stem(x) + self.shift.to(x.device)
        z = self.out(torch.cat([y, light * (light > 0).float()], 1)).flatten(2)
        best, index = z.amax(1).topk(5)
        boxes = z.gather(2, index.unsqueeze(1).expand(-1, 4, -1))
        return {"best": best, "boxes": boxes, "sure": best > 0, "none": None}


NETS: dict[str, Callable[[], nn.Module]] = {
    net.__name__: net
    for net in (
        Residual,
        Split,
        Slices,
        SqueezeExcite,
        Depthwise,
        Flatten,
        Pyramid,
        Shared,
        Grouped,
        Attention,
        Heads,
        Multiplier,
        Decoder,
        Norms,
        Gates,
        Signal,
        Detached,
        Shuffle,
        Scaled,
        TwoReadings,
        Oddities,
    )
}


def make(name: str, seed: int = 0) -> tuple[nn.Module, Tensor]:
    """Build a network with calibrated batch statistics, so that signal reaches its outputs, and an input for it."""
    torch.manual_seed(seed)
    net = NETS[name]()
    for module in net.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    x = torch.randn(1, 3, 16, 16)
    net.train()
    with torch.no_grad():
        for _ in range(20):
            net(torch.randn(8, 3, 16, 16))
    return net.eval(), x
