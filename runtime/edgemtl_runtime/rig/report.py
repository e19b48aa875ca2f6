"""Calibration report: reprojection errors by view, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ViewReport:
    """One view: detected corners and reprojection errors in pixels by camera, None where it was not used."""

    index: int
    corners: dict[str, int]
    error_px: dict[str, float | None]
    stereo_px: float | None
    note: str = ""


@dataclass(frozen=True)
class CalibrationReport:
    """Quality of a calibration, view by view; errors are root mean squares in pixels.

    ``coverage`` is the share of the first camera's image that the second one sees, ``reach`` the share of each
    camera's image within the convex hull of the corners of all views.
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
        summary = {"rms_px": self.rms_px, "stereo_rms_px": self.stereo_rms_px, "coverage": self.coverage}
        return {**summary, "reach": self.reach, "warnings": list(self.warnings), "views": views}

    def table(self) -> str:
        """Return the report as a table."""
        names = list(self.rms_px)

        def line(first: str, values: Sequence[float | None], note: str = "") -> str:
            return f"{first:6}" + "".join(f"{'-' if v is None else f'{v:.3f}':>9}" for v in values) + f"  {note}"

        rows = ["view  " + "".join(f"{name[:8]:>9}" for name in [*names, "stereo"]) + "  (px)"]
        rows += [line(str(v.index), [*(v.error_px[n] for n in names), v.stereo_px], v.note) for v in self.views]
        rows.append(line("all", [*self.rms_px.values(), self.stereo_rms_px]))
        rows.append(f"the second camera sees {100 * self.coverage:.0f} % of the first one's image")
        return "\n".join(row.rstrip() for row in [*rows, *self.warnings])
