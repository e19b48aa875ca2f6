"""Renamed configuration keys: the older name is read for one version more, with a warning that names the new one."""

from __future__ import annotations

import logging
from typing import Any

from .errors import ConfigError

RENAMED = {
    "": {
        "batch": "batch_size",
        "clip": "grad_clip_norm",
        "ema": "ema_decay",
        "warmup": "warmup_steps",
        "save_s": "checkpoint_interval_s",
        "judgements": "num_evals",
        "weights": "loss_weights",
        "balance": "task_weighting",
        "cameras": "modalities",
        "size": "input_size",
        "threads": "num_threads",
        "solo": "unimodal_aux_loss",
        "distill": "distill_weight",
        "exits": "head_taps",
        "freeze_zeros": "keep_sparsity",
    },
    "data": {
        "train": "synthetic.num_train",
        "val": "synthetic.num_val",
        "workers": "num_workers",
        "hold_out": "val_fraction",
        "labels": "label_policy",
    },
    "augment": {
        "absent": "modality_dropout",
        "absent_as": "modality_dropout_fill",
        "offset": "max_misalignment",
        "offset_deg": "max_misalignment_deg",
    },
    "sparsity": {
        "of": "metric",
        "part": "scope",
        "pull": "reg_ratio",
        "keep": "min_keep_ratio",
        "multiple": "channel_multiple",
        "start": "begin",
        "deadline": "end",
        "levels": "granularity",
        "at_most": "max_cost",
    },
    "alignment": {"start": "begin", "deadline": "end", "learned": "trainable"},
    "fusion": {"at": "level", "register": "registration_radius"},
    "episodes": {"support": "support_grad_weight", "held": "query_fraction", "inner": "inner_optimizer"},
    "lomt": {"alive": "threshold"},
}
"""The keys of version 0.1 by section, and today's."""
RENAMED_VALUES = {"sparsity.metric": {"ms": "latency"}}
"""Values of version 0.1, and what they are called today."""


def renamed(tree: dict[str, Any], file: str = "") -> dict[str, Any]:
    """Return a configuration with today's keys; raises `ConfigError` where a key is given by both of its names."""
    renames: list[str] = []
    result = _section(tree, "", renames)
    for section in RENAMED:
        if section and isinstance(result.get(section), dict):
            result[section] = _section(result[section], f"{section}.", renames)
    sources = result.get("data", {}).get("source") if isinstance(result.get("data"), dict) else None
    if isinstance(sources, list):
        result["data"]["source"] = [
            {("label_policy" if key == "labels" else key): value for key, value in source.items()}
            if isinstance(source, dict)
            else source
            for source in sources
        ]
    if renames and not file.startswith("config."):  # the file of a run stays as it was written
        logging.getLogger(__name__).warning("renamed keys, read for one version more: %s", ", ".join(renames))
    return result


def _section(tree: dict[str, Any], prefix: str, renames: list[str]) -> dict[str, Any]:
    names = RENAMED[prefix.removesuffix(".")]
    result: dict[str, Any] = {}
    for key, value in tree.items():
        new = names.get(key, key)
        if new != key:
            renames.append(f"{prefix}{key} -> {prefix}{new}")
        *path, last = new.split(".")
        if isinstance(value, str) and value in (values := RENAMED_VALUES.get(f"{prefix}{new}", {})):
            renames.append(f"{prefix}{new}={value} -> {prefix}{new}={values[value]}")
            value = values[value]
        section = result
        for part in path:
            section = section.setdefault(part, {})
        if last in section or (new != key and new in tree):
            raise ConfigError(f"{prefix}{key} is {prefix}{new} now, and both are given: leave out {prefix}{key}")
        if isinstance(section.get(last), dict) and isinstance(value, dict):
            value = section[last] | value
        section[last] = value
    return result
