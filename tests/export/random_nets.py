"""Random small networks for the laws of exact removal: a recipe of steps, random zeros, everything in float64."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Step = tuple[str, int]
"""What to do, and the seed of how."""


@dataclass(frozen=True)
class Recipe:
    """A network: its steps, and the seeds of its weights and of its zeros."""

    steps: tuple[Step, ...]
    weights: int = 0
    zeros: int = 0
    inputs: int = 1
    container: str = "tuple"


class Fn(nn.Module):
    """A function of tensors and of some modules or parameters."""

    def __init__(self, function: Callable[..., Any], *parts: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)

    def forward(self, *xs: Tensor) -> Any:
        return self.function(*xs, *self.parts)


class Scale(nn.Module):
    """A factor or a summand of any shape, a parameter or a buffer."""

    def __init__(self, value: Tensor, trainable: bool) -> None:
        super().__init__()
        if trainable:
            self.value = nn.Parameter(value)
        else:
            self.register_buffer("value", value)

    def forward(self) -> Tensor:
        return self.value


class RandomNet(nn.Module):
    """Steps that each read earlier values; the outputs are the last value and perhaps some in between."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.steps, self.sources = nn.ModuleList(), list[tuple[int, ...]]()
        torch.manual_seed(recipe.weights)
        values = [*self.example()]
        for name, seed in recipe.steps:
            rng = random.Random(f"{name}{seed}")
            built = STEPS[name](rng, values)
            if built is None:
                continue
            module, sources = built
            module = module.double().eval()
            weigh(module)
            self.steps.append(module)
            self.sources.append(sources)
            with torch.no_grad():
                values += _listed(module(*(values[i] for i in sources)))
        rng = random.Random(f"outputs {recipe.weights}")
        count = len(values)
        inner = list(range(recipe.inputs, count)) or [0]
        self.output_indices = [count - 1] if count > recipe.inputs else [0]
        if recipe.container != "tensor":
            self.output_indices += [k for k in rng.sample(inner, min(2, len(inner))) if k not in self.output_indices][
                : rng.choice([0, 0, 1, 2])
            ]

    def example(self, seed: int = 0, scale: float = 1.0) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(seed)
        batch = 1 + self.recipe.weights % 2
        shapes = [(batch, 3, 8, 8), (batch, 2, 8, 8)][: self.recipe.inputs]
        return tuple(torch.randn(s, generator=generator, dtype=torch.float64) * scale for s in shapes)

    def forward(self, *xs: Tensor) -> Any:
        values = [*xs]
        for step, sources in zip(self.steps, self.sources, strict=True):
            values += _listed(step(*(values[i] for i in sources)))
        outputs = [values[k] for k in self.output_indices]
        if self.recipe.container == "dict":
            return {"abc"[i]: value for i, value in enumerate(outputs)}
        return outputs[0] if self.recipe.container == "tensor" else tuple(outputs)


def _listed(result: Any) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else list(result)


NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm2d)


def weigh(module: nn.Module) -> None:
    """Give weights a size that keeps the signal up, and batch normalisation statistics and shifts of all sizes."""
    for part in module.modules():
        if isinstance(part, (nn.modules.conv._ConvNd, nn.Linear)):
            fan = part.weight[0].numel()
            nn.init.normal_(part.weight, std=1.2 / math.sqrt(fan))
            if part.bias is not None:
                nn.init.normal_(part.bias, std=0.5)
        elif isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.normal_(part.running_mean, std=0.3)
            nn.init.uniform_(part.running_var, 0.3, 2.0)
        if isinstance(part, NORMS) and part.weight is not None:
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.5)


RATES = (0.0, 0.3, 0.5, 0.5, 0.8)


