"""The configuration of a training: its keys, their defaults, bounds and meaning.

`config_file` reads it from YAML and ``key=value`` words, and writes the starter and the JSON Schema from what stands
here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edgemtl_runtime.bundle import ThermalRange

from .config_bounds import about, check_bounds, fields_of

LabelPolicy = Literal["fused", "rgb", "ir", "union"]
Modality = Literal["", "rgb", "ir"]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Strength = Annotated[float, Meta(ge=0, le=1e6)]
LossWeight = Annotated[float, Meta(ge=0, le=1e38)]
SideLength = Annotated[int, Meta(ge=32, le=8192)]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Keys that belong together; a value outside of its bounds raises ValueError."""

    def __post_init__(self) -> None:
        for name, type_ in fields_of(type(self)).items():
            check_bounds(name, getattr(self, name), type_)


class Source(Section, frozen=True):
    """One of several datasets that are trained on together."""

    source: str
    label_policy: LabelPolicy = "fused"
    modality: Modality = ""
    tasks: tuple[str, ...] = ()
    """The tasks whose labels are taken from here; all that there are where none is named."""

    def gives(self, task: str) -> bool:
        """Whether labels of a task are taken from here, as far as the configuration knows."""
        return not self.tasks or task in self.tasks


class Synthetic(Section, frozen=True):
    """Drawn streets, of ``data.source: streets``."""

    num_train: Annotated[int, about("drawn images to train on", 1, 500_000)] = 1200
    num_val: Annotated[int, about("drawn images to evaluate on", 1, 50_000)] = 200


class Data(Section, frozen=True):
    """Where the images and labels come from."""

    source: Annotated[
        str | tuple[Source, ...],
        about("streets (drawn), a folder or its data.yaml, or a list of {source, label_policy, modality, tasks}"),
    ] = "streets"
    label_policy: Annotated[
        LabelPolicy, about("whose boxes count where each camera has its own: fused, rgb, ir, union")
    ] = "fused"
    modality: Annotated[
        Modality, about("what a single camera sees: rgb or ir; empty: rgb, or ir where it has 16-bit counts")
    ] = ""
    val_fraction: Annotated[
        float, about("share of the training images, the last ones, to evaluate on in place of val, then test", 0, 0.9)
    ] = 0.0
    balance_light: Annotated[bool, about("half of every batch by day and half by night (attributes.csv)")] = False
    cache_mb: Annotated[int, about("memory for decoded images; what does not fit is read again", 0, 10**7)] = 4000
    num_workers: Annotated[
        int, about("processes that prepare batches; 0: a thread; -1: a thread, or with a GPU one a core", -1, 1024)
    ] = -1
    synthetic: Synthetic = Synthetic()

    @property
    def sources(self) -> tuple[Source, ...]:
        """The datasets, one or several."""
        return (Source(self.source, self.label_policy, self.modality),) if isinstance(self.source, str) else self.source


class Augment(Section, frozen=True):
    """Augmentation: geometry acts on all views and the labels alike, colour jitter on each view by itself."""

    mosaic: Annotated[Fraction, about("share of training samples that are put together from four")] = 0.5
    mosaic_zoom: Annotated[Fraction, about("a mosaic's window is up to 1 + this many images wide")] = 1.0
    mosaic_until: Annotated[Fraction, about("share of the training after which mosaics stop")] = 0.8
    flip: Annotated[bool, about("mirror half of the samples left to right")] = True
    rotate_deg: Annotated[float, about("rotate by up to so much, either way", 0, 180)] = 0.0
    translate: Annotated[Fraction, about("shift by up to this share of the size")] = 0.1
    scale: Annotated[float, about("scale by up to 1 +- this", 0, 0.95)] = 0.3
    brightness: Annotated[Fraction, about("largest change, as a share of it")] = 0.4
    contrast: Annotated[Fraction, about("largest change, as a share of it")] = 0.4
    saturation: Annotated[Fraction, about("largest change, as a share of it")] = 0.5
    hue: Annotated[float, about("largest shift of the hue, of a whole turn", 0, 0.5)] = 0.02
    modality_dropout: Annotated[
        Fraction, about("share of samples of which one modality is missing; the bundle then can do without any one")
    ] = 0.0
    modality_dropout_fill: Annotated[
        tuple[Literal["blank", "noise", "frozen"], ...],
        about("what a missing modality shows: the blank frame, noise, or another sample's image"),
    ] = ("blank", "noise", "frozen")
    max_misalignment: Annotated[
        float, about("all modalities but the first are shifted by up to this share of the width", 0, 0.5)
    ] = 0.0
    max_misalignment_deg: Annotated[float, about("and rotated by up to so much", 0, 180)] = 0.0


