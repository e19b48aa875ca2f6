"""Panels of the page: a result drawn as JPEG images, and described as JSON."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...frame import FramePair
from ...result import Boxes, LabelMap, Points, Result
from .latest import Latest
from .reply import encode_json

if TYPE_CHECKING:
    from ...draw.scales import Scale

MIN_WIDTH_PX, MAX_WIDTH_PX = 640, 960
"""Width of a panel: smaller images are enlarged so that text is legible, larger ones cost more than they show."""
TEXT_SCALE_PER_PX = 0.0009
"""Scale of text, in OpenCV's units, a pixel of the panel's width: a panel is shown at about half its size."""
JPEG_QUALITY = 82
MAX_HEAD_SELECTIONS = 8
"""Selections of heads that are drawn of one result; later ones are shown all heads."""
NO_RESULT = {"index": -1, "panels": {}, "result": None, "latency_ms": None, "views": None}


@dataclass(frozen=True)
class Selection:
    """The panels and heads that a viewer asks for; None means all."""

    panels: frozenset[str] | None = None
    heads: frozenset[str] | None = None

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Selection:
        """Parse the comma-separated parameters "panels" and "heads"."""
        return cls(
            *(frozenset(query[name].split(",")) - {""} if name in query else None for name in ("panels", "heads"))
        )

    def normalise(self, pair: FramePair, result: Result) -> Selection:
        """Drop unknown names, so that all requests that mean the same are equal."""
        from ...draw import cameras

        heads = None if self.heads is None else self.heads.intersection(result.heads)
        panels = None if self.panels is None else self.panels.intersection([*result.heads, *cameras(pair, result)])
        return Selection(panels, None if heads == result.heads.keys() else heads)


def render_body(latest: Latest | None, after: int, selection: Selection) -> bytes:
    """Encode the newest result as JSON up to its closing brace, with images where its index is above ``after``.

    For one thread alone: however many watch, drawing takes the memory and the processor time of one.
    """
    if latest is None:
        return encode_json(NO_RESULT)[:-1]
    selection = selection.normalise(latest.pair, latest.result)
    is_new = latest.result.index > after
    heads, drawn = selection.heads, latest.head_selections
    if is_new and heads is not None and heads not in drawn:
        if len(drawn) >= MAX_HEAD_SELECTIONS:
            selection = replace(selection, heads=None)
        else:
            drawn.add(heads)

    def encode() -> bytes:
        answer = {
            "index": latest.result.index,
            "panels": draw_panels(latest, selection) if is_new else {},
            "result": latest.cached("result", latest.result.to_dict),
            "latency_ms": latest.latency_ms,
            "views": latest.cached("views", lambda: describe_views(latest.pair, latest.result)),
        }
        return encode_json(answer)[:-1]

    return latest.cached(("body", selection) if is_new else "body", encode)


def draw_panels(latest: Latest, selection: Selection) -> dict[str, str]:
    """Draw the selected panels with the overlays of the selected heads; returns data URLs of JPEG images by name."""
    from ...draw import camera_panel, cameras, canvas, map_panel

    pair, result = latest.pair, latest.result
    heads = selection.heads
    size = canvas(pair, result, MIN_WIDTH_PX, MAX_WIDTH_PX)
    size = replace(size, text=size.width * TEXT_SCALE_PER_PX)
    if selection.panels is not None:
        maps = selection.panels
    else:
        maps = heads if heads is not None else frozenset(result.heads)

    def draw_camera(name: str) -> str:
        return _jpeg_url(camera_panel(pair, result, name, heads, size))

    def draw_map(name: str) -> str:
        panel = map_panel(result.heads[name], size)
        return "" if panel is None else _jpeg_url(panel)

    panels: dict[str, str] = {}
    for name in cameras(pair, result):
        if selection.panels is None or name in selection.panels:
            panels[name] = latest.cached(("camera", name, heads), partial(draw_camera, name))
    for name in result.heads:
        if name in maps and name not in panels and (url := latest.cached(("map", name), partial(draw_map, name))):
            panels[name] = url
    return panels


def describe_views(pair: FramePair, result: Result) -> dict[str, object]:
    """Describe the views of a result for the page, as JSON: its cameras, those that are missing, and its heads.

    "cameras" and "absent" are lists of names; a head's "kind" is "overlay" for what is drawn on cameras, "map" for a
    separate panel, its "colours" are "#rrggbb" by class. "scales" has those of panels, by name: a bar's "colours" and
    its "ticks" as [position in [0, 1], text with unit], or a key's "entries" as [name, colour].
    """
    from ...draw import MAPS, camera_scale, cameras, label_palette, scale_of
    from ...palette import PALETTE

    boxes = next((head for head in result.heads.values() if isinstance(head, Boxes)), None)
    heads: dict[str, dict[str, object]] = {}
    for name, head in result.heads.items():
        colours: dict[str, str] = {}
        if isinstance(head, Boxes | Points):
            colours = {n: _hex(PALETTE[index % len(PALETTE)]) for index, n in enumerate(head.names)}
        elif isinstance(head, LabelMap):
            colours = {n: _hex(colour) for n, colour in zip(head.names, label_palette(head, boxes), strict=False)}
        heads[name] = {"kind": "map" if isinstance(head, MAPS) else "overlay", "colours": colours}
    names = cameras(pair, result)
    missing = [name for name in names if name not in pair.frames or name in result.missing]
    overlays = {name for name, head in heads.items() if head["kind"] == "overlay"}
    labels = {name for name, head in result.heads.items() if isinstance(head, LabelMap)}
    scales = {name: camera_scale(pair, result, name, overlays - labels) for name in names}  # classes have a legend
    scales |= {name: scale_of(head) for name, head in result.heads.items() if name not in overlays}
    described = {name: _describe(scale) for name, scale in scales.items() if scale is not None}
    return {"cameras": names, "absent": missing, "heads": heads, "scales": described}


def _describe(scale: Scale) -> dict[str, object]:
    """Describe a scale for the page, as JSON."""
    from ...draw.scales import ColourBar

    if isinstance(scale, ColourBar):
        colours = scale.colours[:: max(1, len(scale.colours) // 16)]
        return {"colours": [_hex(c) for c in (*colours, scale.colours[-1])], "ticks": [[*tick] for tick in scale.ticks]}
    return {"entries": [[name, _hex(colour)] for name, colour in scale.entries]}


def _hex(colour: Iterable[int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _jpeg_url(panel: NDArray[np.uint8]) -> str:
    """Encode an RGB image (H, W, 3) as a data URL of a JPEG image."""
    import cv2

    _, data = cv2.imencode(".jpg", cv2.cvtColor(panel, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")
