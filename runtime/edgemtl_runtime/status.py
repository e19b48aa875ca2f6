"""Status of a running pipeline: every camera's state, the statistics, the latest warnings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from .drift import DriftValue
from .renamed_names import warn_renamed
from .stats import StatsReport

CameraStatus = Mapping[str, Any]
"""A camera's state, as its `Health` reports it."""


class Status(msgspec.Struct, frozen=True):
    """Status of a `Pipeline` at one time; ``last_result_age_ms`` is None before the first result.

    ``bundle`` is the folder's name, ``drift`` by quantity (`edgemtl_runtime.drift`), ``missing`` by input the share of
    the latest pairs without its camera, ``misalignment_px`` how far registered images are from one another.
    """

    running: bool
    cameras: dict[str, CameraStatus]
    stats: StatsReport
    last_result_age_ms: float | None
    warnings: list[str]
    bundle: str = ""
    drift: dict[str, DriftValue] = {}
    missing: dict[str, float] = {}
    misalignment_px: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return one object for JSON."""
        return {**msgspec.to_builtins(self), "stats": self.stats.to_dict()}

    def __getitem__(self, key: str) -> Any:
        """Return an entry of `to_dict`: deprecated, read the attribute."""
        warn_renamed(f'status()["{key}"]', f"status().{key}")
        return self.to_dict()[key]


def as_dict(status: Status | Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a status as one object for JSON."""
    return status.to_dict() if isinstance(status, Status) else status