class Sparsity(Section, frozen=True):
    """Group lasso of a fixed strength, or on a schedule to a target (`edgemtl_export.sparsity`)."""

    target: Annotated[float, about("share of the metric to prune; 0, and max_cost 0: no target", 0, 0.95)] = 0.0
    max_cost: Annotated[float, about("or how much of the metric may stay, in its own unit", 0, 1e15)] = 0.0
    metric: Annotated[
        Literal["parameters", "flops", "latency"], about("parameters, flops, or latency (ms, measured of all)")
    ] = "parameters"
    costs: Annotated[str, about("of a latency: costs.json of edgemtl-runtime profile; empty: measured here")] = ""
    engine: Annotated[
        str, about("of a latency: BACKEND/PRECISION/THREADS, like tensorrt/fp16; empty: as costs say, or ONNX Runtime")
    ] = ""
    scope: Annotated[str, about("what is pruned and counted: all, or a part of the network like trunk")] = "all"
    importance: Annotated[
        Literal["auto", "taylor", "fisher", "magnitude", "activation"],
        about("what is pruned first: by the loss (taylor), by outputs (fisher), ...; auto: the best of some trials"),
    ] = "taylor"
    refit: Annotated[bool, about("with a target: what reads pruned channels is fitted anew, by least squares")] = False
    groups: Annotated[
        Literal["coupled", "input", "output"],
        about("coupled: whole channels; output: filters; input: what one convolution reads of a channel"),
    ] = "coupled"
    strength: Annotated[Strength, about("the group lasso's lambda where there is no target; 0: dense")] = 1e-4
    reg_ratio: Annotated[
        Fraction, about("with a target: lambda, as a share of that which would zero as many groups by itself")
    ] = 0.1
    begin: Annotated[Fraction, about("share of the training before the sparsity schedule begins")] = 0.1
    end: Annotated[Fraction, about("share of the training by which the target is met, the least important first")] = 0.4
    min_keep_ratio: Annotated[Fraction, about("at least this share of every layer's groups is kept")] = 0.2
    channel_multiple: Annotated[
        int,
        about("with a target: layers keep a multiple of so many channels; 0: 8, or the device's own", 0, 1024),
    ] = 0
    granularity: Annotated[
        Literal["global", "stage", "layer"],
        about("what has a strength of its own: global, stage (the layers of one resolution), layer"),
    ] = "global"

    @property
    def aimed(self) -> bool:
        """Whether there is a target."""
        return bool(self.target or self.max_cost)


class Fusion(Section, frozen=True):
    """How the modalities' streams are fused; where nothing is given, as the network's description has it."""

    kind: Annotated[
        Literal["", "concat", "early", "mid", "aligned"],
        about("concat, early, mid or aligned (docs/cameras.md); empty: as the network has it"),
    ] = ""
    level: Annotated[Literal["p2", "p3", "p4"], about("of mid: where the streams are fused, at stride 4, 8 or 16")] = (
        "p3"
    )
    fuse_at: Annotated[
        tuple[str, ...], about("of aligned: the levels that are fused, like [p3, p4, p5]; empty: those the heads read")
    ] = ()
    align: Annotated[
        tuple[str, str], about("of aligned: the first and last part that can share weights: stage2 to stage4, neck")
    ] = ("stage3", "neck")
    registration_radius: Annotated[
        int,
        about("of aligned: cells of stride 8 over which the others are registered to the first; 0: not", 0, 8),
    ] = 0


class Alignment(Section, frozen=True):
    """How the weights of aligned streams are pulled together until they are shared (`methods.alignment`)."""

    strength: Annotated[Strength, about("of the penalty on differences; 0 unties all, 1 nothing")] = 0.0
    target: Annotated[Fraction, about("share of the weights to store once; the rest is untied")] = 0.0
    kind: Annotated[
        Literal["difference", "squared"], about("difference: channels become equal; squared: they come near")
    ] = "difference"
    trainable: Annotated[bool, about("whether meta_sparsity trains a strength a stage, from strength on")] = False
    begin: Annotated[Fraction, about("share of the training before the first step")] = 0.0
    end: Annotated[Fraction, about("share of the training by which the target is met")] = 0.6


