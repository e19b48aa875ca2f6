"""The configuration of a training: read from YAML and ``key=value`` words, checked before anything is computed."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from edgemtl_runtime.bundle import ThermalRange
from edgemtl_runtime.limits import parse_yaml, read_yaml, reason

from .errors import ConfigError, nearest_hint
from .renamed_keys import renamed

Policy = Literal["fused", "rgb", "ir", "union"]
TASK_WEIGHTINGS = ("equal", "uncertainty", "dwa", "famo", "upgrad", "pcgrad", "mgda", "cagrad", "aligned-mtl")
"""The keys of `methods.weighting.TASK_WEIGHTINGS`."""


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of several data sets that are trained on together."""

    source: str
    label_policy: Policy = "fused"
    tasks: tuple[str, ...] = ()
    """The tasks whose labels are taken from here; all that there are where none is named."""

    def gives(self, task: str) -> bool:
        """Whether labels of a task are taken from here, as far as the configuration knows."""
        return not self.tasks or task in self.tasks


class Synthetic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Drawn streets, where ``data.source`` is "streets"."""

    num_train: int = 1200
    """Images to train on."""
    num_val: int = 200
    """Images to evaluate on."""


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the pictures come from: ``source`` is "streets" (drawn), a folder, its data.yaml, or a list of sources."""

    source: str | tuple[Source, ...] = "streets"
    label_policy: Policy = "fused"
    val_fraction: float = 0.0
    """Share of the training pictures, each set's last ones, that are judged in place of "val", which becomes "test":
    choose on them, and report "val" later."""
    balance_light: bool = False
    """Whether day and night take equal parts in the training, however many pictures there are of each."""
    cache_mb: int = 4000
    """Memory for decoded pictures; what does not fit is read again each time."""
    num_workers: int = -1
    """Processes that prepare batches; 0: a thread; -1: a thread, or with a GPU one process a core, up to eight."""
    synthetic: Synthetic = Synthetic()

    @property
    def sources(self) -> tuple[Source, ...]:
        """The data sets, one or several."""
        return (Source(self.source, self.label_policy),) if isinstance(self.source, str) else self.source


class Augment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Geometry, the same for all views and the labels; light, each view's own; and what goes wrong with cameras."""

    mosaic: float = 0.5
    """Share of training items that are put together from four."""
    mosaic_zoom: float = 1.0
    """A mosaic's window is up to 1 + this many pictures wide."""
    mosaic_until: float = 0.8
    """Share of the training after which mosaics stop."""
    flip: bool = True
    rotate_deg: float = 0.0
    translate: float = 0.1
    scale: float = 0.3
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.5
    hue: float = 0.02
    modality_dropout: float = 0.0
    """Share of items of which one camera of several is absent; the bundle then says that it can do without any one."""
    modality_dropout_fill: tuple[Literal["blank", "noise", "frozen"], ...] = ("blank", "noise", "frozen")
    """What is there instead: the bundle's blank frame, noise, or a frame of another moment."""
    max_misalignment: float = 0.0
    """Cameras but the first are shifted by up to this share of the width against it, either way."""
    max_misalignment_deg: float = 0.0
    """And turned by up to so much."""


class Sparsity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Group lasso with a fixed strength, or held to a target, where the pattern is frozen (`sparsity.group_lasso`)."""

    target: float = 0.0
    """Share of ``of`` to remove."""
    max_cost: float = 0.0
    """Or how much of it may stay: so many parameters, operations or milliseconds."""
    metric: Literal["parameters", "flops", "ms"] = "parameters"
    scope: str = "all"
    """What is made sparse and counted: "all", or a part of the network like "trunk"."""
    groups: Literal["coupled", "input", "output"] = "coupled"
    strength: float = 1e-4
    """The group lasso's λ where there is no target; 0 leaves the network dense."""
    reg_ratio: float = 0.1
    """With a target: the strength, as a share of that which would zero as many groups by itself."""
    begin: float = 0.1
    """Share of the training before the first step towards zero."""
    end: float = 0.4
    """Share of the training by which the target is met, the weakest groups first."""
    min_keep_ratio: float = 0.2
    """At least this share of every layer's groups stays."""
    channel_multiple: int = 8
    """With a target: every layer keeps a multiple of so many channels, as processors are fast on; of coupled groups."""
    granularity: Literal["global", "stage", "layer"] = "global"
    """What has a strength of its own: all, the layers of one resolution, or each; meta_sparsity learns them."""

    @property
    def aimed(self) -> bool:
        """Whether there is a target."""
        return bool(self.target or self.max_cost)


