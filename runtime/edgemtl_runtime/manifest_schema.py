"""Schema of a bundle's manifest: its versions, the keys that each version renamed, and the figures it reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

SCHEMA_VERSION = 4
RENAMED_IN_3 = {"refused": "rejected"}
RENAMED_IN_3_OF_INPUTS = {"may_be_absent": "may_be_missing"}
"""Keys of versions 1 and 2, and what version 3 calls them."""


class PruningFigures(TypedDict, total=False):
    """What shrinking removed."""

    parameters_before: int
    parameters_after: int
    parameters_bound: int
    buffers_before: int
    buffers_after: int
    flops_before: int
    flops_after: int
    pinned: dict[str, int]
    """Channels that stay, by the operator that kept them."""
    proof: dict[str, float | None]
    """Largest errors of the removal's proof, relative to the signal."""


class ParityFigures(TypedDict, total=False):
    """How far the bundle's fp32 network is from the trained one."""

    frames: int
    raw_max_abs: dict[str, float]
    """Largest absolute difference of each raw head."""
    agreement: dict[str, float | None]
    """Share of each head's output that agrees."""


class PrecisionFigures(TypedDict, total=False):
    """A precision's size and accuracy."""

    bytes: int
    latency_ms: float
    """The median of one image, batch of one, on the machine that exported it."""
    measured_on: str
    """Back end, threads and processor of that."""
    scores: dict[str, dict[str, float | None]]
    """Metrics of each head on labelled frames."""
    agreement: dict[str, float | None]
    """Share of each head's output that agrees with fp32's."""
    fp32_layers: list[str]
    """Layers of the fp16 network that compute in fp32."""
    kept: list[str]
    """Convolutions of the int8 network that are not quantised."""
    convolutions: int
    """Convolutions of the int8 network in all."""
    undecided: str
    """Which heads had too few labels to judge the precision on; without this key each had enough."""


def with_new_keys(manifest: dict[str, object], version: int) -> dict[str, object]:
    """Return a decoded manifest of any version with the keys of the newest."""
    if version >= 3:
        return manifest
    inputs = manifest.get("inputs")
    manifest = _renamed(manifest, RENAMED_IN_3)
    if isinstance(inputs, list):
        manifest["inputs"] = [_renamed(i, RENAMED_IN_3_OF_INPUTS) if isinstance(i, dict) else i for i in inputs]
    return manifest


def _renamed(values: dict[str, object], names: Mapping[str, str]) -> dict[str, object]:
    """Return a copy with its old keys renamed; an old one next to its new one stays, and is then unknown."""
    return {key if (new := names.get(key, key)) in values else new: value for key, value in values.items()}
