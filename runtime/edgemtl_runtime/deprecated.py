"""Attributes of version 0.1 under their new names, for one version more."""

from __future__ import annotations

import warnings
from collections.abc import Mapping


def renamed_attribute(instance: object, name: str, names: Mapping[str, str]) -> object:
    """Return an attribute that ``names`` lists under its old name, with a warning that names the new one.

    For an object's ``__getattr__``: raises `AttributeError` on any other name.
    """
    owner = type(instance).__name__
    if name not in names:
        raise AttributeError(f"'{owner}' has no attribute '{name}'")
    warnings.warn(f"{owner}.{name} is now {owner}.{names[name]}", DeprecationWarning, stacklevel=3)
    value: object = getattr(instance, names[name])
    return value