class Fusion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the cameras' streams meet; where nothing is said, as the network's description has it."""

    kind: Literal["", "concat", "early", "mid", "aligned"] = ""
    """"concat": at each level, before one neck. "early": as one picture's channels. "mid": at one level, and are one
    from there on. "aligned": two full streams, at the inputs of the heads."""
    level: Literal["p2", "p3", "p4"] = "p3"
    """Where "mid" joins the streams: the features at stride 4, 8 or 16."""
    fuse_at: tuple[str, ...] = ()
    """Levels at which aligned streams are fused, like [p3, p4, p5]; those that the heads read where none is named."""
    align: tuple[str, str] = ("stage3", "neck")
    """The first and the last part of aligned streams that can come together: stage2, stage3, stage4, neck."""
    registration_radius: int = 0
    """Over how many cells of stride 8 other cameras are brought into line with the first one; 0: they are not."""


class Alignment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the weights of aligned streams are pulled together (`methods.alignment`)."""

    strength: float = 0.0
    """0 lets all go apart, 1 nothing."""
    target: float = 0.0
    """Share of the weights that are to be stored once: the rest is let go apart where the cameras disagree most."""
    kind: Literal["difference", "squared"] = "difference"
    trainable: bool = False
    """Whether method=meta_sparsity learns a strength a stage, from ``strength`` on."""
    begin: float = 0.0
    """Share of the training before the first pull; with a target, before the first is let go."""
    end: float = 0.6
    """Share of the training by which the target is met."""


class Episodes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of mtml and meta_sparsity: inner steps on one half of a batch, judged on the other."""

    subsets: int = 1
    """Into how many subsets a step shares out the tasks; 1 draws one and leaves the rest out."""
    inner_steps: int = 1
    inner_optimizer: Literal["adamw", "sgd"] = "adamw"
    """The metric of inner steps: with "adamw" no weight moves by more than ``inner_lr``."""
    inner_lr: float = 1e-3
    second_order: bool = False
    """Whether the outer gradient goes through the inner steps."""
    support_grad_weight: float = 0.5
    """Share of the weights' gradient that is their own on the support; the rest is that of the adapted ones."""
    query_fraction: float = 0.0
    """Share of the training pictures, the last ones, that are queries alone: they teach strengths and no weights."""
    strength_lr: float = 0.02
    """Of the logarithms of the strengths, by Adam."""


