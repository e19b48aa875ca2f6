"""Checks of a command's arguments before torch is imported: a mistake is answered within a second."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgemtl_runtime.atomic import AtomicFolder, ExistsError, check_folder, unfinished
from edgemtl_runtime.limits import read_yaml
from edgemtl_runtime.path_kinds import MANIFEST, instead_of_bundle

from .. import ranks
from ..config import Config
from ..errors import ConfigError, DataError, EdgemtlError, nearest_hint
from ..methods import EXPERIMENTS, METHODS
from ..methods.weighting import TASK_WEIGHTINGS
from ..run_files import ADAPTATION, LOMT, RUN, SINGLE, check_run, is_run, read_description
from ..tasks import TASKS
from ..torch_file import foreign_class

if TYPE_CHECKING:
    from ..data.datasets import Splits

SYNTHETIC = "streets"
"""The data source that is no path."""
STRIDE = 32
"""What the sides of an input are multiples of (`edgemtl_models.STRIDE`)."""
MIN_FREE_BYTES = 64 << 20
OTHER_FILES = (".onnx", ".pt2", ".engine", ".plan", ".trt", ".tflite", ".torchscript")


def check_config(config: Config, resume: bool = False) -> None:
    """Raise `EdgemtlError` where a configuration names a task, network, modality or file that does not exist."""
    for name in config.tasks:
        TASKS.check(name, "tasks:")
    METHODS.check(config.method, "method:", EXPERIMENTS)
    TASK_WEIGHTINGS.check(config.task_weighting, "task_weighting:")
    streams = _check_network(config.network)
    for name in config.modalities:
        if streams and name not in (*streams, "depth"):  # built like another stream (`edgemtl_models.build`)
            raise ConfigError(f"modalities: {config.network} has no stream '{name}'; it has: {', '.join(streams)}")
    height, width = config.input_size
    if height % STRIDE or width % STRIDE:
        nearest = [max(STRIDE, STRIDE * math.ceil(side / STRIDE)) for side in config.input_size]
        raise ConfigError(f"input_size={[height, width]}: multiples of {STRIDE} are wanted, like {nearest}")
    if resume:  # a finished run is returned without its data
        return
    for source in config.data.sources:
        check_source(source.source)
    if config.init_from:
        check_initial_weights(Path(config.init_from), config.network)
    for teacher in filter(None, (config.teacher, *config.teachers.values())):
        check_run(Path(teacher))


def check_initial_weights(source: Path, network: str) -> None:
    """Raise `EdgemtlError` where a path is neither a run nor a file of tensors, or is of a YOLO for another network."""
    if not source.is_file():
        check_run(source)
    elif source.suffix.lower() in OTHER_FILES:
        raise ConfigError(f"init_from={source}: holds a graph, not tensors by name; give a run or .safetensors")
    elif foreign := foreign_class(source):
        if "ultralytics" not in foreign:
            raise ConfigError(f"init_from={source}: no tensors in it ({foreign}); give a run or .safetensors")
        if not str(_description(network).get("neck_kind", "")).startswith("yolo"):
            taking = " or ".join(f"network={name}" for name in zoo() if "yolo" in name)
            raise ConfigError(
                f"init_from={source}: a network of ultralytics, whose layers {network} lacks; take {taking}"
            )


def check_data(config: Config) -> Splits:
    """Open the data of a training; raises `EdgemtlError` where they do not fit its tasks and network."""
    from ..data.datasets import open_datasets

    splits = open_datasets(config, check_labels=True)
    labelled, modalities = splits["train"].classes, splits["train"].modalities
    if not any(name in labelled for name in config.tasks):
        raise ConfigError(f"the data have labels for {', '.join(labelled) or 'none'} of tasks={list(config.tasks)}")
    for name in config.modalities or _check_network(config.network):
        if name not in modalities:
            available = ", ".join(modalities)
            raise ConfigError(f"the network needs {name} images, the data have {available}: modalities=[{available}]")
    return splits


def _check_network(name: str) -> list[str]:
    """Return the streams of a network, as its YAML file lists them."""
    streams = _description(name).get("streams")
    return list(streams) if isinstance(streams, dict) else []


def _description(name: str) -> dict[str, Any]:
    """Return a network's YAML file, whatever is in it; raises `ConfigError` where there is none."""
    file = Path(name)
    if not (name.endswith((".yaml", ".yml")) and file.is_file()):
        if name not in (known := zoo()):
            reason = f"no network '{name}'; the zoo has {', '.join(known)}, or give a YAML file"
            raise ConfigError(f"network {name}: {reason}")
        file = next(path for path in _zoo_files() if path.stem == name)
    description = read_yaml(file, ConfigError)
    return description if isinstance(description, dict) else {}


