"""Errors of one line: what cannot be exported or proved, and why."""

from __future__ import annotations

import re


class UnsupportedError(ValueError):
    """A network that torch.export cannot trace, or a program on which nothing can be proved."""


def first_sentence(error: object) -> str:
    """Return the first sentence of an error, without the advice and the traces after it."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return re.split(r"(?<=\w)\. ", lines[0])[0][:200]
