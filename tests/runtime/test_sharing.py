"""One engine in several threads: equal answers, one at a time, and a clear end."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from stand_ins import install

from edgemtl_runtime.bundle import Bundle
from edgemtl_runtime.engine import Engine, ThreadSafeEngine
from edgemtl_runtime.engine.benchmark import noise
from edgemtl_runtime.engine.config import EngineConfig, open_engine
from edgemtl_runtime.engine.onnxruntime import OrtEngine
from edgemtl_runtime.errors import EngineError

BACKENDS = ("onnxruntime-cpu", "tensorrt")


@pytest.fixture
def engine(request: pytest.FixtureRequest, toy_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """An engine of a back end, on a stand-in where that needs a GPU."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if request.param == "tensorrt":
        install(monkeypatch)
    return open_engine(Bundle.open(toy_bundle), EngineConfig(request.param, threads=1))


def images(bundle: Path, value: int) -> dict[str, np.ndarray]:
    """Return pictures that are bright or dark all over."""
    return {name: np.full_like(image, value) for name, image in noise(Bundle.open(bundle).manifest).items()}


@pytest.mark.parametrize("engine", BACKENDS, indirect=True)
def test_threads_get_what_they_asked_for(engine: Engine, toy_bundle: Path) -> None:
    wrong: list[object] = []

    def ask(value: int) -> None:
        given, expected = images(toy_bundle, value), int(value > 127)
        try:
            for _ in range(150):
                found = engine.run(given)
                if not (found["semantic"] == expected).all():
                    wrong.append(value)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=ask, args=(value,)) for value in (0, 255, 10, 250)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("engine", BACKENDS, indirect=True)
def test_a_run_without_an_input_does_not_take_the_last_one(engine: Engine, toy_bundle: Path) -> None:
    given = images(toy_bundle, 200)
    with engine:
        engine.run(given)
        with pytest.raises(EngineError, match=r"is run without ir; it takes rgb, ir"):
            engine.run({"rgb": given["rgb"]})
        assert (engine.run(given)["semantic"] == 1).all()


@pytest.mark.parametrize("engine", BACKENDS, indirect=True)
def test_an_engine_that_is_closed_under_a_thread_says_so(engine: Engine, toy_bundle: Path) -> None:
    ended: list[BaseException] = []
    given, runs = images(toy_bundle, 255), [0, 0]

    def ask(place: int) -> None:
        try:
            while True:
                assert (engine.run(given)["semantic"] == 1).all()
                runs[place] += 1
        except BaseException as error:
            ended.append(error)

    threads = [threading.Thread(target=ask, args=(place,)) for place in (0, 1)]
    for thread in threads:
        thread.start()
    while min(runs) < 5:
        time.sleep(0.001)
    engine.close()
    for thread in threads:
        thread.join(10)
    assert [type(error) for error in ended] == [EngineError] * 2
    assert all(str(error) == f"this {engine.name} engine is closed; open it again" for error in ended)


@pytest.mark.parametrize("engine", BACKENDS, indirect=True)
def test_with_closes_and_closing_twice_is_once(engine: Engine, toy_bundle: Path) -> None:
    with engine as opened:
        assert opened is engine and opened.run(images(toy_bundle, 0))
    engine.close()
    with pytest.raises(EngineError, match="is closed; open it again"):
        engine.run(images(toy_bundle, 0))


class InHandler(ThreadSafeEngine):
    """An engine that a signal interrupts in the middle of a run."""

    name = "interrupted"

    def __init__(self) -> None:
        super().__init__()
        self.freed = 0

    def _run(self, inputs: dict) -> dict:
        signal.raise_signal(signal.SIGUSR1)
        assert not self.freed
        return {}

    def _free(self) -> None:
        self.freed += 1


def test_a_signal_s_handler_may_close_it_but_not_run_it() -> None:
    engine, told = InHandler(), []

    def handler(*_: object) -> None:
        with pytest.raises(EngineError, match="runs already"):
            engine.run({})
        told.append(engine.close())

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        assert engine.run({}) == {} and told and engine.freed == 1
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_the_lock_costs_nothing_that_counts(toy_bundle: Path) -> None:
    engine = OrtEngine(Bundle.open(toy_bundle).model, 1)
    given, count = images(toy_bundle, 0), 2000
    engine._run = lambda inputs: {}  # type: ignore[method-assign]
    best = min(_seconds(lambda: engine.run(given), count) for _ in range(5))
    assert best / count < 10e-6


def _seconds(work: object, count: int) -> float:
    begun = time.thread_time()
    for _ in range(count):
        work()  # type: ignore[operator]
    return time.thread_time() - begun
