"""Networks of `edgemtl_models`, with the backbones and heads that plugins add."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import edgemtl_models
from edgemtl_models import MultiTask
from edgemtl_models.custom_backbone import custom
from edgemtl_models.head_kinds import BACKBONES, HEAD_KINDS, HeadKind, Parts

from . import plugins
from .errors import ConfigError
from .tasks import TASKS


def build(network: str | dict[str, Any], channels: dict[str, int], size: tuple[int, int], **options: Any) -> MultiTask:
    """Build a network as `edgemtl_models.build` does; heads that its description lacks are the tasks' default ones."""
    return edgemtl_models.build(network, channels, size, parts=_parts(channels), **options)


def reads_finest(network: MultiTask, head: str) -> bool:
    """Whether a head reads the features at stride 4."""
    kind: str = network.description["heads"][head]["kind"]
    return _parts([head]).head_kinds[kind].reads_finest


def _parts(heads: Iterable[str]) -> Parts:
    for table, added, kind in ((BACKBONES, plugins.BACKBONES, "backbone"), (HEAD_KINDS, plugins.HEADS, "head")):
        if taken := sorted(table.keys() & set(added)):
            raise ConfigError(f"there is a {kind} '{taken[0]}' already; choose another name in the plugin")
    return Parts(
        {**BACKBONES, **{name: custom(backbone, name) for name, backbone in plugins.BACKBONES.items()}},
        {**HEAD_KINDS, **{name: HeadKind(head.build, **head.options) for name, head in plugins.HEADS.items()}},
        {name: TASKS[name].default_head for name in heads if name in TASKS},
    )