def zero(net: nn.Module, seed: int, rates: Sequence[float] = RATES) -> None:
    """Zero rows, columns, scales and shifts at random rates; rows of the same number in tensors of equal length."""
    rng = random.Random(f"zeros {seed}")
    rates = rates if rng.random() < 0.8 else (0.0, 0.1)
    shared: dict[int, list[bool]] = {}
    coupled = rng.choice([0.2, 0.6, 0.95])
    with torch.no_grad():
        for parameter in net.parameters():
            for dim in range(min(parameter.ndim, 2)):
                n = parameter.shape[dim]
                rate = rng.choice(rates)
                pruned = [rng.random() < rate for _ in range(n)]
                if n not in shared:
                    shared[n] = pruned
                if rng.random() < coupled:
                    pruned = shared[n]
                if rng.random() < 0.8 and not (coupled > 0.9 and dim == 1):
                    parameter.movedim(dim, 0)[torch.tensor(pruned, dtype=torch.bool)] = 0


def make(recipe: Recipe) -> tuple[RandomNet, tuple[Tensor, ...]]:
    """Build a network in float64 with its zeros, and an example input."""
    net = RandomNet(recipe).double().eval()
    zero(net, recipe.zeros)
    return net, net.example()


# ---------------------------------------------------------------------------------------------------------------------
# The steps. Each takes (rng, values so far) and gives (module, the values it reads), or None where none fits.

Built = tuple[nn.Module, tuple[int, ...]] | None
Builder = Callable[[random.Random, Sequence[Tensor]], Built]
STEPS: dict[str, Builder] = {}


def step(builder: Builder) -> Builder:
    STEPS[builder.__name__.strip("_")] = builder
    return builder


def feature_map(
    rng: random.Random, values: Sequence[Tensor], fits: Callable[[Tensor], bool] = lambda t: True
) -> int | None:
    """Choose a feature map, mostly a late one."""
    return _choose(rng, [i for i, v in enumerate(values) if v.ndim == 4 and fits(v)])


def vector(rng: random.Random, values: Sequence[Tensor]) -> int | None:
    """Choose a (B, C) tensor."""
    return _choose(rng, [i for i, v in enumerate(values) if v.ndim == 2])


def _choose(rng: random.Random, indices: list[int]) -> int | None:
    if not indices:
        return None
    return indices[-1] if rng.random() < 0.85 else rng.choice(indices)


ACTS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "hardswish": nn.Hardswish,
    "leaky": lambda: nn.LeakyReLU(0.1),
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "relu6": nn.ReLU6,
    "hardsigmoid": nn.Hardsigmoid,
    "elu": nn.ELU,
    "softplus": nn.Softplus,
    "mish": nn.Mish,
    "exp": lambda: Fn(lambda x: torch.exp(-x.abs())),
    "clamp": lambda: Fn(lambda x: x.clamp(-0.7, 2.0)),
    "where": lambda: Fn(lambda x: torch.where(x > 0.2, x, 0.5 * x)),
    "none": nn.Identity,
}


def activation(rng: random.Random) -> nn.Module:
    return ACTS[rng.choice([*ACTS, "relu", "silu", "none"])]()


def block(rng: random.Random, a: int, b: int, k: int = 1, **options: Any) -> nn.Sequential:
    """A convolution, perhaps batch normalisation, perhaps an activation."""
    conv = nn.Conv2d(a, b, k, bias=rng.random() < 0.5, **options)
    return nn.Sequential(conv, *([nn.BatchNorm2d(b)] if rng.random() < 0.6 else []), activation(rng))


