"""TensorBoard output of a running training: ``tensorboard=runs/board``, then ``tensorboard --logdir runs/board``."""

from __future__ import annotations

from pathlib import Path

from .errors import ConfigError
from .training_log import GROUPS, TITLES, VAL


class TensorBoard:
    """Writes every log row to the folder NAME in ``folder``; without a folder it writes nothing.

    A training that is resumed at ``step`` purges what an earlier one wrote from that step on.
    """

    def __init__(self, folder: str, name: str, step: int) -> None:
        self.writer = None
        if not folder:
            return
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise ConfigError(f"tensorboard={folder}: {error}; pip install tensorboard") from error
        self.writer = SummaryWriter(Path(folder) / name, purge_step=step)

    def add(self, row: dict[str, float]) -> None:
        """Write a row of the log: losses and loss weights of the tasks in one group each."""
        for name, value in row.items():
            if self.writer and name != "step":
                self.writer.add_scalar(_tag(name), value, int(row["step"]))

    def close(self, step: int, report: dict[str, dict[str, float]]) -> None:
        """Write the final metrics, of the whole split and its parts."""
        if not self.writer:
            return
        for part, metrics in report.items():
            for name, value in metrics.items():
                self.writer.add_scalar(f"val {part}/{name}", value, step)
        self.writer.close()


def _tag(name: str) -> str:
    if name in TITLES:
        return f"training/{TITLES[name]}"
    return name if name.startswith((VAL, *GROUPS)) else f"loss/{name}"
