"""Worker processes: one that hangs is named and replaced, one that ends is a line."""

from __future__ import annotations

import os
import signal
import threading

import cv2
import pytest
import torch

from edgemtl.data.batch import Batch
from edgemtl.data.workers import Workers
from edgemtl.errors import EdgemtlError

pytestmark = pytest.mark.fault("L9")


@pytest.fixture(autouse=True)
def brief_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch waits five seconds for a worker to end by itself."""
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.2)


def batch(step: int) -> Batch:
    return Batch({"rgb": torch.full((1,), step)}, {}, source=(str(step),))


def test_a_worker_with_a_lock_that_was_held_at_the_fork_is_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    """Another thread of the parent holds it when the first workers are forked, and nobody will ever release theirs."""
    lock, parent = threading.Lock(), os.getpid()
    lock.acquire()
    workers = iter(Workers(lambda step: locked(step), 3, 9, 2, hung_after_s=1.5))

    def locked(step: int) -> Batch:
        assert os.getpid() != parent
        if step >= 5:
            with lock:
                return batch(step)
        return batch(step)

    got = [next(workers), next(workers)]
    lock.release()
    got += list(workers)
    assert [b.source for b in got] == [(str(step),) for step in range(3, 9)]
    (line,) = capsys.readouterr().err.strip().replace("\n", " ").split("; it is ended, and others go on from there")[:1]
    assert line.startswith("worker 0 (process ") and line.endswith("has given no batch for step 6 in 1.5 s")
    assert int(line.split()[3].rstrip(")")) != parent


def test_what_always_hangs_ends_the_training_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def hangs(step: int) -> Batch:
        if step == 1:
            threading.Event().wait()
        return batch(step)

    workers = iter(Workers(hangs, 0, 4, 1, hung_after_s=0.5))
    assert next(workers).source == ("0",)
    with pytest.raises(EdgemtlError, match=r"no batch for step 2 in 0\.5 s, 3 times in a row; data\.num_workers=0 "):
        next(workers)
    assert capsys.readouterr().err.count("it is ended") == 2


def test_a_worker_that_is_killed_is_one_line() -> None:
    def killed(step: int) -> Batch:
        os.kill(os.getpid(), signal.SIGKILL)
        return batch(step)

    with pytest.raises(EdgemtlError, match=r"a worker process ended: .* there may be too little memory"):
        list(Workers(killed, 0, 3, 1))


def test_a_worker_has_one_thread_and_leaves_signals_to_the_main_process() -> None:
    def state(step: int) -> Batch:
        values = [cv2.getNumThreads(), torch.get_num_threads(), signal.getsignal(signal.SIGINT) == signal.SIG_IGN]
        return Batch({"state": torch.tensor([int(value) for value in values])}, {})

    threads = cv2.getNumThreads()
    (only,) = Workers(state, 0, 1, 1)
    assert only.images["state"].tolist() == [1, 1, 1] and cv2.getNumThreads() == threads


def test_an_error_is_raised_as_it_is() -> None:
    def wrong(step: int) -> Batch:
        raise ZeroDivisionError(f"at {step}")

    with pytest.raises(ZeroDivisionError, match="at 0"):
        list(Workers(wrong, 0, 3, 2))
