"""Records of results: the types of what is written as JSON lines, from which the JSON Schema is generated.

A record is never read back here; its constraints are those that consumers may rely on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from .frame import StampSource

SCHEMA_VERSION = 2
"""Version 1 had ``absent`` alone, which is deprecated."""
Share = Annotated[float, Meta(ge=0, le=1)]
Coordinate = Annotated[float, Meta(ge=0)]
Component = Annotated[float, Meta(ge=-1, le=1)]
Units = Annotated[str, Meta(description="Unit of the numbers; empty where they have none.")]


class Recorded(ABC):
    """A result that can be written as JSON."""

    @abstractmethod
    def record(self) -> Struct:
        """Return the result for JSON."""

    def to_dict(self) -> dict[str, Any]:
        """Return `record` as plain objects."""
        plain: dict[str, Any] = msgspec.to_builtins(self.record())
        return plain


class BoxRecord(Struct, frozen=True, forbid_unknown_fields=True, rename={"class_name": "class"}):
    """A detected object."""

    xyxy: Annotated[
        list[Coordinate],
        Meta(
            min_length=4,
            max_length=4,
            description="Left, top, right and bottom edge in pixels of the camera, from its top left corner.",
        ),
    ]
    score: Annotated[float, Meta(ge=0, le=1, description="Confidence of the network.")]
    class_name: Annotated[str, Meta(description="Name of the object's class.")]
    track: (
        Annotated[
            int, Meta(ge=1, description="Stays with an object from line to line; missing where no track follows it.")
        ]
        | UnsetType
    ) = UNSET


class BoxesRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """Detected objects, best first."""

    boxes: list[BoxRecord]


class LabelMapRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """A class for every pixel."""

    share: Annotated[dict[str, Share], Meta(description="Share of the image that each class covers, by name.")]


class DepthRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """Percentiles of an image's depths, metres."""

    p5: float
    median: float
    p95: float


class DepthMapRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """Distance of every pixel along the optical axis."""

    depth_m: DepthRecord


class NormalMapRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """Surface normal of every pixel."""

    mean_normal: Annotated[
        list[Component],
        Meta(
            min_length=3,
            max_length=3,
            description="Mean of the image's unit vectors: x right, y down, z forward; no unit.",
        ),
    ]


class EdgeMapRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """Edge probability of every pixel."""

    edge_share: Annotated[float, Meta(ge=0, le=1, description="Share of the image that is edge.")]


class AttributesRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """Attributes of the whole image."""

    attributes: Annotated[dict[str, Share], Meta(description="Confidence of each attribute, by name.")]


class PercentilesRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """Percentiles of an image's numbers; null where no pixel has one."""

    p5: float | None
    median: float | None
    p95: float | None


class ScalarMapRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """A number of every pixel."""

    percentiles: PercentilesRecord
    units: Units


class VectorMapRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """A vector of every pixel."""

    mean_vector: Annotated[
        dict[str, float | None], Meta(description="Mean of every component over the image's pixels, by name.")
    ]
    units: Units


class PointRecord(Struct, frozen=True, forbid_unknown_fields=True, rename={"class_name": "class"}):
    """A detected point."""

    xy: Annotated[
        list[Coordinate],
        Meta(min_length=2, max_length=2, description="Right and down from the camera image's top left corner, pixels."),
    ]
    score: Annotated[float, Meta(ge=0, le=1, description="Confidence of the network.")]
    class_name: Annotated[str, Meta(description="Name of the point's class.")]


class PointsRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """Detected points, best first."""

    points: list[PointRecord]


class ScalarsRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """Numbers of the whole image."""

    scalars: Annotated[dict[str, float | None], Meta(description="The numbers by name; null where not known.")]
    units: Units


class TensorRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """A raw output of the network."""

    shape: list[Annotated[int, Meta(ge=0)]]
    minimum: float | None
    maximum: float | None
    units: Units


HeadRecord = (
    BoxesRecord
    | LabelMapRecord
    | DepthMapRecord
    | NormalMapRecord
    | EdgeMapRecord
    | AttributesRecord
    | ScalarMapRecord
    | VectorMapRecord
    | PointsRecord
    | ScalarsRecord
    | TensorRecord
)
Camera = Annotated[str, Meta(min_length=1)]
Cameras = list[Camera]
UNIQUE = {"uniqueItems": True}


class ResultRecord(Struct, frozen=True, forbid_unknown_fields=True, rename={"missing_old_key": "absent"}):
    """The result of one pair of frames: one line of the JSON-lines output."""

    index: Annotated[int, Meta(ge=0, description="Counts the results of a run from 0.")]
    name: Annotated[str, Meta(description="Stem of the file that the frame came from; empty where there is none.")]
    camera: Annotated[str, Meta(min_length=1, description="The camera in whose pixels the results are.")]
    stamp_ns: Annotated[
        int,
        Meta(description="Capture time of the pair's later frame: nanoseconds of the host's monotonic clock."),
    ]
    unix_ns: Annotated[
        int,
        Meta(
            description="The same as Unix time, nanoseconds, by the wall clock when the result was computed, or by the "
            "recording."
        ),
    ]
    utc: Annotated[
        str,
        Meta(
            pattern=r"^([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z)?$",
            description="The same as UTC in ISO 8601; empty where the calendar has no such time.",
        ),
    ]
    skew_ns: Annotated[int, Meta(ge=0, description="Time between the pair's earliest and latest frame, nanoseconds.")]
    pairing: Annotated[
        Literal["trusted", "uncertain"],
        Meta(
            description="Whether the skew is within the tolerance for any error of the stamps within their uncertainty."
        ),
    ]
    missing: Annotated[
        Cameras,
        Meta(description="The cameras in whose place the network was given a blank frame.", extra_json_schema=UNIQUE),
    ]
    missing_old_key: Annotated[
        Cameras,
        Meta(description="Deprecated, use missing: the same.", extra_json_schema={**UNIQUE, "deprecated": True}),
    ]
    stamp_source: Annotated[
        dict[str, StampSource],
        Meta(
            description="Source of the stamp, by camera: the camera's driver at capture, the stream's presentation "
            "timestamps, the recording's times, a nominal rate, or the arrival at the host.",
        ),
    ]
    stamp_uncertainty_ns: Annotated[
        dict[str, Annotated[int, Meta(ge=0)]],
        Meta(description="Bound of each stamp's error, by camera, except for a constant delay, nanoseconds."),
    ]
    heads: Annotated[
        dict[str, Struct],  # of `HeadRecord`, which msgspec takes for no type: its structs have no tag
        Meta(description="The result of each head of the network, by its name."),
    ]


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of `Result.to_dict`, which is one line of the JSON-lines output."""
    heads = get_args(HeadRecord)
    _, parts = msgspec.json.schema_components((ResultRecord, *heads), ref_template="#/$defs/{name}")
    result = parts.pop(ResultRecord.__name__)
    parts.pop(Struct.__name__, None)
    alternatives = [{"$ref": f"#/$defs/{head.__name__}"} for head in heads]
    result["properties"]["heads"]["additionalProperties"] = {"oneOf": alternatives}
    sources = result["properties"]["stamp_source"]["additionalProperties"]
    sources["enum"] = list(get_args(StampSource))  # the best first; msgspec sorts them
    title = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "edgemtl result"}
    return {**title, "version": SCHEMA_VERSION, **{k: v for k, v in result.items() if k != "title"}, "$defs": parts}
