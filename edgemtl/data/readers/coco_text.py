"""JSON as a typed value, read without a copy of the file in memory; where it does not fit, the place in words."""

from __future__ import annotations

import json
import mmap
import re
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from edgemtl_runtime.limits import reason

from ..problems import Problem, Problems

T = TypeVar("T")
UTF8_BOM = b"\xef\xbb\xbf"
UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
SECTIONS = ("images", "annotations", "categories")
WANTED = {
    "bbox": "[x, y, width, height], four numbers in pixels",
    "id": "a whole number or a text",
    "image_id": "an id of images",
    "category_id": "an id of categories",
    "name": "a text",
    "file_name": "a text",
    "width": "a whole number of pixels",
    "height": "a whole number of pixels",
    "iscrowd": "0 or 1",
}
"""What each field of COCO's holds, by its name."""
MAX_SHOWN = 60


def others(count: int) -> str:
    """Return the end of a message that stands for ``count`` problems of its kind."""
    return f" (and {count - 1} more of this kind)" if count > 1 else ""


def decode(file: Path, type_: type[T], problems: Problems) -> T | None:
    """Return a file of COCO's as a type, or None with a problem added; numbers in quotes are numbers."""
    try:
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            return _decode(mapped, type_)
    except OSError as error:
        message = f"cannot be read ({error.strerror})"
    except (ValueError, RecursionError) as error:
        message = reason(error) if file.stat().st_size else "is empty"
    problems.append(Problem(file, 0, message))
    return None


def _decode(mapped: mmap.mmap, type_: type[T]) -> T:
    """Return the type; raises `ValueError` with what was found, where, and what is wanted."""
    with memoryview(mapped) as view:
        head = bytes(view[:3])
        if head.startswith(UTF16_BOMS):
            return _decode_text(bytes(view).decode("utf-16").encode(), type_)
        with view[3 if head == UTF8_BOM else 0 :] as text:
            return _decode_text(text, type_)


def _decode_text(text: bytes | memoryview, type_: type[T]) -> T:
    try:
        return msgspec.json.decode(text, type=type_, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(_misfit(bytes(text), str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        content = _plain(bytes(text))  # which reads NaN, and names the line of what it cannot read
    try:
        return msgspec.convert(content, type_, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(_misfit(json.dumps(content).encode(), str(error))) from None


def _plain(text: bytes) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"is no JSON: {error}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"is no JSON in UTF-8 ({error.reason} at byte {error.start})") from None


def _misfit(text: bytes, message: str) -> str:
    """Return in words what a decoder's message means in a file of COCO's."""
    shape = "COCO's object detection JSON holds {images: […], annotations: […], categories: […]}"
    try:
        sections: dict[str, msgspec.Raw] = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except msgspec.MsgspecError:
        if text.lstrip().startswith(b"["):
            return f"is a list, as detections in COCO's results format are; {shape}"
        return f"is no JSON object; {shape}"
    kind = _kind(sections)
    if kind or not {"images", "categories"} <= sections.keys():
        return f"{kind or 'holds ' + (', '.join(list(sections)[:8]) or 'nothing')}; {shape}"
    what, _, path = message.partition(" - at `$.")
    path = path.rstrip("`")
    missing = re.fullmatch(r"Object missing required field `(\w+)`", what)
    if missing:
        return f"{path} has no {missing[1]}; wanted: {WANTED.get(missing[1], 'a value')}"
    value = _value(sections, path)
    field = re.findall(r"[A-Za-z_]+", path)[-1]
    wanted = "a list" if path in SECTIONS else WANTED.get(field) or what.removeprefix("Expected ").partition(",")[0]
    return f"{path} is {value}; wanted: {wanted}"


def _kind(sections: dict[str, msgspec.Raw]) -> str:
    """Return what other kind of COCO's files this is, if it is one that is known."""
    for row in _rows(sections.get("annotations"))[:1]:
        if "segments_info" in row:
            return "holds panoptic segments, not boxes"
        if "caption" in row and "bbox" not in row:
            return "holds captions, not boxes"
    return ""


def _rows(section: msgspec.Raw | None) -> list[dict[str, Any]]:
    try:
        return msgspec.json.decode(section, type=list[dict[str, Any]]) if section is not None else []
    except msgspec.MsgspecError:
        return []


def _value(sections: dict[str, msgspec.Raw], path: str) -> str:
    """Return what stands at a place such as "annotations[17].bbox[0]", in short."""
    section, *steps = re.findall(r"[A-Za-z_]+|\d+", path)
    value: Any = msgspec.json.decode(sections[section])
    for step in steps:
        value = value[int(step)] if step.isdecimal() else value[step]
    text = json.dumps(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
