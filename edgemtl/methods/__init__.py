"""Training methods, and the regularisers of a training step, by name: a line each here, or added by a plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import Registry

if TYPE_CHECKING:
    from .joint import Joint
    from .regularizers import Build

METHODS: Registry[type[Joint]] = Registry(
    "method",
    {
        "joint": f"{__name__}.joint:Joint",
        "single": f"{__name__}.joint:Joint",
        "sparse": f"{__name__}.joint:Joint",
        "mtml": f"{__name__}.mtml:MTML",
        "meta_sparsity": f"{__name__}.meta_sparsity:MetaSparsity",
    },
)
EXPERIMENTS = ("lomt",)
"""Methods that are several trainings (`edgemtl.experiments`)."""
REGULARIZERS: Registry[Build] = Registry(
    "regulariser",
    {"sparsity": f"{__name__}.regularizers:sparsity", "alignment": f"{__name__}.regularizers:alignment"},
)
"""Applied in this order."""
