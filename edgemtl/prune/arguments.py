"""Arguments of ultralytics' training as words, KEY=VALUE."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from ..errors import EdgemtlError

RESERVED = {
    "imgsz": "--input-size",
    "data": "--data",
    "model": "the first word",
    "project": "--out",
    "name": "--out",
    "save": "--out",
    "exist_ok": "--overwrite",
    "seed": "--seed",
    "resume": "not there: a pruning begins at its beginning",
    "patience": "not there: a pruning runs to its end",
    "task": "detect, always",
    "mode": "train, always",
}
"""What a pruning decides itself, and where."""


def training_arguments(words: Sequence[str]) -> dict[str, Any]:
    """Return the arguments by name; raises `EdgemtlError` for what is no KEY=VALUE, or is given elsewhere."""
    arguments = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.isidentifier():
            raise EdgemtlError(f"--train {word}: write KEY=VALUE, like epochs=20")
        if key in RESERVED:
            raise EdgemtlError(f"--train {word}: here it is {RESERVED[key]}")
        try:
            arguments[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            arguments[key] = {"true": True, "false": False}.get(value.lower(), value)
    for key, others in (("epochs", ()), ("batch", (-1,)), ("nbs", ())):
        value = arguments.get(key, 1)
        if not isinstance(value, int | float) or (value <= 0 and value not in others):
            raise EdgemtlError(f"--train {key}={value}: is a number above 0")
    return arguments
