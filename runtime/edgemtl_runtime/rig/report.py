"""How a calibration went, for people and programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ViewReport:
    """One view: corners seen and reprojection errors in pixels by camera, None where it was not found or left out."""

    index: int
    corners: dict[str, int]
    error_px: dict[str, float | None]
    stereo_px: float | None
    note: str = ""


@dataclass(frozen=True)
class Report:
    """How a calibration went, view by view; errors are root mean squares in pixels.

    ``coverage`` is the share of the first camera's picture that the second one sees, ``reach`` the share of each
    camera's picture that lies within the corners of all views.
    """

    views: tuple[ViewReport, ...]
    rms_px: dict[str, float]
    stereo_rms_px: float
    coverage: float
    reach: dict[str, float]
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return one object for JSON."""
        views = [
            {"view": v.index, "corners": v.corners, "error_px": v.error_px, "stereo_px": v.stereo_px, "note": v.note}
            for v in self.views
        ]
        told = {"rms_px": self.rms_px, "stereo_rms_px": self.stereo_rms_px, "coverage": self.coverage}
        return {**told, "reach": self.reach, "warnings": list(self.warnings), "views": views}

    def table(self) -> str:
        """Return the same for a person."""
        names = list(self.rms_px)

        def line(first: str, values: Sequence[float | None], note: str = "") -> str:
            return f"{first:6}" + "".join(f"{'-' if v is None else f'{v:.3f}':>9}" for v in values) + f"  {note}"

        rows = ["view  " + "".join(f"{name[:8]:>9}" for name in [*names, "stereo"]) + "  (px)"]
        rows += [line(str(v.index), [*(v.error_px[n] for n in names), v.stereo_px], v.note) for v in self.views]
        rows.append(line("all", [*self.rms_px.values(), self.stereo_rms_px]))
        rows.append(f"the second camera sees {100 * self.coverage:.0f} % of the first one's picture")
        return "\n".join(row.rstrip() for row in [*rows, *self.warnings])
