"""An unfinished training on disk: one file beside the run's folder, replaced whole, gone when the run is in place."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from edgemtl_runtime.atomic import Lock, TakenError, normal, read_listing, recover, unfinished, write_file

from . import distributed
from .config import Config
from .console import print_message
from .errors import EdgemtlError
from .stop import Stop
from .trainer import Loop

FREE = ("checkpoint_interval_s", "tensorboard")
"""Keys that may change from one part of a training to the next."""


def lasting(config: Config) -> dict[str, Any]:
    """Return what may not change from one part of a training to the next, as JSON would give it back."""
    return {key: value for key, value in as_json(config).items() if key not in FREE}


class Checkpoint:
    """Saves the training state every ``config.checkpoint_interval_s`` seconds.

    A kill or a full disk while it saves leaves the last good state.
    """

    def __init__(self, out: str | Path, config: Config, keep: bool = True) -> None:
        """Without ``keep`` nothing is saved."""
        self.out, self.file, self.config, self.keep = Path(out), unfinished(out), config, keep
        self.saved_at = time.monotonic()
        self.step = -1
        """The step whose state is on the disk, -1 for none."""
        self.begun = False
        self.whole = True
        """Whether the loop stands between two steps."""

    def claim(self, resume: bool, overwrite: bool) -> None:
        """Look at what stands here, before any work; raises `TakenError` when it is not to be gone over."""
        if distributed.is_main():
            recover(self.file)  # what a process left that was killed while it saved
        if os.path.lexists(self.file):
            told = self._told()
            if resume:
                check_same(told["config"], self.config, "the unfinished training has")
            elif not overwrite:
                raise TakenError(
                    f"{self.out}: an unfinished training stands here; --resume goes on with it, --overwrite starts anew"
                )
        elif resume:
            print_message("nothing unfinished here: training from the start")

    @contextmanager
    def kept(self, loop: Loop, stop: Stop, started: float) -> Iterator[None]:
        """Save the state that a loop has between two steps when it is ended inside, by a person or by an error."""
        self.begun = True
        try:
            yield
        except BaseException:
            if self.whole and loop.step and distributed.is_main():
                with stop.whole():
                    self.save(loop, time.monotonic() - started)
            raise

    @contextmanager
    def uncertain(self) -> Iterator[None]:
        """What is raised inside leaves a state that is half a step further, and not to be saved."""
        self.whole = False
        yield
        self.whole = True

    def told(self, error: BaseException) -> str:
        """Return what to say to somebody whose training was ended, nothing where it had not begun."""
        if self.step >= 0:
            return f"the state behind step {self.step} is kept: the same command with --resume goes on from there"
        if isinstance(error, EdgemtlError) or not self.keep:
            return ""
        if os.path.lexists(self.file):
            return "the unfinished training is as it was: the same command with --resume goes on with it"
        return f"stopped before {'a state could be kept' if self.begun else 'the first step: there is nothing to keep'}"

    def save_if_due(self, loop: Loop, seconds: float) -> None:
        """Save when the last time is long enough ago; ``seconds`` is what the training took so far."""
        if time.monotonic() - self.saved_at >= self.config.checkpoint_interval_s:
            self.save(loop, seconds)

    def save(self, loop: Loop, seconds: float) -> None:
        """Save the state behind the step just taken; a failure is told, and the last state stays."""
        if not self.keep or loop.step == self.step:
            return
        tensors, numbers = loop.state()
        told = numbers | {"seconds": seconds, "config": msgspec.to_builtins(self.config)}
        try:
            state = save({n: t.detach().cpu().contiguous() for n, t in tensors.items()}, {"told": json.dumps(told)})
            write_file(self.file, state)
            self.step = loop.step
        except (OSError, SafetensorError) as error:
            print_message(f"the state at step {loop.step} could not be saved ({error}); training goes on")
        self.saved_at = time.monotonic()

    def load_into(self, loop: Loop) -> float:
        """Go on from the saved state, if there is one; return how many seconds the training took so far."""
        if not os.path.lexists(self.file):
            return 0.0
        told = self._told()
        try:
            with safe_open(self.file, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            loop.load_state(tensors, told)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise self._unreadable(error) from error
        self.step = loop.step
        print_message(f"going on from step {loop.step}")
        return float(told["seconds"])

    def _told(self) -> dict[str, Any]:
        try:
            return told_by(self.file)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: object) -> EdgemtlError:
        reason = " ".join(str(error).split())[:200]
        return EdgemtlError(f"{self.file}: no state to go on from ({reason}); move it away, or choose another --out")

    def clear(self) -> None:
        """Forget a state that outlived its finished run, as a kill between the two leaves it."""
        if distributed.is_main() and os.path.lexists(self.file):
            with suppress(EdgemtlError, OSError), Lock(normal(self.out)):
                if not differs(self._told()["config"], self.config):
                    self.file.unlink()

    def remove(self) -> None:
        """Forget the state: the run is finished."""
        if distributed.is_main() and self.keep and os.path.lexists(self.file):
            self._told()
            self.file.unlink()


def told_by(file: Path) -> dict[str, Any]:
    """Return what a saved state tells beside its tensors; raises any of several errors when it is not one of ours."""
    if file.is_symlink() or not file.is_file():
        raise TypeError("it is no plain file")
    with safe_open(file, "pt") as opened:
        told: dict[str, Any] = json.loads(opened.metadata()["told"])
    if not isinstance(told["config"], dict) or not isinstance(told["step"], int):
        raise TypeError("it tells no step")
    return told


def lasts(out: Path) -> dict[str, Any]:
    """Return what the training at ``out``, finished or not, was configured by, as `lasting`; nothing for none."""
    for folder in (unfinished(out), out):
        listing = read_listing(folder)
        asked = listing.asked.get("config", listing.asked) if listing else {}
        with suppress(SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError):
            asked = asked or told_by(folder)["config"]
        if asked:
            return {key: value for key, value in asked.items() if key not in FREE}
    return {}


def check_same(theirs: dict[str, Any], config: Config, told: str) -> None:
    """Raise `EdgemtlError` with the first key in which another configuration differs."""
    if key := differs(theirs, config):
        mine = as_json(config)
        raise EdgemtlError(
            f"--resume: {told} {key}={theirs.get(key)}, this one {key}={mine[key]}; "
            "give the same configuration, or another --out"
        )


def differs(theirs: dict[str, Any], config: Config) -> str:
    """Return the first key in which another configuration differs, nothing where they are the same."""
    mine = as_json(config)
    return next((key for key, value in mine.items() if key not in FREE and theirs.get(key) != value), "")


def as_json(config: Config) -> dict[str, Any]:
    """Return a configuration as JSON would give it back."""
    told: dict[str, Any] = json.loads(json.dumps(msgspec.to_builtins(config)))
    return told
