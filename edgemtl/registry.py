"""Registries: parts of one kind by name, those of this package imported at their first use, others added to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from importlib import import_module
from typing import Generic, TypeVar, cast

from edgemtl_runtime.bundle import is_plain_name

from .errors import ConfigError, nearest_hint

T = TypeVar("T")
P = TypeVar("P")
origin: ContextVar[str] = ContextVar("origin", default="")
"""The plugin that is being loaded; empty outside of `plugins`."""


class Registry(Mapping[str, T], Generic[T]):
    """Parts by name; ``built_in`` gives each its module, or "module:attribute", imported at the first use."""

    def __init__(self, kind: str, built_in: Mapping[str, str]) -> None:
        self.kind = kind
        self._paths = dict(built_in)
        self._loaded: dict[str, T] = {}
        self.origins: dict[str, str] = {}
        """The plugin that added a part, by the part's name."""

    def __iter__(self) -> Iterator[str]:
        return iter([*self._paths, *self.origins])

    def __len__(self) -> int:
        return len(self._paths) + len(self.origins)

    def __contains__(self, name: object) -> bool:
        return name in self._paths or name in self.origins

    def __getitem__(self, name: str) -> T:
        if name not in self._loaded:
            module, _, attribute = self._paths[name].partition(":")
            part = import_module(module)
            self._loaded[name] = cast(T, getattr(part, attribute) if attribute else part)
        return self._loaded[name]

    def require(self, name: str, where: str) -> T:
        """Return a part; raises `ConfigError` with ``where`` it is named and the names that there are."""
        self.check(name, where)
        return self[name]

    def check(self, name: str, where: str, others: Sequence[str] = ()) -> None:
        """Raise `ConfigError` with ``where`` a name stands that is neither known nor one of the others; import none."""
        if name not in (known := [*self, *others]):
            hint = nearest_hint(name, known)
            near = "; did you mean" in hint
            raise ConfigError(f"{where} '{name}' is not one of {', '.join(known)}{hint if near else ''}")

    def register(self, name: str) -> Callable[[P], P]:
        """Return a decorator that adds a part; raises `ConfigError` for a name that is taken or is no plain word."""
        if not is_plain_name(name):
            raise ConfigError(f"a {self.kind} is named by letters, digits and ._-, not '{name[:40]}'")
        if name in self:
            raise ConfigError(f"there is a {self.kind} '{name}' already; choose another name")

        def add(part: P) -> P:
            self._loaded[name] = cast(T, part)
            self.origins[name] = origin.get()
            return part

        return add

    def discard(self, plugin: str) -> None:
        """Remove what a plugin has added."""
        for name in [name for name, added_by in self.origins.items() if added_by == plugin]:
            del self.origins[name], self._loaded[name]
