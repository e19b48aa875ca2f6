"""What times a run: the time that its thread computes, or the time that passes."""

from __future__ import annotations

import time
from collections.abc import Callable


def clock_for(backend: str, threads: int) -> Callable[[], float]:
    """Return the clock for a back end, seconds.

    Where one thread computes, that of the call, its own time counts: what else the machine does meanwhile is not in
    it. Several threads and other processors are timed by the time that passes.
    """
    return time.thread_time if backend == "onnxruntime-cpu" and threads == 1 else time.perf_counter
