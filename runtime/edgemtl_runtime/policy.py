"""What waits for the network, and what is too old for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from .errors import EdgemtlError


@dataclass(frozen=True)
class Policy:
    """What happens to pairs that the network has no time for, and to those that are too old.

    "latest": only the newest waits. "queue": up to ``depth`` wait, the oldest goes. "every": cameras wait for the
    network, which recordings can and live cameras cannot. "auto": "every" for recordings, "latest" where one is live.
    A pair whose frames are older than ``max_age_ms`` is not run; 0 sets no bound.
    """

    kind: Literal["auto", "latest", "queue", "every"] = "auto"
    depth: int = 8
    max_age_ms: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("auto", "latest", "queue", "every"):
            raise EdgemtlError(f"policy '{self.kind}': is not one of auto, latest, queue, every")
        if not 1 <= self.depth <= 1000 or not 0 <= self.max_age_ms < 1e6:
            raise EdgemtlError(
                "a policy's depth lies between 1 and 1000, max_age_ms between 0 (no bound) and a million"
            )

    def of(self, live: bool) -> Policy:
        """Return the policy with "auto" decided."""
        if self.kind == "every" and live:
            raise EdgemtlError("policy 'every' is for recordings: a live camera does not wait; take 'queue'")
        kind = ("latest" if live else "every") if self.kind == "auto" else self.kind
        return replace(self, kind=kind, depth=1 if kind == "latest" else self.depth)
