"""An unfinished training on disk: one file beside the run's folder, replaced whole, gone when the run is in place."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import msgspec
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .config import Config
from .console import say
from .errors import EdgemtlError
from .loop import Loop


class Checkpoint:
    """Saves a loop every ``config.save_s`` seconds; a kill or a full disk while it does leaves the last good state."""

    def __init__(self, out: str | Path, config: Config) -> None:
        path = Path(out).absolute()
        self.file = path.with_name(f".{path.name}.unfinished")
        self.config = config
        self.saved_at = time.monotonic()

    def save_if_due(self, loop: Loop, seconds: float) -> None:
        """Save when the last time is long enough ago; ``seconds`` is what the training took so far."""
        if time.monotonic() - self.saved_at >= self.config.save_s:
            self._save(loop, seconds)
            self.saved_at = time.monotonic()

    def _save(self, loop: Loop, seconds: float) -> None:
        tensors, numbers = loop.state()
        told = numbers | {"seconds": seconds, "config": msgspec.to_builtins(self.config)}
        aside = self.file.with_name(f"{self.file.name}.part")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            save_file({n: t.detach().cpu().contiguous() for n, t in tensors.items()}, aside, {"told": json.dumps(told)})
            with aside.open("rb") as stream:
                os.fsync(stream.fileno())
            aside.replace(self.file)
        except (OSError, SafetensorError) as error:
            aside.unlink(missing_ok=True)
            say(f"the state at step {loop.step} could not be saved ({error}); training goes on")

    def load_into(self, loop: Loop) -> float:
        """Go on from the saved state, if there is one; return how many seconds the training took so far."""
        if not self.file.is_file():
            say("nothing unfinished here: training from the start")
            return 0.0
        try:
            with safe_open(self.file, "pt") as file:
                told: dict[str, Any] = json.loads(file.metadata()["told"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            self._check(told["config"])
            loop.load_state(tensors, told)
        except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise EdgemtlError(f"{self.file}: no state to go on from ({reason}); train without --resume") from error
        say(f"going on from step {loop.step}")
        return float(told["seconds"])

    def _check(self, theirs: dict[str, Any]) -> None:
        mine = json.loads(json.dumps(msgspec.to_builtins(self.config)))
        for key, value in mine.items():
            if key not in ("save_s", "tensorboard") and theirs.get(key) != value:
                raise EdgemtlError(
                    f"--resume: the unfinished training has {key}={theirs.get(key)}, this one {key}={value}; "
                    "give the same configuration, or train without --resume"
                )

    def remove(self) -> None:
        """Forget the state: the run is finished."""
        self.file.unlink(missing_ok=True)