class Episodes(Section, frozen=True):
    """Episodes of mtml and meta_sparsity: inner steps on one half of a batch, evaluated on the other."""

    subsets: Annotated[int, about("subsets of the tasks a step; 1 draws one and skips the rest", 1, 1024)] = 1
    inner_steps: Annotated[int, about("of the adaptation to a task, within one meta step", 0, 1000)] = 1
    inner_optimizer: Annotated[Literal["adamw", "sgd"], about("the metric of inner steps: adamw or sgd")] = "adamw"
    inner_lr: Annotated[float, about("learning rate of the adaptation", 0, 1e3)] = 1e-3
    second_order: Annotated[bool, about("whether the outer gradient goes through the inner steps")] = False
    support_grad_weight: Annotated[
        Fraction, about("share of the gradient that is the weights' own on the support; the rest: adapted weights'")
    ] = 0.5
    query_fraction: Annotated[
        float, about("share of the training images that train strengths alone; meta_sparsity without a target", 0, 0.9)
    ] = 0.0
    strength_lr: Annotated[float, about("of the logarithms of the strengths, by Adam", 0, 10)] = 0.02


class Lomt(Section, frozen=True):
    """Layer-optimised multi-task: how the depth that each task needs is found."""

    seeds: Annotated[int, about("single-task sparse networks a task", 1, 1000)] = 2
    threshold: Annotated[Fraction, about("share of active groups, mean over seeds, above which a layer is needed")] = (
        0.01
    )


class Config(Section, frozen=True):
    """One training."""

    network: Annotated[str, about("one of the zoo, like rgbir-lite0, or a YAML file (docs/extending.md)")] = "rgbir-n"
    modalities: Annotated[tuple[str, ...], about("streams of the network to build, like [rgb]; empty: all")] = ()
    head_taps: Annotated[
        dict[str, str],
        about("the block of the backbones that a head reads, like {edges: stage8}; there is no pyramid then"),
    ] = {}
    init_from: Annotated[str, about("a run, or a .safetensors file, whose tensors are loaded by meaning")] = ""
    keep_sparsity: Annotated[bool, about("whether channels that are zero in init_from stay zero")] = False
    freeze: Annotated[tuple[str, ...], about("parts that are not trained, like [trunk] or [heads.depth]")] = ()
    fusion: Fusion = Fusion()
    activation: Annotated[
        Literal["", "silu", "relu"],
        about("of our own blocks: silu, or relu, which costs no time of its own; empty: as the network has it"),
    ] = ""
    input_size: Annotated[
        tuple[SideLength, SideLength], about("height and width of the network's input; multiples of 32")
    ] = (128, 160)
    data: Data = Data()
    method: Annotated[
        str, about("joint, sparse, lomt, mtml or meta_sparsity (docs/methods.md); single: one network for each task")
    ] = "joint"
    tasks: Annotated[
        tuple[str, ...], about("heads to train, of boxes, semantic, depth, normals, edges, attributes")
    ] = ("boxes", "semantic")
    task_weighting: Annotated[
        str, about("equal, uncertainty, dwa, famo, pcgrad, upgrad, mgda, cagrad, aligned-mtl")
    ] = "equal"
    loss_weights: Annotated[dict[str, LossWeight], about("of the tasks' losses, like {boxes: 0.5}; 1 where none")] = {}
    steps: Annotated[int, about("optimiser steps; 0 takes the epochs", 0, 10**9)] = 0
    epochs: Annotated[float, about("passes over the training images, where steps is 0", 0, 10**6)] = 20
    batch_size: Annotated[int, about("images, or pairs, of a step", 1, 10**5)] = 16
    lr: Annotated[float, about("learning rate at its peak; it falls along a half cosine", 1e-9, 10)] = 2e-3
    warmup_steps: Annotated[int, about("steps over which the learning rate rises", 0, 10**6)] = 40
    weight_decay: Annotated[float, about("of weights with more than one dimension", 0, 10)] = 0.01
    grad_clip_norm: Annotated[float, about("largest norm of the gradient", 1e-6, 1e9)] = 10.0
    ema_decay: Annotated[float, about("a step, of the averaged weights, which are the ones kept", 0, 0.999999)] = 0.998
    sparsity: Sparsity = Sparsity()
    alignment: Alignment = Alignment()
    unimodal_aux_loss: Annotated[
        bool, about("whether aligned or concatenated streams are trained on the tasks alone too")
    ] = False
    teachers: Annotated[
        dict[str, str], about("of aligned streams: a run of one modality each, like {ir: runs/ir}, to distill from")
    ] = {}
    distill_weight: Annotated[float, about("weight of the distillation loss", 0, 1e6)] = 1.0
    teacher: Annotated[
        str, about("a run of the same heads and input size, such as the dense one: what it answers is learned too")
    ] = ""
    teacher_weight: Annotated[float, about("weight of what the teacher answers, next to the labels", 0, 1e6)] = 1.0
    episodes: Episodes = Episodes()
    lomt: Lomt = Lomt()
    augment: Augment = Augment()
    thermal_range: ThermalRange = ThermalRange()
    precision: Annotated[
        Literal["auto", "fp32", "bf16"], about("fp32, bf16, or auto: bf16 where the hardware has matrix units for it")
    ] = "auto"
    num_evals: Annotated[int, about("evaluations on val, evenly over the training", 1, 10**6)] = 1
    checkpoint_interval_s: Annotated[
        float, about("seconds between two checkpoints, from which --resume goes on", 0, 10**6)
    ] = 60.0
    tensorboard: Annotated[str, about("folder for TensorBoard to show while the training runs; empty: none")] = ""
    num_threads: Annotated[int, about("processor threads; 0: torch's own choice", 0, 1024)] = 0
    seed: Annotated[int, about("of weights, batches, augmentation and drawn images", 0, 10**9)] = 0
    plugins: Annotated[
        tuple[str, ...], about("files of code that add tasks, backbones, formats, methods (docs/extending.md)")
    ] = ()
    options: Annotated[dict[str, Any], about("settings of what plugins add, which read them by their names")] = {}

    def __post_init__(self) -> None:
        super().__post_init__()
        for reason in _contradictions(self):
            raise ValueError(reason)

    @property
    def removes(self) -> bool:
        """Whether the network that is exported is smaller than the one that is trained."""
        return self.sparse or self.keep_sparsity or bool(self.alignment.target or self.alignment.strength)

    @property
    def sparse(self) -> bool:
        """Whether channels are pruned."""
        return self.sparsity.aimed or (self.method in ("sparse", "meta_sparsity") and self.sparsity.strength > 0)


