"""Signals at any time of a command's life: no traceback, no message that misleads, nothing half done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import wait_for

from edgemtl_runtime.cli import guarded
from edgemtl_runtime.engine import onnxruntime
from edgemtl_runtime.errors import EdgemtlError
from edgemtl_runtime.signals import DefaultSignals, Interrupts, Signals

pytestmark = pytest.mark.realtime

# As the installed script does it; it prints before anything that takes long.
STUB = "from edgemtl_runtime.cli import entry; print('go', flush=True); entry()"
LIVE = ["--rgb", "pattern:?fps=60", "--ir", "pattern:?fps=60"]
TIMES = 20


def started(words: list[str], code: str = STUB) -> subprocess.Popen[str]:
    """Start a command and return it when the first line of its program has run."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "go\n"
    return process


def seconds_to_results(bundle: Path, lines: Path) -> float:
    """Return how long a run takes to its first results."""
    process = started(["run", str(bundle), *LIVE, "--jsonl", str(lines)])
    begun = time.monotonic()
    wait_for(lambda: lines.exists() and lines.stat().st_size, process)
    took = time.monotonic() - begun
    process.kill()
    process.communicate()
    return took


def test_a_signal_at_any_time_of_the_start_is_silent(toy_bundle: Path, tmp_path: Path) -> None:
    span = seconds_to_results(toy_bundle, tmp_path / "first.jsonl")
    ends = []
    for index in range(TIMES):
        process = started(["run", str(toy_bundle), *LIVE, "--quiet", "--jsonl", str(tmp_path / "r.jsonl")])
        time.sleep(0.005 + span * 1.1 * index / TIMES)  # Python itself takes a while to change a handler
        number = (signal.SIGINT, signal.SIGTERM)[index % 2]
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
        # until there is something to lose the signal's own end; then the run's, which finishes its files
        assert process.returncode in (-number, 128 + number, 0), (index, process.returncode, err)
        assert not err or err == "edgemtl-runtime: interrupted\n", (index, err)
        ends.append(process.returncode)
    assert sum(code != 0 for code in ends) > TIMES / 4 and ends[0] == -signal.SIGINT


def test_signals_are_handled_from_the_start_of_the_program() -> None:
    """Nothing that takes long is imported before: it is where Ctrl-C would be a traceback."""
    code = "import sys, edgemtl_runtime.cli; print([m for m in ('numpy', 'msgspec', 'argparse') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime"), "no ONNX Runtime here: pip install"),
        (
            ModuleNotFoundError("No module named 'flatbuffers'", name="flatbuffers"),
            "onnxruntime is installed here and does not load: No module named",
        ),
        (ImportError("libcudart.so.12: cannot open"), "does not load: libcudart.so.12: cannot open"),
    ],
)
def test_why_onnx_runtime_does_not_load_is_reported(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, expected: str
) -> None:
    class Finder:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "onnxruntime":
                raise raised

    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    with pytest.raises(EdgemtlError) as error:
        onnxruntime.load()
    assert expected in str(error.value)


def test_every_optional_import_reports_why_it_fails() -> None:
    """What is installed and does not load, as OpenCV without libGL, is not reported as missing."""
    package = Path(onnxruntime.__file__).parents[1]
    blocks = [
        (file.name, block.partition("\n\n")[0])
        for file in package.rglob("*.py")
        for block in file.read_text().split("except ImportError as error:")[1:]
    ]
    assert len(blocks) > 15
    assert not [name for name, block in blocks if "missing(" not in block[:400] and "{error}" not in block[:400]]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("other", [ImportError("numpy.core.multiarray failed to import"), EdgemtlError("no X"), None])
def test_what_a_library_makes_of_an_interruption_is_an_interruption(
    number: int, other: Exception | None, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> int:
        try:
            os.kill(os.getpid(), number)
            time.sleep(1)
        except KeyboardInterrupt:
            if other is None:
                raise
            raise other from None
        return 0

    before = signal.getsignal(number)
    assert guarded(command, "program") == 128 + number
    assert capsys.readouterr().err == "program: interrupted\n" and signal.getsignal(number) == before


@pytest.mark.parametrize("handlers", [DefaultSignals, Interrupts, Signals])
def test_what_is_ignored_stays_ignored(handlers: type) -> None:
    """As `nohup` asks it of SIGHUP, and a shell of the SIGINT of what it runs in the background."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGHUP, signal.SIGINT)}
    try:
        with handlers():
            assert all(signal.getsignal(number) is signal.SIG_IGN for number in before)
            assert signal.getsignal(signal.SIGTERM) not in (signal.SIG_IGN, signal.default_int_handler)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
