"""Checkpoints of an unfinished training: one file next to the run's folder, replaced atomically, removed at the end."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from edgemtl_runtime.atomic import ExistsError, Lock, read_inventory, recover, resolve_parent, unfinished, write_file

from . import distributed, run_plugins
from .config import Config
from .console import print_message
from .errors import ConfigError, EdgemtlError
from .log_file import TrainingLog
from .renamed_keys import renamed
from .run import Interface
from .stop import Stop
from .trainer import Trainer, TrainState

FREE = ("checkpoint_interval_s", "tensorboard")
"""Keys that may change when a training is resumed."""
HEADER, OLD_HEADER = "train_state", "told"
"""The entry of the file's metadata that holds the values; version 0.1 had another, and other tensors with it."""
LOG_SUFFIX = ".log.jsonl"
UNREADABLE = (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError)
Values = dict[str, Any]


def lasting(config: Config) -> Values:
    """Return the keys that may not change when a training is resumed, with their values as JSON."""
    return {key: value for key, value in as_json(config).items() if key not in FREE}


class Checkpoint:
    """Saves the state of a training every ``config.checkpoint_interval_s`` seconds.

    A kill or a full disk during a save leaves the last good state.
    """

    def __init__(self, out: str | Path, config: Config, keep: bool = True) -> None:
        """Without ``keep`` nothing is saved."""
        self.out, self.file, self.config, self.keep = Path(out), unfinished(out), config, keep
        self.log_file = self.file.with_name(f"{self.file.name}{LOG_SUFFIX}")
        self.log: TrainingLog | None = None
        self.saved_at = time.monotonic()
        self.step = -1
        """The step whose state is on the disk, -1 for none."""
        self.begun = False
        self.consistent = True
        """Whether the training is between two steps."""

    def claim(self, resume: bool, overwrite: bool) -> None:
        """Check an existing file before any work; raises `ExistsError` when it is not to be overwritten."""
        if distributed.is_main():
            recover(self.file)  # left by a process that was killed while it saved
        if os.path.lexists(self.file):
            values = self._values()
            if resume:
                check_same(values["config"], self.config, "the unfinished training has")
            elif not overwrite:
                raise ExistsError(
                    f"{self.out}: an unfinished training stands here; --resume goes on with it, "
                    "--overwrite starts again"
                )
        elif resume:
            print_message("nothing unfinished here: training from the start")

    @contextmanager
    def kept(self, trainer: Trainer, stop: Stop, started: float) -> Iterator[None]:
        """Save the state when the block is left by a signal or an error between two steps."""
        self.begun = True
        try:
            yield
        except BaseException:
            if self.consistent and trainer.step and distributed.is_main():
                with stop.deferred():
                    self.save(trainer, time.monotonic() - started)
            raise

    @contextmanager
    def uncertain(self) -> Iterator[None]:
        """Mark a step: an exception inside leaves half of it done, a state that must not be saved."""
        self.consistent = False
        yield
        self.consistent = True

    def summary(self, error: BaseException) -> str:
        """Return what a user needs to know after an interruption, nothing where no training had begun."""
        if self.step >= 0:
            return f"the state after step {self.step} is kept: the same command with --resume goes on from there"
        if isinstance(error, EdgemtlError) or not self.keep:
            return ""
        if os.path.lexists(self.file):
            return "the unfinished training is as it was: the same command with --resume goes on with it"
        return f"stopped before {'a state could be kept' if self.begun else 'the first step: there is nothing to keep'}"

    def save_if_due(self, trainer: Trainer, seconds: float) -> None:
        """Save when the interval has passed; ``seconds`` is how long the training took so far."""
        if time.monotonic() - self.saved_at >= self.config.checkpoint_interval_s:
            self.save(trainer, seconds)

    def save(self, trainer: Trainer, seconds: float) -> None:
        """Save the state after the last step; a failure is reported, and the last state stays."""
        if not self.keep or trainer.step == self.step:
            return
        state = trainer.state()
        values = state.values | {"seconds": seconds, "config": msgspec.to_builtins(self.config)}
        values["plugins"] = run_plugins.used(self.config, trainer.interface.network)
        values["meaning"] = meaning(trainer.interface)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
        try:
            write_file(self.file, save(tensors, {HEADER: json.dumps(values)}))
            self.step = trainer.step
        except (OSError, SafetensorError) as error:
            print_message(f"the state at step {trainer.step} could not be saved ({error}); training goes on")
        self.saved_at = time.monotonic()

    def load_into(self, trainer: Trainer) -> float:
        """Restore the saved state, if there is one; return how many seconds the training took so far."""
        if not os.path.lexists(self.file):
            return 0.0
        values = self._values()
        if OLD_HEADER in values:
            raise EdgemtlError(
                f"{self.file}: a state of version 0.1, which cannot be resumed; finish it with that version, "
                "or start from the beginning with --overwrite"
            )
        check_meaning(values.get("meaning", {}), meaning(trainer.interface))
        try:
            with safe_open(self.file, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            trainer.load_state(TrainState(tensors, values))
        except UNREADABLE as error:
            raise self._unreadable(error) from error
        run_plugins.check(self.out, values.get("plugins", {}))
        self.step = trainer.step
        print_message(f"going on from step {trainer.step}")
        return float(values["seconds"])

    def _values(self) -> Values:
        try:
            return read_values(self.file)
        except UNREADABLE as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: object) -> EdgemtlError:
        reason = " ".join(str(error).split())[:200]
        return EdgemtlError(f"{self.file}: no state to resume from ({reason}); move it away, or choose another --out")

    def clear(self) -> None:
        """Remove a state that outlived its finished run, as a kill between the two leaves it."""
        if distributed.is_main() and os.path.lexists(self.file):
            with suppress(EdgemtlError, OSError), Lock(resolve_parent(self.out)):
                if not differs(self._values()["config"], self.config):
                    self.file.unlink()
                    self.log_file.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the state: the run is finished."""
        if distributed.is_main() and self.keep and os.path.lexists(self.file):
            self._values()
            self.file.unlink()
            self.close_log()

    def open_log(self, log: TrainingLog) -> None:
        """Let the main process write the log of the training next to its state."""
        if not distributed.is_main():
            log.discard()
        elif self.keep:
            self.log = log
            log.open(self.log_file)

    def close_log(self) -> None:
        """Close the log, and remove it where there is no state that it belongs to."""
        if self.log:
            self.log.close()
            if not os.path.lexists(self.file):
                self.log_file.unlink(missing_ok=True)


def read_values(file: Path) -> Values:
    """Return a checkpoint without its tensors, the configuration by today's keys; raises one of `UNREADABLE`.

    Those of version 0.1 have the key `OLD_HEADER` as well.
    """
    if file.is_symlink() or not file.is_file():
        raise TypeError("it is no plain file")
    with safe_open(file, "pt") as opened:
        metadata: dict[str, str] = opened.metadata()
    header = OLD_HEADER if OLD_HEADER in metadata else HEADER
    values: Values = json.loads(metadata[header])
    if not isinstance(values["config"], dict) or not isinstance(values["step"], int):
        raise TypeError("it has no step")
    return values | {"config": upgraded(values["config"])} | ({OLD_HEADER: True} if header == OLD_HEADER else {})


def lasting_of(out: Path) -> Values:
    """Return the configuration of the training at ``out``, finished or not, as `lasting`; {} for none."""
    for folder in (unfinished(out), out):
        inventory = read_inventory(folder)
        config = inventory.settings.get("config", inventory.settings) if inventory else {}
        with suppress(*UNREADABLE):
            config = config or read_values(folder)["config"]
        if config:
            return {key: value for key, value in upgraded(config).items() if key not in FREE}
    return {}


def upgraded(config: Values) -> Values:
    """Return a configuration of any version as JSON with today's keys; as it is where it cannot be read."""
    try:
        return as_json(msgspec.convert(renamed(config, "config.yaml"), Config))
    except (msgspec.ValidationError, ConfigError):
        return config


