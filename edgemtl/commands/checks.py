"""Checks of a command's arguments before torch is imported: a mistake is answered within a second."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from edgemtl_runtime.atomic import check_folder
from edgemtl_runtime.bundle import MANIFEST

from ..config import Config
from ..errors import ConfigError, DataError, EdgemtlError
from ..methods import EXPERIMENTS, METHODS
from ..methods.weighting import TASK_WEIGHTINGS
from ..run_files import RUN, check_run, is_run
from ..tasks import TASKS

SYNTHETIC = "streets"
"""The data source that is no path."""


def check_config(config: Config, resume: bool = False) -> None:
    """Raise `EdgemtlError` where a configuration names a task, network or file that does not exist."""
    for name in config.tasks:
        TASKS.check(name, "tasks:")
    if config.method not in EXPERIMENTS:
        METHODS.check(config.method, "method:")
    TASK_WEIGHTINGS.check(config.task_weighting, "task_weighting:")
    _check_network(config.network)
    if resume:  # a finished run is returned without its data
        return
    for source in config.data.sources:
        check_source(source.source)
    if config.init_from and not Path(config.init_from).is_file():
        check_run(Path(config.init_from))
    for teacher in config.teachers.values():
        check_run(Path(teacher))


def _check_network(name: str) -> None:
    if name.endswith((".yaml", ".yml")) and Path(name).is_file():
        return
    if name not in (known := zoo()):
        reason = f"no network '{name}'; the zoo has {', '.join(known)}, or give a YAML file"
        raise ConfigError(f"network {name}: {reason}")


def zoo() -> list[str]:
    """Return the names of the networks of `edgemtl_models`, which is not imported."""
    spec = find_spec("edgemtl_models")
    folders = (spec.submodule_search_locations or []) if spec else []
    return sorted(file.stem for folder in folders for file in Path(folder).glob("zoo/*.yaml"))


def check_source(source: str) -> None:
    """Raise `DataError` where a data source is neither synthetic nor a path that exists."""
    if source != SYNTHETIC and not Path(source).exists():
        raise DataError(f"{source}: there is no such folder")


def check_out(out: Path | None, config: Config, resume: bool, overwrite: bool) -> None:
    """Raise where the folder of a run may not be written."""
    if out is not None and not resume and config.method not in ("single", "lomt"):
        check_folder(out, RUN, overwrite)


def check_run_or_bundle(path: Path) -> None:
    """Raise `EdgemtlError` where a path is neither a run nor a bundle."""
    if is_run(path):
        check_run(path)
    elif not path.is_dir():
        raise EdgemtlError(f"{path}: no such folder; give a run or a bundle")
    elif not (path / MANIFEST).is_file():
        raise EdgemtlError(f"{path}: no bundle here ({MANIFEST} is missing); make one with `edgemtl export`")


def check_run_or_program(path: Path) -> None:
    """Raise `EdgemtlError` where a path is neither a run nor a file."""
    if path.is_dir():
        check_run(path)
    elif not path.is_file():
        raise EdgemtlError(f"{path}: no such run or file; give a run's folder or what torch.export.save wrote")
