"""A multi-task network: named images in, named heads out, built from a YAML file read top to bottom."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from .aligned import LEVELS, AlignedTrunk
from .backbone import Backbone
from .blocks import set_activation
from .description import check_description, parse, read, renamed
from .fusion import NECKS, ConcatTrunk, EarlyFusionTrunk, MidFusionTrunk
from .head_kinds import DEFAULT_PARTS, HeadInput, HeadKind, Parts
from .taps import DEEPEST, HeadTapTrunk
from .trunk import Feature, Slices, Trunk

Outputs = dict[str, Any]
"""Raw outputs by head: a tensor each, or in training what a head of boxes gives to its loss."""
T = TypeVar("T")
FUSIONS = ("concat", "early", "mid", "aligned")
DEPTH = "depth"
"""The modality of distances: where a description has no stream of it, it is like the one of one channel."""
STRIDE = 32
"""The coarsest feature's stride, which heights and widths are multiples of."""


@dataclass(frozen=True)
class InputSpec:
    """One modality's input: its channels and the normalisation (x / 255 - mean) / std that the network expects."""

    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class MultiTask(nn.Module):
    """``forward(rgb=…, ir=…)`` on normalised (B, C, H, W) images gives a dict of the heads' outputs by name.

    ``inputs`` are by modality. An image is given by its modality, or where a head has that name by `input_name`.
    ``trunk`` and ``heads`` are separate parameter sets, as the sharing methods need them.
    """

    def __init__(
        self,
        trunk: Trunk,
        heads: dict[str, nn.Module],
        inputs: dict[str, InputSpec],
        description: dict[str, Any],
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleDict(heads)
        self.inputs = inputs
        self.description = description

    def forward(self, **images: Tensor) -> Outputs:
        """Return the raw output of every head, by name."""
        features = self.trunk({modality: images[self.input_name(modality)] for modality in self.inputs})
        return {name: self.read(name, features) for name in self.heads}

    def input_name(self, modality: str) -> str:
        """Return the name of a modality's input: another one than any head's, since both are names of one graph."""
        return f"{modality}_image" if modality in self.heads else modality

    def read(self, head: str, features: list[Tensor]) -> Any:
        """Return a head's raw output on the trunk's features."""
        return self.heads[head](_read_by(self.trunk, head, features))

    def supports(self, feature: Feature) -> bool:
        """Whether a method of training that needs a full stream for each modality can be used."""
        return self.trunk.supports(feature)

    def twins(self) -> list[list[str]]:
        """Return groups of parameters, by name, that are each other's counterparts in the modalities' streams."""
        return [[f"trunk.{name}" for name in names] for names in self.trunk.twins()]

    def modality_slices(self) -> Slices:
        """Return the dimensions of parameters along which the modalities' channels stand one after the other."""
        return {f"trunk.{name}": dims for name, dims in self.trunk.modality_slices().items()}


def _read_by(trunk: Trunk, head: str, values: Sequence[T]) -> list[T]:
    """Return those values, of one for each feature of the trunk, that belong to the features a head reads."""
    return [values[index] for index in trunk.reads.get(head, range(len(values)))]


def zoo() -> list[str]:
    """Return the names of the networks that come with the package."""
    folder = resources.files("edgemtl_models") / "zoo"
    return sorted(Path(file.name).stem for file in folder.iterdir() if file.name.endswith(".yaml"))


def build(
    network: str | dict[str, Any],
    channels: dict[str, int],
    size: tuple[int, int],
    *,
    modalities: tuple[str, ...] = (),
    head_taps: dict[str, str] | None = None,
    fusion: dict[str, Any] | None = None,
    activation: str = "",
    pretrained: bool = True,
    parts: Parts = DEFAULT_PARTS,
) -> MultiTask:
    """Build a network with the heads named in ``channels``: how many classes, maps or numbers each puts out.

    ``network`` is a name of the zoo, a YAML file, or the ``description`` of one that was built before. ``size`` is
    (height, width) in pixels. ``modalities`` names the streams to build, all where it is empty. ``head_taps`` gives
    heads the block of the backbones that they read (`taps.blocks`), "stage32" where none is named; there is no pyramid
    then. ``fusion`` is how the streams are fused: {"kind": "concat"}, at each level before one neck, the default;
    {"kind": "early"}, as the channels of one image; {"kind": "mid", "level": level}, at that level; or {"kind":
    "aligned", "fuse_at": levels, "align": [first, last], "registration_radius": cells}, after a neck each (`aligned`).
    ``activation`` is that of our own blocks: SiLU unless the description or this says "relu", which back ends compute
    within the convolution. ``pretrained=False`` leaves out the start weights, for loading a trained state. ``parts``
    are the backbones and heads that the description may name. Raises `ValueError` with the reason when the network
    cannot be built.
    """
    description = renamed(network) if isinstance(network, dict) else _describe(network)
    check_description(description)
    name = str(description["name"])
    height, width = size
    if height % STRIDE or width % STRIDE:
        raise ValueError(f"size {height}x{width} does not divide by {STRIDE}; take the next multiple")
    streams = description["streams"]
    if DEPTH in modalities and DEPTH not in streams:
        like = next((stream for stream in streams.values() if stream["channels"] == 1), None)
        streams = streams | ({DEPTH: like} if like else {})
    if strange := [modality for modality in modalities if modality not in streams]:
        raise ValueError(f"{name} has no stream '{strange[0]}'; it has: {', '.join(streams)}")
    description = description | {"streams": {m: s for m, s in streams.items() if not modalities or m in modalities}}
    if fusion:
        description = description | {"fusion": fusion}
    if activation:
        description = description | {"activation": activation}
    if min(size) // 8 < 4 * (reach := description.get("fusion", {}).get("registration_radius", 0)):
        raise ValueError(f"size {height}x{width} is too small to register over {reach} cells: {32 * reach} at least")
    inputs = {
        modality: InputSpec(stream["channels"], tuple(stream["mean"]), tuple(stream["std"]))
        for modality, stream in description["streams"].items()
    }
    description = description | {"heads": _describe_heads(description, channels, parts)}
    wanted = {head: description["heads"][head] for head in channels}
    if head_taps or description.get("head_taps"):
        head_taps = {head: (head_taps or description["head_taps"]).get(head, DEEPEST) for head in channels}
        description = description | {"head_taps": head_taps}
    trunk = _trunk(description, [parts.head_kinds[head["kind"]] for head in wanted.values()], pretrained, parts)
    heads = {}
    for head, options in wanted.items():
        widths, strides = (_read_by(trunk, head, values) for values in (trunk.widths, trunk.strides))
        kind = parts.head_kinds[options["kind"]]
        heads[head] = _head(f"{name}: {head}", kind, HeadInput(widths, strides, size), channels[head], options)
    built = MultiTask(trunk, heads, inputs, description)
    if "activation" in description:
        set_activation(built, description["activation"])
    return built


def _trunk(description: dict[str, Any], heads: Sequence[HeadKind], pretrained: bool, parts: Parts) -> Trunk:
    """Return the trunk that a description asks for, for heads of these types."""
    name, streams, neck = str(description["name"]), description["streams"], description["neck"]
    head_taps = description.get("head_taps")
    fusion = dict(description.get("fusion", {}))
    kind = fusion.get("kind", "concat")
    if kind not in FUSIONS:
        raise ValueError(f"fusion '{kind}' is not one of {', '.join(FUSIONS)}")
    if head_taps and kind != "concat":
        raise ValueError(
            f"head_taps leave streams that stay apart; those of fusion '{kind}' do not: give one of the two"
        )
    bottom_up = any(head.bottom_up for head in heads)
    if (neck_kind := description.get("neck_kind", "plain")) not in NECKS:
        raise ValueError(f"{name}: neck_kind '{neck_kind}' is not one of {', '.join(NECKS)}")
    parts_of_neck = NECKS[neck_kind]
    channels = {modality: stream["channels"] for modality, stream in streams.items()}
    if kind == "early" and len(streams) > 1:
        both = next(iter(streams.values())) | {"channels": sum(channels.values())}
        backbone = _backbone(name, " and ".join(streams), both, pretrained, parts)
        return EarlyFusionTrunk(channels, backbone, neck, bottom_up, parts_of_neck)
    backbones = {modality: _backbone(name, modality, stream, pretrained, parts) for modality, stream in streams.items()}
    if head_taps:
        return HeadTapTrunk(backbones, channels, neck, head_taps)
    if kind == "mid" and len(streams) > 1:
        return MidFusionTrunk(backbones, channels, neck, fusion.get("level", "p3"), bottom_up, parts_of_neck)
    if kind == "aligned" and len(streams) > 1:
        options = {key: fusion[key] for key in ("align", "shared", "registration_radius") if key in fusion}
        levels = fusion.get("fuse_at") or (LEVELS if any(head.reads_finest for head in heads) else LEVELS[1:])
        return AlignedTrunk(backbones, channels, neck, levels, **options, bottom_up=bottom_up, neck=parts_of_neck)
    return ConcatTrunk(backbones, neck, bottom_up, parts_of_neck)


def _backbone(name: str, modality: str, stream: dict[str, Any], pretrained: bool, parts: Parts) -> Backbone:
    options = dict(stream["backbone"])
    kind = options.pop("kind")
    if kind not in parts.backbones:
        known = ", ".join(parts.backbones)
        raise ValueError(f"{name}: stream '{modality}' asks for backbone '{kind}'; known: {known}")
    if not pretrained:
        options.pop("weights", None)
    return parts.backbones[kind](stream["channels"], **options)


def _describe_heads(description: dict[str, Any], heads: Collection[str], parts: Parts) -> dict[str, Any]:
    """Return the descriptions of the network's heads and of those that are asked for besides."""
    described = dict(description["heads"])
    for head in heads:
        if head not in described:
            if head not in parts.default_heads:
                raise ValueError(f"{description['name']} has no head '{head}'; it has: {', '.join(described)}")
            described[head] = dict(parts.default_heads[head])
        kind = described[head]["kind"]
        if kind not in parts.head_kinds:
            raise ValueError(f"unknown head type '{kind}'; known: {', '.join(parts.head_kinds)}")
    return described


def _head(name: str, kind: HeadKind, reads: HeadInput, outputs: int, options: Mapping[str, Any]) -> nn.Module:
    try:
        return kind.build(reads, outputs, **{key: value for key, value in options.items() if key != "kind"})
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _describe(name: str) -> dict[str, Any]:
    if name in zoo():
        description = parse((resources.files("edgemtl_models") / "zoo" / f"{name}.yaml").read_text(), name)
    elif name.endswith((".yaml", ".yml")) and Path(name).is_file():
        description = read(Path(name))
    else:
        raise ValueError(f"no network '{name}'; the zoo has {', '.join(zoo())}, or give a YAML file")
    missing = {"name", "streams", "neck", "heads"} - set(description)
    if missing:
        raise ValueError(f"{name}: {', '.join(sorted(missing))} missing")
    if len(description["neck"]) != 4:
        raise ValueError(f"{name}: neck lists the channels at strides 4, 8, 16 and 32, not {description['neck']}")
    return description