def check_same(existing: Values, config: Config, owner: str) -> None:
    """Raise `EdgemtlError` with the first key in which an existing training's configuration differs."""
    if key := differs(existing, config):
        value = as_json(config)[key]
        raise EdgemtlError(
            f"--resume: {owner} {key}={existing.get(key)}, this one {key}={value}; "
            "give the same configuration, or another --out"
        )


def differs(existing: Values, config: Config) -> str:
    """Return the first key in which an existing configuration differs, nothing where they are the same."""
    return next((key for key, value in lasting(config).items() if existing.get(key) != value), "")


def meaning(interface: Interface) -> dict[str, list[str]]:
    """Return what a network's inputs and outputs stand for, in order: its cameras, and the classes of each head."""
    cameras = {"the cameras": [spec.name for spec in interface.inputs]}
    return cameras | {f"the classes of {head.name}": list(head.classes) for head in interface.heads}


def check_meaning(existing: Mapping[str, list[str]], now: Mapping[str, list[str]]) -> None:
    """Raise `EdgemtlError` where the data have other classes or cameras than when a training was stopped.

    A state of an earlier version, which does not hold them, passes.
    """
    for what in (existing.keys() | now.keys()) if existing else ():
        before, after = (", ".join(part[what]) if what in part else "none" for part in (existing, now))
        if before != after:
            raise EdgemtlError(
                f"--resume: {what} were {before} when this training was stopped, they are {after} now; "
                "give the same data and network, or --overwrite"
            )


def as_json(config: Config) -> Values:
    """Return a configuration as JSON would give it back."""
    values: Values = json.loads(json.dumps(msgspec.to_builtins(config)))
    return values
