"""Which keys of a configuration are used with which others: one that is given and not used is rejected by name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import msgspec

from .config import Config
from .errors import ConfigError


class Use(NamedTuple):
    """When a key, or each key of a section, is used, as a condition and in words."""

    key: str
    condition: Callable[[Config], Any]
    words: str


def _one_modality(config: Config) -> bool:
    return len(config.modalities) == 1


def _episodic(config: Config) -> bool:
    return config.method in ("mtml", "meta_sparsity")


def _sparse(config: Config) -> bool:
    return config.sparse or (config.method == "lomt" and config.sparsity.strength > 0)


METHODS_OF_STRENGTH = ("sparse", "meta_sparsity", "lomt")
USES = (
    Use(
        "sparsity.strength",
        lambda c: c.sparsity.strength == 0 or (c.method in METHODS_OF_STRENGTH and not c.sparsity.aimed),
        "method=sparse, meta_sparsity or lomt, without sparsity.target and max_cost",
    ),
    Use(
        "sparsity.scope",
        lambda c: (c.sparse or c.keep_sparsity) and c.method != "lomt",
        "sparsity, and method=lomt has its own",
    ),
    Use(
        "sparsity.groups",
        lambda c: (c.sparse or c.keep_sparsity) and c.method != "lomt",
        "sparsity, and method=lomt has its own",
    ),
    Use(
        "sparsity.min_keep_ratio",
        lambda c: c.sparse and c.method != "lomt",
        "sparsity, and method=lomt keeps no share",
    ),
    Use("sparsity.reg_ratio", lambda c: c.sparsity.aimed, "sparsity.target or max_cost"),
    Use("sparsity.end", lambda c: c.sparsity.aimed, "sparsity.target or max_cost"),
    Use(
        "sparsity.channel_multiple",
        lambda c: c.sparsity.aimed and c.sparsity.groups == "coupled",
        "sparsity.target or max_cost, and sparsity.groups=coupled",
    ),
    Use("sparsity.refit", lambda c: c.sparsity.aimed, "sparsity.target or max_cost"),
    Use("sparsity.importance", lambda c: c.sparsity.aimed, "sparsity.target or max_cost"),
    Use("sparsity.costs", lambda c: c.sparsity.metric == "latency", "sparsity.metric=latency"),
    Use("sparsity.engine", lambda c: c.sparsity.metric == "latency", "sparsity.metric=latency"),
    Use("sparsity.granularity", lambda c: c.method == "meta_sparsity", "method=meta_sparsity"),
    Use("sparsity.target", lambda _: True, ""),
    Use("sparsity.max_cost", lambda _: True, ""),
    Use("sparsity", _sparse, "method=sparse, meta_sparsity or lomt, or with sparsity.target or max_cost"),
    Use("fusion.kind", lambda c: not _one_modality(c), "several modalities"),
    Use("fusion.level", lambda c: c.fusion.kind == "mid", "fusion.kind=mid"),
    Use("fusion", lambda c: c.fusion.kind == "aligned", "fusion.kind=aligned"),
    Use("alignment.strength", lambda _: True, ""),
    Use("alignment.target", lambda _: True, ""),
    Use("alignment.trainable", lambda _: True, ""),
    Use("alignment.end", lambda c: c.alignment.target, "alignment.target"),
    Use("alignment", lambda c: c.alignment.strength or c.alignment.target, "alignment.strength or target"),
    Use("teacher_weight", lambda c: c.teacher, "teacher"),
    Use("distill_weight", lambda c: c.teachers, "teachers"),
    Use("episodes.strength_lr", lambda c: c.method == "meta_sparsity", "method=meta_sparsity"),
    Use(
        "episodes.support_grad_weight",
        lambda c: _episodic(c) and c.episodes.inner_steps and not c.episodes.query_fraction,
        "method=mtml or meta_sparsity, with inner_steps and without query_fraction",
    ),
    Use("episodes.subsets", _episodic, "method=mtml or meta_sparsity"),
    Use("episodes.inner_steps", _episodic, "method=mtml or meta_sparsity"),
    Use("episodes", lambda c: _episodic(c) and c.episodes.inner_steps, "method=mtml or meta_sparsity, and inner_steps"),
    Use("lomt", lambda c: c.method == "lomt", "method=lomt"),
    Use("data.synthetic", lambda c: c.data.source == "streets", "data.source=streets"),
    Use(
        "data.label_policy",
        lambda c: isinstance(c.data.source, str) and c.data.source != "streets",
        "one folder as data.source; of several each has its own",
    ),
    Use("data.val_fraction", lambda c: c.data.source != "streets", "a folder as data.source"),
    Use("augment.mosaic_zoom", lambda c: c.augment.mosaic, "augment.mosaic"),
    Use("augment.mosaic_until", lambda c: c.augment.mosaic, "augment.mosaic"),
    Use("augment.modality_dropout_fill", lambda c: c.augment.modality_dropout, "augment.modality_dropout"),
    Use("augment.modality_dropout", lambda c: not _one_modality(c), "several modalities"),
    Use("augment.max_misalignment", lambda c: not _one_modality(c), "several modalities"),
    Use("augment.max_misalignment_deg", lambda c: not _one_modality(c), "several modalities"),
    Use("thermal_range", lambda c: c.modalities != ("rgb",), "other modalities than rgb"),
)
"""A key's first entry counts, its own or that of its section; keys without one are always used."""


def check_used(config: Config, given: Collection[str] | None = None) -> None:
    """Raise `ConfigError` with each key that has another value than its default and is not used.

    ``given`` limits that to these keys, like "episodes.subsets".
    """
    unused: dict[str, list[str]] = {}
    for key, value in changed_keys(config, Config()):
        use = next((use for use in USES if key == use.key or key.startswith(f"{use.key}.")), None)
        if use and not use.condition(config) and (given is None or _covers(given, key)):
            unused.setdefault(use.words, []).append(f"{key}={_text(value)}")
    if unused:
        reasons = [f"{' '.join(keys)} is not used: it is for {words}" for words, keys in unused.items()]
        raise ConfigError(f"{'; '.join(reasons)}; here method={config.method}: leave it out, or give what uses it")


def changed_keys(section: msgspec.Struct, default: msgspec.Struct, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the keys, like "episodes.subsets", whose values are not the defaults, with their values."""
    for name in section.__struct_fields__:
        value, usual = getattr(section, name), getattr(default, name)
        if isinstance(value, msgspec.Struct):
            yield from changed_keys(value, usual, f"{prefix}{name}.")
        elif value != usual:
            yield f"{prefix}{name}", value


def _covers(given: Collection[str], key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in given)


def _text(value: Any) -> str:
    text = str(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."
