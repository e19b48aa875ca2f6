"""Names of classes, as a description of a dataset lists them: words, each once, whose ids count from 0."""

from __future__ import annotations

import re
from collections import Counter

from edgemtl_runtime.limits import check_text

WANTED = "a list of names is wanted, as [person, car], or {0: person, 1: car}"
UNKNOWN_ID = 255
"""In label maps: where nothing is known. It is no class."""


def class_names(key: str, value: object) -> tuple[str, ...]:
    """Return the names in the order of their ids; raises `ValueError` with the form that was given and the one wanted.

    A mapping may name 255, which is where nothing is known in label maps.
    """
    if isinstance(value, str):
        listed = [word for word in re.split(r"[,;\s]+", value) if word]
        raise ValueError(f"{key} is the text '{value[:60]}'; {WANTED}: {key}: [{', '.join(listed)}]")
    if isinstance(value, dict):
        names = _in_order(key, value)
    elif isinstance(value, list):
        names = value
    else:
        raise ValueError(f"{key} is {_kind(value)}; {WANTED}")
    for index, name in enumerate(names):
        if not isinstance(name, str):
            raise ValueError(f"{key}: name {index} is {_kind(name)}; a name is a text: write it in quotes")
    words = tuple(str(name).strip() for name in names)
    for index, word in enumerate(words):
        if not word:
            raise ValueError(f"{key}: name {index} is empty")
        check_text(f"{key}: name {index}", word)
    repeated = [word for word, count in Counter(words).items() if count > 1]
    if repeated:
        ids = [str(index) for index, word in enumerate(words) if word == repeated[0]]
        raise ValueError(f"{key}: '{repeated[0]}' is the name of the ids {' and '.join(ids)}; names are distinct")
    return words


def _in_order(key: str, names: dict[object, object]) -> list[object]:
    if all(isinstance(id_, str) and id_.isdecimal() for id_ in names):
        names = {int(str(id_)): name for id_, name in names.items()}
    wrong = next((id_ for id_ in names if isinstance(id_, bool) or not isinstance(id_, int)), None)
    if wrong is not None:
        turned = "; it is a mapping of names to ids: turn it round" if isinstance(wrong, str) else ""
        raise ValueError(f"{key}: '{wrong}' is no id{turned}; {WANTED}")
    ids = sorted(id_ for id_ in names if isinstance(id_, int) and (id_ != UNKNOWN_ID or len(names) > UNKNOWN_ID))
    if ids and ids[0] != 0:
        raise ValueError(
            f"{key}: the ids are {ids[0]} to {ids[-1]}; ids count from 0, here and in the label files: for ids from 1 "
            f"in the label files, name id 0 as well"
        )
    missing = sorted(set(range(len(ids))) - set(ids))
    if missing:
        raise ValueError(f"{key}: no name for id {missing[0]}, and one for id {ids[-1]}; ids count from 0 without gaps")
    return [names[id_] for id_ in ids]


def _kind(value: object) -> str:
    """Return what a value of YAML is, in words."""
    if isinstance(value, bool):
        words = "yes, on and true" if value else "no, off and false"
        return f"{str(value).lower()} (as YAML reads {words})"
    if value is None:
        return "empty"
    if isinstance(value, int | float):
        return f"the number {value}"
    return {"list": "a list", "dict": "a mapping"}.get(type(value).__name__, f"a {type(value).__name__}")
