"""Run an edgemtl bundle live on paired colour and thermal cameras, without torch.

What a program of one's own needs is here by its first name; each is imported when it is first asked for, so that a
program pays for what it uses.
"""

from __future__ import annotations

TYPE_CHECKING = False
"""As `typing` has it, which takes longer to import than all else here."""
if TYPE_CHECKING:
    from .bundle import Bundle as Bundle
    from .camera import Camera as Camera
    from .camera import open_camera as open_camera
    from .camera import open_cameras as open_cameras
    from .camera_state import Event as Event
    from .engine import Engine as Engine
    from .engine.config import Way as Way
    from .engine.config import open_way as open_way
    from .engine.selection import open_best as open_best
    from .errors import BundleError as BundleError
    from .errors import CameraError as CameraError
    from .errors import EdgemtlError as EdgemtlError
    from .errors import EngineError as EngineError
    from .errors import UsageError as UsageError
    from .frame import Frame as Frame
    from .frame import FramePair as FramePair
    from .pipeline import Pipeline as Pipeline
    from .policy import Policy as Policy
    from .recording import Recorder as Recorder
    from .recording import Recording as Recording
    from .result import Attributes as Attributes
    from .result import Boxes as Boxes
    from .result import DepthMap as DepthMap
    from .result import EdgeMap as EdgeMap
    from .result import HeadResult as HeadResult
    from .result import LabelMap as LabelMap
    from .result import NormalMap as NormalMap
    from .result import Result as Result
    from .rig import Rig as Rig
    from .sink import Sink as Sink
    from .stats import Stats as Stats

_NAMES = {
    "bundle": ("Bundle",),
    "camera": ("Camera", "open_camera", "open_cameras"),
    "engine": ("Engine",),
    "engine.selection": ("open_best",),
    "engine.config": ("Way", "open_way"),
    "errors": ("BundleError", "CameraError", "EdgemtlError", "EngineError", "UsageError"),
    "frame": ("Frame", "FramePair"),
    "camera_state": ("Event",),
    "pipeline": ("Pipeline",),
    "policy": ("Policy",),
    "recording": ("Recorder", "Recording"),
    "result": ("Attributes", "Boxes", "DepthMap", "EdgeMap", "HeadResult", "LabelMap", "NormalMap", "Result"),
    "rig": ("Rig",),
    "sink": ("Sink",),
    "stats": ("Stats",),
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from importlib import import_module

    found = globals()[name] = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
