"""Plugins: a user's file of code, or an installed package's, that adds tasks, backbones, heads, formats and methods.

A plugin calls the functions ``register_…`` of this module when it is imported. `load` runs its code: files that the
user gives on the command line, and packages with an entry point in the group ``edgemtl.plugins``. A file that somebody
else's run or configuration names is only run where the user trusts it (`load_named`, `load_of_run`).
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .console import print_message
from .errors import ConfigError, EdgemtlError
from .methods import METHODS, REGULARIZERS
from .methods.weighting import TASK_WEIGHTINGS
from .registry import Registry, origin
from .tasks import TASKS

if TYPE_CHECKING:
    from torch import nn


P = TypeVar("P")
GROUP = "edgemtl.plugins"
"""The group of entry points."""
OF_TASK = [
    "primary",
    "higher_is_better",
    "class_key",
    "label_files",
    "default_head",
    "target_type",
    "head",
    "loss",
    "metric",
    "as_result",
]
"""What a task has at least."""
BACKBONES: Registry[Callable[..., nn.Module]] = Registry("backbone", {})
"""Those that plugins add to the network's own (`networks`)."""


@dataclass(frozen=True)
class CustomHead:
    """A kind of head that a plugin adds: how it is built, and what it reads (`edgemtl_models.head_kinds.HeadKind`)."""

    build: Callable[..., nn.Module]
    options: Mapping[str, bool]


HEADS: Registry[CustomHead] = Registry("head", {})


def register_task(name: str) -> Callable[[P], P]:
    """Return a decorator for a class that is a task (`tasks.base.Task`)."""
    register = TASKS.register(name)

    def add(task: P) -> P:
        if missing := [part for part in OF_TASK if not hasattr(task, part)]:
            raise ConfigError(
                f"task '{name}' has no {', '.join(missing)}; derive it from edgemtl.tasks.base.SimpleTask"
            )
        return register(task)

    return add


def register_backbone(name: str) -> Callable[[P], P]:
    """Return a decorator for a class or function: (channels, **options) to a module.

    The module maps an image (B, channels, H, W) to a list of three feature maps, at strides 4, 8 and 16; ``options``
    are those that stand next to ``kind: NAME`` in a network's description.
    """
    return BACKBONES.register(name)


def register_head(name: str, reads_finest: bool = True, bottom_up: bool = False) -> Callable[[P], P]:
    """Return a decorator for a class or function: (HeadInput, outputs, **options) to a module.

    `edgemtl_models.head_kinds.HeadInput` is what the head reads. ``reads_finest``: whether it reads stride 4;
    ``bottom_up``: whether it needs a neck with a bottom-up path.
    """

    def add(build: P) -> P:
        head = CustomHead(build, {"reads_finest": reads_finest, "bottom_up": bottom_up})  # type: ignore[arg-type]
        HEADS.register(name)(head)
        return build

    return add


def register_format(name: str) -> Callable[[P], P]:
    """Return a decorator for a dataset format: an object, or a class of static methods, with ``matches`` and ``index``.

    It is asked before the formats of this package.
    """
    from .data.formats import FORMATS

    return FORMATS.register(name)


def register_method(name: str) -> Callable[[P], P]:
    """Return a decorator for a training method, a class that derives from `methods.joint.Joint`."""
    return METHODS.register(name)


def register_weighting(name: str) -> Callable[[P], P]:
    """Return a decorator for a task weighting, a class that derives from `methods.weighting.base.TaskWeighting`."""
    return TASK_WEIGHTINGS.register(name)


def register_regularizer(name: str) -> Callable[[P], P]:
    """Return a decorator for a function (network, images, config, steps) to a `regularizer.Regularizer` or None."""
    return REGULARIZERS.register(name)


@dataclass(frozen=True)
class Plugin:
    """A loaded plugin: the file with its SHA-256, or of an installed one the name with the package's version."""

    name: str
    fingerprint: str


@dataclass
class _State:
    loaded: dict[str, Plugin] = field(default_factory=dict)
    """By name: files by their absolute path, installed ones by their entry point."""
    searched: bool = False


_state = _State()


def loaded() -> dict[str, Plugin]:
    """Return the plugins that this process has loaded, by name: absolute paths, or entry points."""
    return dict(_state.loaded)


