"""Thresholds said at run time in place of the bundle's: for a head, or for one of its classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .bundle import Head
from .decode import Thresholds
from .errors import EdgemtlError, nearest_hint

BY_CLASS = ("topk_boxes", "attributes")
"""Decoders of which every class has a threshold."""
WHOLE = ("edge_map",)
"""Decoders with one threshold."""


def parse(texts: Sequence[str], heads: tuple[Head, ...]) -> dict[str, Thresholds]:
    """Read thresholds such as "boxes=0.3", "boxes.person=0.4" and "edges=0.2", by head name, for `decode.decode`.

    Returns (classes,) float32 for boxes and attributes, () float32 for edges; heads that are not named are left out.
    What is said of a class counts more than what is said of its head; of the same, the last counts. Raises
    `EdgemtlError` for a head or class that is not there, a head without a threshold, and a value outside [0, 1].
    """
    said = [_split(text, heads) for text in texts]
    found: dict[str, Thresholds] = {}
    for head, name, value in sorted(said, key=lambda part: part[1] is not None):  # sorted keeps the order of equals
        if head.name not in found:
            shape = (len(head.classes),) if head.decoder in BY_CLASS else ()
            found[head.name] = np.full(shape, head.threshold, np.float32)
        found[head.name][... if name is None else head.classes.index(name)] = value
    return found


def _split(text: str, heads: tuple[Head, ...]) -> tuple[Head, str | None, float]:
    """Return the head, its class or None for the whole head, and the value."""
    place, sign, number = text.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not sign or not 0 <= value <= 1:
        raise EdgemtlError(f"threshold '{text}': write HEAD=VALUE or HEAD.CLASS=VALUE with a value from 0 to 1")
    head, name = _find(text, place, heads)
    if head.decoder not in BY_CLASS + WHOLE:
        having = ", ".join(h.name for h in heads if h.decoder in BY_CLASS + WHOLE) or "none"
        raise EdgemtlError(f"threshold '{text}': {head.name} has no threshold; heads that have one: {having}")
    if name is not None and head.decoder in WHOLE:
        raise EdgemtlError(f"threshold '{text}': {head.name} has one threshold for all; write {head.name}={number}")
    if name is not None and name not in head.classes:
        raise EdgemtlError(
            f"threshold '{text}': {head.name} has no class '{name}'{nearest_hint(name, list(head.classes))}"
        )
    return head, name, value


def _find(text: str, place: str, heads: tuple[Head, ...]) -> tuple[Head, str | None]:
    # Names of heads and of classes may hold dots themselves: the longest head's name that fits is meant.
    for head in sorted(heads, key=lambda head: -len(head.name)):
        if place == head.name:
            return head, None
        if place.startswith(f"{head.name}."):
            return head, place[len(head.name) + 1 :]
    unknown = place.partition(".")[0]
    hint = nearest_hint(unknown, [head.name for head in heads])
    raise EdgemtlError(f"threshold '{text}': the bundle has no head '{unknown}'{hint}")
