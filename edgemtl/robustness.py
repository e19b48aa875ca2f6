"""How much a network of several cameras loses when one is absent, and when they are out of line."""

from __future__ import annotations

from .corruptions import Fault
from .errors import EdgemtlError
from .evaluate import Faulty, Predictor

SHIFTS_PX = (2, 4, 8, 12, 16)
"""Pixels of the labels."""
TURNS_DEG = (1, 2, 4)
WAYS = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""Each picture is shifted one of these ways, and turned to one side, so that no direction is favoured."""


def absences(predictor: Predictor) -> Faulty:
    """Return every camera of several absent in its turn."""
    cameras = _several(predictor)
    return {f"{name} absent": [Fault(absent=name)] for name in cameras}


def misalignments(predictor: Predictor) -> Faulty:
    """Return shifts and turns of every camera but the first."""
    _several(predictor)
    shifts = {f"shift {px} px": [Fault(shift_px=(px * x, px * y)) for x, y in WAYS] for px in SHIFTS_PX}
    return shifts | {f"turn {deg}°": [Fault(turn_deg=deg), Fault(turn_deg=-deg)] for deg in TURNS_DEG}


def _several(predictor: Predictor) -> list[str]:
    if len(predictor.inputs) < 2:
        raise EdgemtlError(f"the network has one camera, {next(iter(predictor.inputs))}: none can be absent or apart")
    return list(predictor.inputs)
