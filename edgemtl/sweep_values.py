"""The values of a key that a sweep goes through, and the folders of its runs; read without torch."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from edgemtl_runtime.atomic import ExistsError

from .config import Config
from .errors import ConfigError

OUTPUTS = ("sweep.json", "sweep.png")


class _Kept(msgspec.Struct):
    """What is read of an earlier sweep."""

    key: str


def split_values(word: str) -> tuple[str, list[str]]:
    """Return the key and the values of ``key=a,b,c``; commas in brackets are part of a value."""
    key, equals, text = word.partition("=")
    values = [value.strip() for value in re.split(r",(?![^\[{]*[\]}])", text)]
    if not equals or not key or len(values) < 2 or not all(values):
        raise ConfigError(f"{word}: give the key to sweep with its values, like sparsity.target=0,0.5")
    if repeated := [value for value in values if values.count(value) > 1]:
        raise ConfigError(f"{word}: {repeated[0]} stands in it twice")
    return key, values


def folder_of(out: Path, key: str, value: str, seed: int) -> Path:
    """Return the folder of a run."""
    return out / f"{key.rpartition('.')[2]}-{re.sub(r'[^A-Za-z0-9.+-]+', '_', value)}-seed{seed}"


def check_outputs(out: Path, key: str) -> None:
    """Raise `ExistsError` where the files of a sweep would replace those of another key, or of something else."""
    if out.exists() and not out.is_dir():
        raise ExistsError(f"{out}: is a file; give a folder")
    if not any((out / name).exists() for name in OUTPUTS):
        return
    try:
        known = msgspec.json.decode((out / OUTPUTS[0]).read_bytes(), type=_Kept).key
    except (OSError, msgspec.MsgspecError):
        known = ""
    if known != key:
        held = f"a sweep of {known}" if known else f"a file {' or '.join(OUTPUTS)} that no sweep wrote"
        raise ExistsError(f"{out}: holds {held}; give another --out")


def seeds_of(config: Config, seeds: str) -> list[Config]:
    """Return a configuration under each seed that is listed, or as it is; raises `ConfigError`."""
    words = [word.strip() for word in seeds.split(",") if word.strip()]
    if not all(word.isdecimal() for word in words) or len(set(words)) < len(words):
        raise ConfigError(f"--seeds {seeds}: list different whole numbers, like 0,1,2")
    return [msgspec.structs.replace(config, seed=int(word)) for word in words] or [config]
