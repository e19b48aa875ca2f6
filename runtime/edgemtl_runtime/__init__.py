"""Run an edgemtl bundle live on paired colour and thermal cameras, without torch.

`Bundle`, `Pipeline`, `open_best` and `open_cameras` are here by their first names; each is imported when it is first
asked for, so that a program pays for what it uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .bundle import Bundle as Bundle
    from .camera import open_cameras as open_cameras
    from .engine.chosen import open_best as open_best
    from .pipeline import Pipeline as Pipeline

_HOMES = {"Bundle": "bundle", "Pipeline": "pipeline", "open_best": "engine.chosen", "open_cameras": "camera"}
__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
