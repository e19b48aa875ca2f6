"""Network descriptions in YAML: parsed and held to bounds before anything is built; numbers in them take memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

WIDEST, MOST_VALUES, MOST_BYTES = 8192, 2000, 64_000
"""The largest number, the most values, and the longest file that describes a network."""


def check_description(description: Any) -> None:
    """Raise `ValueError` where a network's description would make one beyond bounds."""
    remaining, count = [description], 0
    while remaining:
        value = remaining.pop()
        count += 1
        if count > MOST_VALUES or (isinstance(value, int | float) and not abs(value) <= WIDEST):
            raise ValueError(f"a network of {str(value)[:40]}: no number is above {WIDEST}, and there are few")
        remaining += value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()


RENAMED = {"exits": "head_taps"}
RENAMED_IN_FUSION = {"at": "level", "register": "registration_radius"}
"""Keys of descriptions that version 0.1 wrote, by today's."""


def renamed(description: dict[str, Any]) -> dict[str, Any]:
    """Return a description with today's keys in the place of those of version 0.1."""
    current = {RENAMED.get(key, key): value for key, value in description.items()}
    if isinstance(fusion := current.get("fusion"), dict):
        current["fusion"] = {RENAMED_IN_FUSION.get(key, key): value for key, value in fusion.items()}
    return current


def parse(text: str, name: str) -> dict[str, Any]:
    """Return a description that stands in YAML, without aliases; raises `ValueError`."""
    try:
        if len(text) > MOST_BYTES or any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
            raise ValueError("it is long, or has aliases")
        description = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{name}: cannot be read ({' '.join(str(error).split())[:150]})") from error
    if not isinstance(description, dict):
        raise ValueError(f"{name}: describes no network")
    check_description(description)
    return renamed(description)


def read(file: Path) -> dict[str, Any]:
    """Return a description that stands in a file; raises `ValueError`."""
    try:
        with file.open(encoding="utf-8") as stream:
            return parse(stream.read(MOST_BYTES + 1), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: cannot be read ({error})") from error
