"""A training on TensorBoard, while it runs: ``tensorboard=runs/board``, then ``tensorboard --logdir runs/board``."""

from __future__ import annotations

from pathlib import Path

from .errors import ConfigError
from .training_log import JUDGED, SHARED, TITLES


class Board:
    """Writes the figures of every step to the folder NAME in ``folder``; without a folder it writes nothing.

    A training that goes on from ``step`` takes back what an earlier one wrote from there on.
    """

    def __init__(self, folder: str, name: str, step: int) -> None:
        self.writer = None
        if not folder:
            return
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise ConfigError(f"tensorboard={folder}: {error}; pip install 'edgemtl[tensorboard]'") from error
        self.writer = SummaryWriter(Path(folder) / name, purge_step=step)

    def add(self, row: dict[str, float]) -> None:
        """Show a row of the log: losses and weights of the tasks side by side."""
        for name, value in row.items():
            if self.writer and name != "step":
                self.writer.add_scalar(_place(name), value, int(row["step"]))

    def close(self, step: int, judged: dict[str, dict[str, float]]) -> None:
        """Show what the network is worth at the end, on the whole split and its parts."""
        if not self.writer:
            return
        for part, figures in judged.items():
            for name, value in figures.items():
                self.writer.add_scalar(f"val {part}/{name}", value, step)
        self.writer.close()


def _place(name: str) -> str:
    if name in TITLES:
        return f"training/{TITLES[name]}"
    if name.startswith(JUDGED):
        return f"val/{name.removeprefix(JUDGED)}"
    start = next((start for start in SHARED if name.startswith(start)), "")
    return f"{start.strip()}/{name.removeprefix(start)}" if start else f"loss/{name}"