def zoo() -> list[str]:
    """Return the names of the networks of `edgemtl_models`, which is not imported."""
    return sorted(file.stem for file in _zoo_files())


def _zoo_files() -> list[Path]:
    spec = find_spec("edgemtl_models")
    folders = (spec.submodule_search_locations or []) if spec else []
    return [file for folder in folders for file in Path(folder).glob("zoo/*.yaml")]


def check_source(source: str) -> None:
    """Raise `DataError` where a data source is neither synthetic nor a path that exists."""
    if source != SYNTHETIC and not Path(source).exists():
        raise DataError(f"{source}: there is no such folder")


def check_out(out: Path, kind: str, resume: bool = False, overwrite: bool = False) -> None:
    """Raise where a folder of a kind may not be written; it is claimed for an instant, and left as it was."""
    if resume or ranks.world_size() > 1:
        return
    if kind in (RUN, SINGLE, LOMT, ADAPTATION) and not overwrite and os.path.lexists(unfinished(out)):
        raise ExistsError(
            f"{out}: an unfinished training stands here; --resume goes on with it, --overwrite starts again"
        )
    check_folder(out, kind, overwrite)
    with AtomicFolder(out, kind, overwrite):
        pass
    parent = next(path for path in out.absolute().parents if path.exists())
    if (free := shutil.disk_usage(parent).free) < MIN_FREE_BYTES:
        least = f"{MIN_FREE_BYTES / 1e6:.0f} MB"
        raise EdgemtlError(f"{out}: {free / 1e6:.0f} MB are free there, at least {least} are needed; make room")


def check_heads(run: Path, names: Sequence[str]) -> None:
    """Raise `EdgemtlError` where a run has no head of a name."""
    known = [str(head.get("name")) for head in read_description(run).get("heads", []) if isinstance(head, dict)]
    for name in names:
        if known and name not in known:
            raise EdgemtlError(f"--heads: the run has no head '{name}'{nearest_hint(name, known)}")


def tensorrt_backend() -> str:
    """Return the backend that builds engines on this machine; raises `EdgemtlError` with the reasons of all others."""
    from edgemtl_runtime.engine.config import unavailable_reason
    from edgemtl_runtime.engine.trt_build import BACKENDS

    reasons = {name: unavailable_reason(name) for name in BACKENDS}
    for name, reason in reasons.items():
        if not reason:
            return name
    text = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    raise EdgemtlError(
        f"--tensorrt: no engine can be built and checked here ({text}). Export with `--backend tensorrt --precisions "
        "fp16,int8`, then `edgemtl-runtime build BUNDLE` where the GPU is"
    )


def check_run_or_bundle(path: Path) -> None:
    """Raise `EdgemtlError` where a path is neither a run nor a bundle."""
    if is_run(path):
        check_run(path)
    elif not path.is_dir():
        raise EdgemtlError(f"{path}: no such folder; give a run or a bundle")
    elif not (path / MANIFEST).is_file():
        raise EdgemtlError(f"{path}: no bundle here {instead_of_bundle(path)}")


def check_run_or_program(path: Path) -> None:
    """Raise `EdgemtlError` where a path is neither a run nor a file."""
    if path.is_dir():
        check_run(path)
    elif not path.is_file():
        raise EdgemtlError(f"{path}: no such run or file; give a run's folder or what torch.export.save wrote")
