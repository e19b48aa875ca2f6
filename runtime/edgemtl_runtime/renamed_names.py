"""Public names, arguments and fields under an earlier name: accepted for one version, with a `DeprecationWarning`."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

PUBLIC = {
    "Way": "EngineConfig",
    "open_way": "open_engine",
    "open_best": "open_selected_engine",
    "Policy": "QueuePolicy",
}
"""Names of the package, by their earlier names."""
F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type)


def warn_renamed(old: str, new: str, stacklevel: int = 3) -> None:
    """Warn that ``old`` is ``new`` now, at the caller of the function that calls this."""
    text = f"{old} is {new} now; the old name goes with the next version"
    warnings.warn(text, DeprecationWarning, stacklevel=stacklevel)


def renamed_arguments(**names: str) -> Callable[[F], F]:
    """Accept a function's keyword arguments by their earlier names: ``old="new"``."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def accepting(*args: Any, **given: Any) -> Any:
            for old in names.keys() & given.keys():
                warn_renamed(f"argument {old}", names[old])
                given[names[old]] = given.pop(old)
            return function(*args, **given)

        return cast("F", accepting)

    return decorate


def renamed_attribute(instance: object, name: str, names: Mapping[str, str]) -> Any:
    """Return the attribute whose earlier name is ``name``, for ``__getattr__``; raises `AttributeError` for another."""
    owner = type(instance).__name__
    if name not in names:
        raise AttributeError(f"'{owner}' object has no attribute '{name}'")
    warn_renamed(f"{owner}.{name}", names[name], stacklevel=4)
    return getattr(instance, names[name])


def renamed_fields(**names: str) -> Callable[[C], C]:
    """Accept a class's fields by their earlier names, read as attributes or given as arguments: ``old="new"``."""

    def decorate(cls: C) -> C:
        def read(self: object, name: str) -> Any:
            return renamed_attribute(self, name, names)

        type.__setattr__(cls, "__init__", renamed_arguments(**names)(vars(cls)["__init__"]))
        type.__setattr__(cls, "__getattr__", read)
        return cls

    return decorate


def with_old_keys(report: Mapping[str, Any], **names: str) -> dict[str, Any]:
    """Return a report for JSON with its renamed keys under their earlier names as well: ``old="new"``."""
    return {**report, **{old: report[new] for old, new in names.items()}}