def load(file: str | Path) -> Plugin:
    """Run a plugin's file once; raises `ConfigError` with what is wrong in it, and then nothing of it is registered."""
    path = resolve(file)
    code = _read(path)
    plugin = Plugin(str(path), hashlib.sha256(code).hexdigest())
    known = _state.loaded.get(plugin.name)
    if known is not None:
        return known
    module_name = f"edgemtl_plugin_{hashlib.sha256(plugin.name.encode()).hexdigest()[:12]}"
    spec = spec_from_file_location(module_name, path)
    if spec is None:
        raise ConfigError(f"plugin {file}: is no Python file; give one that ends in .py")
    module = module_from_spec(spec)
    sys.modules[module_name] = module
    with _registering(plugin.name, str(file)):
        exec(compile(code, str(path), "exec", dont_inherit=True), module.__dict__)
    _state.loaded[plugin.name] = plugin
    return plugin


def load_installed() -> None:
    """Load the plugins of installed packages, once; one that fails is reported and left out."""
    if _state.searched:
        return
    _state.searched = True
    for entry in entry_points(group=GROUP):
        try:
            with _registering(entry.name, f"{entry.name} of the package {_package(entry)}"):
                entry.load()
        except ConfigError as error:
            print_message(f"warning: {error}; it is left out")
        else:
            _state.loaded[entry.name] = Plugin(entry.name, _package(entry))


def load_named(files: Iterable[str], named_in: str, trust: bool, option: str = "--plugin {}") -> None:
    """Load plugins that a file names which the user may not have written; raises `EdgemtlError` without ``trust``.

    ``option`` is what the user writes to name them himself.
    """
    for file in files:
        if is_loaded(file):
            continue
        if not trust:
            raise EdgemtlError(
                f"{named_in} names the plugin {file}, whose code would run: if you trust it add --trust or "
                + option.format(file)
            )
        load(file)


def unload(name: str) -> None:
    """Remove what a plugin has registered; networks, runs and objects that were made with it stay as they are."""
    registries: list[Registry[Any]] = [TASKS, METHODS, TASK_WEIGHTINGS, REGULARIZERS, BACKBONES, HEADS]
    if formats := sys.modules.get("edgemtl.data.formats"):  # which takes OpenCV to import
        registries.append(formats.FORMATS)
    for registry in registries:
        registry.discard(name)
    _state.loaded.pop(name, None)


def is_loaded(file: str) -> bool:
    """Whether a plugin is loaded: this file, or one of its name that the user gave in its place."""
    return file in _state.loaded or any(Path(name).name == Path(file).name for name in _state.loaded)


def resolve(file: str | Path, base: Path | None = None) -> Path:
    """Return the absolute path of a plugin's file, next to ``base`` where it is there."""
    path = Path(file).expanduser()
    if base is not None and (base / path).is_file():
        path = base / path
    return path.absolute()


def used_by(names: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Return the fingerprints by name of the loaded plugins that added any of ``names``, which stand by their kind."""
    registries = (TASKS, METHODS, TASK_WEIGHTINGS, REGULARIZERS, BACKBONES, HEADS)
    origins = {registry.kind: registry.origins for registry in registries}
    used = {origins[kind].get(name, "") for kind, part_names in names.items() for name in part_names}
    return {name: plugin.fingerprint for name, plugin in _state.loaded.items() if name in used}


def _read(path: Path) -> bytes:
    if path.suffix != ".py":
        raise ConfigError(f"plugin {path}: is no Python file; give one that ends in .py")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"plugin {path}: cannot be read ({error.strerror}); give the path of the file") from error


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value


@contextmanager
def _registering(name: str, shown: str) -> Iterator[None]:
    """Attribute what is registered to a plugin; an error in its code removes it and becomes a `ConfigError`."""
    token = origin.set(name)
    try:
        yield
    except BaseException as error:
        unload(name)
        if not isinstance(error, Exception | SystemExit):
            raise
        raise ConfigError(f"plugin {shown}: {_line_of(error, name)}{error or type(error).__name__}") from error
    finally:
        origin.reset(token)


def _line_of(error: Exception | SystemExit, file: str) -> str:
    """Return the last line of a plugin's file that an error passed, for people; the error's type, unless it is ours."""
    traceback, line = error.__traceback__, error.lineno or 0 if isinstance(error, SyntaxError) else 0
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == file:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    kind = "" if isinstance(error, EdgemtlError) else f"{type(error).__name__}: "
    return (f"line {line}: " if line else "") + kind
