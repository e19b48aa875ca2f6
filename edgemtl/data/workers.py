"""Worker processes that prepare batches ahead of the steps that need them.

They are forked, so that they share what was decoded before, and datasets and plugins need not be importable. Processes
of a server that imports all anew would inherit no lock, but begin after 12 s on two cores in place of 0.1 s. What
another thread holds at the fork stays held in the child for ever: so a worker prints nothing, and one that gives no
batch is named and replaced. A batch depends on the seed and its step only: another process makes the same. OpenCV's
threads are switched off in the workers, not before the fork: one of three programs that did so, while another thread
used OpenCV, ended with a floating-point exception.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from multiprocessing.sharedctypes import RawArray
from typing import Any

import cv2
import torch
import torch.utils.data
from torch.utils.data import DataLoader

from ..console import print_message
from ..errors import EdgemtlError
from .batch import Batch

HUNG_AFTER_S = 300.0
"""How long a batch may take, once all before it are used."""
MAX_HUNG = 3
"""So many workers in a row may hang at one batch."""


class Workers:
    """Iterates over the batches that ``prepare(step)`` returns, by ``count`` processes.

    ``step`` goes from ``start`` up to, not with, ``stop``. An error of ``prepare`` is raised as it is; `EdgemtlError`
    where workers end, or hang again and again.
    """

    def __init__(
        self, prepare: Callable[[int], Batch], start: int, stop: int, count: int, hung_after_s: float = HUNG_AFTER_S
    ) -> None:
        self.prepare, self.steps, self.count, self.hung_after_s = prepare, range(start, stop), count, hung_after_s

    def __iter__(self) -> Iterator[Batch]:
        step, hung = self.steps.start, 0
        while step < self.steps.stop:
            task = _Task(self.prepare, self.count)
            batches = self._loader(task, step)
            first = step
            try:
                while step < self.steps.stop:
                    try:
                        batch = next(batches)
                    except RuntimeError as error:
                        hung += 1
                        self._report(error, task.describe(step, (step - first) % self.count), step, hung)
                        break
                    if isinstance(batch, BaseException):
                        raise batch
                    yield batch
                    step, hung = step + 1, 0
            finally:
                batches = None  # ends the processes now: whoever keeps an error's traceback keeps this frame

    def _loader(self, task: _Task, start: int) -> Any:
        context = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
        return iter(
            DataLoader(
                task,
                batch_size=None,
                sampler=range(start, self.steps.stop),
                num_workers=self.count,
                multiprocessing_context=context,
                pin_memory=torch.cuda.is_available(),
                timeout=self.hung_after_s,
                worker_init_fn=task.begin,
                generator=torch.Generator(),  # of seeds of the workers' global generators, which nothing draws from
            )
        )

    def _report(self, error: RuntimeError, worker: str, step: int, hung: int) -> None:
        """Print which worker hangs; raise `EdgemtlError` where that does not help, or one has ended by itself."""
        remedy = "data.num_workers=0 prepares batches by a thread"
        if "timed out" not in str(error):
            reason = " ".join(str(error).split())[:200]
            raise EdgemtlError(f"a worker process ended: {reason}; there may be too little memory; {remedy}") from error
        message = f"{worker} has given no batch for step {step + 1} in {self.hung_after_s:g} s"
        if hung >= MAX_HUNG:
            raise EdgemtlError(f"{message}, {hung} times in a row; {remedy}") from error
        print_message(f"{message}; it is ended, and others go on from there")


class _Task(torch.utils.data.Dataset[Batch | BaseException]):
    """What a worker does: prepare batches by step, and note which one it is at."""

    def __init__(self, prepare: Callable[[int], Batch], count: int) -> None:
        self.prepare = prepare
        self.processes, self.current = RawArray("q", count), RawArray("q", [-1] * count)

    def begin(self, worker: int) -> None:
        """Set up a worker process: one thread, and signals that are for the main process alone."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # ends one that hangs, too
        cv2.setNumThreads(0)
        self.processes[worker] = os.getpid()

    def __getitem__(self, step: int) -> Batch | BaseException:
        worker = torch.utils.data.get_worker_info()
        if worker is not None:
            self.current[worker.id] = step
        try:
            return self.prepare(step)
        except Exception as error:  # DataLoader would raise it with its whole traceback as the message
            return error

    def describe(self, step: int, expected: int) -> str:
        """Return which worker is at a step, or is ``expected`` to be next at it."""
        worker = next((index for index, current in enumerate(self.current) if current == step), expected)
        return f"worker {worker} (process {self.processes[worker] or 'not begun'})"
