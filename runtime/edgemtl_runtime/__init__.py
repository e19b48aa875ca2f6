"""Run an edgemtl bundle live on paired colour and thermal cameras, without torch.

The public names are imported lazily, each at its first use, so that a program pays for what it uses. Names of the
version before are accepted with a `DeprecationWarning` (`renamed_names`).
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
    from .engine.config import EngineConfig as EngineConfig
    from .engine.config import open_engine as open_engine
    from .engine.selection import open_selected_engine as open_selected_engine
    from .errors import BundleError as BundleError
    from .errors import CameraError as CameraError
    from .errors import EdgemtlError as EdgemtlError
    from .errors import EngineError as EngineError
    from .errors import UsageError as UsageError
    from .frame import Frame as Frame
    from .frame import FramePair as FramePair
    from .frame import PreparedFrame as PreparedFrame
    from .pipeline import Pipeline as Pipeline
    from .policy import QueuePolicy as QueuePolicy
    from .recording import Recorder as Recorder
    from .recording import Recording as Recording
    from .result import Attributes as Attributes
    from .result import Boxes as Boxes
    from .result import DepthMap as DepthMap
    from .result import EdgeMap as EdgeMap
    from .result import HeadResult as HeadResult
    from .result import LabelMap as LabelMap
    from .result import NormalMap as NormalMap
    from .result import Points as Points
    from .result import Result as Result
    from .result import ScalarMap as ScalarMap
    from .result import Scalars as Scalars
    from .result import Tensor as Tensor
    from .result import VectorMap as VectorMap
    from .rig import Rig as Rig
    from .sink import Sink as Sink
    from .stats import Stats as Stats
    from .status import Status as Status

_NAMES = {
    "bundle": ("Bundle",),
    "camera": ("Camera", "open_camera", "open_cameras"),
    "engine": ("Engine",),
    "engine.selection": ("open_selected_engine",),
    "engine.config": ("EngineConfig", "open_engine"),
    "errors": ("BundleError", "CameraError", "EdgemtlError", "EngineError", "UsageError"),
    "frame": ("Frame", "FramePair", "PreparedFrame"),
    "camera_state": ("Event",),
    "pipeline": ("Pipeline",),
    "policy": ("QueuePolicy",),
    "recording": ("Recorder", "Recording"),
    "result": ("Attributes", "Boxes", "DepthMap", "EdgeMap", "HeadResult", "LabelMap", "NormalMap", "Result"),
    "generic_result": ("Points", "ScalarMap", "Scalars", "Tensor", "VectorMap"),
    "rig": ("Rig",),
    "sink": ("Sink",),
    "stats": ("Stats",),
    "status": ("Status",),
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name not in _HOMES:
        if name.startswith("__"):  # of Python itself, which asks for some that no module has
            raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
        from .renamed_names import PUBLIC, warn_renamed

        if name not in PUBLIC:
            raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
        warn_renamed(f"{__name__}.{name}", PUBLIC[name])
        value = globals()[name] = __getattr__(PUBLIC[name])
        return value
    value = globals()[name] = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