class Lomt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of lomt: how the depth that each task needs is found."""

    seeds: int = 2
    """How many single-task sparse networks tell a task's depth."""
    threshold: float = 0.01
    """A layer whose share of living groups, the mean over seeds, is above this is needed."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One training."""

    network: str = "rgbir-n"
    init_from: str = ""
    """A run, or a file of weights, whose tensors are taken over where they fit."""
    freeze: tuple[str, ...] = ()
    """Parts of the network that are not learned, like trunk or heads.depth."""
    keep_sparsity: bool = False
    """Whether channels that are zero in ``init_from`` stay zero."""
    modalities: tuple[str, ...] = ()
    """Streams of the network to build, like [rgb]; all where none is named."""
    head_taps: dict[str, str] = {}
    """The block of the backbones at which a task's head leaves them, like {edges: stage8}; then there is no pyramid."""
    fusion: Fusion = Fusion()
    input_size: tuple[int, int] = (128, 160)
    """Height and width of the network's input, pixels."""
    data: Data = Data()
    method: Literal["joint", "single", "sparse", "lomt", "mtml", "meta_sparsity"] = "joint"
    """How the tasks are learned, as the files of `methods` tell; "single": each by itself, the reference of Δm."""
    tasks: tuple[str, ...] = ("boxes", "semantic")
    """Heads to train; one that the data have no labels for is left out."""
    steps: int = 0
    """Optimiser steps; 0 takes ``epochs``."""
    epochs: float = 20
    batch_size: int = 16
    lr: float = 2e-3
    weight_decay: float = 0.01
    warmup_steps: int = 40
    """Steps over which the learning rate rises."""
    grad_clip_norm: float = 10.0
    """Largest norm of the gradient."""
    ema_decay: float = 0.998
    """Decay a step of the averaged weights, which are the ones judged and kept."""
    task_weighting: str = "equal"
    """How the tasks share a step, as `methods.weighting` lists them."""
    loss_weights: dict[str, float] = {}
    """Weight of each task's loss; 1 where nothing is said."""
    augment: Augment = Augment()
    sparsity: Sparsity = Sparsity()
    alignment: Alignment = Alignment()
    unimodal_aux_loss: bool = False
    """Whether aligned streams learn the tasks by themselves too: the heads read the fused features and each one's."""
    teachers: dict[str, str] = {}
    """Of aligned streams: a run of one camera each, like {ir: out/ir}, whose features they keep (`distillation`)."""
    distill_weight: float = 1.0
    """Weight of what the teachers say."""
    episodes: Episodes = Episodes()
    lomt: Lomt = Lomt()
    thermal_range: ThermalRange = ThermalRange()
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """"auto" computes in bf16 where the processor has matrix units for it (AMX, or a GPU's)."""
    num_evals: int = 1
    """How many times to judge the averaged network on "val", evenly over the training; the last time is at its end."""
    checkpoint_interval_s: float = 60.0
    """Seconds between two savings of the state that ``--resume`` goes on from."""
    tensorboard: str = ""
    """A folder to show the training in on TensorBoard while it runs; nothing where none is named."""
    num_threads: int = 0
    """Processor threads; 0 leaves torch's own choice."""
    seed: int = 0

    def __post_init__(self) -> None:
        sparsity, augment, episodes = self.sparsity, self.augment, self.episodes
        for name, value, low, high in (
            ("height of input_size", self.input_size[0], 32, 8192),
            ("width of input_size", self.input_size[1], 32, 8192),
            ("steps", self.steps, 0, 10**9),
            ("epochs", self.epochs, 0, 10**6),
            ("batch_size", self.batch_size, 1, 10**5),
            ("lr", self.lr, 1e-9, 10),
            ("weight_decay", self.weight_decay, 0, 10),
            ("warmup_steps", self.warmup_steps, 0, 10**6),
            ("grad_clip_norm", self.grad_clip_norm, 1e-6, 1e9),
            ("ema_decay", self.ema_decay, 0, 0.999999),
            ("num_evals", self.num_evals, 1, 10**6),
            ("checkpoint_interval_s", self.checkpoint_interval_s, 0, 10**6),
            ("num_threads", self.num_threads, 0, 1024),
            ("seed", self.seed, 0, 10**9),
            ("data.val_fraction", self.data.val_fraction, 0, 0.9),
            ("data.cache_mb", self.data.cache_mb, 0, 10**7),
            ("data.num_workers", self.data.num_workers, -1, 1024),
            ("data.synthetic.num_train", self.data.synthetic.num_train, 1, 500_000),
            ("data.synthetic.num_val", self.data.synthetic.num_val, 1, 50_000),
            ("sparsity.target", sparsity.target, 0, 0.95),
            ("sparsity.max_cost", sparsity.max_cost, 0, 1e15),
            ("sparsity.strength", sparsity.strength, 0, 1e6),
            ("sparsity.reg_ratio", sparsity.reg_ratio, 0, 1),
            ("sparsity.min_keep_ratio", sparsity.min_keep_ratio, 0, 1),
            ("sparsity.channel_multiple", sparsity.channel_multiple, 1, 1024),
            ("sparsity.begin", sparsity.begin, 0, 1),
            ("sparsity.end", sparsity.end, sparsity.begin, 1),
            ("fusion.registration_radius", self.fusion.registration_radius, 0, 8),
            ("alignment.strength", self.alignment.strength, 0, 1e6),
            ("alignment.target", self.alignment.target, 0, 1),
            ("alignment.begin", self.alignment.begin, 0, 1),
            ("alignment.end", self.alignment.end, 0, 1),
            ("distill_weight", self.distill_weight, 0, 1e6),
            ("episodes.subsets", episodes.subsets, 1, 1024),
            ("episodes.inner_steps", episodes.inner_steps, 0, 1000),
            ("episodes.inner_lr", episodes.inner_lr, 0, 1e3),
            ("episodes.support_grad_weight", episodes.support_grad_weight, 0, 1),
            ("episodes.query_fraction", episodes.query_fraction, 0, 0.9),
            ("episodes.strength_lr", episodes.strength_lr, 0, 10),
            ("lomt.seeds", self.lomt.seeds, 1, 1000),
            ("lomt.threshold", self.lomt.threshold, 0, 1),
            ("augment.mosaic", augment.mosaic, 0, 1),
            ("augment.mosaic_until", augment.mosaic_until, 0, 1),
            ("augment.mosaic_zoom", augment.mosaic_zoom, 0, 1),
            ("augment.rotate_deg", augment.rotate_deg, 0, 180),
            ("augment.translate", augment.translate, 0, 1),
            ("augment.scale", augment.scale, 0, 0.95),
            ("augment.brightness", augment.brightness, 0, 1),
            ("augment.contrast", augment.contrast, 0, 1),
            ("augment.saturation", augment.saturation, 0, 1),
            ("augment.hue", augment.hue, 0, 0.5),
            ("augment.modality_dropout", augment.modality_dropout, 0, 1),
            ("augment.max_misalignment", augment.max_misalignment, 0, 0.5),
            ("augment.max_misalignment_deg", augment.max_misalignment_deg, 0, 180),
        ):
            if not low <= value <= high:
                raise ValueError(f"{name}={value} is not between {low} and {high}")
        if episodes.query_fraction and self.data.balance_light:
            raise ValueError(
                "episodes.query_fraction and data.balance_light both say which pictures fill a batch: give one"
            )
        if augment.modality_dropout and not augment.modality_dropout_fill:
            raise ValueError(
                "augment.modality_dropout_fill names nothing that an absent camera shows: blank, noise or frozen"
            )
        for task in self.loss_weights:
            if task not in self.tasks:
                raise ValueError(f"loss_weights names '{task}'{nearest_hint(task, list(self.tasks))}")
        if sparsity.target and sparsity.max_cost:
            raise ValueError("sparsity.target and sparsity.max_cost both say how much is to go: give one")
        for task in self.head_taps:
            if task not in self.tasks:
                raise ValueError(f"head_taps names '{task}'{nearest_hint(task, list(self.tasks))}")
        if self.freeze and self.sparse:
            raise ValueError("freeze and sparsity together: a frozen part cannot lose channels")
        if self.method == "lomt" and (self.head_taps or self.sparsity.aimed):
            raise ValueError(
                "method=lomt finds the exits, by sparsity.strength: neither head_taps nor a target next to it"
            )
        if self.keep_sparsity and (self.sparse or not self.init_from):
            raise ValueError("keep_sparsity keeps the zeros of init_from=RUN: name it, and no sparsity beside it")
        learned = self.alignment.trainable
        if episodes.query_fraction and (self.method != "meta_sparsity" or (sparsity.aimed and not learned)):
            raise ValueError("episodes.query_fraction is for the strengths that meta_sparsity learns without a target")
        if learned and (self.method != "meta_sparsity" or self.alignment.target or not self.alignment.strength):
            raise ValueError(
                "alignment.trainable is for method=meta_sparsity, from alignment.strength on, without a target"
            )
        if self.task_weighting not in TASK_WEIGHTINGS:
            raise ValueError(
                f"task_weighting '{self.task_weighting}' is not known"
                f"{nearest_hint(self.task_weighting, list(TASK_WEIGHTINGS))}"
            )
        if not self.steps and not self.epochs:
            raise ValueError("steps and epochs are both 0: nothing to train")

    @property
    def sparse(self) -> bool:
        """Whether channels are made zero."""
        return self.sparsity.aimed or (self.method in ("sparse", "meta_sparsity") and self.sparsity.strength > 0)