def _contradictions(config: Config) -> list[str]:
    """Return in words which keys contradict each other."""
    sparsity, alignment, episodes = config.sparsity, config.alignment, config.episodes
    rules = (
        (not config.steps and not config.epochs, "steps and epochs are both 0: nothing to train"),
        (
            config.tasks and not any(config.loss_weights.get(task, 1) for task in config.tasks),
            "loss_weights are 0 of all tasks: nothing to train",
        ),
        (sparsity.begin > sparsity.end, f"sparsity.end={sparsity.end} is before sparsity.begin={sparsity.begin}"),
        (alignment.begin > alignment.end, f"alignment.end={alignment.end} is before alignment.begin={alignment.begin}"),
        (
            episodes.query_fraction and config.data.balance_light,
            "episodes.query_fraction and data.balance_light both choose the images of a batch: give one",
        ),
        (
            config.augment.modality_dropout and not config.augment.modality_dropout_fill,
            "augment.modality_dropout_fill names nothing that a missing modality shows: blank, noise or frozen",
        ),
        (
            sparsity.target and sparsity.max_cost,
            "sparsity.target and sparsity.max_cost both set how much is pruned: give one",
        ),
        (
            config.teacher and (config.unimodal_aux_loss or config.method in ("lomt", "mtml", "meta_sparsity")),
            "teacher is for method=joint, sparse or single, without unimodal_aux_loss",
        ),
        (config.freeze and config.sparse, "freeze and sparsity together: a frozen part cannot lose channels"),
        (
            config.method == "lomt" and (config.head_taps or sparsity.aimed),
            "method=lomt finds the head taps, by sparsity.strength: give neither head_taps nor a target",
        ),
        (
            config.keep_sparsity and (config.sparse or not config.init_from),
            "keep_sparsity keeps the zeros of init_from=RUN: name it, and give no sparsity",
        ),
        (
            episodes.query_fraction
            and (config.method != "meta_sparsity" or (sparsity.aimed and not alignment.trainable)),
            "episodes.query_fraction is for the strengths that meta_sparsity trains without a target",
        ),
        (
            alignment.trainable and (config.method != "meta_sparsity" or alignment.target or not alignment.strength),
            "alignment.trainable is for method=meta_sparsity, from alignment.strength on, without a target",
        ),
    )
    return [reason for broken, reason in rules if broken]
