"""Queue policy: which pairs wait for the network, which are dropped, and which are too old to be run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from .errors import EdgemtlError
from .renamed_names import renamed_fields

QueueMode = Literal["auto", "latest", "queue", "every"]


@renamed_fields(kind="mode", depth="size")
@dataclass(frozen=True)
class QueuePolicy:
    """Policy of the queue in front of the network.

    ``mode`` "latest": only the newest pair waits. "queue": up to ``size`` wait, the oldest is dropped. "every": cameras
    wait for the network, which recordings can and live cameras cannot. "auto": "every" for recordings, "latest" where
    one is live. A pair whose frames are older than ``max_age_ms`` is not run; 0 sets no bound. Raises `EdgemtlError`
    for another mode, or a size or age out of range.
    """

    mode: QueueMode = "auto"
    size: int = 8
    max_age_ms: float = 0.0

    def __post_init__(self) -> None:
        if self.mode not in ("auto", "latest", "queue", "every"):
            raise EdgemtlError(f"queue policy '{self.mode}': is not one of auto, latest, queue, every")
        if not 1 <= self.size <= 1000 or not 0 <= self.max_age_ms < 1e6:
            raise EdgemtlError("a queue's size lies between 1 and 1000, max_age_ms between 0 (no bound) and a million")

    def of(self, live: bool) -> QueuePolicy:
        """Return the policy with "auto" resolved for cameras of which one is ``live``, or none."""
        if self.mode == "every" and live:
            raise EdgemtlError("queue policy 'every' is for recordings: a live camera does not wait; take 'queue'")
        mode: QueueMode = ("latest" if live else "every") if self.mode == "auto" else self.mode
        return replace(self, mode=mode, size=1 if mode == "latest" else self.size)