def load(file: str | Path | None = None, words: tuple[str, ...] | list[str] = ()) -> Config:
    """Read a YAML file and ``key=value`` words (``sparsity.target=0.6``); raises `ConfigError` with what to do."""
    tree = read_yaml(Path(file), ConfigError) if file else {}
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{file}: holds no keys; write lines like 'epochs: 45'")
    for word in words:
        _set(tree, word)
    tree = renamed(tree, Path(file).name if file else "")
    _check_keys(tree, Config, "")
    try:
        return msgspec.convert(tree, Config)
    except (msgspec.ValidationError, RecursionError, OverflowError) as error:
        raise ConfigError(f"{file or 'configuration'}: {reason(error)}") from error


def save(config: Config, file: Path) -> None:
    """Write a configuration that `load` reads back."""
    file.write_text(yaml.safe_dump(msgspec.to_builtins(config), sort_keys=False))


def _set(tree: dict[str, Any], word: str) -> None:
    key, equals, text = word.partition("=")
    if not equals or not key:
        raise ConfigError(f"'{word}' is not key=value, like epochs=45 or sparsity.target=0.6")
    *path, last = key.split(".")
    for part in path:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"'{word}': {part} holds a value, not keys")
    try:
        tree[last] = parse_yaml(text)
    except ValueError as error:
        raise ConfigError(f"'{word}': the value cannot be read") from error
    if isinstance(tree[last], str):  # YAML reads 1e-3 as a word
        with contextlib.suppress(ValueError):
            tree[last] = float(tree[last])


def _check_keys(tree: Any, struct: Any, place: str) -> None:
    """Name the nearest right key for a wrong one, at every depth."""
    fields = {field.name: field.type for field in msgspec.structs.fields(struct)}
    for key, value in tree.items():
        if key not in fields:
            raise ConfigError(f"unknown key '{place}{key}'{nearest_hint(str(key), list(fields))}")
        kind = fields[key]
        if isinstance(value, dict) and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            _check_keys(value, kind, f"{place}{key}.")
