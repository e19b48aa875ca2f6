"""Text from files and exceptions, made fit for one line of a terminal; nothing here takes long to import."""

from __future__ import annotations

import re

ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])|\x9b[0-?]*[ -/]*[@-~]")
"""Escape sequences of terminals (ECMA-48): colours, cursor movements, titles and links."""
MAX_LENGTH = 300


def printable(text: str) -> str:
    """Remove escape sequences and replace other unprintable characters by "?": they may move a terminal's cursor."""
    text = ESCAPES.sub("", text)
    return "".join(character if character.isprintable() or character == "\n" else "?" for character in text)


def shortened(text: object, length: int = MAX_LENGTH) -> str:
    """Return a text in one printable line of at most ``length`` characters, cut after a whole word."""
    line = printable(" ".join(str(text).split()))
    if len(line) <= length:
        return line
    cut = line[: length - 1].rsplit(" ", 1)[0] if " " in line[length // 2 : length] else line[: length - 1]
    return cut.rstrip(" ,;:") + "…"