@step
def conv(rng: random.Random, values: Sequence[Tensor]) -> Built:
    k = rng.choice([1, 1, 3, 3, 2])
    at = feature_map(rng, values, lambda t: min(t.shape[2:]) >= k)
    if at is None:
        return None
    pad: Any = rng.choice([0, k // 2, k // 2, 1, "same" if k != 2 else 0])
    stride = 1 if pad == "same" else rng.choice([1, 1, 2])
    mode = "reflect" if rng.random() < 0.08 and k == 3 and pad == 1 else "zeros"
    options = dict(padding=pad, stride=stride, padding_mode=mode)
    return block(rng, values[at].shape[1], rng.choice([1, 2, 3, 4, 4, 6, 6, 8, 8]), k, **options), (at,)


@step
def bn(rng: random.Random, values: Sequence[Tensor]) -> Built:
    at = feature_map(rng, values)
    assert at is not None
    return nn.BatchNorm2d(values[at].shape[1], affine=rng.random() < 0.8), (at,)


@step
def act(rng: random.Random, values: Sequence[Tensor]) -> Built:
    at = rng.choice([feature_map(rng, values), vector(rng, values) or 0])
    assert at is not None
    return activation(rng), (at,)


@step
def depthwise(rng: random.Random, values: Sequence[Tensor]) -> Built:
    at = feature_map(rng, values, lambda t: min(t.shape[2:]) >= 3)
    if at is None:
        return None
    c, m = values[at].shape[1], rng.choice([1, 1, 2])
    return block(rng, c, c * m, rng.choice([1, 3]), padding=rng.choice([0, 1]), groups=c), (at,)


@step
def grouped(rng: random.Random, values: Sequence[Tensor]) -> Built:
    at = feature_map(rng, values, lambda t: t.shape[1] in (2, 4, 6, 8, 9, 10) and min(t.shape[2:]) >= 3)
    if at is None:
        return None
    c = values[at].shape[1]
    g = rng.choice([d for d in range(2, c) if c % d == 0] or [c])
    return block(rng, c, g * rng.randint(1, 3), rng.choice([1, 3]), padding=rng.choice([0, 1]), groups=g), (at,)


@step
def transposed(rng: random.Random, values: Sequence[Tensor]) -> Built:
    at = feature_map(rng, values, lambda t: max(t.shape[2:]) <= 8)
    if at is None:
        return None
    c = values[at].shape[1]
    g = rng.choice([1, 1, *[d for d in range(2, c + 1) if c % d == 0]])
    k, s, p = rng.choice([(2, 2, 0), (3, 1, 1), (4, 2, 1), (1, 1, 0)])
    layer = nn.ConvTranspose2d(c, g * rng.randint(1, 3), k, s, p, groups=g, bias=rng.random() < 0.5)
    return nn.Sequential(layer, *([nn.BatchNorm2d(layer.out_channels)] if rng.random() < 0.4 else [])), (at,)


@step
def residual(rng: random.Random, values: Sequence[Tensor]) -> Built:
    at = feature_map(rng, values, lambda t: min(t.shape[2:]) >= 1)
    assert at is not None
    c, hidden = values[at].shape[1], rng.randint(1, 6)
    body = nn.Sequential(block(rng, c, hidden, 3, padding=1), block(rng, hidden, c))
    return Fn(lambda x, f: x + f(x), body), (at,)


@step
def join(rng: random.Random, values: Sequence[Tensor]) -> Built:
    """Two feature maps: brought to one size in space, then added, multiplied, or laid side by side."""
    a, b = feature_map(rng, values), rng.choice([i for i, v in enumerate(values) if v.ndim == 4])
    assert a is not None
    left, right = values[a], values[b]
    size = tuple(left.shape[2:])
    ops = ["cat", "cat", "cat3"]
    if left.shape[1] == right.shape[1]:
        ops += ["add", "add", "mul", "sub", "max", "stack", "lerp"]
    elif 1 in (left.shape[1], right.shape[1]):
        ops += ["mul", "add"]
    else:
        ops += ["project"]
    if left.shape[1] + right.shape[1] > 16:
        ops = [k for k in ops if "cat" not in k and k != "stack"] or ["project"]
    op = rng.choice(ops)

    def fit(y: Tensor) -> Tensor:
        return y if tuple(y.shape[2:]) == size else functional.interpolate(y, size=size)

    if op == "project":
        return Fn(lambda x, y, f: x + f(fit(y)), block(rng, right.shape[1], left.shape[1])), (a, b)
    return Fn(lambda x, y: PAIRS[op](x, fit(y))), (a, b)


PAIRS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cat": lambda x, y: torch.cat([x, y], 1),
    "cat3": lambda x, y: torch.cat([y, x, y], 1) if x.shape[1] + y.shape[1] < 7 else torch.cat([y, x], 1),
    "add": lambda x, y: x + y,
    "mul": lambda x, y: x * y,
    "sub": lambda x, y: torch.sub(x, y, alpha=2),
    "max": lambda x, y: torch.maximum(x, y),
    "stack": lambda x, y: torch.stack([x, y], 2).flatten(1, 2),
    "lerp": lambda x, y: torch.lerp(x, y, 0.3),
}


@step
def split(rng: random.Random, values: Sequence[Tensor]) -> Built:
    at = feature_map(rng, values, lambda t: t.shape[1] >= 2)
    if at is None:
        return None
    c = values[at].shape[1]
    first = rng.randint(1, c - 1)
    op = rng.choice(["split", "chunk", "slices", "step", "tensor_split", "select", "narrow"])
    parts: dict[str, Callable[[Tensor], Any]] = {
        "split": lambda x: x.split([first, c - first], 1),
        "chunk": lambda x: x.chunk(2, 1),
        "slices": lambda x: (x[:, :first], x[:, first:]),
        "step": lambda x: (x[:, ::2], x[:, 1::2]),
        "tensor_split": lambda x: torch.tensor_split(x, 2, 1),
        "select": lambda x: (x[:, first, None], x[:, -1:]),
        "narrow": lambda x: (x.narrow(1, 0, first),),
    }
    return Fn(parts[op]), (at,)


@step
def shuffle(rng: random.Random, values: Sequence[Tensor]) -> Built:
    at = feature_map(rng, values, lambda t: t.shape[1] in (4, 6, 8, 9))
    if at is None:
        return None
    c = values[at].shape[1]
    g = next(d for d in rng.sample([2, 3, 4], 3) if c % d == 0)
    op = rng.choice(["view", "flip", "index", "roll", "unbind", "repeat"])

    def run(x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        if op == "view":
            return x.view(b, g, c // g, h, w).transpose(1, 2).reshape(b, c, h, w)
        if op == "flip":
            return x.flip(1)
        if op == "roll":
            return x.roll(1, 1)
        if op == "index":
            return x[:, [0, 2, 1, *range(3, c)]]
        if op == "unbind":
            return torch.cat(list(x.view(b, g, c // g, h, w).unbind(1))[::-1], 1)
        return x[:, : c // 2].repeat(1, 2, 1, 1)

    return Fn(run), (at,)


@step
def pixels(rng: random.Random, values: Sequence[Tensor]) -> Built:
    at = feature_map(
        rng,
        values,
        lambda t: (
            (t.shape[1] in (4, 8, 12) and t.shape[2] <= 8) or (t.shape[1] <= 3 and t.shape[2] % 2 + t.shape[3] % 2 == 0)
        ),
    )
    if at is None:
        return None
    if values[at].shape[1] in (4, 8, 12):
        return nn.PixelShuffle(2), (at,)
    if rng.random() < 0.5:
        return nn.PixelUnshuffle(2), (at,)
    return Fn(lambda x: torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1)), (
        at,
    )


@step
def squeeze(rng: random.Random, values: Sequence[Tensor]) -> Built:
    at = feature_map(rng, values)
    assert at is not None
    c, hidden = values[at].shape[1], rng.randint(1, 4)
    body = nn.Sequential(nn.Conv2d(c, hidden, 1), activation(rng), nn.Conv2d(hidden, c, 1))
    pool = rng.choice([lambda x: x.mean((2, 3), keepdim=True), lambda x: functional.adaptive_avg_pool2d(x, 1)])
    return Fn(lambda x, f: x * f(pool(x)).sigmoid(), body), (at,)


@step
def gate(rng: random.Random, values: Sequence[Tensor]) -> Built:
    at, other = feature_map(rng, values), feature_map(rng, values)
    assert at is not None and other is not None
    if values[at].shape[2:] != values[other].shape[2:]:
        other = at
    if rng.random() < 0.3 and values[at].shape[1] % 2 == 0:
        return nn.GLU(1), (at,)
    make_gate = nn.Conv2d(values[other].shape[1], 1, 1)
    return Fn(lambda x, y, f: x * f(y).sigmoid(), make_gate), (at, other)


@step
def pool(rng: random.Random, values: Sequence[Tensor]) -> Built:
    at = feature_map(rng, values, lambda t: min(t.shape[2:]) >= 3)
    if at is None:
        return None
    ops: list[Callable[[], nn.Module]] = [
        lambda: nn.MaxPool2d(2),
        lambda: nn.MaxPool2d(3, 1, 1),
        lambda: nn.AvgPool2d(2, ceil_mode=True),
        lambda: nn.AvgPool2d(3, 1, 1),
        lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        lambda: nn.AdaptiveAvgPool2d(2),
        lambda: nn.AvgPool2d(2, divisor_override=3),
        lambda: nn.LPPool2d(2, 2),
    ]
    return rng.choice(ops)(), (at,)


@step
def up(rng: random.Random, values: Sequence[Tensor]) -> Built:
    at = feature_map(rng, values, lambda t: max(t.shape[2:]) <= 8)
    if at is None:
        return None
    mode = rng.choice(["nearest", "bilinear", "bicubic", "corners", "nearest-exact"])
    if mode == "corners":
        return nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), (at,)
    return nn.Upsample(scale_factor=2, mode=mode), (at,)


@step
def flat(rng: random.Random, values: Sequence[Tensor]) -> Built:
    at = feature_map(rng, values, lambda t: t[0].numel() <= 600)
    if at is None:
        return None
    return nn.Sequential(nn.Flatten(), nn.Linear(values[at][0].numel(), rng.randint(1, 6)), activation(rng)), (at,)


@step
def means(rng: random.Random, values: Sequence[Tensor]) -> Built:
    at = feature_map(rng, values)
    assert at is not None
    op = rng.choice(["mean", "amax", "sum", "flatten_mean", "adaptive"])
    runs: dict[str, Callable[[Tensor], Tensor]] = {
        "mean": lambda x: x.mean((2, 3)),
        "amax": lambda x: x.amax((2, 3)),
        "sum": lambda x: x.sum(-1).sum(-1) * 0.1,
        "flatten_mean": lambda x: x.flatten(2).mean(2),
        "adaptive": lambda x: functional.adaptive_avg_pool2d(x, 1).flatten(1),
    }
    return Fn(runs[op]), (at,)


@step
def dense(rng: random.Random, values: Sequence[Tensor]) -> Built:
    at = vector(rng, values)
    if at is None:
        return None
    c = values[at].shape[1]
    layers: list[nn.Module] = [nn.Linear(c, rng.randint(1, 6), bias=rng.random() < 0.6)]
    if rng.random() < 0.3:
        layers.append(nn.BatchNorm1d(layers[0].out_features))  # type: ignore[arg-type]
    return nn.Sequential(*layers, activation(rng)), (at,)


@step
def vectors(rng: random.Random, values: Sequence[Tensor]) -> Built:
    """Two vectors side by side, or a vector that gates or shifts a feature map."""
    a = vector(rng, values)
    if a is None:
        return None
    if rng.random() < 0.3:
        return Fn(lambda x, y: torch.cat([x, y], 1)), (a, vector(rng, values) or a)
    at = feature_map(rng, values)
    assert at is not None
    body = nn.Linear(values[a].shape[1], values[at].shape[1])
    if rng.random() < 0.5:
        return Fn(lambda x, y, f: y + f(x)[:, :, None, None], body), (a, at)
    return Fn(lambda x, y, f: y * f(x).sigmoid().unsqueeze(-1).unsqueeze(-1), body), (a, at)


@step
def norm(rng: random.Random, values: Sequence[Tensor]) -> Built:
    at = feature_map(rng, values, lambda t: min(t.shape[2:]) >= 2)
    if at is None:
        return None
    c = values[at].shape[1]
    op = rng.choice(["instance", "group", "layer", "plain", "one"])
    if op == "instance":
        return nn.InstanceNorm2d(c, affine=rng.random() < 0.7), (at,)
    if op in ("group", "one"):
        groups = 1 if op == "one" else rng.choice([d for d in range(1, c + 1) if c % d == 0])
        return nn.GroupNorm(groups, c, affine=rng.random() < 0.8), (at,)
    layer = nn.LayerNorm(c, elementwise_affine=op == "layer")
    return Fn(lambda x, f: f(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), layer), (at,)


@step
def attention(rng: random.Random, values: Sequence[Tensor]) -> Built:
    """Attention over positions, qkv by one convolution, heads by a view."""
    at = feature_map(rng, values, lambda t: t.shape[2] * t.shape[3] <= 64)
    if at is None:
        return None
    c, heads, key, value = values[at].shape[1], rng.choice([1, 2, 3]), rng.randint(1, 3), rng.randint(1, 3)
    qkv, out = nn.Conv2d(c, heads * (2 * key + value), 1), nn.Conv2d(heads * value, c, 1)
    skip = rng.random() < 0.5

    def run(x: Tensor, f: nn.Module, g: nn.Module) -> Tensor:
        b, _, h, w = x.shape
        q, k, v = f(x).view(b, heads, 2 * key + value, h * w).split([key, key, value], 2)
        share = (q.transpose(-2, -1) @ k * 0.5).softmax(-1)
        y = g((v @ share.transpose(-2, -1)).reshape(b, heads * value, h, w))
        return x + y if skip else y

    return Fn(run, qkv, out), (at,)


@step
def tokens(rng: random.Random, values: Sequence[Tensor]) -> Built:
    """PyTorch's own attention on tokens, with or without layer normalisation in front."""
    at = feature_map(rng, values, lambda t: t.shape[2] * t.shape[3] <= 64)
    if at is None:
        return None
    c, heads, width = values[at].shape[1], rng.choice([1, 2]), rng.randint(1, 3)
    qkv, out = nn.Linear(c, heads * 3 * width, bias=rng.random() < 0.7), nn.Linear(heads * width, c)
    first = nn.LayerNorm(c) if rng.random() < 0.4 else nn.Identity()

    def run(x: Tensor, norm: nn.Module, f: nn.Module, g: nn.Module) -> Tensor:
        b, _, h, w = x.shape
        t = x.flatten(2).transpose(1, 2)
        q, k, v = f(norm(t)).reshape(b, h * w, 3, heads, width).permute(2, 0, 3, 1, 4).unbind(0)
        y = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, h * w, heads * width)
        return (t + g(y)).transpose(1, 2).reshape(b, c, h, w)

    return Fn(run, first, qkv, out), (at,)


@step
def constant(rng: random.Random, values: Sequence[Tensor]) -> Built:
    """Constants next to channels: a factor or summand a channel, a constant map, extra constant channels."""
    at = feature_map(rng, values)
    assert at is not None
    _, c, h, w = values[at].shape
    op = rng.choice(["mul", "add", "map", "cat", "number", "full", "flatvec", "prelu", "minus", "divide", "zeros"])
    if op == "prelu":
        return nn.PReLU(rng.choice([1, c])), (at,)
    if op == "number":
        return Fn(lambda x: 0.7 - 2.0 * x), (at,)
    if op == "full":
        return Fn(lambda x: torch.cat([x, torch.full_like(x[:, :1], 0.4), torch.zeros_like(x[:, :1])], 1)), (at,)
    shape = {"map": (1, 1, h, w), "cat": (1, 2, h, w), "flatvec": (c,)}.get(op, (1, c, 1, 1))
    scale = Scale(torch.rand(shape) + 0.2, rng.random() < 0.6)
    runs: dict[str, Callable[[Tensor, nn.Module], Tensor]] = {
        "mul": lambda x, s: x * s(),
        "zeros": lambda x, s: s() * x.detach(),
        "add": lambda x, s: s() + x,
        "minus": lambda x, s: s() - x,
        "divide": lambda x, s: s() / (1.5 + x.sigmoid()),
        "map": lambda x, s: x * s(),
        "cat": lambda x, s: torch.cat([s().expand(x.shape[0], -1, -1, -1), x], 1),
        "flatvec": lambda x, s: x * s()[:, None, None] + 0.1,
    }
    return Fn(runs[op], scale), (at,)


@step
def pad(rng: random.Random, values: Sequence[Tensor]) -> Built:
    at = feature_map(rng, values, lambda t: 2 <= max(t.shape[2:]) <= 8 and min(t.shape[2:]) >= 2)
    if at is None:
        return None
    fill = rng.choice([0.0, 0.5, -1.0])
    op = rng.choice(["space", "channels", "crop", "replicate", "both", "front"])
    amounts = {
        "space": (1, 0, 0, 1),
        "channels": (0, 0, 0, 0, 0, 2),
        "front": (0, 0, 0, 0, 1, 1),
        "crop": (-1, 0, 0, 0),
        "both": (1, 1, 1, 1, 0, 1),
    }
    if op == "replicate":
        return Fn(lambda x: functional.pad(x, (1, 1, 1, 1), mode="replicate")), (at,)
    return Fn(lambda x: functional.pad(x, amounts[op], value=fill)), (at,)


@step
def detach(rng: random.Random, values: Sequence[Tensor]) -> Built:
    at = feature_map(rng, values)
    assert at is not None
    return Fn(lambda x: x.detach().clone()), (at,)


@step
def twice(rng: random.Random, values: Sequence[Tensor]) -> Built:
    """One module used twice, in a row or on two feature maps."""
    at = feature_map(rng, values)
    assert at is not None
    c = values[at].shape[1]
    body = block(rng, c, c, 3, padding=1)
    other = [i for i, v in enumerate(values) if v.ndim == 4 and v.shape[1] == c]
    if rng.random() < 0.5:
        return Fn(lambda x, f: f(f(x)), body), (at,)
    return Fn(lambda x, y, f: (f(x), f(y)), body), (at, rng.choice(other))


@step
def mixing(rng: random.Random, values: Sequence[Tensor]) -> Built:
    """Operators over channels, most of them without a rule."""
    at = feature_map(rng, values)
    assert at is not None
    op = rng.choice(["softmax", "mean", "amax", "cumsum", "normalize", "sort", "einsum", "sum", "matmul"])
    runs: dict[str, Callable[[Tensor], Tensor]] = {
        "softmax": lambda x: x.softmax(1),
        "mean": lambda x: x.mean(1, keepdim=True),
        "sum": lambda x: x - x.sum(1, keepdim=True),
        "amax": lambda x: x.amax(1, keepdim=True) + x.mean(1, keepdim=True),
        "cumsum": lambda x: x.cumsum(1),
        "normalize": lambda x: functional.normalize(x + 0.1, dim=1, eps=0.1),
        "sort": lambda x: x.sort(1)[0],
        "einsum": lambda x: torch.einsum("bchw,bdhw->bcd", x, x)[..., None] * 0.05,
        "matmul": lambda x: (x.flatten(2) @ x.flatten(2).transpose(1, 2)).softmax(-1) @ x.flatten(2).unsqueeze(1)[:, 0],
    }
    run = runs[op]
    if op == "matmul":
        return Fn(lambda x: run(x).reshape(x.shape)), (at,)
    return Fn(run), (at,)
