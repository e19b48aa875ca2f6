"""The configuration of a training: read from YAML and ``key=value`` words, checked before anything is computed."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from edgemtl_runtime.bundle import ThermalRange

from .errors import ConfigError, nearest_hint
from .methods.balance import BALANCES

Policy = Literal["fused", "rgb", "ir", "union"]


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of several data sets that are trained on together."""

    source: str
    labels: Policy = "fused"
    tasks: tuple[str, ...] = ()
    """The tasks whose labels are taken from here; all that there are where none is named."""

    def gives(self, task: str) -> bool:
        """Whether labels of a task are taken from here, as far as the configuration knows."""
        return not self.tasks or task in self.tasks


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the pictures come from: ``source`` is "streets" (drawn), a folder, its data.yaml, or a list of sources."""

    source: str | tuple[Source, ...] = "streets"
    labels: Policy = "fused"
    hold_out: float = 0.0
    """Share of the training pictures, each set's last ones, that are judged in place of "val", which becomes "test":
    choose on them, and report "val" later."""
    cache_mb: int = 4000
    """Memory for decoded pictures; what does not fit is read again each time."""
    workers: int = -1
    """Processes that prepare batches; 0: a thread; -1: a thread, or with a GPU one process a core, up to eight."""
    train: int = 1200
    """Drawn streets to train on."""
    val: int = 200
    """Drawn streets to judge on."""

    @property
    def sources(self) -> tuple[Source, ...]:
        """The data sets, one or several."""
        return (Source(self.source, self.labels),) if isinstance(self.source, str) else self.source


class Augment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Geometry, the same for both views and the boxes; and light, for each view by itself."""

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


class Sparsity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Group lasso towards a share of the parameters gone; at the target the pattern is frozen."""

    target: float = 0.0
    """Share of the parameters to remove; 0 trains a dense network."""
    strength: float = 0.05
    """The group lasso's: mild, so that it tells channels apart without crushing the live ones."""
    start: float = 0.1
    """Share of the training before the first step towards zero."""
    deadline: float = 0.4
    """Share of the training by which the target is met, the weakest channels first."""
    keep: float = 0.2
    """At least this share of every layer's channels stays."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One training."""

    network: str = "rgbir-n"
    init_from: str = ""
    """A run whose weights are taken over where they fit."""
    freeze: tuple[str, ...] = ()
    """Parts of the network that are not learned, like trunk or heads.depth."""
    cameras: tuple[str, ...] = ()
    """Streams of the network to build, like [rgb]; all where none is named."""
    size: tuple[int, int] = (128, 160)
    """Height and width of the network's input, pixels."""
    data: Data = Data()
    method: Literal["joint", "single"] = "joint"
    """"joint": one network for all tasks; "single": one for each by itself, the reference of Δm."""
    tasks: tuple[str, ...] = ("boxes", "semantic")
    """Heads to train; one that the data have no labels for is left out."""
    steps: int = 0
    """Optimiser steps; 0 takes ``epochs``."""
    epochs: float = 20
    batch: int = 16
    lr: float = 2e-3
    weight_decay: float = 0.01
    warmup: int = 40
    """Steps over which the learning rate rises."""
    clip: float = 10.0
    """Largest norm of the gradient."""
    ema: float = 0.998
    """Decay a step of the averaged weights, which are the ones judged and kept."""
    balance: str = "equal"
    """How the tasks share a step, as `methods.balance` lists them."""
    weights: dict[str, float] = {}
    """Weight of each task's loss; 1 where nothing is said."""
    augment: Augment = Augment()
    sparsity: Sparsity = Sparsity()
    thermal_range: ThermalRange = ThermalRange()
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """"auto" computes in bf16 where the processor has matrix units for it (AMX, or a GPU's)."""
    save_s: float = 60.0
    """Seconds between two savings of the state that ``--resume`` goes on from."""
    tensorboard: str = ""
    """A folder to show the training in on TensorBoard while it runs; nothing where none is named."""
    threads: int = 0
    """Processor threads; 0 leaves torch's own choice."""
    seed: int = 0

    def __post_init__(self) -> None:
        sparsity, augment = self.sparsity, self.augment
        for name, value, low, high in (
            ("height of size", self.size[0], 32, 8192),
            ("width of size", self.size[1], 32, 8192),
            ("steps", self.steps, 0, 10**9),
            ("epochs", self.epochs, 0, 10**6),
            ("batch", self.batch, 1, 10**5),
            ("lr", self.lr, 1e-9, 10),
            ("weight_decay", self.weight_decay, 0, 10),
            ("warmup", self.warmup, 0, 10**6),
            ("clip", self.clip, 1e-6, 1e9),
            ("ema", self.ema, 0, 0.999999),
            ("save_s", self.save_s, 0, 10**6),
            ("threads", self.threads, 0, 1024),
            ("seed", self.seed, 0, 10**9),
            ("data.hold_out", self.data.hold_out, 0, 0.9),
            ("data.cache_mb", self.data.cache_mb, 0, 10**7),
            ("data.workers", self.data.workers, -1, 1024),
            ("data.train", self.data.train, 1, 500_000),
            ("data.val", self.data.val, 1, 50_000),
            ("sparsity.target", sparsity.target, 0, 0.95),
            ("sparsity.strength", sparsity.strength, 0, 1000),
            ("sparsity.keep", sparsity.keep, 0, 1),
            ("sparsity.start", sparsity.start, 0, 1),
            ("sparsity.deadline", sparsity.deadline, sparsity.start, 1),
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
        ):
            if not low <= value <= high:
                raise ValueError(f"{name}={value} is not between {low} and {high}")
        for task in self.weights:
            if task not in self.tasks:
                raise ValueError(f"weights names '{task}'{nearest_hint(task, list(self.tasks))}")
        if self.freeze and sparsity.target:
            raise ValueError("freeze and sparsity.target together: a frozen part cannot lose channels")
        if self.balance not in BALANCES:
            raise ValueError(f"balance '{self.balance}' is not known{nearest_hint(self.balance, list(BALANCES))}")
        if not self.steps and not self.epochs:
            raise ValueError("steps and epochs are both 0: nothing to train")


def load(file: str | Path | None = None, words: tuple[str, ...] | list[str] = ()) -> Config:
    """Read a YAML file and ``key=value`` words (``sparsity.target=0.6``); raises `ConfigError` with what to do."""
    try:
        tree = yaml.safe_load(Path(file).read_text()) if file else {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{file}: {' '.join(str(error).split())}") from error
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{file}: holds no keys; write lines like 'epochs: 45'")
    for word in words:
        _set(tree, word)
    _check_keys(tree, Config, "")
    try:
        return msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{file or 'configuration'}: {error}") from error


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
        tree[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
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
